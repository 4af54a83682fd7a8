//! From `TaskTemplate` JSON to [`Template`], one function per object of Docker's reference.

use base64::Engine as _;
use serde_json::Value;

use super::reader::{BadSpec, Fields};
use super::{Dns, Driver, Hardware, HealthCheck, Limits, Mount, MountKind, Template, Ulimit};
use crate::predefined;

impl Template {
    /// Reads a service's `TaskTemplate`.
    ///
    /// # Errors
    /// [`BadSpec`] names the field that is malformed, unknown or cannot be honoured.
    pub fn parse(json: &Value) -> Result<Self, BadSpec> {
        let mut task = Fields::of("", json)?;
        // The business of the core, not of a runtime.
        task.skip(&["RestartPolicy", "Placement", "ForceUpdate"]);
        task.refuse("PluginSpec", "shoal runs containers, not plugins")?;
        task.refuse("NetworkAttachmentSpec", "shoal runs containers, not network attachments")?;
        if let Some(runtime) = task.text("Runtime")?.filter(|name| name != "container") {
            return Err(task.bad("Runtime", format!("shoal runs containers, not '{runtime}'")));
        }
        let mut template = Self::default();
        match task.object("ContainerSpec")? {
            Some(container) => template.container(container)?,
            None => return Err(task.bad("ContainerSpec", "it is missing")),
        }
        if let Some(resources) = task.object("Resources")? {
            template.limits = limits(resources)?;
        }
        template.network = network(&mut task)?;
        template.log_driver = driver(&mut task, "LogDriver")?;
        task.end()?;
        Ok(template)
    }

    fn container(&mut self, mut spec: Fields<'_>) -> Result<(), BadSpec> {
        // The labels themselves are among those of the task to start already.
        self.hardware = Hardware::of(&spec.map("Labels")?)?;
        self.image = spec.text("Image")?.unwrap_or_default();
        self.command = spec.texts("Command")?;
        self.args = spec.texts("Args")?;
        self.env = spec.texts("Env")?;
        self.dir = spec.text("Dir")?;
        self.user = spec.text("User")?;
        self.groups = spec.texts("Groups")?;
        self.hostname = spec.text("Hostname")?;
        self.tty = spec.flag("TTY")?.unwrap_or(false);
        self.open_stdin = spec.flag("OpenStdin")?.unwrap_or(false);
        self.read_only = spec.flag("ReadOnly")?.unwrap_or(false);
        self.init = spec.flag("Init")?;
        self.stop_signal = spec.text("StopSignal")?;
        self.stop_grace_ns = spec.number("StopGracePeriod")?;
        self.health = spec.object("Healthcheck")?.map(health).transpose()?;
        let mounts = spec.list("Mounts")?;
        self.mounts = mounts
            .into_iter()
            .map(|(path, value)| mount(Fields::of(&path, value)?))
            .collect::<Result<_, _>>()?;
        self.hosts = hosts(&mut spec)?;
        if let Some(dns) = spec.object("DNSConfig")? {
            self.dns = dns_config(dns)?;
        }
        self.sysctls = spec.map("Sysctls")?;
        self.capability_add = spec.texts("CapabilityAdd")?;
        self.capability_drop = spec.texts("CapabilityDrop")?;
        let ulimits = spec.list("Ulimits")?;
        self.ulimits = ulimits
            .into_iter()
            .map(|(path, value)| ulimit(Fields::of(&path, value)?))
            .collect::<Result<_, _>>()?;
        self.oom_score_adj = spec.nonzero("OomScoreAdj")?;
        if let Some(privileges) = spec.object("Privileges")? {
            self.security_options = security_options(privileges)?;
        }
        if let Some(isolation) = spec.text("Isolation")?.filter(|name| name != "default") {
            let why =
                format!("'{isolation}' is for Windows containers; shoal knows only 'default'");
            return Err(spec.bad("Isolation", why));
        }
        // The core has read them: they come as files, beside the template.
        spec.ignore("Secrets");
        spec.ignore("Configs");
        spec.end()
    }
}

fn health(mut spec: Fields<'_>) -> Result<HealthCheck, BadSpec> {
    let check = HealthCheck {
        test: spec.texts("Test")?,
        interval: spec.nonzero("Interval")?,
        timeout: spec.nonzero("Timeout")?,
        retries: spec.nonzero("Retries")?,
        start_period: spec.nonzero("StartPeriod")?,
        start_interval: spec.nonzero("StartInterval")?,
    };
    let times = [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("Retries", check.retries),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ];
    if let Some((name, _)) = times.into_iter().find(|(_, n)| n.is_some_and(|n| n < 0)) {
        return Err(spec.bad(name, "it is negative"));
    }
    match check.test.first().map(String::as_str) {
        None | Some("NONE") => {}
        Some("CMD") if check.test.len() > 1 => {}
        Some("CMD-SHELL") if check.test.len() == 2 => {}
        Some(_) => {
            return Err(spec.bad(
                "Test",
                "it is none of [], [\"NONE\"], [\"CMD\", program, ...] and [\"CMD-SHELL\", line]",
            ));
        }
    }
    spec.end()?;
    Ok(check)
}

