//! The testbed itself, with plain Docker: if it lied about a crash or a cut, every scenario would.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tests::cgroup::Group;
use tests::engine::{SERVICE_LABEL, TASK_LABEL};
use tests::process::Process;
use tests::{Act, Host, Options, Power, Testbed, secs, wait_for};

/// Runs one container as a service's replica would be labelled.
fn run_replica(host: &Host, slot: u64) -> Result<String> {
    let service = format!("{SERVICE_LABEL}=web");
    let task = format!("{TASK_LABEL}=web.{slot}.k2x");
    host.docker(["run", "-d", "-l", &service, "-l", &task, tests::image::BUSYBOX, "sleep", "1000"])
}

fn reach(bed: &Testbed, from: usize, to: usize) -> Result<bool> {
    bed.host(from).reaches(bed.host(to))
}

/// Waits, for a link that was just given back takes a moment to learn its neighbour.
fn wait_reach(bed: &Testbed, from: usize, to: usize) -> Result<()> {
    wait_for(&format!("h{from} to reach h{to}"), secs(15), || match reach(bed, from, to) {
        Ok(true) => Ok(()),
        other => Err(format!("{other:?}")),
    })?;
    Ok(())
}

/// Share of packets that arrive, by UDP-free means: one ping each.
fn arriving(host: &Host, to: &str, packets: u32) -> Result<f64> {
    let script = format!("busybox ping -q -c {packets} -i 0.01 -W 1 {to} | grep received");
    let said = host.tool(&["sh", "-c", &script])?;
    let received = said.split(',').nth(1).and_then(|part| part.split_whitespace().next());
    let received: f64 = received.context("ping's summary")?.parse()?;
    Ok(received / f64::from(packets))
}

#[test]
fn packets_are_cut_one_way_both_ways_and_lost_by_the_percent() -> Result<()> {
    let mut bed = Testbed::up(2)?;
    wait_reach(&bed, 0, 1)?;
    wait_reach(&bed, 1, 0)?;

    bed.cut(&[&[0], &[1]])?;
    ensure!(!reach(&bed, 0, 1)? && !reach(&bed, 1, 0)?, "a cut host was reached");
    bed.heal()?;
    wait_reach(&bed, 0, 1)?;

    // What h0 sends does arrive, what h1 answers does not: as each kernel counts.
    bed.cut_one_way(&[1], &[0])?;
    ensure!(ping_arrives(&bed, 0, 1)?, "the open way was cut too");
    ensure!(!ping_arrives(&bed, 1, 0)?, "the cut way is open");
    ensure!(!reach(&bed, 0, 1)?, "an answer came back over the cut way");
    bed.heal()?;
    wait_reach(&bed, 1, 0)?;

    // Lost on the way there and on the way back: 0.8 x 0.8 = 64% of the pings are answered.
    bed.lose(20)?;
    let share = arriving(bed.host(0), bed.host(1).address(), 500)?;
    ensure!(
        (0.52..0.76).contains(&share),
        "with 20% loss each way, {share} of the pings came back"
    );
    bed.heal()?;
    let share = arriving(bed.host(0), bed.host(1).address(), 100)?;
    ensure!(share > 0.99, "after the heal, {share} of the pings came back");
    bed.done()
}

/// Sends one ping and says whether the other host's kernel got it, answered or not.
fn ping_arrives(bed: &Testbed, from: usize, to: usize) -> Result<bool> {
    let heard = |bed: &Testbed| echo_requests(bed.host(to));
    let before = heard(bed)?;
    reach(bed, from, to)?;
    Ok(heard(bed)? > before)
}

/// Pings that a host has received since it was started.
fn echo_requests(host: &Host) -> Result<u64> {
    let text = host.tool(&["cat", "/proc/net/snmp"])?;
    let mut rows = text.lines().filter_map(|line| line.strip_prefix("Icmp: "));
    let (names, values) = (rows.next().context("a header")?, rows.next().context("values")?);
    let column = names.split(' ').position(|name| name == "InEchos").context("InEchos")?;
    Ok(values.split(' ').nth(column).context("a value")?.parse()?)
}

