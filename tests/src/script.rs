//! The sentences scenarios are written in: shoal on all hosts, and waiting for what the engines say.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bed::{Testbed, on_all};
use crate::count::Count;
use crate::engine::{Container, Engine, SERVICE_LABEL, block_on};
use crate::host::{Host, Power};
use crate::image::BUSYBOX;
use crate::shoal;
use crate::wait::{holds_for, secs, wait_for};
use crate::watch::Watch;

/// Bound for members to find each other after a start.
const MEET_BOUND: Duration = secs(60);

impl Testbed {
    /// Starts shoal on every host: the first starts the cluster, the others join it with its token. Then
    /// waits until each calls all of them ready.
    pub fn shoal_up_all(&mut self) -> Result<()> {
        self.host_mut(0).start_shoal()?;
        let token = self.host(0).shoal(["token"])?.trim().to_string();
        let first = format!("{}:{}", self.host(0).address(), shoal::PORT);
        for host in self.record.hosts.iter_mut().skip(1) {
            host.shoal.joins = vec![first.clone()];
            host.shoal.token = Some(token.clone());
        }
        on_all(self.record.hosts.iter_mut().skip(1), Host::start_shoal)?;
        self.save()?;
        let all: Vec<usize> = (0..self.hosts().len()).collect();
        self.wait_members(&all, MEET_BOUND)?;
        Ok(())
    }

    /// Makes a Docker Swarm of all hosts, the first ones its managers, and waits until it is whole.
    pub fn swarm_up_all(&self, managers: usize) -> Result<()> {
        let first = self.host(0);
        first.docker(["swarm", "init", "--advertise-addr", first.address()])?;
        let manager = first.docker(["swarm", "join-token", "-q", "manager"])?;
        let worker = first.docker(["swarm", "join-token", "-q", "worker"])?;
        let join = format!("{}:2377", first.address());
        for host in &self.hosts()[1..] {
            let token = if host.index() < managers { manager.trim() } else { worker.trim() };
            let advertise = host.address();
            host.docker(["swarm", "join", "--advertise-addr", advertise, "--token", token, &join])?;
        }
        wait_for("the Swarm to be whole", MEET_BOUND, || {
            let nodes = first.engine().nodes().map_err(|error| format!("{error:#}"))?;
            let ready = nodes.iter().filter(|node| node.ready).count();
            if ready == self.hosts().len() { Ok(()) } else { Err(format!("{ready} nodes ready")) }
        })?;
        Ok(())
    }

    /// Waits until each of these nodes calls exactly these ready.
    pub fn wait_members(&self, members: &[usize], bound: Duration) -> Result<Duration> {
        let mut wanted: Vec<String> = members.iter().map(|&one| self.host(one).name()).collect();
        wanted.sort();
        let (_, took) = wait_for(&format!("{wanted:?} to be one cluster"), bound, || {
            for &member in members {
                let host = self.host(member);
                let ready = host.ready_nodes().map_err(|error| format!("{error:#}"))?;
                if ready != wanted {
                    return Err(format!("{} calls {ready:?} ready", host.name()));
                }
            }
            Ok(())
        })?;
        Ok(took)
    }

    /// Creates a service of sleeping replicas through one host and does not wait for them. `sleep` as the first
    /// process of a container ignores SIGTERM, so it is stopped by SIGKILL: stopping is not what is tested.
    pub fn create(&self, host: usize, name: &str, replicas: usize, flags: &[&str]) -> Result<()> {
        let replicas = replicas.to_string();
        let mut words = vec!["service", "create", "--detach", "--name", name];
        words.extend(["--replicas", &replicas, "--stop-signal", "SIGKILL"]);
        words.extend(flags);
        words.extend([BUSYBOX, "sleep", "1d"]);
        self.host(host).shoal_with(&words)?;
        Ok(())
    }

