//! Point 4, heal: what dies is replaced, each lost replica started once, and nothing else is touched.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::image::{BUSYBOX, HEALTHY};
use tests::{Act, Testbed, Watch, holds_for, secs, wait_for};

/// Long enough for a verdict (2 s), the turns of the ranks and the starts, on two busy cores.
const REPAIR: Duration = secs(60);

#[test]
fn a_container_that_fails_is_replaced_and_no_other_is_touched() -> Result<()> {
    let mut bed = Testbed::up(3)?;
    bed.shoal_up_all()?;
    let foreign = bed.host(0).docker(["run", "-d", "--name", "foreign", BUSYBOX, "sleep", "1d"])?;
    bed.create(0, "web", 6, &[])?;
    bed.host(1).shoal([
        "service",
        "create",
        "--detach",
        "--name",
        "sick",
        "--replicas",
        "3",
        "--stop-signal",
        "SIGKILL",
        HEALTHY,
    ])?;
    bed.wait_running("web", 6, REPAIR)?;
    bed.wait_running("sick", 3, REPAIR)?;
    let watch = bed.watch();

    let killed = one_on(&bed, "web", 0)?;
    bed.host(0).docker(["kill", &killed])?;
    replaced(&bed, &watch, "web", 6, &killed)?;
    let removed = one_on(&bed, "web", 1)?;
    bed.host(1).docker(["rm", "-f", &removed])?;
    replaced(&bed, &watch, "web", 6, &removed)?;
    ensure!(watch.starts("web").len() == 2, "two were lost: {:?}", watch.starts("web"));

    let unhealthy = one_on(&bed, "sick", 2)?;
    bed.host(2).docker(["exec", &unhealthy, "touch", "/sick"])?;
    replaced(&bed, &watch, "sick", 3, &unhealthy)?;
    ensure!(watch.starts("sick").len() == 1, "one was sick: {:?}", watch.starts("sick"));
    let said = bed.host(0).shoal(["service", "ps", "--no-trunc", "sick"])?;
    ensure!(said.contains("unhealthy"), "the reason is not in `service ps`: {said}");

    crash_loop_backs_off(&bed)?;
    let now = bed.host(0).docker(["inspect", "-f", "{{.Id}} {{.State.Running}}", "foreign"])?;
    ensure!(now.trim() == format!("{} true", foreign.trim()), "the foreign one: {now}");
    bed.done()
}

/// A command that always fails is tried again at growing pauses, and `service ps` says how it failed.
fn crash_loop_backs_off(bed: &Testbed) -> Result<()> {
    let watch = bed.watch();
    bed.host(0).shoal([
        "service", "create", "--detach", "--name", "loop", BUSYBOX, "sh", "-c", "exit 3",
    ])?;
    let pauses = || {
        let times: Vec<Duration> = watch.starts("loop").iter().map(|one| one.at).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>()
    };
    wait_for("four pauses between five starts", REPAIR, || {
        let pauses = pauses();
        if pauses.len() >= 4 { Ok(()) } else { Err(format!("{pauses:?}")) }
    })?;
    let pauses = pauses();
    // Half a second, doubling: 0.5, 1, 2, 4.
    ensure!(pauses[0] >= Duration::from_millis(450), "no back-off: {pauses:?}");
    ensure!(pauses[3] >= secs(3) && pauses[3] > pauses[1], "no growing back-off: {pauses:?}");
    let said = bed.host(1).shoal(["service", "ps", "--no-trunc", "loop"])?;
    ensure!(said.contains("non-zero exit (3)"), "the reason is not in `service ps`: {said}");
    bed.host(1).shoal(["service", "rm", "loop"])?;
    Ok(())
}

#[test]
fn a_lost_host_moves_what_was_lost_and_a_slow_one_moves_nothing() -> Result<()> {
    let mut bed = Testbed::up(3)?;
    bed.shoal_up_all()?;
    bed.create(0, "web", 30, &[])?;
    bed.wait_running("web", 30, REPAIR)?;
    small_trouble_changes_nothing(&mut bed)?;
    let lost = a_silent_crash_moves_what_was_lost(&mut bed)?;
    a_returned_host_gives_up_and_takes_its_share(&mut bed, &lost)?;
    a_long_freeze_is_a_loss(&mut bed)?;
    down_to_the_last(&mut bed)?;
    bed.done()
}