#[test]
fn a_crashed_host_loses_everything_but_its_disk_and_comes_back_with_it() -> Result<()> {
    let mut bed = Testbed::up(2)?;
    let watch = bed.watch();
    for slot in 1..=3 {
        run_replica(bed.host(0), slot)?;
    }
    run_replica(bed.host(1), 4)?;
    bed.wait_running("web", 4, secs(20))?;
    let count = bed.running("web");
    ensure!((count.on(0), count.on(1), count.unevenness()) == (3, 1, 2), "counted {count}");
    ensure!(watch.starts("web").len() == 4, "the engines' own record: {:?}", watch.happenings());

    let before = bed.host(0).processes();
    // dockerd, containerd, three shims, three containers and the namespaces' holder at least.
    ensure!(before.len() >= 9, "only {} processes on h0", before.len());
    let other: Vec<Process> = bed.host(1).processes();
    bed.crash(0)?;
    ensure!(bed.host(0).power() == Power::Off);
    ensure!(before.iter().all(|process| !process.is_alive()), "something survived the crash");
    ensure!(other.iter().all(Process::is_alive), "the crash reached the other host");
    for container in count.containers().filter(|(on, _)| *on == 0).map(|(_, one)| one) {
        // The engine had no time to notice that its containers died, as when power fails.
        let file = bed.host(0).directory().join("docker/containers").join(&container.id);
        let state = std::fs::read_to_string(file.join("config.v2.json"))?;
        ensure!(state.contains("\"Running\":true"), "the engine wrote a death down: {state}");
    }
    ensure!(!reach(&bed, 1, 0)?, "a crashed host answers");
    ensure!(bed.host(0).docker(["info"]).is_err(), "a crashed engine answers");
    bed.wait_running("web", 1, secs(10))?;

    let address = bed.host(0).address().to_string();
    bed.readdress(0)?;
    ensure!(bed.host(0).address() != address);
    bed.restart_together(&[0])?;
    wait_reach(&bed, 1, 0)?;
    // The engine remembers its containers, but nothing restarted them.
    ensure!(bed.running("web").total() == 1, "{}", bed.running("web"));
    let remembered = bed.containers(0, "web")?;
    ensure!(remembered.len() == 3, "the engine forgot its containers: {remembered:?}");
    ensure!(remembered.iter().all(|one| !one.running));
    bed.host(0).docker(["start", &remembered[0].id])?;
    bed.wait_running("web", 2, secs(20))?;
    bed.done()
}

#[test]
fn a_frozen_host_answers_nothing_and_goes_on_where_it_was() -> Result<()> {
    let mut bed = Testbed::up(2)?;
    let counter = "i=0; while :; do i=$((i+1)); echo $i > /m; mv /m /n; sleep 0.05; done";
    let id = bed.host(0).docker(["run", "-d", tests::image::BUSYBOX, "sh", "-c", counter])?;
    let id = id.trim();
    let read = |bed: &Testbed| bed.host(0).docker(["exec", id, "cat", "/n"]);
    wait_for("the counter", secs(10), || read(&bed).map_err(|error| error.to_string()))?;

    bed.freeze(0)?;
    ensure!(bed.host(0).engine().answers(secs(1)).is_err(), "a frozen engine answers");
    let processes = bed.host(0).processes();
    ensure!(processes.iter().all(Process::is_stopped), "something of the host still runs");
    bed.thaw(0)?;
    bed.host(0).engine().answers(secs(10)).map_err(anyhow::Error::msg)?;
    let first: u64 = read(&bed)?.trim().parse()?;
    wait_for("the container to count on", secs(10), || {
        let now = read(&bed).map_err(|error| error.to_string())?;
        let now: u64 = now.trim().parse().map_err(|_| now.clone())?;
        if now > first { Ok(()) } else { Err(format!("{now} after {first}")) }
    })?;

    bed.host(0).hang_engine()?;
    ensure!(bed.host(0).engine().answers(secs(1)).is_err(), "a hanging engine answers");
    ensure!(reach(&bed, 1, 0)?, "only the engine hangs, not the host");
    bed.host(0).unhang_engine()?;
    bed.host(0).engine().answers(secs(10)).map_err(anyhow::Error::msg)?;
    bed.done()
}

