//! From a real Swarm to shoal, host by host, as docs/MIGRATING.md says: nothing is away for longer than a Swarm
//! takes to drain one host, and in the end the Swarm is gone.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::image::BUSYBOX;
use tests::{Options, Testbed, secs, shoal, wait_for};

/// A Swarm takes its time for a drain on two busy cores.
const STEP: Duration = secs(120);
const REPLICAS: usize = 6;
/// What is looked at of a network that came along.
const NETWORK: &str = "{{.Driver}} {{.Scope}} {{(index .IPAM.Config 0).Subnet}} {{.Labels.tier}}";

#[test]
fn a_swarm_moves_over_host_by_host() -> Result<()> {
    let mut bed = Testbed::with(Options::hosts(3))?;
    a_swarm(&bed)?;
    let (watch, before) = (bed.watch(), bed.running("web").ids());

    // The first host leaves, and is a cluster of its own.
    leave_the_swarm(&bed, 2)?;
    bed.host_mut(2).start_shoal()?;
    import(&bed)?;
    bed.host(2).shoal(["service", "scale", "web=2"])?;
    bed.host(0).docker(["service", "scale", "--detach", "web=4"])?;
    wait_for("4 in the Swarm and 2 outside", STEP, || spread(&bed, &[4, 2]))?;

    let token = bed.host(2).shoal(["token"])?.trim().to_owned();
    let join = format!("{}:{}", bed.host(2).address(), shoal::PORT);
    for index in [1, 0] {
        let settings = bed.host_mut(index).shoal_settings();
        (settings.joins, settings.token) = (vec![join.clone()], Some(token.clone()));
    }
    leave_the_swarm(&bed, 1)?;
    bed.host_mut(1).start_shoal()?;
    bed.wait_members(&[1, 2], STEP)?;
    bed.host(1).shoal(["service", "scale", &format!("web={REPLICAS}")])?;
    // The new ones run; the Swarm's last host has nothing left to do.
    wait_for("all of them outside", STEP, || spread(&bed, &[4, REPLICAS]))?;
    bed.host(0).docker(["service", "rm", "web"])?;
    wait_for("none in the Swarm", STEP, || spread(&bed, &[0, REPLICAS]))?;
    bed.host(0).docker(["swarm", "leave", "--force"])?;
    the_port_is_free(&bed, 0)?;
    bed.host_mut(0).start_shoal()?;
    bed.wait_members(&[0, 1, 2], STEP)?;

    // A global service of the Swarm runs on every host of the new cluster.
    wait_for("one agent on each host", STEP, || match bed.running("agent").per_host() {
        each if each.values().copied().eq([1, 1, 1]) => Ok(()),
        each => Err(format!("{each:?}")),
    })?;
    // A Swarm stops what is on a drained host before it starts it elsewhere: two at a time here.
    let (fewest, _) = watch.fewest_and_most("web", &before);
    ensure!(fewest >= REPLICAS - 2, "at some moment only {fewest} of {REPLICAS} ran");
    the_files_came_along(&bed)?;
    bed.done()
}

/// A manager and two workers with a service that has a secret, a config and a label, and one on every host.
fn a_swarm(bed: &Testbed) -> Result<()> {
    let first = bed.host(0);
    first.docker(["swarm", "init", "--advertise-addr", first.address()])?;
    let token = first.docker(["swarm", "join-token", "-q", "worker"])?;
    let join = format!("{}:2377", first.address());
    for host in &bed.hosts()[1..] {
        let words = ["swarm", "join", "--advertise-addr", host.address(), "--token", token.trim()];
        host.docker([words[0], words[1], words[2], words[3], words[4], words[5], &join])?;
    }
    let folder = bed.directory().join("secrets");
    fs::create_dir_all(&folder)?;
    let file = |name: &str, content: &str| -> Result<String> {
        let path = folder.join(name);
        fs::write(&path, content)?;
        Ok(path.to_string_lossy().into_owned())
    };
    first.docker(["secret", "create", "key", &file("key", "sesame")?])?;
    first.docker(["config", "create", "site", &file("site", "edition one")?])?;
    docker(bed, "network create --driver overlay --subnet 10.7.0.0/16 --label tier=back back")?;
    let web = format!(
        "service create --detach --no-resolve-image --name web --replicas {REPLICAS} --stop-signal SIGKILL \
         --secret key --config source=site,target=/etc/site --env A=1 --label tier=front {BUSYBOX} sleep 1d"
    );
    docker(bed, &web)?;
    docker(
        bed,
        &format!(
            "service create --detach --no-resolve-image --name agent --mode global {BUSYBOX} sleep 1d"
        ),
    )?;
    bed.wait_running("web", REPLICAS, STEP)?;
    bed.wait_running("agent", 3, STEP)?;
    Ok(())
}

