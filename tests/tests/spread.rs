//! Point 3, spread: evenly over hosts and zones, within what hosts have and operators allow.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::{Options, Testbed, secs, wait_for};

const REPAIR: Duration = secs(60);
const HOSTS: usize = 4;

#[test]
fn replicas_go_where_room_and_rules_allow() -> Result<()> {
    let mut bed = Testbed::with(Options {
        profile: Some("local".into()),
        zones: ["a", "a", "b", "c"].map(String::from).to_vec(),
        ..Options::hosts(HOSTS)
    })?;
    bed.host_mut(3).shoal_settings().labels = vec!["rack=7".into()];
    bed.shoal_up_all()?;
    every_count_is_even(&bed)?;
    constraints_hold(&bed)?;
    room_is_kept(&bed)?;
    one_on_every_host(&bed)?;
    drained_and_paused(&mut bed)?;
    bed.done()
}

fn every_count_is_even(bed: &Testbed) -> Result<()> {
    const COUNTS: [usize; 6] = [1, 2, 3, 5, 7, 10];
    for (nth, count) in COUNTS.into_iter().enumerate() {
        let name = format!("even-{count}");
        bed.create(nth % HOSTS, &name, count, &[])?;
        bed.wait_running(&name, count, REPAIR)?;
        let running = bed.running(&name);
        ensure!(running.unevenness() <= 1, "{running}");
    }
    // Zones first: three replicas are in three zones, though one zone has half of the hosts.
    let three = bed.running("even-3");
    ensure!((three.on(0) + three.on(1), three.on(2), three.on(3)) == (1, 1, 1), "{three}");
    // What is scaled up is spread like what is created.
    bed.host(1).shoal(["service", "scale", "--detach", "even-1=9"])?;
    bed.wait_running("even-1", 9, REPAIR)?;
    ensure!(bed.running("even-1").unevenness() <= 1, "{}", bed.running("even-1"));
    let names = COUNTS.map(|count| format!("even-{count}"));
    remove(bed, &names.each_ref().map(String::as_str))?;

    // Created at the same moment through different nodes, which do not know yet what the others begin: what
    // that leaves uneven is evened out.
    for (nth, count) in COUNTS.into_iter().enumerate() {
        bed.create(nth % HOSTS, &format!("even-{count}"), count, &[])?;
    }
    wait_for("all six to be even", REPAIR, || {
        for count in COUNTS {
            let running = bed.running(&format!("even-{count}"));
            running.is_exactly(count)?;
            if running.unevenness() > 1 {
                return Err(running.to_string());
            }
        }
        Ok(())
    })?;
    remove(bed, &names.each_ref().map(String::as_str))
}

fn constraints_hold(bed: &Testbed) -> Result<()> {
    bed.create(0, "rack", 3, &["--constraint", "engine.labels.rack==7"])?;
    bed.create(0, "not-a", 4, &["--constraint", "node.zone!=a"])?;
    bed.create(0, "ssd", 2, &["--constraint", "node.labels.disk==ssd"])?;
    bed.wait_running("rack", 3, REPAIR)?;
    ensure!(bed.running("rack").on(3) == 3, "{}", bed.running("rack"));
    bed.wait_running("not-a", 4, REPAIR)?;
    let count = bed.running("not-a");
    ensure!((count.on(2), count.on(3)) == (2, 2), "{count}");
    // Nobody has the label: pending, and the reason names the constraint. Any node gives any node a label.
    let said = ["service", "ps", "--no-trunc", "ssd"];
    bed.wait_said(1, &said, "scheduling constraints not satisfied on 4 nodes", secs(30))?;
    bed.wait_said(1, &said, "node.labels.disk==ssd", secs(5))?;
    ensure!(bed.running("ssd").total() == 0);
    bed.host(2).shoal(["node", "update", "--label-add", "disk=ssd", "h1"])?;
    bed.wait_running("ssd", 2, REPAIR)?;
    ensure!(bed.running("ssd").on(1) == 2, "{}", bed.running("ssd"));
    remove(bed, &["rack", "not-a", "ssd"])
}

