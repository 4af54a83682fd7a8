//! Jobs on real hosts, by the docker command line: each slot is done once although a host is lost in the
//! middle, and nothing is run again when hosts and processes come back. The tasks say themselves what they
//! do, in a file that all hosts of this machine share.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::image::BUSYBOX;
use tests::{Testbed, secs, wait_for};

const DONE: Duration = secs(120);
const SLOTS: usize = 12;
/// Long enough that a task that has just begun does not end before its host is lost.
const WORK: &str = "echo begun $SLOT $ON >> /w/log; sleep 4; echo done $SLOT $ON >> /w/log";

#[test]
fn jobs_are_done_once_though_a_host_dies_in_the_middle() -> Result<()> {
    let mut bed = Testbed::up(3)?;
    bed.shoal_up_all()?;
    let log = Log::in_directory(bed.directory())?;
    let job = ["service", "create", "--detach", "--name", "job", "--mode", "replicated-job"];
    let amounts = ["--replicas", "12", "--max-concurrent", "3"];
    create(&bed, &[job.as_slice(), &amounts].concat(), &log, WORK)?;

    // One task runs on the host that is to be lost, and it has just begun.
    wait_for("a task to begin on h2 after others were done", DONE, || {
        let (begun, done) = (log.count("begun", Some("h2")), log.count("done", Some("h2")));
        let all = log.count("done", None);
        if all >= 3 && begun == done + 1 { Ok(()) } else { Err(log.text()) }
    })?;
    let before = log.done();
    bed.crash(2)?;
    completed(&bed, "job", "(12/12 completed)")?;
    let after = log.done();
    ensure!(after.len() == SLOTS, "{}", log.text());
    ensure!(after.values().all(|times| *times == 1), "done twice: {}", log.text());
    ensure!(before.keys().all(|slot| after.contains_key(slot)), "{}", log.text());
    let lost = log.count("begun", None) - SLOTS;
    ensure!(lost == 1, "only what ran on h2 was begun again: {}", log.text());

    bed.restart(2)?;
    bed.wait_members(&[0, 1, 2], secs(60))?;
    nothing_begins(&bed, &log)?;
    for host in 0..3 {
        bed.host_mut(host).kill_shoal()?;
    }
    for host in 0..3 {
        bed.host_mut(host).launch_shoal()?;
    }
    bed.wait_members(&[0, 1, 2], secs(60))?;
    nothing_begins(&bed, &log)?;
    for host in 0..3 {
        let ls = bed.host(host).docker_by_shoal(["service", "ls"])?;
        ensure!(ls.contains("0/3 (12/12 completed)"), "h{host}: {ls}");
        let ps = bed.host(host).docker_by_shoal(["service", "ps", "job"])?;
        let complete = ps.lines().filter(|line| line.contains("Complete "));
        ensure!(complete.count() == SLOTS, "h{host}: {ps}");
    }
    let said = bed.host(1).docker_by_shoal(["service", "update", "--force", "job"])?;
    ensure!(said.contains("job complete"), "{said}");
    let again = log.done();
    ensure!(again.len() == SLOTS && again.values().all(|times| *times == 2), "{}", log.text());
    bed.host(0).docker_by_shoal(["service", "rm", "job"])?;
    bed.wait_running("job", 0, secs(30))?;
    bed.done()
}

#[test]
fn jobs_run_on_each_host_once_and_failing_ones_as_often_as_they_may() -> Result<()> {
    let mut bed = Testbed::up(3)?;
    bed.shoal_up_all()?;
    let log = Log::in_directory(bed.directory())?;
    let job = ["service", "create", "--name", "all", "--mode", "global-job"];
    let said = create(&bed, &job, &log, WORK)?;
    ensure!(said.contains("job complete"), "{said}");
    for host in ["h0", "h1", "h2"] {
        ensure!(log.count("done", Some(host)) == 1, "{}", log.text());
    }
    bed.crash(1)?;
    bed.restart(1)?;
    bed.wait_members(&[0, 1, 2], secs(60))?;
    nothing_begins(&bed, &log)?;

    let before = log.count("begun", None);
    let job = ["service", "create", "--detach", "--name", "fails", "--mode", "replicated-job"];
    let policy = ["--restart-condition", "on-failure", "--restart-max-attempts", "2"];
    let fails = "echo begun $SLOT $ON >> /w/log; exit 5";
    create(&bed, &[job.as_slice(), &policy, &["--restart-delay", "1s"]].concat(), &log, fails)?;
    wait_for("three attempts", DONE, || match log.count("begun", None) - before {
        3 => Ok(()),
        attempts => Err(format!("{attempts} attempts")),
    })?;
    nothing_begins(&bed, &log)?;
    let ps = bed.host(2).docker_by_shoal(["service", "ps", "--no-trunc", "fails"])?;
    ensure!(ps.contains("task: non-zero exit (5)"), "{ps}");
    bed.done()
}

/// The file that tasks write into.
struct Log {
    directory: PathBuf,
}

impl Log {
    fn in_directory(bed: &Path) -> Result<Self> {
        let directory = bed.join("work");
        fs::create_dir(&directory)?;
        Ok(Self { directory })
    }

    fn text(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    fn count(&self, what: &str, on: Option<&str>) -> usize {
        let matches = |line: &&str| {
            let mut words = line.split(' ');
            words.next() == Some(what) && on.is_none_or(|on| words.next_back() == Some(on))
        };
        self.text().lines().filter(matches).count()
    }

    /// How often each slot was done.
    fn done(&self) -> BTreeMap<String, usize> {
        let mut done = BTreeMap::new();
        for line in self.text().lines().filter_map(|line| line.strip_prefix("done ")) {
            let slot = line.split(' ').next().unwrap_or_default().to_owned();
            *done.entry(slot).or_default() += 1;
        }
        done
    }
}

fn create(bed: &Testbed, flags: &[&str], log: &Log, work: &str) -> Result<String> {
    let mount = format!("type=bind,source={},target=/w", log.directory.display());
    let rest =
        ["--env", "SLOT={{.Task.Slot}}", "--env", "ON={{.Node.Hostname}}", "--mount", &mount];
    let run = [BUSYBOX, "sh", "-c", work];
    let api = bed.host(0).shoal_api().url();
    let argv = [["docker", "-H", &api].as_slice(), flags, &rest, &run].concat();
    tests::run::tool_with_input(&argv, b"").context("the job is created")
}

fn completed(bed: &Testbed, name: &str, wanted: &str) -> Result<()> {
    wait_for(&format!("{name}: {wanted}"), DONE, || {
        let ls = bed.host(0).docker_by_shoal(["service", "ls"]).map_err(|e| format!("{e:#}"))?;
        if ls.lines().any(|line| line.contains(name) && line.contains(wanted)) {
            Ok(())
        } else {
            Err(ls)
        }
    })?;
    Ok(())
}

/// For longer than any node waits before it takes a slot of a job over.
fn nothing_begins(bed: &Testbed, log: &Log) -> Result<()> {
    let before = log.count("begun", None);
    let until = std::time::Instant::now() + secs(20);
    while std::time::Instant::now() < until {
        std::thread::sleep(Duration::from_millis(500));
        let now = log.count("begun", None);
        ensure!(now == before, "{} began: {}", now - before, log.text());
    }
    ensure!(!bed.running_hosts().is_empty());
    Ok(())
}
