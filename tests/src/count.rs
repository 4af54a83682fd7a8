//! What runs where, as the engines tell it: the answer a scenario is judged by.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use futures_util::future::join_all;

use crate::engine::{Container, Engine, SERVICE_LABEL, block_on};

/// The running containers of one service on some hosts.
#[derive(Clone, Debug)]
pub struct Count {
    service: String,
    /// By host index: its containers, or why its engine did not say.
    hosts: BTreeMap<usize, Result<Vec<Container>, String>>,
}

impl Count {
    /// Asks all given engines at the same time.
    pub fn ask(service: &str, engines: &[(usize, Engine)]) -> Count {
        let label = format!("{SERVICE_LABEL}={service}");
        let label = &label;
        let asked = engines.iter().map(|(host, engine)| async move {
            let answer = engine.containers(label, false).await;
            // "Not running" may still be listed while an engine starts or pauses it.
            let answer = answer.map(|list| list.into_iter().filter(|one| one.running).collect());
            (*host, answer.map_err(|error| format!("{error:#}")))
        });
        let hosts = block_on(join_all(asked)).into_iter().collect();
        Count { service: service.to_string(), hosts }
    }

    /// All running containers.
    pub fn containers(&self) -> impl Iterator<Item = (usize, &Container)> {
        self.hosts.iter().flat_map(|(host, answer)| answer.iter().flatten().map(|one| (*host, one)))
    }

    /// How many run in all.
    pub fn total(&self) -> usize {
        self.containers().count()
    }

    /// How many run on one host.
    pub fn on(&self, host: usize) -> usize {
        self.containers().filter(|(on, _)| *on == host).count()
    }

    /// How many run on each host that was asked.
    pub fn per_host(&self) -> BTreeMap<usize, usize> {
        self.hosts.keys().map(|host| (*host, self.on(*host))).collect()
    }

    /// Most minus fewest on the hosts that were asked: at most 1 when evenly spread.
    pub fn unevenness(&self) -> usize {
        let per_host = self.per_host();
        let most = per_host.values().max().copied().unwrap_or(0);
        most - per_host.values().min().copied().unwrap_or(0)
    }

    /// How many containers run for each slot.
    pub fn per_slot(&self) -> BTreeMap<u64, usize> {
        let mut slots = BTreeMap::new();
        for slot in self.containers().filter_map(|(_, one)| one.slot) {
            *slots.entry(slot).or_insert(0) += 1;
        }
        slots
    }

    /// Ids of the containers, to see later that they are the same ones.
    pub fn ids(&self) -> BTreeSet<String> {
        self.containers().map(|(_, one)| one.id.clone()).collect()
    }

    /// Hosts whose engine gave no answer.
    pub fn silent(&self) -> Vec<usize> {
        self.hosts.iter().filter(|(_, answer)| answer.is_err()).map(|(host, _)| *host).collect()
    }

    /// Whether exactly `wanted` run and none of their slots twice; `Err` is what is seen.
    pub fn is_exactly(&self, wanted: usize) -> Result<(), String> {
        let twice = self.per_slot().values().any(|&times| times > 1);
        if self.silent().is_empty() && self.total() == wanted && !twice {
            Ok(())
        } else {
            Err(self.to_string())
        }
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} running (", self.total(), self.service)?;
        for (nth, (host, answer)) in self.hosts.iter().enumerate() {
            let comma = if nth == 0 { "" } else { ", " };
            match answer {
                Ok(list) => write!(f, "{comma}h{host}: {}", list.len())?,
                Err(why) => write!(f, "{comma}h{host}: {why}")?,
            }
        }
        f.write_str(")")?;
        let slots = self.per_slot();
        let twice: Vec<u64> =
            slots.iter().filter(|(_, times)| **times > 1).map(|(slot, _)| *slot).collect();
        if !twice.is_empty() {
            write!(f, "; slots running more than once: {twice:?}")?;
        }
        Ok(())
    }
}
