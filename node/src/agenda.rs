//! Which services are to be looked at again, and when: one time for each.

use std::collections::{BTreeMap, BTreeSet};

use membership::id::ServiceId;
use membership::time::Instant;

#[derive(Clone, Debug, Default)]
pub(crate) struct Agenda {
    times: BTreeMap<ServiceId, Instant>,
    order: BTreeSet<(Instant, ServiceId)>,
}

impl Agenda {
    /// At this time, or at an earlier one that is set already.
    pub(crate) fn no_later_than(&mut self, id: ServiceId, at: Instant) {
        if self.times.get(&id).is_none_or(|set| at < *set) {
            self.forget(id);
            self.times.insert(id, at);
            self.order.insert((at, id));
        }
    }

    pub(crate) fn forget(&mut self, id: ServiceId) {
        if let Some(at) = self.times.remove(&id) {
            self.order.remove(&(at, id));
        }
    }

    /// Takes out what is due, in the order of time.
    pub(crate) fn take_due(&mut self, at: Instant) -> Vec<ServiceId> {
        let mut due = Vec::new();
        while let Some((_, id)) = self.order.first().copied().filter(|(when, _)| *when <= at) {
            self.forget(id);
            due.push(id);
        }
        due
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_comes_once_at_its_earliest_time() {
        let mut agenda = Agenda::default();
        for (id, at) in [(1, 30), (2, 20), (1, 10), (1, 40), (3, 50)] {
            agenda.no_later_than(ServiceId(id), Instant(at));
        }
        agenda.forget(ServiceId(3));
        assert_eq!(agenda.next(), Some(Instant(10)));
        assert_eq!(agenda.take_due(Instant(20)), [ServiceId(1), ServiceId(2)]);
        assert_eq!(agenda.next(), None);
    }
}
