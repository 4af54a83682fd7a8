//! Promise 6: a part without more than half of the members takes nothing over for a service that may
//! not run twice (`majority`, `fenced`).

use std::collections::BTreeMap;

use node::spec::Partition;

use super::{Check, Found, Picture};
use crate::links::HostIx;
use crate::seen::Seen;
use crate::time::{At, Span};
use crate::world::tell::ShortPlace;

/// How long after a cut a node may not have noticed yet that it is in the smaller part.
const NOTICE: Span = Span::secs(15);

#[derive(Debug, Default)]
pub(super) struct Minority {
    /// Since when each host has been in a part that is no majority.
    small_since: BTreeMap<HostIx, At>,
}

impl Check for Minority {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        match seen {
            Seen::Parts(_) => {
                let all = picture.capacity.len();
                let small = |host: &HostIx| {
                    picture.part.get(host).is_none_or(|part| picture.part_sizes[*part] * 2 <= all)
                };
                self.small_since.retain(|host, _| small(host));
                for host in picture.part.keys().filter(|host| small(host)) {
                    self.small_since.entry(*host).or_insert(at);
                }
            }
            Seen::Start { host, place, view: Some(view), .. }
                if view.partition != Partition::Available && !view.global =>
            {
                let noticed =
                    self.small_since.get(host).is_some_and(|since| at.since(*since) > NOTICE);
                let had_it =
                    picture.claims.get(place).is_some_and(|claims| claims.contains_key(host));
                if noticed && !had_it {
                    found.push(
                        at,
                        "minority",
                        format!(
                            "{host} takes {short} over ({:?}) in a part that is no majority",
                            view.partition,
                            short = ShortPlace(*place)
                        ),
                    );
                }
            }
            _ => {}
        }
    }
}
