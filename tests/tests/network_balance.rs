//! Networks across hosts in the kernels of real hosts: virtual addresses, published ports, and their repair.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::image::BUSYBOX;
use tests::load::{Datagrams, Load, Served, datagram, requests};
use tests::{Host, Testbed, secs, wait_for};

/// Starts on two busy cores, and the driver's next look.
const REPAIR: Duration = secs(60);
const PUBLISHED: u16 = 8080;
/// A web server that says which container it is, in.
const SERVER: &str = "mkdir -p /www; hostname > /www/index.html; exec httpd -f -p 80 -h /www";

/// A network with a service that has its port published, and a container on the first host that asks it.
fn up(hosts: usize, replicas: usize) -> Result<(Testbed, i32)> {
    let mut bed = Testbed::up(hosts)?;
    bed.shoal_up_all()?;
    bed.host(0).docker_by_shoal(["network", "create", "-d", "overlay", "--attachable", "app"])?;
    let replicas_text = replicas.to_string();
    bed.host(0).docker_by_shoal([
        "service",
        "create",
        "--detach",
        "--name",
        "web",
        "--network",
        "app",
        "--publish",
        "8080:80",
        "--publish",
        "8081:81/udp",
        "--replicas",
        &replicas_text,
        "--stop-signal",
        "SIGKILL",
        "--health-cmd",
        "wget -q -O /dev/null http://127.0.0.1/",
        "--health-interval",
        "500ms",
        "--health-retries",
        "5",
        BUSYBOX,
        "sh",
        "-c",
        SERVER,
    ])?;
    bed.wait_running("web", replicas, REPAIR)?;
    let client = "client";
    bed.host(0).docker_by_shoal([
        "run",
        "-d",
        "--name",
        client,
        "--network",
        "app",
        BUSYBOX,
        "sleep",
        "1d",
    ])?;
    let pid = bed.host(0).docker(["inspect", "-f", "{{.State.Pid}}", client])?;
    Ok((bed, pid.trim().parse().context("the container's process")?))
}

/// The service's address on the network, with the port.
fn virtual_address(bed: &Testbed) -> Result<SocketAddr> {
    let format = "{{range .Endpoint.VirtualIPs}}{{.NetworkID}} {{.Addr}}\n{{end}}";
    let said = bed.host(0).docker_by_shoal(["service", "inspect", "-f", format, "web"])?;
    let id = bed.host(0).docker_by_shoal(["network", "inspect", "-f", "{{.Id}}", "app"])?;
    let line = said.lines().find(|line| line.starts_with(id.trim()));
    let address = line.and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let address = address.split('/').next().unwrap_or_default();
    format!("{address}:80").parse().with_context(|| format!("the service's addresses: {said}"))
}

fn published(host: &Host) -> Result<SocketAddr> {
    Ok(SocketAddr::new(host.address().parse()?, PUBLISHED))
}

fn pid(host: &Host) -> Result<i32> {
    Ok(host.dockerd().context("no engine runs")?.pid)
}

/// Waits until `replicas` different ones answer there, and nothing fails.
fn all_answer(what: &str, pid: i32, target: SocketAddr, replicas: usize) -> Result<()> {
    wait_for(&format!("all replicas to answer {what}"), REPAIR, || {
        let served = requests(pid, target, 2 * replicas).map_err(|error| format!("{error:#}"))?;
        if served.errors.is_empty() && served.answers.len() == replicas {
            return Ok(());
        }
        Err(format!("{served:?}"))
    })?;
    Ok(())
}

fn everywhere(bed: &Testbed, client: i32, address: SocketAddr, replicas: usize) -> Result<()> {
    all_answer("at the virtual address", client, address, replicas)?;
    for index in bed.running_hosts() {
        let host = bed.host(index);
        all_answer(&format!("at {}", host.name()), pid(bed.host(0))?, published(host)?, replicas)?;
    }
    Ok(())
}

fn no_errors(what: &str, served: &Served) -> Result<()> {
    ensure!(served.requests() > 20, "{what}: only {} requests were made", served.requests());
    let first: Vec<_> = served.errors.iter().take(5).collect();
    let (failed, all) = (served.errors.len(), served.requests());
    ensure!(failed == 0, "{what}: {failed} of {all} requests failed, first {first:?}");
    Ok(())
}

/// Names of shoal's own devices on a host.
fn devices(host: &Host) -> Result<BTreeSet<String>> {
    let links = host.tool(&["ip", "-o", "link"])?;
    let name = |line: &str| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned());
    let ours = |name: &String| name.starts_with("sv") || name.starts_with("sh");
    Ok(links.lines().filter_map(name).filter(ours).collect())
}

