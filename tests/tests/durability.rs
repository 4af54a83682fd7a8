//! Point 6, durability: what was acknowledged outlives every process, every host, and a bad disk.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests::{Act, Options, Testbed, secs, wait_for};

const REPAIR: Duration = secs(60);
/// A store is a few MiB; the rest is filled by the test.
const DISK_MIB: u32 = 32;

#[test]
fn all_killed_at_once_come_back_with_everything() -> Result<()> {
    let mut bed = Testbed::up(3)?;
    bed.shoal_up_all()?;
    bed.create(0, "web", 12, &[])?;
    bed.create(1, "side", 3, &["--label", "team=a"])?;
    bed.create(2, "gone", 1, &[])?;
    for (name, wanted) in [("web", 12), ("side", 3), ("gone", 1)] {
        bed.wait_running(name, wanted, REPAIR)?;
    }
    bed.host(0).shoal(["service", "rm", "gone"])?;
    bed.wait_running("gone", 0, REPAIR)?;

    let (web, side) = (bed.running("web").ids(), bed.running("side").ids());
    let watch = bed.watch();
    for host in 0..3 {
        bed.host_mut(host).kill_shoal()?;
    }
    // Nobody is in charge, and everything serves.
    bed.stays_as("web", &web, secs(3))?;
    for host in 0..3 {
        bed.host_mut(host).launch_shoal()?;
    }
    bed.wait_members(&[0, 1, 2], secs(60))?;
    everything_is_known(&bed)?;
    bed.stays_as("web", &web, secs(10)).context("adopted")?;
    ensure!(bed.running("side").ids() == side, "adopted: {}", bed.running("side"));
    for act in [Act::Started, Act::Died] {
        ensure!(watch.of("web", act).is_empty(), "{:?}", watch.of("web", act));
        ensure!(watch.of("side", act).is_empty(), "{:?}", watch.of("side", act));
    }
    // They are adopted, not just left alone: what is killed now is replaced.
    let victim = web.first().context("a container")?;
    let on = bed.running("web").containers().find(|(_, one)| one.id == *victim).map(|(on, _)| on);
    bed.host(on.context("it runs")?).docker(["kill", victim])?;
    wait_for("an adopted container to be replaced", REPAIR, || {
        let count = bed.running("web");
        if count.is_exactly(12).is_ok() && !count.ids().contains(victim) {
            Ok(())
        } else {
            Err(count.to_string())
        }
    })?;

    bed.crash_together(&[0, 1, 2])?;
    bed.restart_together(&[0, 1, 2])?;
    bed.wait_members(&[0, 1, 2], secs(60))?;
    everything_is_known(&bed)?;
    bed.wait_running("web", 12, REPAIR).context("after a power failure of all hosts")?;
    bed.wait_running("side", 3, REPAIR)?;
    ensure!(bed.running("gone").total() == 0, "a removed service came back");
    bed.done()
}

/// Every node lists what was created and not what was removed.
fn everything_is_known(bed: &Testbed) -> Result<()> {
    for host in bed.running_hosts() {
        let list = bed.wait_said(host, &["service", "ls"], "web", secs(30))?;
        ensure!(list.contains("side") && !list.contains("gone"), "h{host} lists {list}");
        let spec = bed.host(host).shoal(["service", "inspect", "side"])?;
        ensure!(spec.contains("\"team\": \"a\""), "h{host} shows {spec}");
    }
    Ok(())
}

