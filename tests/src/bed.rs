//! A bed: hosts on a switch, and what is done to them.
//!
//! Everything a bed is made of hangs on three things with the bed's unique name: a control group (all its
//! processes, and through them namespaces, interfaces, mounts and loop devices), a state directory (all its
//! files), and `bed.json` in that directory, written after every change, so that another program can go on
//! with the bed or remove it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cgroup::Group;
use crate::guard::Guard;
use crate::host::{Host, Power};
use crate::options::Options;
use crate::process::Process;
use crate::record::{Record, directory_named, make_directory, name_of, subnet_of};
use crate::removal;
use crate::shoal::{self, Shoal};
use crate::switch::Switch;
use crate::{image, needs};

/// More hosts than this find no room on the test machines.
const MOST_HOSTS: usize = 20;

/// Real Docker hosts on this machine. Dropped without [`Testbed::done`], the test has failed: logs are kept
/// and shown, and the bed is removed all the same.
#[derive(Debug)]
pub struct Testbed {
    pub(crate) record: Record,
    guard: Option<Guard>,
    finished: bool,
}

impl Testbed {
    /// Brings up so many hosts with an engine each.
    pub fn up(hosts: usize) -> Result<Testbed> {
        Testbed::with(Options::hosts(hosts))
    }

    /// Brings a bed up. What dead programs left of theirs is removed first.
    pub fn with(options: Options) -> Result<Testbed> {
        needs::check()?;
        ensure!(
            (1..=MOST_HOSTS).contains(&options.hosts),
            "a bed has 1 to {MOST_HOSTS} hosts, not {}",
            options.hosts
        );
        removal::sweep()?;
        let directory = make_directory(options.name.as_deref())?;
        let kept = options.name.is_some();
        let record = Record {
            name: name_of(&directory)?,
            owner: if kept { None } else { Some(Process::myself()?) },
            group: Group::named(&format!("shoal-{}", name_of(&directory)?))?,
            directory,
            switch: None,
            hosts: Vec::new(),
        };
        record.save()?;
        let guard = if kept { None } else { Some(Guard::start(&record.directory)?) };
        // From here on, dropping the bed removes whatever was made of it.
        let mut bed = Testbed { record, guard, finished: false };
        bed.make(&options)?;
        Ok(bed)
    }

    /// Goes on with a bed that was kept by hand.
    pub fn open(name: &str) -> Result<Testbed> {
        let directory = directory_named(name);
        let record = Record::load(&directory)
            .with_context(|| format!("there is no bed called {name}: `testbed up` makes one"))?;
        Ok(Testbed { record, guard: None, finished: true })
    }

    fn make(&mut self, options: &Options) -> Result<()> {
        let record = &mut self.record;
        let subnet = subnet_of(&record.name);
        let switch = Switch::make(&record.group, &record.directory, subnet, options.public)?;
        let binary = options.shoal.clone().or_else(shoal::find_binary);
        for index in 0..options.hosts {
            let shoal = Shoal {
                binary: binary.clone(),
                zone: options.zones.get(index).cloned(),
                profile: options.profile.clone(),
                flags: options.flags.clone(),
                env: options.env.clone(),
                ..Shoal::default()
            };
            record.hosts.push(Host::new(
                index,
                &record.group,
                &record.directory,
                switch.address(index),
                options.live_restore,
                options.disk_mib,
                shoal,
            )?);
        }
        record.switch = Some(switch);
        record.save()?;
        let tarball = image::make_tarball(&record.directory)?;
        let switch = record.switch()?.clone();
        on_all(&mut record.hosts, |host| {
            host.boot(&switch)?;
            image::import(&host.engine(), &tarball)
        })?;
        self.save()
    }