#[test]
fn connections_are_spread_repaired_and_outlive_shoal() -> Result<()> {
    const REPLICAS: usize = 6;
    let (mut bed, client) = up(3, REPLICAS)?;
    let address = virtual_address(&bed)?;
    everywhere(&bed, client, address, REPLICAS)?;
    all_answer("at the loopback", pid(bed.host(1))?, ([127, 0, 0, 1], PUBLISHED).into(), REPLICAS)?;
    datagrams_are_spread_too(&bed, REPLICAS)?;
    replicas_of_the_same_host_come_first_where_asked_for(&bed, client, address)?;
    an_internal_network_has_no_way_out(&bed, client)?;

    // What somebody deletes comes back, also where shoal was killed and started again.
    let bridge = devices(bed.host(0))?.into_iter().filter(|name| name.starts_with("sh"));
    let bridge = bridge.collect::<Vec<_>>();
    let tunnel = devices(bed.host(0))?.into_iter().find(|name| name.starts_with("sv"));
    bed.host(0).tool(&["ip", "link", "del", &tunnel.context("no tunnel")?])?;
    everywhere(&bed, client, address, REPLICAS)?;
    for bridge in &bridge {
        bed.host(0).tool(&["ip", "link", "del", bridge])?;
    }
    everywhere(&bed, client, address, REPLICAS)?;
    bed.host(1).tool(&["nft", "delete", "table", "ip", "shoal"])?;
    bed.host(1).tool(&["iptables", "-F", "SHOAL"])?;
    everywhere(&bed, client, address, REPLICAS)?;

    // Killed, it leaves all traffic flowing.
    let targets = [published(bed.host(1))?, address];
    let load = Load::start(client, &targets, 2)?;
    bed.host_mut(0).kill_shoal()?;
    bed.host_mut(1).kill_shoal()?;
    everywhere(&bed, client, address, REPLICAS)?;
    bed.host_mut(0).start_shoal()?;
    bed.host_mut(1).start_shoal()?;
    bed.wait_members(&[0, 1, 2], REPAIR)?;
    everywhere(&bed, client, address, REPLICAS)?;
    no_errors("while shoal was killed and started again", &load.stop()?)?;

    // An engine that was restarted, and a host that comes back under another address.
    bed.host_mut(1).stop_engine()?;
    bed.host_mut(1).start_engine()?;
    bed.wait_running("web", REPLICAS, REPAIR)?;
    everywhere(&bed, client, address, REPLICAS)?;
    bed.crash(2)?;
    bed.readdress(2)?;
    bed.restart(2)?;
    bed.wait_members(&[0, 1, 2], REPAIR)?;
    bed.wait_running("web", REPLICAS, REPAIR)?;
    everywhere(&bed, client, address, REPLICAS)?;
    bed.done()
}

/// Each replica answers datagrams at the port that is published for them on each host.
fn datagrams_are_spread_too(bed: &Testbed, replicas: usize) -> Result<()> {
    let mut answering = Vec::new();
    for (host, container) in bed.running("web").containers() {
        let pid = bed.host(host).docker(["inspect", "-f", "{{.State.Pid}}", &container.id])?;
        answering.push(Datagrams::answer(pid.trim().parse()?, 81, container.id.clone())?);
    }
    let from = pid(bed.host(0))?;
    for host in bed.hosts() {
        let target = SocketAddr::new(host.address().parse()?, 8081);
        wait_for(&format!("all replicas to answer datagrams at {}", host.name()), REPAIR, || {
            let asked = (0..2 * replicas).map(|_| datagram(from, target));
            let seen = asked.collect::<Result<BTreeSet<String>>>();
            let seen = seen.map_err(|error| format!("{error:#}"))?;
            if seen.len() == replicas { Ok(()) } else { Err(format!("{seen:?}")) }
        })?;
    }
    Ok(())
}

fn replicas_of_the_same_host_come_first_where_asked_for(
    bed: &Testbed,
    client: i32,
    address: SocketAddr,
) -> Result<()> {
    let running = bed.running("web");
    let on = |host: usize| -> BTreeSet<String> {
        let here = running.containers().filter(|(at, _)| *at == host);
        // As a container calls itself.
        here.map(|(_, container)| container.id.chars().take(12).collect()).collect()
    };
    let label = "shoal.network.prefer";
    let add = format!("{label}=local");
    bed.host(0).docker_by_shoal(["service", "update", "--detach", "--label-add", &add, "web"])?;
    for (host, from, target) in [
        (0, client, address),
        (0, client, published(bed.host(0))?),
        (1, pid(bed.host(0))?, published(bed.host(1))?),
    ] {
        let local = on(host);
        wait_for(&format!("only replicas of h{host} to answer at {target}"), REPAIR, || {
            let served = requests(from, target, 12).map_err(|error| format!("{error:#}"))?;
            let seen: BTreeSet<String> = served.answers.keys().cloned().collect();
            let right = served.errors.is_empty() && seen == local;
            if right { Ok(()) } else { Err(format!("{served:?} and not {local:?}")) }
        })?;
    }
    bed.host(0).docker_by_shoal(["service", "update", "--detach", "--label-rm", label, "web"])?;
    ensure!(bed.running("web").ids() == running.ids(), "a label restarted replicas");
    everywhere(bed, client, address, running.ids().len())
}