#[test]
fn a_damaged_store_is_refused_untouched_and_the_others_heal_the_node() -> Result<()> {
    let mut bed = Testbed::up(3)?;
    bed.shoal_up_all()?;
    bed.create(0, "web", 6, &[])?;
    bed.wait_running("web", 6, REPAIR)?;
    let before = bed.running("web").ids();
    bed.host_mut(2).stop_shoal()?;
    let file = bed.host(2).shoal_data().join("store.redb");
    let whole = std::fs::read(&file)?;

    let page = whole.len() as u64 / 2 / 4096 * 4096;
    bed.host(2).truncate("store.redb", page)?;
    refuses_to_start(&mut bed, "is damaged")?;
    bed.host(2).truncate("store.redb", 0)?;
    refuses_to_start(&mut bed, "store.redb")?;
    std::fs::write(&file, &whole)?;
    bed.host(2).overwrite("store.redb", 0, b"this was no database")?;
    refuses_to_start(&mut bed, "is not a store of shoal")?;
    std::fs::write(&file, &whole)?;
    tear_every_page(&bed, whole.len() as u64)?;
    refuses_to_start(&mut bed, "is damaged")?;
    std::fs::write(&file, &whole)?;
    set_format(&file, 99)?;
    refuses_to_start(&mut bed, "newer shoal (format 99; this one knows 1)")?;
    set_format(&file, 0)?;
    refuses_to_start(&mut bed, "format 0")?;

    // The way out that each of these texts names: aside with the file, and join again. It is the same node,
    // for its key is a file of its own, and its containers are adopted.
    std::fs::rename(&file, file.with_extension("aside"))?;
    bed.host_mut(2).start_shoal()?;
    bed.wait_members(&[0, 1, 2], secs(60))?;
    bed.wait_said(2, &["service", "ls"], "web", secs(30))?;
    bed.wait_running("web", 6, REPAIR)?;
    let here = bed.running_on(&[0, 1], "web").ids();
    ensure!(before.intersection(&here).count() >= 4, "what ran elsewhere was touched");
    bed.done()
}

/// Starts shoal on h2, which must end by itself with exit code 1, a text that says why and what to do, and the
/// file as it was.
fn refuses_to_start(bed: &mut Testbed, why: &str) -> Result<()> {
    let file = bed.host(2).shoal_data().join("store.redb");
    let before = std::fs::read(&file)?;
    let words = bed.host(2).shoal_up_argv()?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = bed.host(2).run(&words, secs(30)).with_context(|| format!("wanted {why:?}"))?;
    let said = ended.complaint();
    ensure!(ended.status.code() == Some(1), "{:?}, wanted {why:?}: {said}", ended.status);
    ensure!(said.contains(why), "wanted {why:?}, it says: {said}");
    ensure!(said.contains("--join"), "it does not say what to do: {said}");
    ensure!(std::fs::read(&file)? == before, "the damaged file was changed ({why})");
    Ok(())
}

/// Spoils some bytes in the middle of each page but the first, as a torn write of the whole file would.
fn tear_every_page(bed: &Testbed, length: u64) -> Result<()> {
    for page in 1..length / 4096 {
        bed.host(2).overwrite("store.redb", page * 4096 + 40, &[0xA5; 24])?;
    }
    Ok(())
}

/// Writes another format number into a store, as another version of shoal would have.
fn set_format(file: &std::path::Path, format: u64) -> Result<()> {
    const COUNTERS: redb::TableDefinition<'static, &str, u64> =
        redb::TableDefinition::new("counters");
    let database = redb::Database::open(file)?;
    let transaction = database.begin_write()?;
    transaction.open_table(COUNTERS)?.insert("format", format)?;
    transaction.commit()?;
    Ok(())
}

