//! A task never runs without its files: with each start go all secrets and configs that its template names,
//! each with a content that an operator gave it. And no content is shown to anybody.

use std::collections::{BTreeMap, BTreeSet};

use membership::id::AssetId;
use membership::record::Digest;

use super::{Check, Found, Picture};
use crate::seen::Seen;
use crate::time::At;
use crate::world::tell::ShortPlace;

#[derive(Debug, Default)]
pub(super) struct Files {
    offered: BTreeMap<AssetId, BTreeSet<Digest>>,
}

impl Check for Files {
    fn see(&mut self, at: At, seen: &Seen, _: &Picture, found: &mut Found) {
        match seen {
            Seen::Offered { asset, content } => {
                self.offered.entry(*asset).or_default().insert(*content);
            }
            Seen::Files { host, place, wants, has, .. } => {
                let place = ShortPlace(*place);
                for asset in wants {
                    let content =
                        has.iter().find(|(id, _)| id == asset).map(|(_, content)| content);
                    let Some(content) = content else {
                        found.push(at, "files", format!("{host} starts {place} without {asset}"));
                        continue;
                    };
                    if self.offered.get(asset).is_none_or(|offered| !offered.contains(content)) {
                        let text = format!(
                            "{host} starts {place} with a content of {asset} that nobody gave it"
                        );
                        found.push(at, "files", text);
                    }
                }
            }
            Seen::Shown { host, by } => {
                let text = format!("{host} shows the content of a secret or config in {by}");
                found.push(at, "files", text);
            }
            _ => {}
        }
    }
}
