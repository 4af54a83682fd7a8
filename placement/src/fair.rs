//! What is a host's fair share, and how full is it: the soft bound and the measure that compares the
//! first of the race.
//!
//! Three dimensions count: cores, memory, and the number of tasks, which stands for everything that is
//! not reserved. A host's fair share is the average over the hosts that suit the request, in proportion
//! to its capacity (for tasks: to its weight). The bound lies [`SLACK`] above it (consistent hashing
//! with bounded loads, Mirrokni et al. 2016), and is soft: beyond it a host is asked later, not never.
//!
//! Averages are rounded to six significant bits, fullness to 1/64: small differences between the loads
//! that two nodes see change nothing.

use crate::cluster::{Cluster, Index, Totals, plus};
use crate::eligible::{Own, reserved};
use crate::request::Request;

/// The soft bound over the fair share, as a fraction: 5/4.
const SLACK: (u128, u128) = (5, 4);
/// Fraction bits of a [`Fair`] ratio.
const FRACTION: u32 = 32;
/// Steps of fullness from empty to full.
const STEPS: u64 = 64;

/// How much finer rebalancing looks than planning does.
const FINE: u64 = 1 << 14;

/// Averages over the hosts that suit one request, as they will be when the whole batch is placed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fair {
    /// Reserved over capacity, in 2^-32; `None` where capacity is unknown.
    cpu: Option<u64>,
    memory: Option<u64>,
    /// Tasks for each unit of weight, in 2^-32.
    tasks: u64,
    /// How full a host with its fair share of tasks counts, in [`STEPS`]: as full as the cluster's
    /// fullest dimension, and at least half. So tasks decide where little is reserved.
    scale: u64,
    /// From this weight on a host is entitled to a replica.
    least_entitled: u64,
}

impl Fair {
    /// `totals` without the unsettled replicas of the batch; `batch` replicas are added to them.
    /// `replicas` is the size of the service, the batch included.
    pub(crate) fn new(totals: &Totals, request: &Request, batch: u32, replicas: u64) -> Self {
        let reserved = plus(totals.reserved, request.resources, i64::from(batch));
        let tasks = totals.tasks.saturating_add(u64::from(batch));
        let cpu = ratio(reserved.cpu_milli, totals.capacity.cpu_milli);
        let memory = ratio(reserved.memory_bytes, totals.capacity.memory_bytes);
        let fullest = cpu.max(memory).unwrap_or(0);
        Self {
            cpu,
            memory,
            tasks: ratio(tasks, totals.weight).unwrap_or(0),
            scale: (fullest >> (FRACTION - 6)).clamp(STEPS / 2, STEPS),
            least_entitled: if replicas <= totals.hosts {
                0
            } else {
                totals.weight.div_ceil(replicas.saturating_mul(2))
            },
        }
    }

    /// Whether a host gets its first replica of the service even above the soft bound: always if there
    /// are as many hosts as replicas, so that a small service stands on as many hosts as it can; of a
    /// larger one if its share in it is half a replica or more, so that the smallest hosts are not
    /// filled up by every large service's first.
    pub(crate) fn entitles(&self, weight: u32) -> bool {
        u64::from(weight) >= self.least_entitled
    }

    /// True if one more replica would lift the host over its soft bound.
    pub(crate) fn is_over(
        &self,
        cluster: &Cluster,
        request: &Request,
        at: Index,
        own: Own,
    ) -> bool {
        let capacity = cluster.capacity(at);
        let reserved = reserved(cluster, request, at, own);
        let wants = request.resources;
        above(self.cpu, capacity.cpu_milli, reserved.cpu_milli, wants.cpu_milli)
            || above(self.memory, capacity.memory_bytes, reserved.memory_bytes, wants.memory_bytes)
            || above(Some(self.tasks), u64::from(cluster.weight(at)), tasks(cluster, at, own), 1)
    }

    /// How full the host would be with one more replica, in its fullest dimension, in 1/64.
    pub(crate) fn fullness(
        &self,
        cluster: &Cluster,
        request: &Request,
        at: Index,
        own: Own,
    ) -> u64 {
        self.fine_fullness(cluster, request, at, Own { shift: own.shift + 1, ..own }) / FINE
    }

    /// How full the host is, in its fullest dimension, in 1/([`STEPS`] * [`FINE`]).
    pub(crate) fn fine_fullness(
        &self,
        cluster: &Cluster,
        request: &Request,
        at: Index,
        own: Own,
    ) -> u64 {
        let capacity = cluster.capacity(at);
        let reserved = reserved(cluster, request, at, own);
        let fair = u128::from(cluster.weight(at)) * u128::from(self.tasks);
        let tasks = u128::from(tasks(cluster, at, own)) * u128::from(self.scale * FINE);
        // The tasks of one host come nowhere near 2^64, which keeps this below 2^128.
        let by_tasks = quotient(tasks << FRACTION, fair.max(1));
        by_tasks
            .max(share(reserved.cpu_milli, capacity.cpu_milli))
            .max(share(reserved.memory_bytes, capacity.memory_bytes))
    }
}

fn tasks(cluster: &Cluster, at: Index, own: Own) -> u64 {
    crate::cluster::shifted(u64::from(cluster.load_at(at).tasks), 1, own.shift)
}

/// `part / whole` in 2^-32, rounded up to six significant bits; `None` if there is no whole.
fn ratio(part: u64, whole: u64) -> Option<u64> {
    if whole == 0 {
        return None;
    }
    let exact = (u128::from(part) << FRACTION).div_ceil(u128::from(whole));
    let exact = u64::try_from(exact).unwrap_or(u64::MAX >> 7);
    let shift = (u64::BITS - exact.leading_zeros()).saturating_sub(6);
    Some(exact.div_ceil(1 << shift).saturating_mul(1 << shift))
}

/// Whether `held + wanted` exceeds both `wanted` and the bound on `capacity`.
fn above(fair: Option<u64>, capacity: u64, held: u64, wanted: u64) -> bool {
    let Some(fair) = fair.filter(|_| capacity > 0 && wanted > 0) else { return false };
    let (rise, unit) = SLACK;
    // At most 2^64 * 2^59 * 5: fits.
    let bound = (u128::from(capacity) * u128::from(fair) * rise).div_ceil(unit << FRACTION);
    u128::from(held) + u128::from(wanted) > bound.max(u128::from(wanted))
}

/// `part / whole` in 1/([`STEPS`] * [`FINE`]); zero where capacity is unknown.
fn share(part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 0;
    }
    quotient(u128::from(part) * u128::from(STEPS * FINE), u128::from(whole))
}

/// `a / b`; the narrow division is several times quicker, and nearly always enough.
fn quotient(a: u128, b: u128) -> u64 {
    match (u64::try_from(a), u64::try_from(b)) {
        (Ok(a), Ok(b)) => a / b,
        _ => u64::try_from(a / b).unwrap_or(u64::MAX),
    }
}
