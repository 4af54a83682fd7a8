//! A slot of a job that has ended is not run again, as long as one node lives that has it on its disk.
//!
//! Who can talk to such a node is given the time that it takes to ask; who has it on its own disk is not.

use std::collections::BTreeMap;

use node::slot::{Place, TemplateId};

use super::{Check, Found, Picture};
use crate::links::HostIx;
use crate::seen::Seen;
use crate::time::{At, Span};
use crate::world::tell::ShortPlace;

/// How long records may take to everybody who can be talked to: pushes may be lost, and the comparison
/// that finds it out goes to one peer at a time.
const NEWS: Span = Span::secs(15);
/// After a fault verdicts, moods and clocks need longer to come to rest than records.
const LONG: Span = Span::secs(90);
/// From the disk to what the node goes by.
const OWN_NEWS: Span = Span::secs(1);

#[derive(Debug, Default)]
pub(super) struct Jobs {
    /// On which disks it stands that a slot has ended, and since when.
    recorded: BTreeMap<(Place, TemplateId), BTreeMap<HostIx, At>>,
}

impl Jobs {
    /// In a cluster to which nothing has happened for long, nobody begins what another one is at.
    fn beside_another(
        &self,
        at: At,
        (host, place, template): (HostIx, Place, TemplateId),
        picture: &Picture,
        found: &mut Found,
    ) {
        let is_job = self.recorded.keys().any(|(other, _)| other.service == place.service);
        if !is_job || at.since(picture.disturbed.max(picture.parts_since)) <= LONG {
            return;
        }
        let mut others = picture
            .tasks
            .values()
            .filter(|task| task.place == place && task.template == Some(template) && task.running);
        if let Some(other) = others.find(|task| task.host != host) {
            let text = format!("{host} starts {} beside {}", ShortPlace(place), other.host);
            found.push(at, "jobs", text);
        }
    }
}

impl Check for Jobs {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        match seen {
            Seen::Written { host, records } => {
                for end in records.iter().flat_map(|record| &record.ended) {
                    self.recorded.entry(*end).or_default().entry(*host).or_insert(at);
                }
            }
            Seen::DiskLost { host } => {
                self.recorded.values_mut().for_each(|disks| _ = disks.remove(host));
            }
            Seen::Start { host, place, template, .. } => {
                self.beside_another(at, (*host, *place, *template), picture, found);
                let Some(disks) = self.recorded.get(&(*place, *template)) else { return };
                let part = picture.part.get(host);
                let calm = at.since(picture.disturbed.max(picture.parts_since)) > NEWS;
                let knew = disks.iter().find(|(other, since)| {
                    let lives = picture.processes.contains_key(other);
                    let together =
                        lives && calm && part.is_some_and(|p| picture.part.get(other) == Some(p));
                    let own = *other == host && at.since(**since) > OWN_NEWS;
                    own || (together && at.since(**since) > NEWS)
                });
                if let Some((other, since)) = knew {
                    let text = format!(
                        "{host} starts {} again, which {other} has had on its disk as ended for {}",
                        ShortPlace(*place),
                        at.since(*since)
                    );
                    found.push(at, "jobs", text);
                }
            }
            _ => {}
        }
    }
}
