//! What is measured, the same for every system.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tests::watch::now;
use tests::{Act, Testbed, Watch, holds_for, secs, wait_for};

/// The service that is measured; the bare engine's containers carry its label too.
pub(crate) const SERVICE: &str = "bench";

/// Bound of creating all replicas, and of replacing those of the first crashed host.
const WORK_BOUND: Duration = secs(180);
/// Whoever has not recovered by then when only one host is left has not recovered.
pub(crate) const LAST_BOUND: Duration = secs(60);
/// The cluster is undisturbed this long before a host crashes.
const CALM: Duration = secs(5);
/// Over how long an idle node's processor time is measured.
const IDLE_SPAN: Duration = secs(20);

/// Something that keeps replicas running on hosts.
pub(crate) trait System {
    fn name(&self) -> &'static str;

    /// Makes a cluster of the bed's hosts and waits until it is whole.
    fn start(&self, bed: &mut Testbed) -> Result<()>;

    /// Asks for so many replicas; may return before they run.
    fn create(&self, bed: &Testbed, replicas: usize) -> Result<()>;

    /// Called at once after hosts crashed. Only the bare engine has something to do here: the replicas
    /// that were lost, as nobody else replaces them.
    fn replace(&self, _bed: &Testbed, _lost: usize) -> Result<()> {
        Ok(())
    }

    /// Whether anybody replaces what is lost.
    fn is_orchestrator(&self) -> bool {
        true
    }
}

/// What to do.
pub(crate) struct Plan {
    pub(crate) replicas: usize,
    pub(crate) crash: bool,
}

/// One measurement. Seconds; none: not within its bound, or not measured.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Figures {
    /// From the command to all running.
    pub(crate) create: Option<f64>,
    /// From the command to the first one's start.
    pub(crate) create_first: Option<f64>,
    /// From the command to the last start on each host, least first: what the slowest waited for.
    pub(crate) create_hosts: Vec<f64>,
    /// Processor time that shoal's processes took meanwhile, all together, in seconds.
    pub(crate) create_cpu: Option<f64>,
    /// From one host's crash to the first replacement's start.
    pub(crate) crash_first: Option<f64>,
    /// From one host's crash to all running again on the others.
    pub(crate) crash_all: Option<f64>,
    /// From the crash of all hosts but one to the first replacement's start on the last.
    pub(crate) last_first: Option<f64>,
    /// From the crash of all hosts but one to all running on the last.
    pub(crate) last_all: Option<f64>,
    /// Of shoal's processes without any service: the largest resident size, in MB (10^6 bytes).
    pub(crate) idle_mb: Option<f64>,
    /// The same: the most processor time used, in percent of one core.
    pub(crate) idle_cpu_percent: Option<f64>,
}

/// Measures a system once on a fresh bed.
pub(crate) fn measure(bed: &mut Testbed, system: &dyn System, plan: &Plan) -> Result<Figures> {
    let mut figures = Figures::default();
    system.start(bed)?;
    measure_idle(bed, &mut figures);

    let watch = bed.watch();
    let before = processor_seconds(bed);
    let begun = now();
    system.create(bed, plan.replicas)?;
    let everywhere = bed.running_hosts();
    let all = wait_all(&watch, &everywhere, &BTreeSet::new(), plan.replicas, WORK_BOUND)?;
    figures.create_cpu = before.zip(processor_seconds(bed)).map(|(before, after)| after - before);
    figures.create = Some(between(begun, all));
    let starts = watch.starts(SERVICE);
    figures.create_first = starts.first().map(|one| between(begun, one.at));
    let last = |host: &usize| starts.iter().rfind(|one| one.host == *host);
    figures.create_hosts =
        everywhere.iter().filter_map(last).map(|one| between(begun, one.at)).collect();
    figures.create_hosts.sort_by(f64::total_cmp);
    bed.wait_running(SERVICE, plan.replicas, secs(30))?;
    if !plan.crash {
        return Ok(figures);
    }

    let (first, all) = crash(bed, system, plan, &everywhere[everywhere.len() - 1..], WORK_BOUND)?;
    (figures.crash_first, figures.crash_all) = (first, all);
    if system.is_orchestrator() && all.is_some() && everywhere.len() > 2 {
        let others = &everywhere[1..everywhere.len() - 1];
        (figures.last_first, figures.last_all) = crash(bed, system, plan, others, LAST_BOUND)?;
    }
    Ok(figures)
}

