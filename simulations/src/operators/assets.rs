//! Secrets and configs: operators create them, give them to services as files, replace and remove them.
//!
//! A content is told from everything else by a word that stands in it nowhere else, so that it is noticed
//! wherever it is shown. Of a secret the core only ever has sealed bytes; they are as little for people as
//! the plain ones of a config, and are looked for in the same way.

use membership::record::Digest;
use node::assets::AssetKind;
use node::command::Command;
use node::files::Content;
use serde_json::{Value, json};

use super::{Asked, CommandNo, Operators};
use crate::links::HostIx;
use crate::seen::Seen;
use crate::world::World;

/// Every content begins with this.
const MARK: &str = "CONTENT-";
/// The same as base64 and as a list of numbers.
const MARK_OTHERWISE: [&str; 2] = ["Q09OVEVOVC", "67, 79, 78, 84, 69, 78, 84, 45"];

/// Whether a text shows a content.
pub fn shows_content(text: &str) -> bool {
    text.contains(MARK) || MARK_OTHERWISE.iter().any(|mark| text.contains(mark))
}

/// What tells one content from another.
pub fn digest(content: &Content) -> Digest {
    Digest::of_bytes(content.bytes())
}

fn content_of(asset: u32, content: u64) -> Content {
    Content::new(format!("{MARK}{asset}-{content};").into_bytes())
}

fn name_of(asset: u32) -> String {
    format!("a{asset}")
}

impl Operators {
    pub(super) fn create_asset(
        &mut self,
        world: &mut World,
        on: HostIx,
        asset: u32,
        secret: bool,
        content: u64,
    ) -> CommandNo {
        let kind = if secret { AssetKind::Secret } else { AssetKind::Config };
        let (spec, content) = (json!({ "Name": name_of(asset) }), content_of(asset, content));
        let asked = Asked::CreateAsset { asset, kind, content: content.clone() };
        self.send(world, on, asked, Command::CreateAsset { kind, spec, content })
    }

    /// Another content in place of the one that a config has. `None` where it is no config, or the node does not
    /// know it.
    pub(super) fn replace_config(
        &mut self,
        world: &mut World,
        on: HostIx,
        asset: u32,
        content: u64,
    ) -> Option<CommandNo> {
        let (kind, id) = *self.assets.get(&asset)?;
        if kind != AssetKind::Config {
            return None;
        }
        let process = world.hosts[on.i()].process.as_ref()?;
        let version = process.core.assets().into_iter().find(|view| view.id == id)?.version;
        let content = content_of(asset, content);
        world.seen.push(Seen::Offered { asset: id, content: digest(&content) });
        let signal = Some("HUP".to_owned());
        let command = Command::ReplaceConfig { id, version, content, signal };
        Some(self.send(world, on, Asked::Other, command))
    }

    pub(super) fn remove_asset(
        &mut self,
        world: &mut World,
        on: HostIx,
        asset: u32,
    ) -> Option<CommandNo> {
        let (kind, id) = *self.assets.get(&asset)?;
        Some(self.send(world, on, Asked::RemoveAsset { asset }, Command::RemoveAsset { kind, id }))
    }

    /// The spec of a service that gets these as files. `None` where one of them does not exist: the client
    /// looks them up by name and finds nothing.
    pub(super) fn with_files(&self, mut spec: Value, files: &[u32]) -> Option<Value> {
        for asset in files {
            let (kind, id) = *self.assets.get(asset)?;
            let name = name_of(*asset);
            let file = json!({ "Name": name, "UID": "0", "GID": "0", "Mode": 0o444 });
            let (list, reference) = match kind {
                AssetKind::Secret => (
                    "Secrets",
                    json!({ "SecretID": id.to_string(), "SecretName": name, "File": file }),
                ),
                AssetKind::Config => (
                    "Configs",
                    json!({ "ConfigID": id.to_string(), "ConfigName": name, "File": file }),
                ),
            };
            let container = &mut spec["TaskTemplate"]["ContainerSpec"];
            match container[list].as_array_mut() {
                Some(all) => all.push(reference),
                None => container[list] = json!([reference]),
            }
        }
        Some(spec)
    }
}

/// The secrets and configs that a template names.
pub fn named_in(template: &Value) -> Vec<membership::id::AssetId> {
    let container = &template["ContainerSpec"];
    let of = |list: &str, id: &str| -> Vec<membership::id::AssetId> {
        let all = container[list].as_array().into_iter().flatten();
        all.filter_map(|one| one[id].as_str()?.parse().ok()).collect()
    };
    [of("Secrets", "SecretID"), of("Configs", "ConfigID")].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_is_noticed_in_whatever_form_it_is_shown() {
        let content = content_of(3, 7);
        let text = String::from_utf8(content.bytes().to_vec()).unwrap();
        assert!(shows_content(&format!("it says {text}")));
        assert!(shows_content(&format!("{:?}", content.bytes())));
        assert!(!shows_content(&format!("{content:?}")));
    }
}
