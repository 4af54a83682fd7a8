//! Networks of the whole cluster, driven by the real docker command line: containers on different hosts reach each
//! other by address and by name, those of another network do not, and no two have one address, whatever fails.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::image::BUSYBOX;
use tests::{Testbed, secs, wait_for};

const REPAIR: Duration = secs(90);
/// A web server that says which container it is.
const SERVER: &str = "hostname > /www/index.html; exec httpd -f -p 80 -h /www";

#[test]
fn containers_of_a_network_find_each_other_on_any_host() -> Result<()> {
    let mut bed = Testbed::up(3)?;
    bed.shoal_up_all()?;
    networks_are_made_anywhere_and_shown_everywhere(&bed)?;
    for (host, name, network) in [(0, "web", "back"), (1, "other", "front")] {
        bed.host(host).docker_by_shoal([
            "service",
            "create",
            "--detach",
            "--name",
            name,
            "--network",
            network,
            "--replicas",
            "6",
            "--stop-signal",
            "SIGKILL",
            BUSYBOX,
            "sh",
            "-c",
            SERVER,
        ])?;
    }
    for name in ["web", "other"] {
        bed.wait_running(name, 6, REPAIR)?;
    }
    every_container_has_an_address_of_its_own(&bed)?;
    all_reach_each_other_and_nobody_else(&bed)?;
    what_is_in_use_is_not_removed(&bed)?;
    plain_containers_are_attached(&bed)?;
    a_lost_host_takes_its_addresses_along(&mut bed)?;
    halves_keep_their_addresses_apart(&mut bed)?;
    networks_go_when_nothing_needs_them(&bed)?;
    bed.done()
}

fn networks_are_made_anywhere_and_shown_everywhere(bed: &Testbed) -> Result<()> {
    bed.host(0).docker_by_shoal(["network", "create", "-d", "overlay", "back"])?;
    bed.host(1).docker_by_shoal(["network", "create", "-d", "overlay", "--attachable", "front"])?;
    wait_for("all hosts to show both networks", REPAIR, || {
        for host in bed.running_hosts() {
            let args =
                ["network", "ls", "--filter", "driver=overlay", "--format", "{{.Name}} {{.Scope}}"];
            let listed = bed.host(host).docker_by_shoal(args).map_err(|e| format!("{e:#}"))?;
            if !listed.contains("back swarm") || !listed.contains("front swarm") {
                return Err(format!("h{host} shows {listed}"));
            }
        }
        Ok(())
    })?;
    let again = bed.host(2).docker_by_shoal(["network", "create", "-d", "overlay", "back"]);
    let why = format!("{:#}", again.err().context("a second network of one name was made")?);
    ensure!(why.contains("network with name back already exists"), "{why}");
    let (back, front) = (subnet(bed, "back")?, subnet(bed, "front")?);
    ensure!(back != front && back.ends_with(".0.0/16"), "{back} {front}");
    Ok(())
}

fn inspected(bed: &Testbed, host: usize, network: &str) -> Result<Value> {
    let text = bed.host(host).docker_by_shoal(["network", "inspect", network])?;
    let mut all: Value = serde_json::from_str(&text)?;
    Ok(all[0].take())
}

fn subnet(bed: &Testbed, network: &str) -> Result<String> {
    let shown = inspected(bed, 2, network)?;
    let subnet = shown["IPAM"]["Config"][0]["Subnet"].as_str();
    subnet.map(str::to_owned).with_context(|| format!("{network} has no subnet: {shown}"))
}

/// Host, id and address of each running container of a service, as the engines say.
fn addresses(bed: &Testbed, service: &str, network: &str) -> Result<Vec<(usize, String, String)>> {
    let mut all = Vec::new();
    for (host, container) in bed.running(service).containers() {
        let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
        let said = bed.host(host).docker(["inspect", "--format", &format, &container.id])?;
        all.push((host, container.id.clone(), said.trim().to_owned()));
    }
    Ok(all)
}

fn every_container_has_an_address_of_its_own(bed: &Testbed) -> Result<()> {
    let subnet = subnet(bed, "back")?;
    let range = subnet.trim_end_matches("0.0/16").to_owned();
    let all = addresses(bed, "web", "back")?;
    let different: BTreeSet<&String> = all.iter().map(|(_, _, address)| address).collect();
    ensure!(different.len() == 6 && different.iter().all(|a| a.starts_with(&range)), "{all:?}");
    let mut blocks: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (host, _, address) in &all {
        let block = address.rsplit_once('.').context("an address")?.0;
        blocks.entry(block).or_default().insert(*host);
    }
    ensure!(blocks.values().all(|hosts| hosts.len() == 1), "a block has two hosts: {blocks:?}");
    // What the API says is what the engines have.
    let ids = bed.host(1).docker_by_shoal([
        "service",
        "ps",
        "-q",
        "--no-trunc",
        "--filter",
        "desired-state=running",
        "web",
    ])?;
    for id in ids.lines() {
        let format = "{{range .NetworksAttachments}}{{index .Addresses 0}}{{end}}";
        let said =
            bed.host(1).docker_by_shoal(["inspect", "--type", "task", "--format", format, id])?;
        let address = said.trim().strip_suffix("/16").with_context(|| format!("{said} of {id}"))?;
        ensure!(different.contains(&address.to_owned()), "{address} is none of {different:?}");
    }
    Ok(())
}

fn exec(bed: &Testbed, host: usize, container: &str, line: &str) -> Result<String> {
    bed.host(host).docker(["exec", container, "sh", "-c", line])
}