/// Crashes hosts in a calm cluster; seconds to the first replacement and to all of them.
fn crash(
    bed: &mut Testbed,
    system: &dyn System,
    plan: &Plan,
    hosts: &[usize],
    bound: Duration,
) -> Result<(Option<f64>, Option<f64>)> {
    holds_for("all replicas", CALM, || bed.running(SERVICE).is_exactly(plan.replicas))?;
    let survivors: Vec<usize> =
        bed.running_hosts().into_iter().filter(|host| !hosts.contains(host)).collect();
    let before = bed.running_on(&survivors, SERVICE).ids();
    let watch = Watch::start(bed.engines(&survivors));
    let mut begun = now();
    bed.crash_together(hosts)?;
    if !system.is_orchestrator() {
        // Nobody notices anything here: what is measured is the engines' time for the lost replicas.
        begun = now();
    }
    system.replace(bed, plan.replicas - before.len())?;
    let all = wait_all(&watch, &survivors, &before, plan.replicas, bound).ok();
    let first = watch.of(SERVICE, Act::Started).first().map(|one| between(begun, one.at));
    if all.is_some() {
        bed.wait_running(SERVICE, plan.replicas, secs(30))?;
    }
    Ok((first, all.map(|all| between(begun, all))))
}

/// The moment, by the engines' clocks, from which on all replicas ran on these hosts.
fn wait_all(
    watch: &Watch,
    hosts: &[usize],
    before: &BTreeSet<String>,
    replicas: usize,
    bound: Duration,
) -> Result<Duration> {
    let (moment, _) = wait_for(&format!("{replicas} running"), bound, || {
        let moment = watch.when_running(SERVICE, hosts, before, replicas);
        moment.ok_or_else(|| format!("{} starts", watch.starts(SERVICE).len()))
    })?;
    Ok(moment)
}

/// What shoal's processes take while there is nothing to do.
fn measure_idle(bed: &Testbed, figures: &mut Figures) {
    let processes: Vec<_> = bed.hosts().iter().filter_map(|host| host.shoal_process()).collect();
    if processes.is_empty() {
        return;
    }
    let before: Vec<u64> = processes.iter().map(|process| process.cpu_ticks()).collect();
    std::thread::sleep(IDLE_SPAN);
    let used = processes.iter().zip(before).map(|(process, before)| {
        // Linux counts processor time in hundredths of a second for everybody.
        (process.cpu_ticks() - before) as f64 / IDLE_SPAN.as_secs_f64()
    });
    let megabytes = processes.iter().map(|process| process.resident_bytes() as f64 / 1e6);
    figures.idle_cpu_percent = used.reduce(f64::max);
    figures.idle_mb = megabytes.reduce(f64::max);
}

/// Processor time of all of shoal's processes so far; none where shoal does not run.
fn processor_seconds(bed: &Testbed) -> Option<f64> {
    let processes = bed.hosts().iter().filter_map(|host| host.shoal_process());
    // Linux counts processor time in hundredths of a second for everybody.
    processes.map(|process| process.cpu_ticks() as f64 / 100.0).reduce(|sum, one| sum + one)
}

fn between(begun: Duration, ended: Duration) -> f64 {
    ended.saturating_sub(begun).as_secs_f64()
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |figure: Option<f64>| match figure {
            Some(seconds) => format!("{seconds:.1} s"),
            None => "-".to_string(),
        };
        write!(f, "create {} (first {}", seconds(self.create), seconds(self.create_first))?;
        write!(f, ", last on each host {:.1?}", self.create_hosts)?;
        if let Some(cpu) = self.create_cpu {
            write!(f, ", shoal's processor time {cpu:.1} s")?;
        }
        write!(f, ")")?;
        write!(f, "; crash: first {}, ", seconds(self.crash_first))?;
        write!(f, "all {}", seconds(self.crash_all))?;
        write!(f, "; one host left: first {}, ", seconds(self.last_first))?;
        write!(f, "all {}", seconds(self.last_all))?;
        if let (Some(mb), Some(percent)) = (self.idle_mb, self.idle_cpu_percent) {
            write!(f, "; idle {mb:.1} MB, {percent:.2}% of a core")?;
        }
        Ok(())
    }
}
