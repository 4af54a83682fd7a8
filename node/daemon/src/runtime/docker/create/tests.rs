use std::sync::Arc;

use membership::id::{ClusterId, NodeId, ServiceId, TaskId};
use membership::time::Wall;
use node::runtime::label;
use node::slot::Protocol;
use node::slot::{Epoch, Slot, TemplateId};
use serde_json::{Value, json};

use super::*;

fn task(template: Value, ports: Vec<PortStatus>) -> StartTask {
    StartTask {
        task: TaskId(1),
        service: ServiceId(2),
        service_name: "web".into(),
        slot: Slot::Index(1),
        epoch: Epoch(3),
        template: TemplateId(4),
        created: Wall(5),
        name: "web.1.x".into(),
        labels: [("team".to_owned(), "a".to_owned())].into(),
        template_json: Arc::new(template),
        registry_auth: None,
        ports,
        files: Arc::default(),
        networks: Vec::new(),
        name_servers: Vec::new(),
    }
}

fn body(template: Value, ports: Vec<PortStatus>) -> Value {
    let owner = Owner { cluster: ClusterId(6), node: NodeId(7) };
    let mut body =
        serde_json::to_value(request(owner, &task(template, ports), &[]).unwrap()).unwrap();
    let labels = body.as_object_mut().unwrap().remove("Labels").unwrap();
    assert_eq!(labels[label::NODE], NodeId(7).to_string());
    assert_eq!(labels["team"], "a");
    body
}

#[test]
fn hardware_is_granted_by_the_node_alone() {
    let owner = Owner { cluster: ClusterId(6), node: NodeId(7) };
    let asked = |labels: Value| {
        let template = json!({"ContainerSpec": {"Image": "app:1", "Labels": labels}});
        request(owner, &task(template, Vec::new()), &[]).unwrap()
    };
    let plain = asked(json!({"team": "a"}));
    assert_eq!(check_hardware(&plain, false), Ok(()));
    for labels in [json!({"shoal.privileged": "true"}), json!({"shoal.devices": "/dev/kvm"})] {
        let body = asked(labels);
        assert_eq!(check_hardware(&body, true), Ok(()));
        let refused = check_hardware(&body, false).unwrap_err();
        assert!(refused.to_string().contains("--allow-privileged"), "{refused}");
    }
    let host = asked(json!({"shoal.devices": "/dev/a:/dev/b:r", "shoal.privileged": "true"}));
    let host = host.host_config.unwrap();
    assert_eq!(host.privileged, Some(true));
    let device = &host.devices.unwrap()[0];
    assert_eq!(device.path_in_container.as_deref(), Some("/dev/b"));
    assert_eq!(device.cgroup_permissions.as_deref(), Some("r"));
}