fn small_trouble_changes_nothing(bed: &mut Testbed) -> Result<()> {
    let before = bed.running("web").ids();
    let watch = bed.watch();
    bed.freeze_for(1, secs(1))?;
    bed.stays_as("web", &before, secs(6)).context("after a freeze of 1 s")?;
    bed.lose(5)?;
    bed.stays_as("web", &before, secs(15)).context("under 5% loss")?;
    bed.heal()?;
    // Shoal alone is killed, and back well within its grace time.
    bed.host_mut(2).kill_shoal()?;
    bed.wait_state(0, 2, "unstable", secs(15)).context("shoal gone, its host answers")?;
    bed.stays_as("web", &before, secs(6)).context("while shoal is gone")?;
    bed.host_mut(2).start_shoal()?;
    bed.wait_members(&[0, 1, 2], secs(30))?;
    // An engine that hangs for a while, within its grace.
    bed.host(1).hang_engine()?;
    let why = bed.wait_state(0, 1, "unstable", secs(40)).context("its engine hangs")?;
    ensure!(why.contains("engine"), "the reason does not name the engine: {why}");
    bed.host(1).unhang_engine()?;
    bed.wait_state(0, 1, "alive", secs(40)).context("its engine goes on")?;
    bed.stays_as("web", &before, secs(6)).context("after the engine hung")?;
    ensure!(watch.of("web", Act::Started).is_empty(), "{:?}", watch.happenings());
    ensure!(watch.of("web", Act::Died).is_empty(), "{:?}", watch.happenings());
    Ok(())
}

/// Returns the slots that were lost with h2.
fn a_silent_crash_moves_what_was_lost(bed: &mut Testbed) -> Result<BTreeSet<u64>> {
    let survivors = bed.running_on(&[0, 1], "web").ids();
    let lost: BTreeSet<u64> = bed.running_on(&[2], "web").per_slot().into_keys().collect();
    ensure!(lost.len() == 10, "an even spread over three: {}", bed.running("web"));
    let watch = bed.watch();
    bed.crash(2)?;
    bed.wait_running("web", 30, REPAIR)?;
    ensure!(survivors.is_subset(&bed.running("web").ids()), "a replica moved that was not lost");
    bed.stays_as("web", &bed.running("web").ids(), secs(5))?;
    let started = watch.starts_per_slot("web");
    ensure!(started.keys().copied().collect::<BTreeSet<_>>() == lost, "{started:?}, lost {lost:?}");
    ensure!(started.values().all(|&times| times == 1), "each once: {started:?}");
    let why = bed.wait_state(0, 2, "down", secs(5))?;
    ensure!(!why.trim().is_empty(), "no reason");
    Ok(lost)
}

fn a_returned_host_gives_up_and_takes_its_share(
    bed: &mut Testbed,
    lost: &BTreeSet<u64>,
) -> Result<()> {
    let before = bed.running("web").ids();
    bed.restart(2)?;
    let watch = bed.watch();
    bed.wait_members(&[0, 1, 2], secs(30))?;
    // Its containers ended with the host; the slots are held by others. It starts none of them.
    bed.stays_as("web", &before, secs(10)).context("asked first, started nothing")?;
    wait_for("load to be evened out", secs(120), || {
        let count = bed.running("web");
        if count.is_exactly(30).is_ok() && count.unevenness() <= 1 {
            Ok(())
        } else {
            Err(count.to_string())
        }
    })?;
    let (fewest, most) = watch.fewest_and_most("web", &before);
    ensure!(fewest >= 30, "fewer than wanted ran while load was evened out: {fewest}");
    ensure!(most <= 36, "evening out is gradual, but {most} ran at once");
    let moved = watch.starts("web").len();
    ensure!((9..=11).contains(&moved), "{moved} starts to move 10; lost were {lost:?}");
    Ok(())
}

fn a_long_freeze_is_a_loss(bed: &mut Testbed) -> Result<()> {
    let survivors = bed.running_on(&[0, 2], "web").ids();
    let watch = bed.watch();
    bed.freeze(1)?;
    bed.wait_running_on(&[0, 2], "web", 30, REPAIR)?;
    ensure!(survivors.is_subset(&bed.running_on(&[0, 2], "web").ids()), "an unlost replica moved");
    let started = watch.starts_per_slot("web");
    ensure!(started.len() == 30 - survivors.len(), "{started:?}");
    ensure!(started.values().all(|&times| times == 1), "each once: {started:?}");
    bed.thaw(1)?;
    bed.wait_running("web", 30, REPAIR).context("each slot ends up once after the thaw")?;
    bed.wait_members(&[0, 1, 2], secs(30))?;
    Ok(())
}

fn down_to_the_last(bed: &mut Testbed) -> Result<()> {
    bed.crash(0)?;
    bed.wait_running("web", 30, REPAIR)?;
    let survivors = bed.running_on(&[2], "web").ids();
    bed.crash(1)?;
    bed.wait_running("web", 30, REPAIR).context("the last one runs all")?;
    ensure!(survivors.is_subset(&bed.running("web").ids()), "an unlost replica moved");
    // It takes commands: one survivor is a full cluster.
    bed.host(2).shoal(["service", "scale", "--detach", "web=33"])?;
    bed.wait_running("web", 33, REPAIR)?;
    bed.create(2, "late", 2, &[])?;
    bed.wait_running("late", 2, REPAIR)?;
    bed.restart_together(&[0, 1])?;
    bed.wait_members(&[0, 1, 2], secs(60))?;
    bed.wait_running("web", 33, REPAIR).context("each slot once when all are back")?;
    for host in 0..3 {
        let said = bed.host(host).shoal(["service", "ls"])?;
        ensure!(said.contains("late") && said.contains("/33"), "h{host} missed a change: {said}");
    }
    Ok(())
}

