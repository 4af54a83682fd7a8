//! Who is not let in, and what nobody can make sense of: hosts without the token, and members that follow
//! their messages with broken ones.
//!
//! The handshake itself is the gossip crate's and is shown there; here it is a line in [`World::dial`], and
//! what a run shows is that nothing of a cluster goes past it. A broken message is a real one with its
//! bytes changed. What the gossip crate refuses before a core sees it (bytes that are no message, facts
//! whose signature does not hold) stops here as well; the rest is handed to the core, as the daemon does. What
//! a member may say, though it is not true (that it has a record, that a peer answered), is no garbage.

use membership::message::{Envelope, Message};
use membership::wire;

use super::net::ConnId;
use super::{Event, World};
use crate::host::WALL_ORIGIN_MS;
use crate::links::HostIx;
use crate::seen::Seen;
use crate::time::Span;

/// Garbled records bear stamps this far ahead: nobody may take one for a change.
const AHEAD_MS: u64 = 600_000;
/// How long a stretch of bytes is that was never a message.
const NOISE_BYTES: u64 = 200;

impl World {
    /// A host that knows the others' addresses and has no token.
    pub fn keep_out(&mut self, host: HostIx) {
        self.hosts[host.i()].outsider = true;
        let id = self.hosts[host.i()].id;
        self.seen.push(Seen::Outsider { host, id });
    }

    /// Both have the token, or neither: only then does a handshake succeed.
    pub(super) fn same_side(&self, a: HostIx, b: HostIx) -> bool {
        self.hosts[a.i()].outsider == self.hosts[b.i()].outsider || self.open_door
    }

    /// Something that a host said has reached another.
    pub(super) fn told(&mut self, from: HostIx, to: HostIx) {
        if self.hosts[to.i()].outsider && !self.hosts[from.i()].outsider {
            let id = self.hosts[to.i()].id;
            self.seen.push(Seen::ToldOutsider { host: from, id });
        }
    }

    /// Lets these hosts garble so many in a thousand of their messages; 0 ends it.
    pub fn set_garbling(&mut self, host: HostIx, per_mille: u32) {
        if per_mille == 0 {
            self.garbling.remove(&host);
        } else {
            self.garbling.insert(host, per_mille);
        }
    }

    /// A broken message follows the one that is being sent, perhaps.
    pub(super) fn garble(&mut self, from: HostIx, to: HostIx, conn: ConnId, bytes: &[u8]) {
        let Some(share) = self.garbling.get(&from).copied() else { return };
        if !self.chances.garbage.per_mille(share) {
            return;
        }
        let broken = self.broken(bytes);
        let Ok(Envelope { cell, message }) = wire::decode::<Envelope>(&broken) else {
            self.unreadable += 1;
            return;
        };
        if cell.0 != 0 {
            self.unreadable += 1;
            return;
        }
        let message = match message {
            Message::Facts(_) => {
                self.unreadable += 1;
                return;
            }
            Message::Stored(_) | Message::Ack { .. } | Message::IndirectAck { .. } => return,
            Message::Records { mut records, confirm } => {
                for record in &mut records {
                    record.key.id = self.chances.garbage.id();
                    record.stamp.ms = WALL_ORIGIN_MS + self.now.0 / 1_000 + AHEAD_MS;
                    self.seen.push(Seen::Garbage { id: record.key.id });
                }
                Message::Records { records, confirm }
            }
            other => other,
        };
        self.readable += 1;
        let message = Box::new(message);
        self.later(Span::us(500), Event::Packet { from, to, conn, message });
    }

    /// These bytes with something wrong about them.
    fn broken(&mut self, bytes: &[u8]) -> Vec<u8> {
        let chance = &mut self.chances.garbage;
        let mut broken = bytes.to_vec();
        match chance.below(5) {
            0 => broken.truncate(chance.index(bytes.len())),
            1 => broken.extend((0..chance.between(1, 16)).map(|_| chance.word() as u8)),
            2 => broken = (0..chance.below(NOISE_BYTES)).map(|_| chance.word() as u8).collect(),
            _ => {
                for _ in 0..chance.between(1, 4) {
                    let at = chance.index(broken.len());
                    if let Some(byte) = broken.get_mut(at) {
                        *byte ^= 1 << chance.below(8);
                    }
                }
            }
        }
        broken
    }
}
