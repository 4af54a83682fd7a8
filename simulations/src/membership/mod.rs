//! Membership alone, measured: N nodes without any service, the real core with its detector and its
//! pushes, the real chitchat, virtual time, a lossy network.
//!
//! For each loss one cluster goes through four acts: all start and join; nothing happens for some
//! minutes (what it costs, and whether anybody is taken for dead); single nodes publish something new
//! (how fast it is known); single nodes crash (how fast all agree). A cluster is one thread in paused
//! tokio time. The links, the cores and the acts draw from the seed; chitchat and tokio's `select` draw from
//! the operating system, so figures vary a little from run to run.

mod cluster;
mod net;
mod seen;
mod show;
mod vigil;

use std::time::Instant;

use serde::Serialize;

use self::cluster::Cluster;
pub use self::net::{Sent, Traffic};
pub use self::show::table;
pub use self::vigil::{VigilReport, VigilSpec, vigil};

/// Within this all must see all, or the run goes on without.
const JOIN_WITHIN_MS: u64 = 120_000;
/// Quiet before what idling costs is counted.
const CALM_MS: u64 = 10_000;
/// How long one piece of news or one crash is watched at most.
const WATCH_MS: u64 = 120_000;
/// Between two acts of one kind.
const PAUSE_MS: u64 = 2_000;
/// Up to this loss, in percent, a false verdict is a failure of the run.
pub const NO_FALSE_VERDICT_UP_TO: u32 = 5;

/// `simulations membership`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(2..=1000))]
    pub nodes: u16,
    /// Shares of the messages that are lost, in percent; one cluster for each.
    #[arg(long, default_value = "0,5,20", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(0..=90))]
    pub loss: Vec<u32>,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Virtual minutes without any event, over which cost and false verdicts are counted.
    #[arg(long, default_value_t = 2)]
    pub minutes: u64,
    /// Pieces of news whose spreading is measured.
    #[arg(long, default_value_t = 10)]
    pub news: usize,
    /// Nodes that crash, one after the other, and stay away.
    #[arg(long, default_value_t = 5)]
    pub crashes: usize,
    #[arg(long)]
    pub json: bool,
}

/// The middle and the worst of some measurements, in virtual milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Spread {
    pub median_ms: u64,
    pub worst_ms: u64,
}

/// What one cluster showed. Times are virtual milliseconds; `None` where something did not happen within
/// two minutes.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub nodes: u16,
    pub loss_percent: u32,
    pub seed: u64,
    /// From the first start until every node saw every node alive.
    pub joined_ms: Option<u64>,
    /// From publishing until all had the fact, as the product does it: pushes, and chitchat for the rest.
    pub convergence: Option<Spread>,
    /// Thousandths of the others whom the pushes reached at all.
    pub pushed_per_mille: u64,
    /// The same until all had it through chitchat, whatever the pushes did.
    pub convergence_chitchat: Option<Spread>,
    /// From a crash until the first, the middle and the last of the others called it down.
    pub detected_first: Option<Spread>,
    pub detected_median: Option<Spread>,
    pub detected_last: Option<Spread>,
    /// Crashes that were not called down by all in time.
    pub undetected: usize,
    /// Bytes for each node and second of the quiet minutes, as sent.
    pub bytes_per_node_second: PerClass,
    pub messages_per_node_second: PerClass,
    /// Over the whole run, each observer counted: living nodes called down, or unstable for a while.
    pub false_verdicts: u64,
    pub doubts: u64,
    pub virtual_seconds: u64,
    /// Thousandths of a second of this machine for one virtual second.
    pub wall_ms_per_virtual_second: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PerClass {
    pub probes: u64,
    pub facts: u64,
    pub records: u64,
    pub chitchat: u64,
}

impl PerClass {
    pub fn sum(&self) -> u64 {
        self.probes + self.facts + self.records + self.chitchat
    }
}

impl Report {
    /// A living node was taken for dead although the network was not that bad.
    pub fn is_failure(&self) -> bool {
        self.loss_percent <= NO_FALSE_VERDICT_UP_TO && self.false_verdicts > 0
    }
}

/// One cluster for each loss, each in a thread of its own; reports in the order of the losses.
///
/// # Errors
/// When the operating system gives no thread or timer.
pub fn run(args: &Args) -> anyhow::Result<Vec<Report>> {
    let results: Vec<anyhow::Result<Report>> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            args.loss.iter().map(|loss| scope.spawn(move || run_one(args, *loss))).collect();
        let lost = || Err(anyhow::Error::msg("a cluster's thread panicked; its message is above"));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| lost())).collect()
    });
    results.into_iter().collect()
}

fn run_one(args: &Args, loss: u32) -> anyhow::Result<Report> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    Ok(runtime.block_on(acts(args, loss)))
}