#[test]
fn a_full_or_read_only_disk_refuses_and_loses_nothing() -> Result<()> {
    let mut bed = Testbed::with(Options { disk_mib: Some(DISK_MIB), ..Options::hosts(3) })?;
    bed.shoal_up_all()?;
    let mut acknowledged = vec!["before".to_string()];
    bed.create(0, "before", 3, &[])?;
    bed.wait_running("before", 3, REPAIR)?;
    let running = bed.running("before").ids();

    bed.host(0).fill_disk()?;
    let (name, said) = until_refused(&bed, 0, "full", &mut acknowledged)?;
    ensure!(said.contains("is full") && said.contains("nothing was changed"), "{said}");
    nobody_has(&bed, &name)?;
    // The others have two disks between them.
    bed.create(1, "meanwhile", 3, &[])?;
    acknowledged.push("meanwhile".into());
    bed.wait_running("meanwhile", 3, REPAIR)?;
    // With one good disk nothing can be promised; the text says what is still true, and it comes true.
    bed.host(2).fill_disk()?;
    let (unconfirmed, said) = until_refused(&bed, 1, "alone", &mut acknowledged)?;
    ensure!(said.contains("is on this node's disk, but no second node confirmed it"), "{said}");
    bed.host(0).free_disk()?;
    bed.host(2).free_disk()?;
    acknowledged.push(unconfirmed);
    bed.create(0, "after", 3, &[])?;
    acknowledged.push("after".into());
    bed.wait_running("after", 3, REPAIR)?;
    all_have(&bed, &acknowledged)?;

    bed.host(0).make_disk_read_only()?;
    let (name, said) = until_refused(&bed, 0, "broken", &mut acknowledged)?;
    ensure!(said.contains("read-only") && said.contains("nothing was changed"), "{said}");
    nobody_has(&bed, &name)?;
    bed.create(2, "elsewhere", 3, &[])?;
    acknowledged.push("elsewhere".into());
    bed.wait_running("elsewhere", 3, REPAIR)?;
    // It cannot start on such a disk, says so, and comes back when the disk is repaired.
    bed.host_mut(0).kill_shoal()?;
    let words = bed.host(0).shoal_up_argv()?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = bed.host(0).run(&words, secs(30))?;
    ensure!(ended.status.code() == Some(1), "{ended:?}");
    ensure!(ended.complaint().contains("read-only"), "{}", ended.complaint());
    bed.host(0).make_disk_writable()?;
    bed.host_mut(0).start_shoal()?;
    bed.wait_members(&[0, 1, 2], secs(60))?;
    bed.create(0, "repaired", 1, &[])?;
    acknowledged.push("repaired".into());
    all_have(&bed, &acknowledged)?;
    let now = bed.running("before").ids();
    ensure!(now == running, "bad disks touched containers: {}", bed.running("before"));
    // Acknowledged is on disk, not only in memory.
    for host in 0..3 {
        bed.host_mut(host).kill_shoal()?;
    }
    for host in 0..3 {
        bed.host_mut(host).launch_shoal()?;
    }
    bed.wait_members(&[0, 1, 2], secs(60))?;
    all_have(&bed, &acknowledged)?;
    bed.done()
}

/// Creates services through a host until one is refused; returns its name and the reason. The store keeps some
/// room in its file, so on a full disk the first may still fit: specs of a MiB in all soon do not.
fn until_refused(
    bed: &Testbed,
    host: usize,
    prefix: &str,
    acknowledged: &mut Vec<String>,
) -> Result<(String, String)> {
    const TRIES: usize = 20;
    let ballast = "x".repeat(100_000);
    let labels: Vec<String> = (0..6).map(|nth| format!("ballast-{nth}={ballast}")).collect();
    for nth in 0..TRIES {
        let name = format!("{prefix}-{nth}");
        let mut words = vec!["service", "create", "--detach", "--name", &name, "--replicas", "0"];
        labels.iter().for_each(|label| words.extend(["--label", label]));
        words.extend([tests::image::BUSYBOX, "sleep", "1d"]);
        let output = bed.host(host).shoal_try(&words, secs(30))?;
        if output.status.success() {
            acknowledged.push(name);
            continue;
        }
        let said = output.complaint().to_string();
        ensure!(output.status.code() == Some(1), "{:?}: {said}", output.status);
        return Ok((name, said));
    }
    bail!("h{host} took {TRIES} specs of 600 kB each")
}

fn all_have(bed: &Testbed, acknowledged: &[String]) -> Result<()> {
    for host in bed.running_hosts() {
        for name in acknowledged {
            bed.wait_said(host, &["service", "ls"], name, secs(60))?;
        }
    }
    Ok(())
}

fn nobody_has(bed: &Testbed, name: &str) -> Result<()> {
    for host in bed.running_hosts() {
        let list = bed.host(host).shoal(["service", "ls"])?;
        ensure!(!list.contains(name), "{name} was refused, and h{host} lists {list}");
    }
    Ok(())
}
