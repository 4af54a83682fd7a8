//! Foresight: what `shoal plan` says is what a crash, a drain and a new count then do, on real hosts.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{Options, Testbed, secs, wait_for};

/// Long enough for a verdict (2 s), the turns of the ranks and the starts, on two busy cores.
const REPAIR: Duration = secs(60);
const HOSTS: usize = 4;

/// The host of each slot.
type Running = BTreeMap<(String, u64), usize>;

#[test]
fn a_crash_a_drain_and_a_new_count_move_exactly_what_was_foreseen() -> Result<()> {
    // `lan`: load is evened out after 30 s of quiet, so it does not mix with what happens at once.
    let mut bed = Testbed::with(Options {
        zones: ["a", "a", "b", "b"].map(String::from).to_vec(),
        ..Options::hosts(HOSTS)
    })?;
    bed.shoal_up_all()?;
    bed.create(0, "web", 18, &[])?;
    // Not where hosts are drained and lost below: where two services move at once, the order in which hosts hear of each
    // other's choices takes part (the plan says so).
    let stays = ["--reserve-memory", "16m", "--constraint", "node.hostname!=h1"];
    let stays = [&stays[..], &["--constraint", "node.hostname!=h2"]].concat();
    bed.create(1, "db", 5, &stays)?;
    bed.wait_running("web", 18, REPAIR)?;
    bed.wait_running("db", 5, REPAIR)?;
    explained(&bed)?;
    scaled(&bed)?;
    drained(&bed)?;
    crashed(&mut bed)?;
    bed.done()
}

const SERVICES: [&str; 2] = ["web", "db"];

fn running(bed: &Testbed) -> Running {
    let mut running = Running::new();
    for service in SERVICES {
        for (host, container) in bed.running(service).containers() {
            if let Some(slot) = container.slot {
                running.insert((service.to_owned(), slot), host);
            }
        }
    }
    running
}

/// What is there now, with what was foreseen done to it.
fn foreseen(bed: &Testbed, plan: &Value) -> Result<Running> {
    let host = |value: &Value| -> Result<usize> {
        let name = value["name"].as_str().context("a node without a name")?;
        (0..HOSTS).find(|n| bed.host(*n).name() == name).with_context(|| format!("what is {name}?"))
    };
    let mut running = running(bed);
    for service in plan["services"].as_array().context("no services")? {
        let name = service["name"].as_str().unwrap_or_default().to_owned();
        for stop in service["stops"].as_array().into_iter().flatten() {
            running.remove(&(name.clone(), stop["slot"].as_u64().context("no slot")?));
        }
        for one in service["moves"].as_array().into_iter().flatten() {
            let slot = one["slot"].as_u64().context("no slot")?;
            running.insert((name.clone(), slot), host(&one["to"])?);
        }
    }
    Ok(running)
}

/// Waits for exactly that and sees that it stays.
fn comes_about(bed: &Testbed, wanted: &Running) -> Result<()> {
    let look = || {
        let found = running(bed);
        if found == *wanted {
            return Ok(());
        }
        let differs = |slot: &&(String, u64)| wanted.get(*slot) != found.get(*slot);
        let slots = wanted.keys().chain(found.keys()).filter(differs);
        let lines: Vec<String> = slots
            .map(|slot| {
                format!("{slot:?}: foreseen on {:?}, is on {:?}", wanted.get(slot), found.get(slot))
            })
            .collect();
        Err(lines.join("; "))
    };
    wait_for("what was foreseen", REPAIR, look)?;
    tests::holds_for("what was foreseen", secs(5), look)?;
    Ok(())
}

fn explained(bed: &Testbed) -> Result<()> {
    let on = running(bed);
    let host = on.get(&("web".to_owned(), 3)).context("web.3 does not run")?;
    for asked in 0..HOSTS {
        let why = bed.host(asked).shoal_json(["explain", "web.3"])?;
        ensure!(why["holder"]["node"]["name"] == bed.host(*host).name(), "on {host}: {why}");
        ensure!(why["hosts"].as_array().is_some_and(|hosts| hosts.len() == HOSTS), "{why}");
    }
    Ok(())
}

fn scaled(bed: &Testbed) -> Result<()> {
    let plan = bed.host(2).shoal_json(["plan", "--scale", "web=23", "--scale", "db=3"])?;
    ensure!(plan["counts"]["started"] == 5 && plan["counts"]["stopped"] == 2, "{plan}");
    let web = bed.host(2).shoal_json(["plan", "--scale", "web=23"])?;
    let wanted = foreseen(bed, &web)?;
    bed.host(1).shoal(["service", "scale", "--detach", "web=23"])?;
    comes_about(bed, &wanted).context("scaled up")?;
    let db = bed.host(0).shoal_json(["plan", "--scale", "db=3"])?;
    let wanted = foreseen(bed, &db)?;
    bed.host(3).shoal(["service", "scale", "--detach", "db=3"])?;
    comes_about(bed, &wanted).context("scaled down")
}

fn drained(bed: &Testbed) -> Result<()> {
    let name = bed.host(1).name();
    let plan = bed.host(3).shoal_json(["plan", "--drain", &name])?;
    ensure!(plan["counts"]["handed_over"] != 0 && plan["whole"] == true, "{plan}");
    let wanted = foreseen(bed, &plan)?;
    bed.host(0).shoal(["node", "update", "--availability", "drain", &name])?;
    // It stays drained: emptied and active again it would pull load back.
    comes_about(bed, &wanted).context("drained")
}

/// Any node foresees it, also the one that is to be lost.
fn crashed(bed: &mut Testbed) -> Result<()> {
    let lost = 2;
    let name = bed.host(lost).name();
    let plan = bed.host(lost).shoal_json(["plan", "--kill", &name])?;
    let other = bed.host(0).shoal_json(["plan", "--kill", &name])?;
    ensure!(plan["services"] == other["services"], "two nodes foresee {plan} and {other}");
    let moves = plan["counts"]["replaced"].as_u64().unwrap_or_default();
    let wanted = foreseen(bed, &plan)?;
    let was = running(bed).values().filter(|host| **host == lost).count() as u64;
    ensure!(moves == was && moves > 0, "{was} run there, {moves} foreseen: {plan}");
    let watch = bed.watch();
    bed.crash(lost)?;
    comes_about(bed, &wanted).context("crashed")?;
    let started: usize = SERVICES.iter().map(|service| watch.starts(service).len()).sum();
    ensure!(started as u64 == moves, "{started} were started for {moves} foreseen");
    Ok(())
}