fn mount(mut spec: Fields<'_>) -> Result<Mount, BadSpec> {
    let target = spec.text("Target")?.ok_or_else(|| spec.bad("Target", "it is missing"))?;
    let source = spec.text("Source")?;
    let read_only = spec.flag("ReadOnly")?.unwrap_or(false);
    spec.skip(&["Consistency"]); // Of meaning on macOS only.
    let kind = match spec.text("Type")?.as_deref() {
        Some("bind") => bind(&mut spec, source)?,
        // Docker's default.
        Some("volume") | None => volume(&mut spec, source)?,
        Some("tmpfs") if source.is_some() => {
            return Err(spec.bad("Source", "a tmpfs has no source"));
        }
        Some("tmpfs") => tmpfs(&mut spec)?,
        Some(other) => {
            let why = format!("shoal mounts bind, volume and tmpfs, not '{other}'");
            return Err(spec.bad("Type", why));
        }
    };
    // The options of another type are refused, unless they are empty, as by Docker.
    spec.end()?;
    Ok(Mount { target, read_only, kind })
}

fn bind(spec: &mut Fields<'_>, source: Option<String>) -> Result<MountKind, BadSpec> {
    const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];
    let source = source.ok_or_else(|| spec.bad("Source", "a bind mount needs one"))?;
    let Some(mut options) = spec.object("BindOptions")? else {
        return Ok(MountKind::Bind {
            source,
            propagation: None,
            non_recursive: None,
            create_mountpoint: None,
            read_only_non_recursive: None,
            read_only_force_recursive: None,
        });
    };
    let propagation = options.text("Propagation")?;
    if let Some(other) = propagation.as_ref().filter(|p| !PROPAGATIONS.contains(&p.as_str())) {
        return Err(options.bad("Propagation", format!("'{other}' is none of {PROPAGATIONS:?}")));
    }
    let kind = MountKind::Bind {
        source,
        propagation,
        non_recursive: options.flag("NonRecursive")?,
        create_mountpoint: options.flag("CreateMountpoint")?,
        read_only_non_recursive: options.flag("ReadOnlyNonRecursive")?,
        read_only_force_recursive: options.flag("ReadOnlyForceRecursive")?,
    };
    options.end()?;
    Ok(kind)
}

fn volume(spec: &mut Fields<'_>, source: Option<String>) -> Result<MountKind, BadSpec> {
    let Some(mut options) = spec.object("VolumeOptions")? else {
        let labels = Default::default();
        return Ok(MountKind::Volume {
            source,
            no_copy: None,
            labels,
            driver: None,
            subpath: None,
        });
    };
    let kind = MountKind::Volume {
        source,
        no_copy: options.flag("NoCopy")?,
        labels: options.map("Labels")?,
        driver: driver(&mut options, "DriverConfig")?,
        subpath: options.text("Subpath")?,
    };
    options.end()?;
    Ok(kind)
}

fn tmpfs(spec: &mut Fields<'_>) -> Result<MountKind, BadSpec> {
    let Some(mut options) = spec.object("TmpfsOptions")? else {
        return Ok(MountKind::Tmpfs { size_bytes: None, mode: None });
    };
    let kind = MountKind::Tmpfs {
        size_bytes: options.nonzero("SizeBytes")?,
        mode: options.nonzero("Mode")?,
    };
    options.end()?;
    Ok(kind)
}

fn driver(spec: &mut Fields<'_>, name: &str) -> Result<Option<Driver>, BadSpec> {
    let Some(mut fields) = spec.object(name)? else { return Ok(None) };
    let driver =
        Driver { name: fields.text("Name")?.unwrap_or_default(), options: fields.map("Options")? };
    fields.end()?;
    Ok((driver != Driver::default()).then_some(driver))
}

fn hosts(spec: &mut Fields<'_>) -> Result<Vec<Vec<String>>, BadSpec> {
    let path = spec.path("Hosts");
    let lines = spec.texts("Hosts")?;
    let parsed = lines.iter().enumerate().map(|(n, line)| {
        let words = line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        if words.len() > 1 {
            Ok(words)
        } else {
            Err(BadSpec::new(format!("{path}[{n}]"), format!("'{line}' is not 'ADDRESS NAME'")))
        }
    });
    parsed.collect()
}

fn dns_config(mut spec: Fields<'_>) -> Result<Dns, BadSpec> {
    let dns = Dns {
        nameservers: spec.texts("Nameservers")?,
        search: spec.texts("Search")?,
        options: spec.texts("Options")?,
    };
    spec.end()?;
    Ok(dns)
}