#[test]
fn an_engine_that_hangs_or_restarts_is_told_apart_from_a_lost_host() -> Result<()> {
    let mut bed = Testbed::with(tests::Options {
        live_restore: true,
        profile: Some("local".into()),
        ..tests::Options::hosts(2)
    })?;
    bed.shoal_up_all()?;
    bed.create(0, "web", 8, &[])?;
    bed.wait_running("web", 8, REPAIR)?;

    // An upgrade of the engine under live-restore: the containers go on, and are adopted.
    let before = bed.running("web").ids();
    let watch = bed.watch();
    bed.host_mut(1).stop_engine()?;
    let why = bed.wait_state(0, 1, "unstable", secs(15))?;
    ensure!(why.contains("engine"), "the reason does not name the engine: {why}");
    bed.host_mut(1).start_engine()?;
    bed.wait_state(0, 1, "alive", secs(30))?;
    bed.stays_as("web", &before, secs(10))?;
    ensure!(watch.starts("web").is_empty(), "{:?}", watch.starts("web"));

    // It hangs for longer than its grace (20 s): its replicas are started elsewhere, but not before.
    let here = bed.running_on(&[0], "web").ids();
    bed.host(1).hang_engine()?;
    holds_for("the replicas of the other host", secs(15), || {
        let count = bed.running_on(&[0], "web");
        if count.ids() == here { Ok(()) } else { Err(count.to_string()) }
    })?;
    let said = bed.host(1).shoal(["status"])?;
    ensure!(said.contains("engine does not answer"), "its own status: {said}");
    bed.wait_running_on(&[0], "web", 8, REPAIR)?;
    bed.wait_state(0, 1, "draining", secs(15))?;
    bed.host(1).unhang_engine()?;
    bed.wait_running("web", 8, REPAIR).context("each slot once after it goes on")?;
    bed.wait_members(&[0, 1], secs(30))?;
    a_missing_shoal_is_waited_for_and_then_replaced(&mut bed)?;
    bed.done()
}

/// With shoal gone its containers serve: they are replaced after its grace (10 s) and not before, and when it
/// comes back after all, each slot ends up once.
fn a_missing_shoal_is_waited_for_and_then_replaced(bed: &mut Testbed) -> Result<()> {
    wait_for("h1 to have its share again", secs(60), || {
        let count = bed.running("web");
        if count.on(1) == 4 && count.is_exactly(8).is_ok() {
            Ok(())
        } else {
            Err(count.to_string())
        }
    })?;
    let (here, there) = (bed.running_on(&[0], "web").ids(), bed.running_on(&[1], "web").ids());
    bed.host_mut(1).kill_shoal()?;
    holds_for("the replicas of the other host", secs(8), || {
        let count = bed.running_on(&[0], "web");
        if count.ids() == here { Ok(()) } else { Err(count.to_string()) }
    })?;
    bed.wait_running_on(&[0], "web", 8, REPAIR)?;
    ensure!(bed.running_on(&[1], "web").ids() == there, "nobody may touch them but their shoal");
    bed.host_mut(1).start_shoal()?;
    bed.wait_running("web", 8, REPAIR).context("each slot once after shoal came back late")?;
    Ok(())
}

/// The id of one running container of the service on a host.
fn one_on(bed: &Testbed, service: &str, host: usize) -> Result<String> {
    let count = bed.running_on(&[host], service);
    let found = count.containers().next().with_context(|| format!("none there: {count}"))?;
    Ok(found.1.id.clone())
}

/// Waits until another container runs in place of one, all others being the same.
fn replaced(bed: &Testbed, watch: &Watch, service: &str, wanted: usize, gone: &str) -> Result<()> {
    let starts = watch.starts(service).len();
    wait_for(&format!("{gone} of {service} to be replaced"), REPAIR, || {
        let count = bed.running(service);
        match count.is_exactly(wanted) {
            Ok(()) if !count.ids().contains(gone) => Ok(()),
            _ => Err(format!("{count}, {starts} starts before")),
        }
    })?;
    // The event of the start may come a moment after the listing.
    wait_for("the event of the start", secs(5), || {
        let seen = watch.starts(service);
        if seen.is_empty() { Err(format!("{seen:?}")) } else { Ok(()) }
    })?;
    Ok(())
}
