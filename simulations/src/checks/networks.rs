//! A task never runs without its addresses: with each start goes one on every network that its template names. They
//! are of blocks that its node uses, and nothing else that runs there has them.

use super::{Check, Found, Picture};
use crate::seen::Seen;
use crate::time::At;
use crate::world::tell::{ShortPlace, ShortTask};

#[derive(Debug, Default)]
pub(super) struct Networks;

impl Check for Networks {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        let Seen::Addressed { host, task, place, wants, has } = seen else { return };
        let place = ShortPlace(*place);
        for network in wants.iter().filter(|id| !has.iter().any(|(on, ..)| on == *id)) {
            let text = format!("{host} starts {place} without an address on {network}");
            found.push(at, "networks", text);
        }
        for (network, address, block) in has {
            let blocks = picture.blocks.get(host).and_then(|all| all.get(network));
            if blocks.is_none_or(|blocks| !blocks.contains(block)) {
                let text = format!(
                    "{host} starts {place} with {address} on {network}, of a block that it does not use"
                );
                found.push(at, "networks", text);
            }
            let others = picture.tasks.iter().filter(|(other, _)| *other != task);
            let mut others = others.filter(|(_, of)| of.host == *host && of.counts(at));
            let has_it = |(other, _): &(_, _)| {
                let all = picture.addresses.get(*other).into_iter().flatten();
                all.into_iter().any(|(on, theirs, _)| (on, theirs) == (network, address))
            };
            if let Some((other, _)) = others.find(has_it) {
                let other = ShortTask(*other);
                let text = format!(
                    "{host} starts {place} with {address} on {network}, which {other} has there"
                );
                found.push(at, "networks", text);
            }
        }
    }
}
