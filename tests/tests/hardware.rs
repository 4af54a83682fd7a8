//! Devices and privileges, which `docker run` has and a service's spec has not: asked for by labels, granted by the nodes
//! whose operator allows it, and by no other.

use anyhow::{Context, Result, ensure};
use tests::image::BUSYBOX;
use tests::{Testbed, secs, wait_for};

#[test]
fn devices_and_privileges_are_granted_where_the_operator_allows_it() -> Result<()> {
    let mut bed = Testbed::up(2)?;
    let allowed = ["--allow-privileged", "true", "--label", "fuse=true"];
    bed.host_mut(1).shoal_settings().flags.extend(allowed.map(str::to_owned));
    bed.shoal_up_all()?;
    let create = |name: &str, label: &str, constraint: &str| {
        bed.host(0).docker_by_shoal([
            "service",
            "create",
            "--detach",
            "--name",
            name,
            "--no-resolve-image",
            "--restart-condition",
            "none",
            "--stop-signal",
            "SIGKILL",
            "--container-label",
            label,
            "--constraint",
            constraint,
            BUSYBOX,
            "sleep",
            "1d",
        ])
    };
    let there = "engine.labels.fuse==true";
    create("device", "shoal.devices=/dev/fuse:/dev/there:rw,/dev/zero:/dev/nil:r", there)?;
    create("none", "team=a", there)?;
    for name in ["device", "none"] {
        bed.wait_running(name, 1, secs(60))?;
    }
    let exec = |name: &str, line: &str| -> Result<String> {
        let running = bed.running(name);
        let (host, container) = running.containers().next().context("nothing runs")?;
        bed.host(host).docker(["exec", &container.id, "sh", "-c", line])
    };
    // By their numbers they are the host's, and they work; the engine was told what each is for.
    let numbers =
        "stat -c '%t %T' /dev/there /dev/nil; dd if=/dev/nil bs=1 count=3 2>/dev/null | wc -c";
    ensure!(exec("device", numbers)? == "a e5\n1 5\n3\n", "{}", exec("device", numbers)?);
    let running = bed.running("device");
    let (host, container) = running.containers().next().context("nothing runs")?;
    let asked = ["inspect", "--format", "{{json .HostConfig.Devices}}", &container.id];
    let asked = bed.host(host).docker(asked)?;
    ensure!(
        asked.contains("\"CgroupPermissions\":\"rw\"")
            && asked.contains("\"CgroupPermissions\":\"r\""),
        "{asked}"
    );
    ensure!(exec("none", "stat /dev/there").is_err(), "anybody has the device");

    create("all", "shoal.privileged=true", there)?;
    // A machine that is itself in a container may not have all capabilities to give: then the service has to fail as a
    // plain container that asks for them does, and else to run.
    match bed.host(1).docker([
        "run",
        "--rm",
        "--privileged",
        BUSYBOX,
        "mount",
        "-t",
        "tmpfs",
        "none",
        "/tmp",
    ]) {
        Ok(_) => {
            bed.wait_running("all", 1, secs(60))?;
            exec("all", "mount -t tmpfs none /tmp")?;
        }
        Err(error) => {
            let error = format!("{error:#}");
            let (_, why) = error.rsplit_once("container process: ").context(error.clone())?;
            let why = why.split(':').next().unwrap_or(why).trim();
            wait_for("the task to fail for the same reason", secs(60), || says(&bed, "all", why))?;
        }
    }
    ensure!(exec("none", "mount -t tmpfs none /tmp").is_err(), "anybody may mount");

    // The other node does not grant it, says so in the task, and runs nothing of it.
    for (name, label) in [("d", "shoal.devices=/dev/fuse"), ("p", "shoal.privileged=true")] {
        create(name, label, "node.hostname==h0")?;
        wait_for("the task to be rejected", secs(60), || {
            says(&bed, name, "Rejected")?;
            says(&bed, name, "--allow-privileged")
        })?;
        ensure!(bed.containers(0, name)?.is_empty(), "a container was made");
    }
    bed.done()
}

/// Whether `service ps` says it.
fn says(bed: &Testbed, service: &str, words: &str) -> Result<(), String> {
    let ps = bed.host(0).docker_by_shoal(["service", "ps", "--no-trunc", service]);
    let ps = ps.map_err(|error| format!("{error:#}"))?;
    if ps.contains(words) { Ok(()) } else { Err(ps) }
}
