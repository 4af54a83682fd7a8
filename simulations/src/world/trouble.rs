//! What faults do to the world. Each is a small change of state; when they strike is decided in
//! [`crate::faults`].

use membership::id::NodeId;

use super::process::stored;
use super::{Event, World};
use crate::disk::Content;
use crate::links::{Cut, CutId, HostIx, Quality, Scope};
use crate::seen::Seen;
use crate::time::Span;

impl World {
    /// Power fails: everything in memory is gone, containers and processes with it.
    pub fn power_off(&mut self, ix: HostIx) {
        if !self.hosts[ix.i()].powered {
            return;
        }
        self.trace.note(self.now, true, format_args!("{ix} loses power"));
        self.end_process(ix);
        let lies = self.hosts[ix.i()].disk.manner().lies;
        let host = &mut self.hosts[ix.i()];
        host.powered = false;
        host.disk.power_lost();
        self.with_engine(ix, |engine, chance, out| engine.power_lost(chance, out));
        if lies {
            let left = self.hosts[ix.i()].disk.content().records.values();
            let records = left.map(stored).collect();
            self.seen.push(Seen::DiskLost { host: ix });
            self.seen.push(Seen::Written { host: ix, records });
        }
        self.connectivity_changed();
    }

    /// Power fails on a host only where it has power and another one has, too.
    pub fn may_lose_power(&self, ix: HostIx) -> bool {
        self.hosts[ix.i()].powered && self.hosts.iter().filter(|host| host.powered).count() > 1
    }

    /// A host that was kept spare is there from now on.
    pub fn join(&mut self, ix: HostIx) {
        let host = &mut self.hosts[ix.i()];
        if std::mem::take(&mut host.spare) {
            self.seen.push(Seen::Host { host: ix, capacity: host.spec.capacity });
            self.power_on(ix);
        }
    }

    /// It boots: the engine and shoal come up, in either order.
    pub fn power_on(&mut self, ix: HostIx) {
        let host = &mut self.hosts[ix.i()];
        if host.powered {
            return;
        }
        host.powered = true;
        let after = host.boots;
        self.trace.note(self.now, true, format_args!("{ix} boots"));
        let engine = self.chances.hosts.span(Span::ms(500), Span::secs(4));
        let shoal = self.chances.hosts.span(Span::ms(500), Span::secs(4));
        self.later(engine, Event::EngineUp { host: ix });
        self.later(shoal, Event::ProcessStart { host: ix, after });
    }

    /// The host comes back with an empty disk: without the key it is another node.
    pub fn replace_disk(&mut self, ix: HostIx) {
        let id = NodeId(self.chances.hosts.id());
        let host = &mut self.hosts[ix.i()];
        let before = host.id;
        host.disk.wipe();
        host.left = false;
        host.clone_of = None;
        // The copy of what was here, or the original of what this was a copy of, is now the only one.
        if let Some(copy) = self.clones.remove(&before) {
            let only = if copy == ix { self.by_id.get(&before).copied() } else { Some(copy) };
            if let Some(only) = only {
                self.hosts[only.i()].clone_of = None;
                self.by_id.insert(before, only);
            }
        }
        let host = &mut self.hosts[ix.i()];
        self.by_id.insert(id, ix);
        host.id = id;
        self.trace.note(self.now, true, format_args!("{ix} gets an empty disk and is now {id}"));
        self.with_engine(ix, |engine, _, out| engine.wipe(out));
        self.seen.push(Seen::DiskLost { host: ix });
    }

    /// An old copy of its disk takes the place of what a host without power knows.
    pub fn restore_disk(&mut self, ix: HostIx, content: Content) {
        let records = content.records.values().map(stored).collect();
        let host = &mut self.hosts[ix.i()];
        host.disk.restore(content);
        self.trace.note(self.now, true, format_args!("{ix} gets an old copy of its disk"));
        self.seen.push(Seen::DiskLost { host: ix });
        self.seen.push(Seen::Written { host: ix, records });
    }

    /// A host is set up with a copy of another one's disk, key and all. Its own containers are gone.
    pub fn clone_node(&mut self, of: HostIx, copy: HostIx) {
        self.power_off(copy);
        let (id, content) = (self.hosts[of.i()].id, self.hosts[of.i()].disk.content().clone());
        self.trace.note(self.now, true, format_args!("{copy} becomes a copy of {of}"));
        self.restore_disk(copy, content);
        self.with_engine(copy, |engine, _, out| engine.wipe(out));
        let host = &mut self.hosts[copy.i()];
        host.id = id;
        host.left = false;
        host.clone_of = Some(of);
        self.clones.insert(id, copy);
        self.seen.push(Seen::Cloned { host: copy, id });
        self.power_on(copy);
    }

    /// The copy gets an empty disk.
    pub fn unclone(&mut self, copy: HostIx) {
        if self.hosts[copy.i()].clone_of.is_some() {
            self.power_off(copy);
            self.replace_disk(copy);
            self.power_on(copy);
        }
    }

    /// The other host that bears the same id, where one is a copy.
    pub(crate) fn double_of(&self, ix: HostIx) -> Option<HostIx> {
        let id = self.hosts[ix.i()].id;
        let copy = *self.clones.get(&id)?;
        if copy == ix { self.by_id.get(&id).copied() } else { Some(copy) }
    }

    /// `kill -9` of shoal alone.
    pub fn kill_process(&mut self, ix: HostIx, back_after: Option<Span>) {
        self.end_process(ix);
        if let Some(after) = back_after {
            let boots = self.hosts[ix.i()].boots;
            self.later(after, Event::ProcessStart { host: ix, after: boots });
        }
    }

    /// Its wall clock jumps by so many milliseconds.
    pub fn turn_clock(&mut self, host: HostIx, by_ms: i64) {
        self.hosts[host.i()].clock_off_ms += by_ms;
        if by_ms < 0 {
            self.seen.push(Seen::ClockSetBack { host });
        }
    }

    /// Its loop takes this long for each input from now on.
    pub fn slow_down(&mut self, host: HostIx, per_input: Span) {
        self.hosts[host.i()].slow = per_input;
        self.seen.push(Seen::Strained { host, strained: per_input > Span::ZERO });
    }

    pub fn cut(&mut self, cut: Cut) -> CutId {
        self.trace.note(self.now, true, format_args!("cut {cut:?}"));
        let id = self.links.cut(cut);
        self.connectivity_changed();
        id
    }

    /// Packets fare worse from now on.
    pub fn worsen(&mut self, scope: Scope, quality: Quality) -> CutId {
        let id = self.links.worsen(scope, quality);
        self.tell_losses();
        id
    }

    fn tell_losses(&mut self) {
        self.seen.push(Seen::Lossy(self.links.lossy(self.hosts.len())));
    }

    pub fn mend(&mut self, cut: CutId) {
        if self.links.mend(cut) {
            self.trace.note(self.now, true, format_args!("mended {cut:?}"));
            self.tell_losses();
            self.connectivity_changed();
        }
    }

    /// The links are whole again and lose nothing.
    pub fn heal_links(&mut self) {
        self.links.heal();
        self.tell_losses();
        self.connectivity_changed();
    }
}
