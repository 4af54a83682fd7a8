//! From a task to the engine's create request. Pure: the same task gives the same request.
//!
//! Follows swarmkit's executor (moby, `daemon/cluster/executor/container/container.go`), so that a
//! service behaves as it did under Swarm.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerCreateBody, DeviceMapping, HealthConfig, HostConfig, HostConfigLogConfig,
    Mount as EngineMount, MountBindOptions, MountTmpfsOptions, MountType, MountVolumeOptions,
    MountVolumeOptionsDriverConfig, PortBinding, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum,
};
use node::runtime::StartTask;
use node::slot::PortStatus;

use super::networks;
use crate::runtime::memory_files::Placed;
use crate::runtime::spec::{BadSpec, Device, HealthCheck, Limits, Mount, MountKind, Template};
use crate::runtime::{Owner, ownership};

const NANOS_PER_SEC: i64 = 1_000_000_000;

/// # Errors
/// [`BadSpec`] names the field that cannot be honoured.
pub(super) fn request(
    owner: Owner,
    task: &StartTask,
    files: &[Placed],
) -> Result<ContainerCreateBody, BadSpec> {
    let template = Template::parse(&task.template_json)?;
    if template.image.is_empty() {
        return Err(BadSpec::new("ContainerSpec.Image", "it is missing"));
    }
    let mut host_config = host_config(&template, &task.ports)?;
    attach(&mut host_config, task);
    host_config.mounts.get_or_insert_default().extend(files.iter().map(file_mount));
    host_config.mounts.take_if(|mounts| mounts.is_empty());
    // With a command the arguments are its own; without one they are the entrypoint's.
    let entrypoint = some(template.command);
    Ok(ContainerCreateBody {
        image: Some(template.image),
        hostname: template.hostname,
        user: template.user,
        tty: Some(template.tty),
        open_stdin: Some(template.open_stdin),
        env: some(template.env),
        cmd: some(template.args),
        entrypoint,
        working_dir: template.dir,
        labels: Some(ownership::labels(owner, task).into_iter().collect()),
        stop_signal: template.stop_signal,
        stop_timeout: template
            .stop_grace_ns
            .map(|ns| ns.max(0).saturating_add(NANOS_PER_SEC - 1) / NANOS_PER_SEC),
        healthcheck: template.health.map(health),
        exposed_ports: some(task.ports.iter().map(port_name).collect()),
        host_config: Some(host_config),
        networking_config: networks::first(&task.networks),
        ..ContainerCreateBody::default()
    })
}

fn host_config(template: &Template, ports: &[PortStatus]) -> Result<HostConfig, BadSpec> {
    let Limits { memory_bytes, swap_bytes, .. } = template.limits;
    let mounts = template.mounts.iter().enumerate().map(|(n, mount)| {
        engine_mount(mount).map_err(|why| BadSpec::new(format!("ContainerSpec.Mounts[{n}]"), why))
    });
    Ok(HostConfig {
        nano_cpus: template.limits.nano_cpus,
        memory: memory_bytes,
        memory_reservation: template.limits.memory_reservation_bytes,
        // The engine counts memory and swap together; -1 is without limit.
        memory_swap: swap_bytes.map(|swap| match (swap, memory_bytes) {
            (-1, _) => -1,
            (swap, memory) => memory.unwrap_or(0).saturating_add(swap),
        }),
        memory_swappiness: template.limits.swappiness,
        pids_limit: template.limits.pids,
        group_add: some(template.groups.clone()),
        mounts: some(mounts.collect::<Result<Vec<_>, _>>()?),
        port_bindings: port_bindings(ports),
        privileged: template.hardware.privileged.then_some(true),
        devices: some(template.hardware.devices.iter().map(device).collect()),
        readonly_rootfs: Some(template.read_only),
        init: template.init,
        sysctls: some_map(&template.sysctls),
        cap_add: some(template.capability_add.clone()),
        cap_drop: some(template.capability_drop.clone()),
        ulimits: some(
            template
                .ulimits
                .iter()
                .map(|u| ResourcesUlimits {
                    name: Some(u.name.clone()),
                    soft: Some(u.soft),
                    hard: Some(u.hard),
                })
                .collect(),
        ),
        oom_score_adj: template.oom_score_adj,
        security_opt: some(template.security_options.clone()),
        network_mode: template.network.clone(),
        dns: some(template.dns.nameservers.clone()),
        dns_search: some(template.dns.search.clone()),
        dns_options: some(template.dns.options.clone()),
        extra_hosts: some(extra_hosts(&template.hosts)),
        log_config: template.log_driver.as_ref().map(|driver| HostConfigLogConfig {
            typ: Some(driver.name.clone()),
            config: some_map(&driver.options),
        }),
        // The core restarts tasks, each as a new container.
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::EMPTY),
            maximum_retry_count: None,
        }),
        ..HostConfig::default()
    })
}