fn an_internal_network_has_no_way_out(bed: &Testbed, client: i32) -> Result<()> {
    let create = ["network", "create", "-d", "overlay", "--attachable", "--internal", "cage"];
    bed.host(0).docker_by_shoal(create)?;
    let mut caged = Vec::new();
    for index in 0..2 {
        let host = bed.host(index);
        wait_for("the network to be known", REPAIR, || {
            let known = host.docker_by_shoal(["network", "inspect", "cage"]);
            known.map_err(|error| format!("{error:#}"))
        })?;
        host.docker_by_shoal([
            "run",
            "-d",
            "--name",
            "caged",
            "--network",
            "cage",
            BUSYBOX,
            "sleep",
            "1d",
        ])?;
        let format = "{{(index .NetworkSettings.Networks \"cage\").IPAddress}}";
        caged.push(host.docker(["inspect", "-f", format, "caged"])?.trim().to_owned());
    }
    let ping =
        |from: &str, to: &str| bed.host(0).docker(["exec", from, "ping", "-c", "1", "-W", "2", to]);
    wait_for("containers of an internal network to reach each other", REPAIR, || {
        ping("caged", &caged[1]).map_err(|error| format!("{error:#}"))
    })?;
    // Who is on another network gets out, to what the other one does not reach.
    let outside = bed.host(1).address();
    ping("client", outside)?;
    ensure!(ping("caged", outside).is_err(), "an internal network reaches {outside}");
    let served = requests(client, published(bed.host(1))?, 1)?;
    ensure!(served.errors.is_empty(), "{served:?}");
    for index in 0..2 {
        bed.host(index).docker_by_shoal(["rm", "-f", "caged"])?;
    }
    Ok(())
}

#[test]
fn a_rolling_update_under_load_fails_no_request_and_a_crash_few() -> Result<()> {
    const REPLICAS: usize = 4;
    let (mut bed, client) = up(3, REPLICAS)?;
    let address = virtual_address(&bed)?;
    everywhere(&bed, client, address, REPLICAS)?;
    let targets = [published(bed.host(1))?, address];
    let load = Load::start(client, &targets, 2)?;
    let before = bed.running("web").ids();
    bed.host(0).docker_by_shoal([
        "service",
        "update",
        "--detach",
        "--update-order",
        "start-first",
        "--env-add",
        "A=b",
        "web",
    ])?;
    wait_for("all replicas to be new ones", secs(120), || {
        let now = bed.running("web").ids();
        if now.len() == REPLICAS && now.is_disjoint(&before) {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    })?;
    no_errors("during a rolling update", &load.stop()?)?;

    let load = Load::start(client, &targets, 2)?;
    for replicas in [2 * REPLICAS, REPLICAS] {
        let scale = format!("web={replicas}");
        bed.host(0).docker_by_shoal(["service", "scale", "--detach", &scale])?;
        bed.wait_running("web", replicas, REPAIR)?;
        everywhere(&bed, client, address, replicas)?;
    }
    no_errors("while scaled up and down", &load.stop()?)?;

    let load = Load::start(client, &targets, 2)?;
    bed.crash(2)?;
    bed.wait_running("web", REPLICAS, REPAIR)?;
    everywhere(&bed, client, address, REPLICAS)?;
    let served = load.stop()?;
    let (failed, all) = (served.errors.len(), served.requests());
    // A request to the lost host waits for its time limit; two threads do so until the verdict.
    ensure!(failed < all / 5, "{failed} of {all} requests failed: {:?}", served.errors);

    // Nothing is left where shoal has left, of the engine's networks for it neither.
    let leaving = bed.host(1);
    leaving.shoal(["leave"])?;
    wait_for("nothing to be left", REPAIR, || {
        let mut left = devices(leaving).map_err(|error| format!("{error:#}"))?;
        left.retain(|name| name.starts_with("sv") || name.starts_with("sh"));
        let tables = leaving.tool(&["nft", "list", "tables"]).map_err(|e| format!("{e:#}"))?;
        let firewall = leaving.tool(&["iptables", "-S"]).map_err(|e| format!("{e:#}"))?;
        if left.is_empty() && !tables.contains("shoal") && !firewall.contains("SHOAL") {
            return Ok(());
        }
        Err(format!("{left:?}, {tables}, {firewall}"))
    })?;
    bed.done()
}