fn docker(bed: &Testbed, line: &str) -> Result<String> {
    let url = bed.host(0).engine().url();
    let words: Vec<&str> =
        ["docker", "-H", &url].into_iter().chain(line.split_whitespace()).collect();
    bed.host(0).tool(&words)
}

/// Its replicas go to the hosts that stay, before it leaves.
fn leave_the_swarm(bed: &Testbed, index: usize) -> Result<()> {
    let (manager, name) = (bed.host(0), bed.host(index).name());
    manager.docker(["node", "update", "--availability", "drain", &name])?;
    let elsewhere = |service: &str| bed.running(service).on(index);
    wait_for("a drained host to be empty", STEP, || match elsewhere("web") + elsewhere("agent") {
        0 => Ok(()),
        left => Err(format!("{left} containers are left")),
    })?;
    bed.host(index).docker(["swarm", "leave"])?;
    the_port_is_free(bed, index)
}

/// An engine that has left a Swarm lets go of the port that shoal uses too a moment later.
fn the_port_is_free(bed: &Testbed, index: usize) -> Result<()> {
    let local = format!(":{:04X} ", shoal::PORT);
    wait_for("the Swarm to let go of its port", STEP, || {
        let sockets = ["cat", "/proc/net/udp", "/proc/net/udp6", "/proc/net/tcp", "/proc/net/tcp6"];
        let open = bed.host(index).tool(&sockets).map_err(|error| format!("{error:#}"))?;
        // Of what is being closed (06) nothing keeps a listener away.
        let held = |line: &&str| {
            let mut words = line.split_whitespace().skip(1);
            let here = words.next().is_some_and(|address| format!("{address} ").ends_with(&local));
            here && words.nth(1).is_some_and(|state| state != "06")
        };
        match open.lines().find(held) {
            None => Ok(()),
            Some(line) => Err(line.to_owned()),
        }
    })?;
    Ok(())
}

/// First without the bytes of the secret, which a Swarm does not show, then with them; and once more for nothing.
fn import(bed: &Testbed) -> Result<()> {
    let from = bed.host(0).engine().url();
    let said =
        bed.host(2).shoal_refuses(["import", "swarm", "--from", &from, "--stopped", "web"])?;
    ensure!(said.contains("secret key is left out") && said.contains("web is left out"), "{said}");
    let folder = bed.directory().join("secrets").to_string_lossy().into_owned();
    let words = ["import", "swarm", "--from", &from, "--stopped", "--secrets", &folder];
    let said = bed.host(2).shoal(words)?;
    ensure!(said.matches("created").count() >= 4, "{said}");
    let back = bed.host(2).docker_by_shoal(["network", "inspect", "--format", NETWORK, "back"])?;
    ensure!(back.trim() == "overlay swarm 10.7.0.0/16 back", "{back}");
    let again = bed.host(2).shoal(words)?;
    ensure!(!again.contains("created"), "{again}");
    Ok(())
}

/// How many replicas run on hosts in the Swarm (where shoal does not run) and outside of it.
fn spread(bed: &Testbed, wanted: &[usize; 2]) -> Result<(), String> {
    let running = bed.running("web");
    let mut found = [0, 0];
    for host in bed.hosts() {
        let outside = usize::from(host.shoal_process().is_some());
        found[outside] += running.on(host.index());
    }
    if found == *wanted { Ok(()) } else { Err(format!("{found:?} in the Swarm and outside")) }
}

fn the_files_came_along(bed: &Testbed) -> Result<()> {
    bed.wait_running("web", REPLICAS, STEP)?;
    for (host, container) in bed.running("web").containers() {
        let line = "cat /run/secrets/key /etc/site; echo $A";
        let said = bed.host(host).docker(["exec", &container.id, "sh", "-c", line])?;
        ensure!(said == "sesameedition one1\n", "{said}");
    }
    let web = bed.host(0).shoal_json(["service", "inspect", "web"])?;
    let label = web[0]["Spec"]["Labels"]["tier"].as_str().context("no label")?;
    ensure!(label == "front", "{label}");
    Ok(())
}
