//! An encrypted network on real hosts that are on no private network: nobody has to ask for it, what its containers say to
//! each other across hosts arrives whole, and cannot be read on the way.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use tests::image::BUSYBOX;
use tests::load::requests;
use tests::tap::Tap;
use tests::{Options, Testbed, secs, wait_for};

/// What is looked for on the way.
const MARKER: &str = "THIS-IS-FOR-NOBODY-ELSE";
/// A megabyte of it: large packets have to fit as well.
const SERVER: &str = "mkdir -p /www; yes THIS-IS-FOR-NOBODY-ELSE | dd of=/www/index.html bs=1k count=1024 iflag=fullblock; exec httpd -f -p 80 -h /www";

#[test]
fn what_an_encrypted_network_carries_cannot_be_read_on_the_way() -> Result<()> {
    let mut bed = Testbed::with(Options { public: true, ..Options::hosts(2) })?;
    bed.shoal_up_all()?;
    let here = bed.host(0);
    here.docker_by_shoal(["network", "create", "-d", "overlay", "--attachable", "secret"])?;
    is_shown(&bed, "secret", true)?;
    let open = ["network", "create", "-d", "overlay", "--opt", "encrypted=false", "open"];
    here.docker_by_shoal(open)?;
    is_shown(&bed, "open", false)?;
    here.docker_by_shoal([
        "service",
        "create",
        "--detach",
        "--name",
        "web",
        "--network",
        "secret",
        "--publish",
        "8080:80",
        "--replicas",
        "2",
        "--stop-signal",
        "SIGKILL",
        BUSYBOX,
        "sh",
        "-c",
        SERVER,
    ])?;
    bed.wait_running("web", 2, secs(90))?;
    // The network of published ports is there without being created.
    is_shown(&bed, "ingress", true)?;
    here.docker_by_shoal([
        "run",
        "-d",
        "--name",
        "client",
        "--network",
        "secret",
        BUSYBOX,
        "sleep",
        "1d",
    ])?;
    let client = here.docker(["inspect", "-f", "{{.State.Pid}}", "client"])?;
    let client: i32 = client.trim().parse().context("the container's process")?;

    let running = bed.running("web");
    let there = running.containers().into_iter().find(|(host, _)| *host == 1);
    let (_, there) = there.context("no replica on the other host")?;
    let format = "{{(index .NetworkSettings.Networks \"secret\").IPAddress}}";
    let address = bed.host(1).docker(["inspect", "-f", format, &there.id])?;
    let target: SocketAddr = format!("{}:80", address.trim()).parse().context("its address")?;
    wait_for("the replica on the other host to answer", secs(60), || {
        let served = requests(client, target, 1).map_err(|error| format!("{error:#}"))?;
        if served.errors.is_empty() { Ok(()) } else { Err(format!("{:?}", served.errors)) }
    })?;

    // On the device that encrypts it can be read; on the wire, where as much goes by, it cannot.
    let device = Tap::on_host(here, "shoal0", &[MARKER])?;
    let wire = Tap::on_host(here, "eth0", &[MARKER])?;
    let served = requests(client, target, 5)?;
    ensure!(served.errors.is_empty(), "{:?}", served.errors);
    let whole = served.answers.keys().all(|body| body.len() > 1_000_000 && body.contains(MARKER));
    ensure!(whole && served.answers.len() == 1, "an answer was not whole");
    let (device, wire) = (device.close()?, wire.close()?);
    ensure!(device.marked[0] > 0, "nothing was seen on the device: {device:?}");
    ensure!(wire.bytes > 1_000_000, "nothing was seen on the wire: {wire:?}");
    ensure!(wire.marked[0] == 0, "it could be read on the wire: {wire:?}");
    bed.done()
}

/// All hosts show whether a network is encrypted, and how its packets travel.
fn is_shown(bed: &Testbed, network: &str, encrypted: bool) -> Result<()> {
    for host in bed.hosts() {
        wait_for(&format!("{network} to be shown on {}", host.name()), secs(30), || {
            let format = "{{json .Options}}";
            let said = host.docker_by_shoal(["network", "inspect", "-f", format, network]);
            let said = said.map_err(|error| format!("{error:#}"))?;
            let way = if encrypted { "vxlan over tun and quic" } else { "vxlan" };
            let way = format!("\"shoal.network.way\":\"{way}\"");
            let right = said.contains(&way) && said.contains("\"encrypted\":\"\"") == encrypted;
            if right { Ok(()) } else { Err(said) }
        })?;
    }
    Ok(())
}