/// On a network of the cluster a container asks the nodes for names, and they ask the spec's own name servers for what
/// they do not know: asked beside them, those would say that there is no service of that name.
fn attach(host_config: &mut HostConfig, task: &StartTask) {
    if let Some(first) = task.networks.first() {
        host_config.network_mode = Some(first.network.name.clone());
    }
    if !task.name_servers.is_empty() {
        host_config.dns = Some(task.name_servers.iter().map(ToString::to_string).collect());
    }
}

fn device(device: &Device) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(device.on_host.clone()),
        path_in_container: Some(device.in_container.clone()),
        cgroup_permissions: Some(device.permissions.clone()),
    }
}

/// Refuses a request for the host's hardware where the node does not grant it.
///
/// # Errors
/// [`BadSpec`] says how to grant it.
pub(super) fn check_hardware(body: &ContainerCreateBody, allowed: bool) -> Result<(), BadSpec> {
    let host = body.host_config.as_ref();
    let asks = host.is_some_and(|host| host.privileged == Some(true) || host.devices.is_some());
    if !asks || allowed {
        return Ok(());
    }
    Err(BadSpec::new(
        "ContainerSpec.Labels",
        "this node grants no service privileges or devices: start shoal on it with --allow-privileged true, or constrain the service to nodes that do",
    ))
}

/// A secret or config, read-only as in Swarm.
fn file_mount(file: &Placed) -> EngineMount {
    EngineMount {
        typ: Some(MountType::BIND),
        source: Some(file.host.to_string_lossy().into_owned()),
        target: Some(file.path.clone()),
        read_only: Some(true),
        ..EngineMount::default()
    }
}

/// `hosts(5)` has "address name name", the engine wants "name:address" for each.
fn extra_hosts(lines: &[Vec<String>]) -> Vec<String> {
    let pairs = lines.iter().filter_map(|words| words.split_first());
    pairs.flat_map(|(ip, names)| names.iter().map(move |name| format!("{name}:{ip}"))).collect()
}

fn health(check: HealthCheck) -> HealthConfig {
    HealthConfig {
        test: some(check.test),
        interval: check.interval,
        timeout: check.timeout,
        retries: check.retries,
        start_period: check.start_period,
        start_interval: check.start_interval,
    }
}

fn port_name(port: &PortStatus) -> String {
    let protocol = port.protocol.name();
    format!("{}/{protocol}", port.target)
}

fn port_bindings(ports: &[PortStatus]) -> Option<HashMap<String, Option<Vec<PortBinding>>>> {
    let mut bindings = HashMap::<String, Option<Vec<PortBinding>>>::new();
    for port in ports {
        // An empty text lets the engine choose.
        let host_port =
            if port.published == 0 { String::new() } else { port.published.to_string() };
        bindings
            .entry(port_name(port))
            .or_default()
            .get_or_insert_default()
            .push(PortBinding { host_ip: None, host_port: Some(host_port) });
    }
    (!bindings.is_empty()).then_some(bindings)
}

fn engine_mount(mount: &Mount) -> Result<EngineMount, String> {
    let mut out = EngineMount {
        target: Some(mount.target.clone()),
        read_only: Some(mount.read_only),
        ..EngineMount::default()
    };
    match &mount.kind {
        MountKind::Bind {
            source,
            propagation,
            non_recursive,
            create_mountpoint,
            read_only_non_recursive,
            read_only_force_recursive,
        } => {
            out.typ = Some(MountType::BIND);
            out.source = Some(source.clone());
            let options = MountBindOptions {
                propagation: propagation.as_ref().map(|p| p.parse()).transpose()?,
                non_recursive: *non_recursive,
                create_mountpoint: *create_mountpoint,
                read_only_non_recursive: *read_only_non_recursive,
                read_only_force_recursive: *read_only_force_recursive,
            };
            out.bind_options = (options != MountBindOptions::default()).then_some(options);
        }
        MountKind::Volume { source, no_copy, labels, driver, subpath } => {
            out.typ = Some(MountType::VOLUME);
            out.source = source.clone();
            let options = MountVolumeOptions {
                no_copy: *no_copy,
                labels: some_map(labels),
                driver_config: driver.as_ref().map(|driver| MountVolumeOptionsDriverConfig {
                    name: Some(driver.name.clone()),
                    options: some_map(&driver.options),
                }),
                subpath: subpath.clone(),
            };
            out.volume_options = (options != MountVolumeOptions::default()).then_some(options);
        }
        MountKind::Tmpfs { size_bytes, mode } => {
            out.typ = Some(MountType::TMPFS);
            let options = MountTmpfsOptions { size_bytes: *size_bytes, mode: *mode, options: None };
            out.tmpfs_options = (options != MountTmpfsOptions::default()).then_some(options);
        }
    }
    Ok(out)
}

/// What is empty is left to the image or the engine.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn some_map(map: &BTreeMap<String, String>) -> Option<HashMap<String, String>> {
    (!map.is_empty()).then(|| map.clone().into_iter().collect())
}

#[cfg(test)]
mod tests;
