use serde_json::{Value, json};

use super::*;

fn parse(container: Value) -> Result<Template, BadSpec> {
    Template::parse(&json!({ "ContainerSpec": container }))
}

/// What the docker CLI sends for a plain `docker service create nginx`.
#[test]
fn what_the_cli_sends_is_understood() {
    let sent = json!({
        "ContainerSpec": {
            "Image": "nginx:latest@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            "Labels": {"a": "b"},
            "Args": ["-x"],
            "Init": false,
            "StopGracePeriod": 10_000_000_000i64,
            "DNSConfig": {},
            "Isolation": "default",
            "Privileges": {"CredentialSpec": null, "SELinuxContext": null},
            "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 1_000_000_000, "Retries": 2},
            "Mounts": [
                {"Type": "volume", "Source": "data", "Target": "/data",
                 "VolumeOptions": {"Labels": {"k": "v"}, "DriverConfig": {"Name": "local", "Options": {"o": "p"}}}},
                {"Type": "bind", "Source": "/etc", "Target": "/host", "ReadOnly": true,
                 "BindOptions": {"Propagation": "rslave"}},
                {"Type": "tmpfs", "Target": "/tmp", "TmpfsOptions": {"SizeBytes": 1024, "Mode": 448}}
            ]
        },
        "Resources": {
            "Limits": {"NanoCPUs": 500_000_000, "MemoryBytes": 1_048_576, "Pids": 10},
            "Reservations": {"MemoryBytes": 4096, "NanoCPUs": 5}
        },
        "RestartPolicy": {"Condition": "any", "Delay": 5_000_000_000i64, "MaxAttempts": 0},
        "Placement": {"Constraints": ["node.role==manager"]},
        "ForceUpdate": 3,
        "Runtime": "container",
        "Networks": [{"Target": "host"}],
        "LogDriver": {"Name": "json-file", "Options": {"max-size": "1m"}}
    });
    let template = Template::parse(&sent).unwrap();
    assert_eq!(template.args, ["-x"]);
    assert_eq!(template.init, Some(false));
    assert_eq!(template.health.as_ref().unwrap().retries, Some(2));
    assert_eq!(template.mounts.len(), 3);
    assert_eq!(template.limits.nano_cpus, Some(500_000_000));
    assert_eq!(template.limits.memory_reservation_bytes, Some(4096));
    assert_eq!(template.network.as_deref(), Some("host"));
    assert_eq!(template.log_driver.unwrap().options["max-size"], "1m");
}

#[test]
fn names_are_matched_as_docker_does_and_floats_that_are_whole_are_numbers() {
    let template = parse(json!({
        "image": "x", "HealthCheck": {"test": ["CMD", "true"], "retries": 3.0}, "readonly": true
    }))
    .unwrap();
    assert_eq!((template.image.as_str(), template.read_only), ("x", true));
    assert_eq!(template.health.unwrap().retries, Some(3));
}

#[test]
fn privileges_become_the_engines_own_options() {
    let template = parse(json!({"Privileges": {
        "SELinuxContext": {"Disable": false, "User": "u", "Level": "s0"},
        "Seccomp": {"Mode": "custom", "Profile": "e30="},
        "AppArmor": {"Mode": "disabled"},
        "NoNewPrivileges": true
    }}))
    .unwrap();
    assert_eq!(
        template.security_options,
        [
            "label=user:u",
            "label=level:s0",
            "seccomp={}",
            "apparmor=unconfined",
            "no-new-privileges=true"
        ]
    );
}

#[test]
fn what_is_malformed_or_cannot_be_honoured_is_refused_by_name() {
    let refused = |container: Value, field: &str| {
        let error = parse(container.clone()).unwrap_err();
        assert_eq!(error.field, format!("ContainerSpec.{field}"), "{container}");
        assert!(!error.why.is_empty());
    };
    refused(json!({"Image": 5}), "Image");
    refused(json!({"Env": ["A=1", 7]}), "Env[1]");
    refused(json!({"Env": "A=1"}), "Env");
    refused(json!({"ReadOnly": "yes"}), "ReadOnly");
    refused(json!({"StopGracePeriod": 1.5}), "StopGracePeriod");
    refused(json!({"Mounts": [{"Type": "bind", "Target": "/x"}]}), "Mounts[0].Source");
    refused(json!({"Mounts": [{"Source": "x"}]}), "Mounts[0].Target");
    refused(json!({"Mounts": [{"Type": "cluster", "Target": "/x"}]}), "Mounts[0].Type");
    refused(json!({"Mounts": [{"Type": "npipe", "Target": "/x"}]}), "Mounts[0].Type");
    refused(
        json!({"Mounts": [{"Type": "tmpfs", "Target": "/x", "BindOptions": {"NonRecursive": true}}]}),
        "Mounts[0].BindOptions",
    );
    refused(
        json!({"Mounts": [{"Type": "bind", "Source": "/a", "Target": "/x", "BindOptions": {"Propagation": "odd"}}]}),
        "Mounts[0].BindOptions.Propagation",
    );
    refused(json!({"Privileges": {"CredentialSpec": {"File": "x"}}}), "Privileges.CredentialSpec");
    refused(json!({"Privileges": {"Seccomp": {"Mode": "custom"}}}), "Privileges.Seccomp.Profile");
    refused(json!({"Privileges": {"Seccomp": {"Mode": "off"}}}), "Privileges.Seccomp.Mode");
    refused(json!({"Privileges": {"AppArmor": {"Mode": "mine"}}}), "Privileges.AppArmor.Mode");
    refused(json!({"Isolation": "hyperv"}), "Isolation");
    refused(json!({"Healthcheck": {"Test": ["CMD"]}}), "Healthcheck.Test");
    refused(json!({"Healthcheck": {"Test": ["CMD", "x"], "Interval": -1}}), "Healthcheck.Interval");
    refused(json!({"Hosts": ["10.0.0.1"]}), "Hosts[0]");
    refused(json!({"Ulimits": [{"Soft": 1}]}), "Ulimits[0].Name");
    refused(json!({"Sysctls": {"a": 1}}), "Sysctls.a");
    // A field of tomorrow's Docker.
    refused(json!({"Sandbox": {"Strict": true}}), "Sandbox");
}

#[test]
fn an_unknown_field_that_asks_for_nothing_is_no_reason_to_refuse() {
    let empty = json!({"Sandbox": {"Strict": false, "Paths": []}, "New": null, "Other": ""});
    assert!(parse(empty).is_ok());
}

#[test]
fn what_is_not_a_container_is_refused() {
    let refused = |json: Value, field: &str| {
        assert_eq!(Template::parse(&json).unwrap_err().field, field, "{json}");
    };
    refused(json!([]), "");
    refused(json!({}), "ContainerSpec");
    refused(json!({"ContainerSpec": "x"}), "ContainerSpec");
    refused(json!({"ContainerSpec": {}, "Runtime": "plugin"}), "Runtime");
    refused(json!({"ContainerSpec": {}, "PluginSpec": {"Name": "p"}}), "PluginSpec");
    refused(json!({"ContainerSpec": {}, "Networks": [{"Target": "web"}]}), "Networks[0].Target");
    refused(
        json!({"ContainerSpec": {}, "Networks": [{"Target": "host"}, {"Target": "none"}]}),
        "Networks[1]",
    );
    refused(
        json!({"ContainerSpec": {}, "Resources": {"Reservations": {"GenericResources": [{"x": 1}]}}}),
        "Resources.Reservations.GenericResources",
    );
}