#[test]
fn an_engine_killed_under_live_restore_finds_its_containers_again() -> Result<()> {
    let mut bed = Testbed::with(Options { live_restore: true, ..Options::hosts(1) })?;
    let watch = bed.watch();
    run_replica(bed.host(0), 1)?;
    let before = bed.running("web").ids();
    bed.host_mut(0).kill_engine()?;
    bed.host_mut(0).start_engine()?;
    bed.wait_running("web", 1, secs(20))?;
    ensure!(bed.running("web").ids() == before);
    run_replica(bed.host(0), 2)?;
    // The record goes on over the restart of the engine, and shows that the first was not restarted.
    wait_for("the second start", secs(10), || match watch.starts("web").len() {
        2 => Ok(()),
        other => Err(format!("{other} starts")),
    })?;
    ensure!(watch.of("web", Act::Died).is_empty(), "{:?}", watch.happenings());
    bed.done()
}

#[test]
fn a_small_disk_gets_full_gets_read_only_and_survives_a_reboot() -> Result<()> {
    let mut bed = Testbed::with(Options { disk_mib: Some(16), ..Options::hosts(1) })?;
    let file = bed.host(0).directory().join("shoal/file");
    let file = file.to_string_lossy().into_owned();
    let write = |bed: &Testbed, words: &str| {
        let script = format!("echo {words} > '{file}' && sync '{file}'");
        bed.host(0).run(&["sh", "-c", &script], secs(10))
    };
    ensure!(write(&bed, "kept")?.status.success());

    bed.host(0).fill_disk()?;
    let full = bed.host(0).run(&["sh", "-c", &format!("seq 99999 > '{file}'")], secs(10))?;
    ensure!(full.complaint().contains("No space left"), "{full:?}");
    bed.host(0).free_disk()?;
    ensure!(write(&bed, "kept")?.status.success());

    // With a file open for writing, as a running store has.
    let hold = format!("exec 3>>'{file}'; echo open; exec sleep 1000");
    let holder = bed.host(0).spawn("holder", &["sh", "-c", &hold].map(String::from), &[])?;
    wait_for("the file to be open", secs(10), || {
        let said = std::fs::read_to_string(bed.host(0).log("holder")).unwrap_or_default();
        if said.contains("open") { Ok(()) } else { Err(said) }
    })?;
    bed.host(0).make_disk_read_only()?;
    let refused = write(&bed, "lost")?;
    ensure!(!refused.status.success(), "a read-only disk was written to");
    ensure!(bed.host(0).make_disk_writable().is_err(), "it is in use and cannot be repaired");
    holder.signal(Signal::SIGKILL)?;
    wait_for("the file to be closed", secs(5), || {
        if holder.is_alive() { Err("open") } else { Ok(()) }.map_err(String::from)
    })?;
    bed.host(0).make_disk_writable()?;
    ensure!(bed.host(0).tool(&["cat", &file])?.trim() == "kept");

    bed.crash(0)?;
    bed.restart(0)?;
    ensure!(bed.host(0).tool(&["cat", &file])?.trim() == "kept", "the disk lost a synced file");
    bed.host(0).truncate("file", 2)?;
    bed.host(0).overwrite("file", 1, b"X")?;
    ensure!(bed.host(0).tool(&["cat", &file])? == "kX");
    bed.done()
}

#[test]
fn a_killed_program_leaves_nothing() -> Result<()> {
    // Not SIGINT: a shell lets its background jobs ignore that, and this may be one.
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let mut owner = Command::new(env!("CARGO_BIN_EXE_testbed"))
            .args(["hold", "1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut lines = BufReader::new(owner.stdout.take().context("a pipe")?).lines();
        let first = lines.next().context("no bed came up")??;
        let directory = PathBuf::from(first.split(' ').next_back().unwrap_or_default());
        ensure!(lines.any(|line| line.is_ok_and(|line| line.starts_with("up until"))));
        let record = directory.join("bed.json");
        let record: serde_json::Value = serde_json::from_slice(&std::fs::read(record)?)?;
        let holder = record["hosts"][0]["namespaces"]["holder"].clone();
        let holder: Process = serde_json::from_value(holder)?;
        ensure!(holder.is_alive());

        nix::sys::signal::kill(Pid::from_raw(i32::try_from(owner.id())?), signal)?;
        owner.wait()?;
        wait_for("the guard to remove the bed", secs(60), || {
            if directory.exists() { Err(format!("{} exists", directory.display())) } else { Ok(()) }
        })?;
        ensure!(!holder.is_alive(), "the host's namespaces are still held");
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let group = Group::named(&name.replace("shoal-bed-", "shoal-"))?;
        ensure!(group.everywhere().is_empty(), "groups are left: {:?}", group.everywhere());
    }
    Ok(())
}
