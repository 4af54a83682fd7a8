//! What left the hosts over the network, counted by kind.

use membership::message::Message;

/// Messages and bytes of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub messages: u64,
    pub bytes: u64,
}

const KINDS: [&str; 6] = ["probes", "facts", "records", "sync", "greetings", "gossip"];

fn kind(message: &Message) -> usize {
    match message {
        Message::Ping { .. }
        | Message::Ack { .. }
        | Message::PingFor { .. }
        | Message::IndirectAck { .. } => 0,
        Message::Facts(_) => 1,
        Message::Records { .. } | Message::Stored(_) => 2,
        Message::Sync(_) => 3,
        Message::Leaving
        | Message::Hello { .. }
        | Message::Welcome { .. }
        | Message::Time { .. } => 4,
    }
}

/// Messages and bytes that left hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub messages: u64,
    pub bytes: u64,
    pub gossip_messages: u64,
    pub gossip_bytes: u64,
    pub probe_bytes: u64,
    /// Of the messages that are not gossip, in the order of [`KINDS`].
    kinds: [Sent; 5],
}

impl Traffic {
    pub(super) fn sent(&mut self, message: &Message, bytes: u64) {
        let kind = kind(message);
        self.messages += 1;
        self.bytes += bytes;
        if kind == 0 {
            self.probe_bytes += bytes;
        }
        self.kinds[kind].messages += 1;
        self.kinds[kind].bytes += bytes;
    }

    pub(super) fn gossiped(&mut self, bytes: u64) {
        self.gossip_messages += 1;
        self.gossip_bytes += bytes;
    }

    /// By kind, gossip last.
    pub fn kinds(&self) -> Vec<(&'static str, Sent)> {
        let gossip = Sent { messages: self.gossip_messages, bytes: self.gossip_bytes };
        KINDS.into_iter().zip(self.kinds.into_iter().chain([gossip])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_add_up() {
        let mut traffic = Traffic::default();
        traffic.sent(&Message::Ping { seq: 1 }, 60);
        traffic.sent(&Message::Leaving, 70);
        traffic.gossiped(500);
        let kinds = traffic.kinds();
        let sum: u64 = kinds.iter().map(|(_, sent)| sent.bytes).sum();
        assert_eq!(sum, traffic.bytes + traffic.gossip_bytes);
        assert_eq!(kinds[0], ("probes", Sent { messages: 1, bytes: 60 }));
        assert_eq!(kinds[5], ("gossip", Sent { messages: 1, bytes: 500 }));
        assert_eq!(traffic.probe_bytes, 60);
    }
}
