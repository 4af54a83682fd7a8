//! The numbers behind [`crate::Stats`].

use std::sync::atomic::{AtomicU64, Ordering};

use crate::connection::Class;
use crate::stats::{Drops, Traffic};

/// A number that only grows. Nothing is decided on it, so no order with other memory is needed.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Flow {
    messages_in: Count,
    bytes_in: Count,
    messages_out: Count,
    bytes_out: Count,
}

impl Flow {
    pub(crate) fn sent(&self, bytes: usize) {
        self.messages_out.add(1);
        self.bytes_out.add(bytes as u64);
    }

    pub(crate) fn received(&self, bytes: usize) {
        self.messages_in.add(1);
        self.bytes_in.add(bytes as u64);
    }

    pub(crate) fn read(&self) -> Traffic {
        Traffic {
            messages_in: self.messages_in.get(),
            bytes_in: self.bytes_in.get(),
            messages_out: self.messages_out.get(),
            bytes_out: self.bytes_out.get(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) datagrams: Flow,
    pub(crate) streams: Flow,
    pub(crate) chitchat: Flow,
    pub(crate) unconnected: Count,
    pub(crate) queue_full: Count,
    pub(crate) reports_full: Count,
    pub(crate) too_large: Count,
    pub(crate) slow_stream: Count,
    pub(crate) malformed: Count,
    pub(crate) forged_facts: Count,
    pub(crate) refused: Count,
    pub(crate) flooded: Count,
}

impl Counters {
    fn flow(&self, class: Class, stream: bool) -> &Flow {
        match (class, stream) {
            (Class::Chitchat, _) => &self.chitchat,
            (Class::Core, true) => &self.streams,
            (Class::Core, false) => &self.datagrams,
        }
    }

    pub(crate) fn sent(&self, class: Class, stream: bool, bytes: usize) {
        self.flow(class, stream).sent(bytes);
    }

    pub(crate) fn received(&self, class: Class, stream: bool, bytes: usize) {
        self.flow(class, stream).received(bytes);
    }

    pub(crate) fn drops(&self) -> Drops {
        Drops {
            unconnected: self.unconnected.get(),
            queue_full: self.queue_full.get(),
            reports_full: self.reports_full.get(),
            too_large: self.too_large.get(),
            slow_stream: self.slow_stream.get(),
            malformed: self.malformed.get(),
            forged_facts: self.forged_facts.get(),
            refused: self.refused.get(),
            flooded: self.flooded.get(),
            gossip_entries: 0,
            packets: 0,
        }
    }
}