    /// Its unique name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        &self.record.directory
    }

    /// All hosts, by index.
    pub fn hosts(&self) -> &[Host] {
        &self.record.hosts
    }

    /// The host `h<index>`. There is one, or the script is wrong and panics.
    pub fn host(&self, index: usize) -> &Host {
        &self.record.hosts[index]
    }

    /// The host, to change how it runs.
    pub fn host_mut(&mut self, index: usize) -> &mut Host {
        &mut self.record.hosts[index]
    }

    /// The hosts that run now, and are not frozen.
    pub fn running_hosts(&self) -> Vec<usize> {
        self.hosts().iter().filter(|host| host.power() == Power::On).map(Host::index).collect()
    }

    /// Power fails on a host, silently.
    pub fn crash(&mut self, index: usize) -> Result<()> {
        let switch = self.record.switch()?.clone();
        self.host_index(index)?.crash(&switch)?;
        self.save()
    }

    /// Power fails on several hosts at the same moment, as near as it can be done.
    pub fn crash_together(&mut self, indices: &[usize]) -> Result<()> {
        let switch = self.record.switch()?.clone();
        for &index in indices {
            self.host_index(index)?;
        }
        for &index in indices {
            switch.link_down(index)?;
        }
        let hosts = self.record.hosts.iter_mut().filter(|host| indices.contains(&host.index()));
        on_all(hosts, |host| host.crash(&switch))?;
        self.save()
    }

    /// A crashed host comes back with its disks: its engine starts, and shoal when it ran there before, as
    /// an init system would have it.
    pub fn restart(&mut self, index: usize) -> Result<()> {
        self.boot(index)?;
        if self.host(index).shoal.is_enabled() {
            self.host_index(index)?.start_shoal()?;
        }
        self.save()
    }

    /// Several crashed hosts come back at the same time, each as with [`Testbed::restart`].
    pub fn restart_together(&mut self, indices: &[usize]) -> Result<()> {
        let switch = self.record.switch()?.clone();
        for &index in indices {
            self.host_index(index)?;
        }
        let hosts = self.record.hosts.iter_mut().filter(|host| indices.contains(&host.index()));
        let started = on_all(hosts, |host| {
            host.boot(&switch)?;
            if host.shoal.is_enabled() { host.start_shoal() } else { Ok(()) }
        });
        self.save()?;
        started
    }

    /// Gives a crashed host another address, which holds from its next start on.
    pub fn readdress(&mut self, index: usize) -> Result<()> {
        let address = self.record.switch()?.other_address(index);
        self.host_index(index)?.move_to(address)?;
        self.save()
    }

    /// A crashed host comes back with its engine, but without shoal.
    pub fn boot(&mut self, index: usize) -> Result<()> {
        let switch = self.record.switch()?.clone();
        let booted = self.host_index(index)?.boot(&switch);
        self.save()?;
        booted
    }

    /// Stops everything on a host (SIGSTOP), containers included.
    pub fn freeze(&mut self, index: usize) -> Result<()> {
        self.host_index(index)?.freeze()?;
        self.save()
    }

    /// Stops everything on a host for so long: the span is what is tested, so it is slept through.
    pub fn freeze_for(&mut self, index: usize, span: Duration) -> Result<()> {
        self.freeze(index)?;
        std::thread::sleep(span);
        self.thaw(index)
    }

    /// Lets a frozen host go on.
    pub fn thaw(&mut self, index: usize) -> Result<()> {
        self.host_index(index)?.thaw()?;
        self.save()
    }

    /// Cuts groups of hosts from each other, both ways, at once; hosts in none of them reach everybody.
    pub fn cut(&mut self, groups: &[&[usize]]) -> Result<()> {
        self.change_faults(|faults| {
            faults.cut(groups);
            Ok(())
        })
    }

    /// Packets from `from` no longer reach `to`; the way back stays open.
    pub fn cut_one_way(&mut self, from: &[usize], to: &[usize]) -> Result<()> {
        self.change_faults(|faults| {
            faults.cut_one_way(from, to);
            Ok(())
        })
    }

    /// Loses so many percent of all packets between hosts.
    pub fn lose(&mut self, percent: u8) -> Result<()> {
        self.change_faults(|faults| faults.lose(percent))
    }

    /// Ends all cuts and losses.
    pub fn heal(&mut self) -> Result<()> {
        self.change_faults(|faults| {
            *faults = crate::rules::Faults::default();
            Ok(())
        })
    }

    /// Pulls a host's cable: it runs on alone.
    pub fn unplug(&mut self, index: usize) -> Result<()> {
        self.host_index(index)?;
        self.record.switch()?.link_down(index)
    }

    /// Puts the cable back.
    pub fn plug(&mut self, index: usize) -> Result<()> {
        self.host_index(index)?;
        self.record.switch()?.link_up(index)
    }

    /// What the switch drops now.
    pub fn faults(&self) -> Result<&crate::rules::Faults> {
        Ok(self.record.switch()?.faults())
    }

    /// Ends a test that went well: removes the bed and checks that nothing of it is left.
    pub fn done(mut self) -> Result<()> {
        self.finish()
    }

    /// Writes the record down; needed only after changing a host directly in a bed that is kept.
    pub fn save(&self) -> Result<()> {
        self.record.save()
    }

    /// Keeps the bed when this program ends; only for those with a name.
    pub fn keep(mut self) -> Result<()> {
        ensure!(self.record.owner.is_none(), "a bed without a name ends with its program");
        self.finished = true;
        self.save()
    }

    fn finish(&mut self) -> Result<()> {
        self.finished = true;
        removal::remove(&self.record)?;
        if let Some(guard) = self.guard.take() {
            guard.dismiss()?;
        }
        let left = removal::leftovers(&self.record);
        if !left.is_empty() {
            bail!("the bed {} was removed, but there is still: {}", self.name(), left.join("; "));
        }
        Ok(())
    }

    fn change_faults(
        &mut self,
        change: impl FnOnce(&mut crate::rules::Faults) -> Result<()>,
    ) -> Result<()> {
        let switch = self.record.switch.as_mut().context("the bed has no switch")?;
        let mut faults = switch.faults().clone();
        change(&mut faults)?;
        switch.set_faults(faults)?;
        self.save()
    }

    fn host_index(&mut self, index: usize) -> Result<&mut Host> {
        let hosts = self.record.hosts.len();
        self.record
            .hosts
            .get_mut(index)
            .with_context(|| format!("there is no h{index}: the bed has h0 to h{}", hosts - 1))
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        crate::logs::keep_and_show(&self.record);
        if let Err(error) = self.finish() {
            crate::logs::say(&format!("removing the bed failed: {error:#}"));
        }
    }
}

/// Does the same on all hosts at the same time; all are waited for, the first failure is returned.
pub(crate) fn on_all<'a>(
    hosts: impl IntoIterator<Item = &'a mut Host>,
    act: impl Fn(&mut Host) -> Result<()> + Sync,
) -> Result<()> {
    let act = &act;
    std::thread::scope(|scope| {
        let started: Vec<_> = hosts
            .into_iter()
            .map(|host| {
                scope.spawn(move || {
                    let name = host.name();
                    act(host).with_context(|| name)
                })
            })
            .collect();
        let ended = started.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}