fn all_reach_each_other_and_nobody_else(bed: &Testbed) -> Result<()> {
    let web = addresses(bed, "web", "back")?;
    let wanted: BTreeSet<String> = web.iter().map(|(_, _, address)| address.clone()).collect();
    wait_for("all containers to reach all others, by address and by name", REPAIR, || {
        for (host, id, _) in &web {
            let ask =
                |line: &str| exec(bed, *host, id, line).map_err(|e| format!("h{host}: {e:#}"));
            for (_, _, address) in &web {
                ask(&format!("timeout 5 wget -q -O /dev/null http://{address}/"))?;
            }
            ask("timeout 5 wget -q -O /dev/null http://web/")?;
            let names = ask("nslookup tasks.web")?;
            let found: BTreeSet<String> =
                wanted.iter().filter(|address| names.contains(address.as_str())).cloned().collect();
            if found != wanted {
                return Err(format!("tasks.web on h{host} is {names}, and not {wanted:?}"));
            }
        }
        Ok(())
    })?;
    for (host, id, _) in addresses(bed, "other", "front")? {
        let line = format!("timeout 3 wget -q -O /dev/null http://{}/", web[0].2);
        ensure!(exec(bed, host, &id, &line).is_err(), "front reaches back from h{host}");
        ensure!(exec(bed, host, &id, "nslookup web").is_err(), "front knows web on h{host}");
    }
    Ok(())
}

fn what_is_in_use_is_not_removed(bed: &Testbed) -> Result<()> {
    let refused = bed.host(2).docker_by_shoal(["network", "rm", "back"]);
    let why = format!("{:#}", refused.err().context("it was removed")?);
    ensure!(why.contains("network back is in use by service"), "{why}");
    Ok(())
}

fn plain_containers_are_attached(bed: &Testbed) -> Result<()> {
    let refused =
        bed.host(2).docker_by_shoal(["run", "--rm", "--network", "back", BUSYBOX, "true"]);
    let why = format!("{:#}", refused.err().context("it was attached")?);
    ensure!(why.contains("not manually attachable"), "{why}");
    bed.host(2).docker_by_shoal([
        "run",
        "-d",
        "--name",
        "plain",
        "--network",
        "front",
        BUSYBOX,
        "sleep",
        "1d",
    ])?;
    wait_for("a plain container to reach the service", REPAIR, || {
        exec(bed, 2, "plain", "timeout 5 wget -q -O /dev/null http://other/")
            .map_err(|e| format!("{e:#}"))
    })?;
    bed.host(2).docker_by_shoal(["rm", "-f", "plain"])?;
    Ok(())
}

fn all_different(bed: &Testbed) -> Result<(), String> {
    let all = addresses(bed, "web", "back").map_err(|e| format!("{e:#}"))?;
    let different: BTreeSet<&String> = all.iter().map(|(_, _, address)| address).collect();
    if different.len() == all.len() && all.len() == 6 { Ok(()) } else { Err(format!("{all:?}")) }
}

/// Names lead to what runs, all of it and nothing else.
fn names_are_true(bed: &Testbed) -> Result<(), String> {
    let all = addresses(bed, "web", "back").map_err(|e| format!("{e:#}"))?;
    let wanted: BTreeSet<&str> = all.iter().map(|(_, _, address)| address.as_str()).collect();
    let Some((host, id, _)) = all.first() else { return Err("nothing runs".to_owned()) };
    let said = exec(bed, *host, id, "nslookup tasks.web").map_err(|e| format!("{e:#}"))?;
    let answers = said.split_once("Name:").map(|(_, answers)| answers).unwrap_or_default();
    let found: BTreeSet<&str> = answers
        .split_whitespace()
        .filter(|word| word.parse::<std::net::Ipv4Addr>().is_ok())
        .collect();
    if found == wanted { Ok(()) } else { Err(format!("{said} is not {wanted:?}")) }
}

fn a_lost_host_takes_its_addresses_along(bed: &mut Testbed) -> Result<()> {
    bed.crash(2)?;
    bed.wait_running("web", 6, REPAIR)?;
    wait_for("names to lead to what runs after a crash", REPAIR, || names_are_true(bed))?;
    all_different(bed).map_err(anyhow::Error::msg)?;
    bed.restart(2)?;
    bed.wait_running("web", 6, REPAIR)?;
    wait_for("names to lead to what runs after a return", REPAIR, || names_are_true(bed)).map(drop)
}

fn halves_keep_their_addresses_apart(bed: &mut Testbed) -> Result<()> {
    bed.cut(&[&[0], &[1, 2]])?;
    bed.wait_running_on(&[1, 2], "web", 6, REPAIR)?;
    // A network that only one side knows of, and is used there.
    bed.host(0).docker_by_shoal(["service", "scale", "--detach", "web=6"])?;
    bed.heal()?;
    bed.wait_running("web", 6, REPAIR)?;
    wait_for("one address for each container after the halves have met", REPAIR, || {
        all_different(bed)
    })?;
    wait_for("names to lead to what runs after healing", REPAIR, || names_are_true(bed)).map(drop)
}

fn networks_go_when_nothing_needs_them(bed: &Testbed) -> Result<()> {
    bed.host(0).docker_by_shoal(["service", "rm", "web", "other"])?;
    bed.host(0).docker_by_shoal(["network", "rm", "back", "front"])?;
    wait_for("the engines' networks to be gone", REPAIR, || {
        for host in bed.running_hosts() {
            let args =
                ["network", "ls", "--filter", "label=shoal.network.id", "--format", "{{.Name}}"];
            let left = bed.host(host).docker(args).map_err(|e| format!("{e:#}"))?;
            if !left.trim().is_empty() {
                return Err(format!("h{host} has {left}"));
            }
        }
        Ok(())
    })
    .map(drop)
}