fn ulimit(mut spec: Fields<'_>) -> Result<Ulimit, BadSpec> {
    let ulimit = Ulimit {
        name: spec.text("Name")?.ok_or_else(|| spec.bad("Name", "it is missing"))?,
        soft: spec.number("Soft")?.unwrap_or(0),
        hard: spec.number("Hard")?.unwrap_or(0),
    };
    spec.end()?;
    Ok(ulimit)
}

fn security_options(mut spec: Fields<'_>) -> Result<Vec<String>, BadSpec> {
    let mut options = Vec::new();
    spec.refuse("CredentialSpec", "credential specs are for Windows containers")?;
    if let Some(mut selinux) = spec.object("SELinuxContext")? {
        if selinux.flag("Disable")?.unwrap_or(false) {
            options.push("label=disable".to_owned());
        }
        for (field, label) in
            [("User", "user"), ("Role", "role"), ("Type", "type"), ("Level", "level")]
        {
            options.extend(selinux.text(field)?.map(|value| format!("label={label}:{value}")));
        }
        selinux.end()?;
    }
    if let Some(seccomp) = spec.object("Seccomp")? {
        options.extend(seccomp_option(seccomp)?);
    }
    if let Some(mut apparmor) = spec.object("AppArmor")? {
        match apparmor.text("Mode")?.as_deref() {
            None | Some("default") => {}
            Some("disabled") => options.push("apparmor=unconfined".to_owned()),
            Some(other) => {
                let why = format!("'{other}' is neither 'default' nor 'disabled'");
                return Err(apparmor.bad("Mode", why));
            }
        }
        apparmor.end()?;
    }
    if spec.flag("NoNewPrivileges")?.unwrap_or(false) {
        options.push("no-new-privileges=true".to_owned());
    }
    spec.end()?;
    Ok(options)
}

fn seccomp_option(mut spec: Fields<'_>) -> Result<Option<String>, BadSpec> {
    let mode = spec.text("Mode")?;
    let profile = spec.text("Profile")?;
    let option = match (mode.as_deref(), profile) {
        (None | Some("default"), None) => None,
        (Some("unconfined"), None) => Some("seccomp=unconfined".to_owned()),
        (Some("custom"), Some(encoded)) => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).ok();
            let profile = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
            let profile = profile.ok_or_else(|| spec.bad("Profile", "it is not text in base64"))?;
            Some(format!("seccomp={profile}"))
        }
        (Some("custom"), None) => return Err(spec.bad("Profile", "it is missing")),
        (None | Some("default" | "unconfined"), Some(_)) => {
            return Err(spec.bad("Profile", "a profile needs Mode 'custom'"));
        }
        (Some(other), _) => {
            let why = format!("'{other}' is none of 'default', 'unconfined' and 'custom'");
            return Err(spec.bad("Mode", why));
        }
    };
    spec.end()?;
    Ok(option)
}

fn limits(mut spec: Fields<'_>) -> Result<Limits, BadSpec> {
    const NO_GENERIC: &str = "shoal does not hand out generic resources yet";
    let mut limits = Limits {
        swap_bytes: spec.number("SwapBytes")?,
        swappiness: spec.number("MemorySwappiness")?,
        ..Limits::default()
    };
    if let Some(mut at_most) = spec.object("Limits")? {
        limits.nano_cpus = at_most.nonzero("NanoCPUs")?;
        limits.memory_bytes = at_most.nonzero("MemoryBytes")?;
        limits.pids = at_most.nonzero("Pids")?;
        at_most.end()?;
    }
    if let Some(mut at_least) = spec.object("Reservations")? {
        // Counted by the placement; the engine has no such thing.
        at_least.skip(&["NanoCPUs"]);
        limits.memory_reservation_bytes = at_least.nonzero("MemoryBytes")?;
        at_least.refuse("GenericResources", NO_GENERIC)?;
        at_least.end()?;
    }
    spec.end()?;
    Ok(limits)
}

/// Of a host's own engine: the network that every engine has.
fn network(task: &mut Fields<'_>) -> Result<Option<String>, BadSpec> {
    let networks = task.list("Networks")?;
    let mut mode = None;
    for (path, value) in networks {
        let mut fields = Fields::of(&path, value)?;
        let target = fields.text("Target")?.unwrap_or_default();
        // Host, none and bridge know no names of services; what there is of the others is in the order to start.
        fields.skip(&["Aliases"]);
        let Some(name) = predefined::named(&target) else {
            if target.parse::<membership::id::NetworkId>().is_err() {
                return Err(fields.bad("Target", format!("there is no network '{target}'")));
            }
            fields.end()?;
            continue;
        };
        fields.end()?;
        if mode.replace(name.to_owned()).is_some() {
            return Err(BadSpec::new(path, "host, none and bridge cannot be combined"));
        }
    }
    Ok(mode)
}