#[test]
fn everything_of_a_spec_reaches_the_engine() {
    let template = json!({
        "ContainerSpec": {
            "Image": "app:1", "Command": ["/run"], "Args": ["-x"], "Env": ["A=1"], "Dir": "/srv",
            "User": "1000:1000", "Groups": ["audio"], "Hostname": "h", "TTY": true, "OpenStdin": true,
            "ReadOnly": true, "Init": true, "StopSignal": "SIGINT", "StopGracePeriod": 1_500_000_000,
            "Healthcheck": {"Test": ["CMD", "ok"], "Interval": 1, "Timeout": 2, "Retries": 3,
                            "StartPeriod": 4, "StartInterval": 5},
            "Hosts": ["10.0.0.1 a b"],
            "DNSConfig": {"Nameservers": ["1.1.1.1"], "Search": ["x.y"], "Options": ["ndots:1"]},
            "Sysctls": {"net.core.somaxconn": "100"},
            "CapabilityAdd": ["CAP_NET_ADMIN"], "CapabilityDrop": ["ALL"],
            "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}],
            "Privileges": {"NoNewPrivileges": true, "Seccomp": {"Mode": "unconfined"}},
            "OomScoreAdj": 500,
            "Mounts": [
                {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": true,
                 "BindOptions": {"Propagation": "rslave", "CreateMountpoint": true}},
                {"Type": "volume", "Source": "v", "Target": "/v",
                 "VolumeOptions": {"NoCopy": true, "Labels": {"k": "l"}, "Subpath": "s",
                                   "DriverConfig": {"Name": "local", "Options": {"o": "p"}}}},
                {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 9, "Mode": 448}},
                {"Target": "/anonymous"}
            ]
        },
        "Resources": {
            "Limits": {"NanoCPUs": 7, "MemoryBytes": 100, "Pids": 5},
            "Reservations": {"MemoryBytes": 50}, "SwapBytes": 20, "MemorySwappiness": 10
        },
        "Networks": [{"Target": "none"}],
        "LogDriver": {"Name": "local", "Options": {"max-size": "1m"}}
    });
    let mut expected = json!({
        "Hostname": "h", "User": "1000:1000", "Tty": true, "OpenStdin": true, "Env": ["A=1"],
        "Cmd": ["-x"], "Entrypoint": ["/run"], "Image": "app:1", "WorkingDir": "/srv",
        "StopSignal": "SIGINT", "StopTimeout": 2,
        "Healthcheck": {"Test": ["CMD", "ok"], "Interval": 1, "Timeout": 2, "Retries": 3,
                        "StartPeriod": 4, "StartInterval": 5},
        "HostConfig": {
            "NanoCpus": 7, "Memory": 100, "MemoryReservation": 50, "MemorySwap": 120,
            "MemorySwappiness": 10, "PidsLimit": 5, "GroupAdd": ["audio"], "ReadonlyRootfs": true,
            "Init": true, "Sysctls": {"net.core.somaxconn": "100"}, "CapAdd": ["CAP_NET_ADMIN"],
            "CapDrop": ["ALL"], "Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}],
            "OomScoreAdj": 500, "SecurityOpt": ["seccomp=unconfined", "no-new-privileges=true"],
            "NetworkMode": "none", "Dns": ["1.1.1.1"], "DnsSearch": ["x.y"], "DnsOptions": ["ndots:1"],
            "ExtraHosts": ["a:10.0.0.1", "b:10.0.0.1"],
            "LogConfig": {"Type": "local", "Config": {"max-size": "1m"}},
            "RestartPolicy": {"Name": ""}
        }
    });
    let mounts = json!([
        {"Target": "/b", "Source": "/a", "Type": "bind", "ReadOnly": true,
         "BindOptions": {"Propagation": "rslave", "CreateMountpoint": true}},
        {"Target": "/v", "Source": "v", "Type": "volume", "ReadOnly": false,
         "VolumeOptions": {"NoCopy": true, "Labels": {"k": "l"}, "Subpath": "s",
                           "DriverConfig": {"Name": "local", "Options": {"o": "p"}}}},
        {"Target": "/t", "Type": "tmpfs", "ReadOnly": false,
         "TmpfsOptions": {"SizeBytes": 9, "Mode": 448}},
        {"Target": "/anonymous", "Type": "volume", "ReadOnly": false}
    ]);
    expected["HostConfig"]["Mounts"] = mounts;
    assert_eq!(body(template, Vec::new()), expected);
}

#[test]
fn what_a_spec_does_not_say_is_left_to_the_image() {
    let body = body(json!({"ContainerSpec": {"Image": "x", "Args": ["serve"]}}), Vec::new());
    assert_eq!(
        body,
        json!({"Image": "x", "Cmd": ["serve"], "Tty": false, "OpenStdin": false,
               "HostConfig": {"ReadonlyRootfs": false, "RestartPolicy": {"Name": ""}}})
    );
}

#[test]
fn host_ports_are_exposed_and_bound() {
    let port = |protocol, target, published| PortStatus { protocol, target, published };
    let ports = vec![
        port(Protocol::Tcp, 80, 8080),
        port(Protocol::Udp, 53, 0),
        port(Protocol::Tcp, 80, 8081),
    ];
    let body = body(json!({"ContainerSpec": {"Image": "x"}}), ports);
    assert_eq!(
        body["HostConfig"]["PortBindings"],
        json!({"80/tcp": [{"HostPort": "8080"}, {"HostPort": "8081"}], "53/udp": [{"HostPort": ""}]})
    );
    assert_eq!(body["ExposedPorts"], json!({"80/tcp": {}, "53/udp": {}}));
}

#[test]
fn unlimited_swap_stays_unlimited() {
    let template = json!({"ContainerSpec": {"Image": "x"},
                          "Resources": {"Limits": {"MemoryBytes": 5}, "SwapBytes": -1}});
    assert_eq!(body(template, Vec::new())["HostConfig"]["MemorySwap"], -1);
}

#[test]
fn a_task_without_image_is_refused() {
    let owner = Owner { cluster: ClusterId(6), node: NodeId(7) };
    let error = request(owner, &task(json!({"ContainerSpec": {}}), Vec::new()), &[]).unwrap_err();
    assert_eq!(error.field, "ContainerSpec.Image");
}

#[test]
fn secrets_and_configs_are_mounted_read_only() {
    let owner = Owner { cluster: ClusterId(6), node: NodeId(7) };
    let task = task(json!({"ContainerSpec": {"Image": "a"}}), Vec::new());
    let placed = Placed { host: "/run/shoal/x".into(), path: "/run/secrets/key".into() };
    let body = serde_json::to_value(request(owner, &task, &[placed]).unwrap()).unwrap();
    assert_eq!(
        body["HostConfig"]["Mounts"],
        json!([{"Target": "/run/secrets/key", "Source": "/run/shoal/x", "Type": "bind", "ReadOnly": true}])
    );
}
