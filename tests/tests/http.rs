//! What nodes take from outside and pass on themselves, on real hosts: HTTP requests for services that run anywhere, by
//! host and path, also after the host of a replica has crashed; and connections that begin with who asked.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::image::BUSYBOX;
use tests::load::answer;
use tests::{Testbed, secs, wait_for};

const REPLICAS: usize = 4;
const SETTLE: Duration = secs(90);
/// A web server that says which container it is, in.
const SERVER: &str = "mkdir -p /www/api; hostname | tee /www/index.html > /www/api/index.html; exec httpd -f -p 81 -h /www";

#[test]
fn any_node_takes_requests_for_services_anywhere() -> Result<()> {
    let mut bed = Testbed::up(3)?;
    for index in 0..3 {
        bed.host_mut(index).shoal_settings().flags = vec!["--http=0.0.0.0:8000".into()];
    }
    bed.shoal_up_all()?;
    let replicas = REPLICAS.to_string();
    for (name, rule, replicas) in
        [("shop", "Host(`shop.example`)", replicas.as_str()), ("api", "PathPrefix(`/api`)", "1")]
    {
        let rule = format!("traefik.http.routers.{name}.rule={rule}");
        let port = format!("traefik.http.services.{name}.loadbalancer.server.port=81");
        bed.host(0).docker_by_shoal([
            "service",
            "create",
            "--detach",
            "--name",
            name,
            "--replicas",
            replicas,
            "--stop-signal",
            "SIGKILL",
            "--label",
            "traefik.enable=true",
            "--label",
            &rule,
            "--label",
            &port,
            BUSYBOX,
            "sh",
            "-c",
            SERVER,
        ])?;
    }
    bed.wait_running("shop", REPLICAS, SETTLE)?;
    bed.wait_running("api", 1, SETTLE)?;
    everywhere(&bed, REPLICAS)?;
    let (status, said) = ask(&bed, 1, "nobody.example", "/")?;
    ensure!(status == "404" && said.contains("nobody.example"), "{status} {said}");
    replicas_are_told_who_asked(&bed)?;

    // The replicas of a lost host are replaced, and asked.
    bed.crash(2)?;
    bed.wait_running("shop", REPLICAS, SETTLE)?;
    bed.wait_running("api", 1, SETTLE)?;
    everywhere(&bed, REPLICAS)?;
    bed.done()
}

/// Waits until each replica of the shop answers at each host, and the other service where it is meant.
fn everywhere(bed: &Testbed, replicas: usize) -> Result<()> {
    for index in bed.running_hosts() {
        wait_for("all replicas to answer", SETTLE, || {
            let said = |host: &str, path: &str| match ask(bed, index, host, path) {
                Ok((status, body)) if status == "200" => Ok(body),
                Ok((status, body)) => Err(format!("{status} {body}")),
                Err(error) => Err(format!("{error:#}")),
            };
            let mut seen = BTreeSet::new();
            for _ in 0..2 * replicas {
                seen.insert(said("shop.example", "/")?);
            }
            let api = said("other.example", "/api/")?;
            if seen.len() == replicas && !seen.contains(&api) {
                return Ok(());
            }
            Err(format!("{seen:?} and {api:?}"))
        })?;
    }
    Ok(())
}

/// A server that answers with the first bytes of each connection, in figures: a header of the PROXY protocol's second
/// version is so long.
const ECHO: &str =
    "nc -ll -p 82 -e sh -c 'printf \"HTTP/1.0 200 OK\\r\\n\\r\\n\"; head -c 28 | od -An -v -tx1'";

fn replicas_are_told_who_asked(bed: &Testbed) -> Result<()> {
    bed.host(0).docker_by_shoal([
        "service",
        "create",
        "--detach",
        "--name",
        "who",
        "--mode",
        "global",
        "--publish",
        "9000:82",
        "--label",
        "shoal.ingress.proxy-protocol=v1",
        "--stop-signal",
        "SIGKILL",
        BUSYBOX,
        "sh",
        "-c",
        ECHO,
    ])?;
    bed.wait_running("who", 3, SETTLE)?;
    let client: Ipv4Addr = bed.host(0).address().parse()?;
    let line = format!("PROXY TCP4 {client} ").into_bytes();
    // Its replicas take turns, so that most connections go to other hosts.
    told(bed, "the first version's header", |said, _| said.starts_with(&line))?;
    let version = "shoal.ingress.proxy-protocol=v2";
    bed.host(1).docker_by_shoal([
        "service",
        "update",
        "--detach",
        "--label-add",
        version,
        "who",
    ])?;
    told(bed, "the second version's header", |said, asked| {
        let addresses = [client.octets(), asked.octets()].concat();
        said.starts_with(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c") && said[16..24] == addresses
    })?;
    bed.host(0).docker_by_shoal(["service", "rm", "who"])?;
    Ok(())
}

/// Waits until connections to each host begin as they should, several times in a row.
fn told(bed: &Testbed, what: &str, right: impl Fn(&[u8], Ipv4Addr) -> bool) -> Result<()> {
    let from = bed.host(0).dockerd().context("no engine runs")?.pid;
    for host in bed.hosts() {
        let asked: Ipv4Addr = host.address().parse()?;
        let target = SocketAddr::new(asked.into(), 9000);
        wait_for(&format!("{what} at {}", host.name()), SETTLE, || {
            for _ in 0..4 {
                let answered = answer(from, target, "a.host.with.a.name.that.is.long", "/");
                let (_, figures) = answered.map_err(|error| format!("{error:#}"))?;
                let bytes = figures.split_whitespace().map(|two| u8::from_str_radix(two, 16));
                let bytes: Vec<u8> =
                    bytes.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
                if bytes.len() != 28 || !right(&bytes, asked) {
                    return Err(String::from_utf8_lossy(&bytes).into_owned());
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// What the first host is answered by another one: the status and the body.
fn ask(bed: &Testbed, at: usize, host: &str, path: &str) -> Result<(String, String)> {
    let from = bed.host(0).dockerd().context("no engine runs")?.pid;
    let target = SocketAddr::new(bed.host(at).address().parse()?, 8000);
    answer(from, target, host, path)
}
