//! What faults do to the world. Each is a small change of state; when they strike is decided in
//! [`crate::faults`].

use membership::id::NodeId;

use super::{Event, World};
use crate::links::{Cut, CutId, HostIx};
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
            self.seen.push(Seen::DiskLost { host: ix });
        }
        self.connectivity_changed();
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
        host.disk.wipe();
        host.left = false;
        self.by_id.insert(id, ix);
        host.id = id;
        self.trace.note(self.now, true, format_args!("{ix} gets an empty disk and is now {id}"));
        self.with_engine(ix, |engine, _, out| engine.wipe(out));
        self.seen.push(Seen::DiskLost { host: ix });
    }

    /// `kill -9` of shoal alone.
    pub fn kill_process(&mut self, ix: HostIx, back_after: Option<Span>) {
        self.end_process(ix);
        if let Some(after) = back_after {
            let boots = self.hosts[ix.i()].boots;
            self.later(after, Event::ProcessStart { host: ix, after: boots });
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

    pub fn mend(&mut self, cut: CutId) {
        if self.links.mend(cut) {
            self.trace.note(self.now, true, format_args!("mended {cut:?}"));
            self.connectivity_changed();
        }
    }

    /// The links are whole again and lose nothing.
    pub fn heal_links(&mut self) {
        self.links.heal();
        self.connectivity_changed();
    }
}