    /// Waits until what `shoal WORDS` prints on a host contains a text, and returns it all.
    pub fn wait_said(
        &self,
        host: usize,
        words: &[&str],
        text: &str,
        bound: Duration,
    ) -> Result<String> {
        let host = self.host(host);
        let what = format!("`shoal {}` on {} to say {text:?}", words.join(" "), host.name());
        let look = || match host.shoal_with(words) {
            Ok(said) if said.contains(text) => Ok(said),
            Ok(said) => Err(said),
            Err(error) => Err(format!("{error:#}")),
        };
        Ok(wait_for(&what, bound, look)?.0)
    }

    /// Waits until a host calls another one's node this state, and returns the reason it gives.
    pub fn wait_state(
        &self,
        host: usize,
        other: usize,
        state: &str,
        bound: Duration,
    ) -> Result<String> {
        let (asked, named) = (self.host(host), self.host(other).name());
        let what = format!("{} to call {named} {state}", asked.name());
        let look = || {
            let members = asked.shoal_json(["node", "ls"]).map_err(|error| format!("{error:#}"))?;
            let members = members.as_array().cloned().unwrap_or_default();
            let member = members.into_iter().find(|one| one["name"] == named.as_str());
            let member = member.ok_or_else(|| format!("{named} is not known"))?;
            let text = |key: &str| member[key].as_str().unwrap_or_default().to_string();
            let engine = member["engine"]["reason"].as_str().unwrap_or_default();
            if text("state") == state {
                Ok(format!("{} {engine}", text("reason")))
            } else {
                Err(member.to_string())
            }
        };
        Ok(wait_for(&what, bound, look)?.0)
    }

    /// The running containers of a service, by asking the engines of all hosts that run.
    pub fn running(&self, service: &str) -> Count {
        self.running_on(&self.running_hosts(), service)
    }

    /// The running containers of a service on some hosts.
    pub fn running_on(&self, hosts: &[usize], service: &str) -> Count {
        Count::ask(service, &self.engines(hosts))
    }

    /// Waits until exactly so many run on all hosts together, no slot twice. Returns the time it took.
    pub fn wait_running(&self, service: &str, wanted: usize, bound: Duration) -> Result<Duration> {
        self.wait_running_on(&self.running_hosts(), service, wanted, bound)
    }

    /// As [`Testbed::wait_running`], for some hosts: the side of a cut, the survivors of a crash.
    pub fn wait_running_on(
        &self,
        hosts: &[usize],
        service: &str,
        wanted: usize,
        bound: Duration,
    ) -> Result<Duration> {
        let what = format!("{wanted} containers of {service} on {hosts:?}, each slot once");
        let look = || self.running_on(hosts, service).is_exactly(wanted);
        let (_, took) = wait_for(&what, bound, look)?;
        Ok(took)
    }

    /// Fails as soon as anything but these very containers of the service run.
    pub fn stays_as(
        &self,
        service: &str,
        containers: &BTreeSet<String>,
        span: Duration,
    ) -> Result<()> {
        holds_for(&format!("the containers of {service}"), span, || {
            let count = self.running(service);
            if count.ids() == *containers { Ok(()) } else { Err(count.to_string()) }
        })
    }

    /// All containers of a service on one host, those that ended too.
    pub fn containers(&self, host: usize, service: &str) -> Result<Vec<Container>> {
        let label = format!("{SERVICE_LABEL}={service}");
        block_on(self.host(host).engine().containers(&label, true))
            .with_context(|| self.host(host).name())
    }

    /// Records from now on what the engines of all running hosts do.
    pub fn watch(&self) -> Watch {
        Watch::start(self.engines(&self.running_hosts()))
    }

    /// The engines of some hosts, leaving out those that are off or frozen.
    pub fn engines(&self, hosts: &[usize]) -> Vec<(usize, Engine)> {
        let on = |index: &&usize| self.host(**index).power() == Power::On;
        hosts.iter().filter(on).map(|&index| (index, self.host(index).engine())).collect()
    }
}