async fn acts(args: &Args, loss: u32) -> Report {
    let began = Instant::now();
    let mut cluster = Cluster::new(args.nodes.into(), loss * 10, args.seed);
    let joined_ms = join(&mut cluster, args.nodes.into()).await;
    cluster.run(CALM_MS, |_| false).await;
    let quiet_ms = args.minutes.saturating_mul(60_000).max(1_000);
    let (from, before) = (cluster.now(), cluster.net.lock().traffic);
    cluster.run(quiet_ms, |_| false).await;
    let sent = cluster.net.lock().traffic.since(&before);
    let node_ms = (cluster.now() - from).max(1) * u64::from(args.nodes);
    let (told, told_chitchat, pushed_per_mille) = tell(&mut cluster, args.news).await;
    let [first, median, last] = crash(&mut cluster, args.crashes).await;
    let virtual_ms = cluster.now().max(1);
    let wall_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    Report {
        nodes: args.nodes,
        loss_percent: loss,
        seed: args.seed,
        joined_ms,
        convergence: spread(told),
        pushed_per_mille,
        convergence_chitchat: spread(told_chitchat),
        undetected: args.crashes.min(usize::from(args.nodes) - 1) - last.len(),
        detected_first: spread(first),
        detected_median: spread(median),
        detected_last: spread(last),
        bytes_per_node_second: per_class(&sent, node_ms, |sent| sent.bytes),
        messages_per_node_second: per_class(&sent, node_ms, |sent| sent.messages),
        false_verdicts: cluster.verdicts.wrong,
        doubts: cluster.verdicts.doubts,
        virtual_seconds: virtual_ms / 1000,
        wall_ms_per_virtual_second: wall_us / virtual_ms,
    }
}

async fn join(cluster: &mut Cluster, nodes: usize) -> Option<u64> {
    while cluster.now() < JOIN_WITHIN_MS {
        // Looked at four times a second: looking costs more than running does.
        cluster.run(250, |_| false).await;
        if cluster.all_see_all(nodes) {
            return Some(cluster.now());
        }
    }
    None
}

/// Until all had each piece of news, either way and by chitchat, and whom pushes reached, per mille.
async fn tell(cluster: &mut Cluster, count: usize) -> (Vec<u64>, Vec<u64>, u64) {
    let (mut told, mut gossiped, mut pushed, mut others_sum) = (Vec::new(), Vec::new(), 0, 0);
    for n in 0..count {
        let living = cluster.living();
        let Some(owner) = cluster.chance.pick(&living).copied() else { break };
        let others = living.len() - 1;
        cluster.tell_news(owner, format!("28.1.{n}"));
        let all_gossiped =
            |c: &Cluster| c.news.as_ref().is_some_and(|news| news.gossiped.len() == others);
        let done = cluster.run(WATCH_MS, all_gossiped).await;
        let Some(news) = cluster.news.take() else { continue };
        others_sum += others as u64;
        pushed += news.pushed.len() as u64;
        let heard = |ix| {
            let ways = news.pushed.get(ix).into_iter().chain(news.gossiped.get(ix));
            ways.min().map(|at| at - news.since)
        };
        let times: Option<Vec<u64>> = living.iter().filter(|ix| **ix != owner).map(heard).collect();
        told.extend(times.and_then(|times| times.into_iter().max()));
        if done {
            gossiped.extend(news.gossiped.values().max().map(|at| at - news.since));
        }
        cluster.run(PAUSE_MS, |_| false).await;
    }
    (told, gossiped, pushed * 1000 / others_sum.max(1))
}

/// For each crash that all called: until the first, the middle and the last of the others did.
async fn crash(cluster: &mut Cluster, count: usize) -> [Vec<u64>; 3] {
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..count {
        let living = cluster.living();
        let Some(victim) = cluster.chance.pick(&living).copied().filter(|_| living.len() > 1)
        else {
            break;
        };
        let (at, others) = (cluster.now(), living.len() - 1);
        cluster.crash(victim);
        let all = |c: &Cluster| c.verdicts.right.get(&victim).is_some_and(|v| v.len() == others);
        if cluster.run(WATCH_MS, all).await {
            let seen = cluster.verdicts.right.get(&victim).into_iter().flatten();
            let mut after: Vec<u64> = seen.map(|(_, when)| when - at).collect();
            after.sort_unstable();
            let middle = after.get(after.len() / 2).copied();
            times[0].extend(after.first());
            times[1].extend(middle);
            times[2].extend(after.last());
        }
        cluster.run(PAUSE_MS, |_| false).await;
    }
    times
}

fn spread(mut times: Vec<u64>) -> Option<Spread> {
    times.sort_unstable();
    let median_ms = times.get(times.len() / 2).copied()?;
    Some(Spread { median_ms, worst_ms: times.last().copied()? })
}

fn per_class(sent: &Traffic, node_ms: u64, of: impl Fn(Sent) -> u64) -> PerClass {
    let rate = |sent| (of(sent) * 1000 + node_ms / 2) / node_ms;
    PerClass {
        probes: rate(sent.probes),
        facts: rate(sent.facts),
        records: rate(sent.records),
        chitchat: rate(sent.chitchat),
    }
}