fn room_is_kept(bed: &Testbed) -> Result<()> {
    // Each host has the machine's cores: room for one of these, not for two.
    let cores = bed.host(0).docker(["info", "-f", "{{.NCPU}}"])?;
    let cores: f64 = cores.trim().parse()?;
    let reserve = (cores * 0.6).to_string();
    bed.create(0, "big", 5, &["--reserve-cpu", &reserve])?;
    bed.wait_running("big", 4, REPAIR)?;
    let said = ["service", "ps", "--no-trunc", "big"];
    let text = bed.wait_said(2, &said, "insufficient resources on 4 nodes", secs(30))?;
    let left = format!("{} ", cores - cores * 0.6);
    ensure!(text.contains(&reserve), "the wanted {reserve} cores are not in the reason: {text}");
    ensure!(text.contains(left.trim()), "the free {left} cores are not in the reason: {text}");
    ensure!(bed.running("big").unevenness() == 0, "{}", bed.running("big"));
    // Room that becomes free is used.
    let extra = ["--reserve-cpu", &reserve, "--constraint", "node.hostname==h0"];
    bed.create(0, "more", 1, &extra)?;
    bed.wait_said(0, &["service", "ps", "--no-trunc", "more"], "insufficient", secs(30))?;
    remove(bed, &["big"])?;
    bed.wait_running("more", 1, REPAIR)?;

    bed.create(3, "web", 5, &["--publish", "mode=host,target=80,published=8080"])?;
    bed.wait_running("web", 4, REPAIR)?;
    let said = ["service", "ps", "--no-trunc", "web"];
    bed.wait_said(1, &said, "host-mode port already in use on 4 nodes", secs(30))?;
    ensure!(bed.running("web").unevenness() == 0, "{}", bed.running("web"));
    bed.create(2, "few", 6, &["--replicas-max-per-node", "1"])?;
    bed.wait_running("few", 4, REPAIR)?;
    ensure!(bed.running("few").unevenness() == 0, "{}", bed.running("few"));
    remove(bed, &["more", "web", "few"])
}

fn one_on_every_host(bed: &Testbed) -> Result<()> {
    bed.host(1).shoal([
        "service",
        "create",
        "--mode",
        "global",
        "--name",
        "agent",
        "--stop-signal",
        "SIGKILL",
        tests::image::BUSYBOX,
        "sleep",
        "1d",
    ])?;
    bed.wait_running("agent", HOSTS, REPAIR)?;
    ensure!(bed.running("agent").unevenness() == 0, "{}", bed.running("agent"));
    Ok(())
}

fn drained_and_paused(bed: &mut Testbed) -> Result<()> {
    bed.create(0, "steady", 12, &[])?;
    bed.wait_running("steady", 12, REPAIR)?;
    let before = bed.running("steady").ids();
    let stay: BTreeSet<String> = bed.running_on(&[0, 1, 3], "steady").ids();

    // Drain is make-before-break, and moves what was on the drained host only.
    let watch = bed.watch();
    bed.host(0).shoal(["node", "update", "--availability", "drain", "h2"])?;
    let all = [0, 1, 2, 3];
    wait_for("the drained host to be empty", REPAIR, || {
        let (steady, agent) = (bed.running_on(&all, "steady"), bed.running_on(&all, "agent"));
        if steady.is_exactly(12).is_ok() && steady.on(2) == 0 && agent.on(2) == 0 {
            Ok(())
        } else {
            Err(format!("{steady}, {agent}"))
        }
    })?;
    let (fewest, _) = watch.fewest_and_most("steady", &before);
    ensure!(fewest == 12, "{fewest} ran at the fewest while a host was drained");
    ensure!(watch.starts("steady").len() == before.len() - stay.len(), "{:?}", watch.happenings());
    ensure!(stay.is_subset(&bed.running("steady").ids()), "what was elsewhere moved");
    ensure!(bed.running("agent").total() == 3, "{}", bed.running("agent"));
    let said = bed.wait_said(1, &["node", "ls"], "draining", secs(10))?;
    ensure!(said.contains("drain"), "{said}");

    // A paused host keeps what it has and takes nothing new.
    bed.host(3).shoal(["node", "update", "--availability", "pause", "h3"])?;
    let kept = bed.running_on(&[3], "steady").ids();
    bed.create(3, "fresh", 4, &[])?;
    bed.wait_running("fresh", 4, REPAIR)?;
    let fresh = bed.running("fresh");
    ensure!((fresh.on(0), fresh.on(1), fresh.on(2), fresh.on(3)) == (2, 2, 0, 0), "{fresh}");
    ensure!(bed.running_on(&[3], "steady").ids() == kept, "pausing touched what ran");

    // Active again, both get their share, new before old; and the global service its task.
    let (watch, before) = (bed.watch(), bed.running("steady").ids());
    for name in ["h2", "h3"] {
        bed.host(1).shoal(["node", "update", "--availability", "active", name])?;
    }
    bed.wait_running("agent", HOSTS, REPAIR)?;
    wait_for("load to be evened out", REPAIR, || {
        let (steady, fresh) = (bed.running("steady"), bed.running("fresh"));
        let even = steady.unevenness() <= 1 && fresh.unevenness() <= 1;
        if even && steady.is_exactly(12).is_ok() {
            Ok(())
        } else {
            Err(format!("{steady} {fresh}"))
        }
    })
    .context("drained and paused hosts are active again")?;
    let (fewest, _) = watch.fewest_and_most("steady", &before);
    ensure!(fewest == 12, "{fewest} ran at the fewest while load was evened out");
    Ok(())
}

fn remove(bed: &Testbed, names: &[&str]) -> Result<()> {
    for name in names {
        bed.host(0).shoal(["service", "rm", name])?;
    }
    for name in names {
        bed.wait_running(name, 0, REPAIR)?;
    }
    Ok(())
}
