//! Point 5, partition: both parts go on, each as the service says, and what was changed in them meets again.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::{Act, Options, Testbed, secs, wait_for};

const REPAIR: std::time::Duration = secs(60);
const ALL: [usize; 5] = [0, 1, 2, 3, 4];
const LARGER: [usize; 3] = [0, 1, 2];
const SMALLER: [usize; 2] = [3, 4];

#[test]
fn both_parts_go_on_and_meet_again() -> Result<()> {
    let mut bed = Testbed::with(Options { profile: Some("local".into()), ..Options::hosts(5) })?;
    bed.shoal_up_all()?;
    bed.create(0, "web", 10, &[])?;
    bed.create(1, "ledger", 5, &["--partition", "majority"])?;
    bed.create(2, "lone", 5, &["--label", "shoal.partition=fenced"])?;
    bed.wait_running("web", 10, REPAIR)?;
    bed.wait_running("ledger", 5, REPAIR)?;
    bed.wait_running("lone", 5, REPAIR)?;
    one_cut_way_between_two_moves_nothing(&mut bed)?;

    let watch = bed.watch();
    let kept = bed.running_on(&SMALLER, "ledger").ids();
    let lone = bed.running("lone").ids();
    bed.cut(&[&LARGER, &SMALLER])?;
    bed.wait_running_on(&LARGER, "web", 10, REPAIR).context("the larger part")?;
    bed.wait_running_on(&SMALLER, "web", 10, REPAIR).context("the smaller part")?;
    bed.wait_running_on(&LARGER, "ledger", 5, REPAIR).context("majority, larger part")?;
    bed.wait_running_on(&LARGER, "lone", 5, REPAIR).context("fenced, larger part")?;
    // The smaller part keeps what it had of `majority`, starts none anew, and has stopped the fenced.
    let count = bed.running_on(&SMALLER, "ledger");
    ensure!(count.ids() == kept, "majority, smaller part: {count}");
    let started = watch.starts("ledger");
    ensure!(started.iter().all(|one| LARGER.contains(&one.host)), "{started:?}");
    ensure!(bed.running_on(&SMALLER, "lone").total() == 0, "fenced, smaller part");
    let (_, most) = watch.fewest_and_most("lone", &lone);
    ensure!(most <= 5, "{most} of a fenced service ran at once");
    not_repaired_in_the_smaller_part(&bed)?;

    changes_on_both_sides(&bed)?;
    bed.heal()?;
    bed.wait_members(&ALL, REPAIR)?;
    changes_have_met(&bed)?;
    let never_down = watch.fewest_and_most("web", &BTreeSet::new());
    ensure!(never_down.1 <= 32, "10 and 12 wanted on two sides, {} ran at once", never_down.1);
    bed.done()
}

fn one_cut_way_between_two_moves_nothing(bed: &mut Testbed) -> Result<()> {
    let watch = bed.watch();
    let before = bed.running("web").ids();
    bed.cut_one_way(&[1], &[0])?;
    bed.stays_as("web", &before, secs(8)).context("one way between two of five hosts is cut")?;
    bed.heal()?;
    bed.wait_members(&ALL, secs(30))?;
    ensure!(watch.of("web", Act::Started).is_empty(), "{:?}", watch.happenings());
    Ok(())
}

/// What ends in the smaller part of a `majority` service stays pending there, with the reason.
fn not_repaired_in_the_smaller_part(bed: &Testbed) -> Result<()> {
    let count = bed.running_on(&SMALLER, "ledger");
    let Some((host, container)) = count.containers().next() else {
        // Two of five hosts hold two of five replicas.
        anyhow::bail!("nothing of ledger in the smaller part: {count}");
    };
    bed.host(host).docker(["rm", "-f", &container.id])?;
    bed.wait_said(host, &["service", "ps", "--no-trunc", "ledger"], "no majority", secs(30))?;
    ensure!(bed.running_on(&SMALLER, "ledger").total() + 1 == count.total(), "repaired");
    Ok(())
}

fn changes_on_both_sides(bed: &Testbed) -> Result<()> {
    let update = |host: usize, side: &str| {
        let label = format!("side={side}");
        bed.host(host).shoal(["service", "update", "--detach", "--label-add", &label, "web"])
    };
    update(0, "larger")?;
    update(3, "smaller")?;
    // The number of replicas is a register of its own: no conflict with the edits of the spec.
    bed.host(1).shoal(["service", "scale", "--detach", "web=12"])?;
    bed.create(2, "made-in-larger", 3, &[])?;
    bed.create(4, "made-in-smaller", 3, &[])?;
    bed.wait_running_on(&LARGER, "made-in-larger", 3, REPAIR)?;
    bed.wait_running_on(&SMALLER, "made-in-smaller", 3, REPAIR)?;
    bed.wait_running_on(&LARGER, "web", 12, REPAIR)?;
    Ok(())
}

fn changes_have_met(bed: &Testbed) -> Result<()> {
    bed.wait_running("web", 12, REPAIR).context("scaled on one side")?;
    bed.wait_running("ledger", 5, REPAIR)?;
    bed.wait_running("lone", 5, REPAIR)?;
    bed.wait_running("made-in-larger", 3, REPAIR)?;
    bed.wait_running("made-in-smaller", 3, REPAIR)?;
    // One edit stands on every node, the other is listed on every node and kept whole.
    let (winner, _) = wait_for("one edit to stand everywhere", secs(30), || {
        let sides: Result<BTreeSet<String>> = ALL.iter().map(|&host| side(bed, host)).collect();
        let sides = sides.map_err(|error| format!("{error:#}"))?;
        match sides.first() {
            Some(one) if sides.len() == 1 => Ok(one.clone()),
            _ => Err(format!("{sides:?}")),
        }
    })?;
    let lost = if winner == "larger" { "smaller" } else { "larger" };
    let mut conflict = String::new();
    for host in ALL {
        bed.wait_said(host, &["status"], "CONFLICT web", secs(30))?;
        let list = bed.host(host).shoal_json(["conflicts", "ls"])?;
        let list = list.as_array().context("a list")?;
        ensure!(list.len() == 1, "h{host} lists {list:?}");
        conflict = list[0]["id"].as_str().context("an id")?.to_string();
        let body = list[0]["body"].to_string();
        ensure!(body.contains(lost), "h{host} did not keep the edit that lost: {list:?}");
    }
    bed.host(4).shoal(["conflicts", "dismiss", &conflict])?;
    for host in ALL {
        wait_for("the dismissed conflict to be gone", secs(30), || {
            let list = bed.host(host).shoal_json(["conflicts", "ls"]);
            match list.map_err(|error| format!("{error:#}"))? {
                Value::Array(list) if list.is_empty() => Ok(()),
                other => Err(format!("h{host}: {other}")),
            }
        })?;
    }
    Ok(())
}

/// Whose edit of `web` a node shows.
fn side(bed: &Testbed, host: usize) -> Result<String> {
    let shown = bed.host(host).shoal_json(["service", "inspect", "web"])?;
    let label = shown[0]["Spec"]["Labels"]["side"].as_str();
    Ok(label.with_context(|| format!("h{host} shows {shown}"))?.to_string())
}
