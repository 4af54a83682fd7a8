//! Secrets and configs: named bytes that tasks get as files. "Asset" is the word for either.
//!
//! Each is one record. The body is binary, not JSON: a config of the largest size would not fit a
//! record in base64. The bytes of a secret are sealed by the daemon before they come in here, and
//! opened by the runtime where a task starts; the core carries what it cannot read. Names are looked
//! up as those of services are: of two that both sides of a partition created, the older bears the
//! name, and both keep working by id.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use membership::clock::Stamp;
use membership::id::{AssetId, ServiceId};
use membership::record::{Digest, Key, Kind, MAX_BODY_BYTES, Record};
use membership::registers::Registers;
use membership::wire::{self, Versioned};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files::{Content, Reference};
use crate::services::Services;
use crate::views::AssetView;

/// The largest secret that is taken, in bytes, and one more: Swarm's limit.
pub const SECRET_LIMIT: usize = 500 * 1024;
/// The largest config that is taken, in bytes, and one more: Swarm's limit.
pub const CONFIG_LIMIT: usize = 1000 * 1024;
/// How much longer a sealed secret may be than what it holds.
pub const SEAL_BYTES: usize = 64;
/// The largest spec of an asset (name, labels, templating) as JSON, in bytes.
pub const MAX_SPEC_BYTES: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AssetKind {
    Secret,
    Config,
}

impl AssetKind {
    /// As Docker's API spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Config => "config",
        }
    }

    pub(crate) fn record(self) -> Kind {
        match self {
            Self::Secret => Kind::Secret,
            Self::Config => Kind::Config,
        }
    }

    /// Contents have to be smaller than this, in bytes.
    pub fn limit(self) -> usize {
        match self {
            Self::Secret => SECRET_LIMIT,
            Self::Config => CONFIG_LIMIT,
        }
    }
}

/// The body of a `Kind::Secret` or `Kind::Config` record.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AssetBody {
    /// Decides who bears a name. Kept through all edits.
    pub created: Stamp,
    /// Docker's spec as JSON, without `Data`: fields that this version does not know survive.
    pub spec: String,
    /// How often the content was replaced in place.
    pub edition: u64,
    /// What the tasks are sent when this edition has replaced the one before.
    pub signal: Option<String>,
    /// Of a secret: sealed.
    pub data: Vec<u8>,
}

impl Versioned for AssetBody {
    const TAG: u8 = b'a';
    const VERSION: u8 = 1;
    const LIMIT: usize = MAX_BODY_BYTES;
}

/// One secret or config, read from its record.
#[derive(Clone, Debug)]
pub(crate) struct Asset {
    pub kind: AssetKind,
    pub id: AssetId,
    pub created: Stamp,
    pub stamp: Stamp,
    pub spec: Arc<Value>,
    pub edition: u64,
    pub signal: Option<String>,
    pub content: Content,
    /// Tells contents apart.
    pub digest: u64,
    pub shadowed_by: Option<AssetId>,
}

impl Asset {
    fn read(kind: AssetKind, record: &Record) -> Option<Self> {
        let body: AssetBody = wire::decode(record.body.as_deref()?).ok()?;
        // The first half of the digest is as good as all of it for telling editions apart.
        let digest = (Digest::of_bytes(&body.data).0 >> 64) as u64;
        Some(Self {
            kind,
            id: AssetId(record.key.id),
            created: body.created,
            stamp: record.stamp,
            spec: Arc::new(serde_json::from_str(&body.spec).unwrap_or_default()),
            edition: body.edition,
            signal: body.signal,
            content: Content::new(body.data),
            digest,
            shadowed_by: None,
        })
    }

    pub(crate) fn name(&self) -> &str {
        self.spec.get("Name").and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn version(&self) -> u64 {
        self.stamp.index()
    }

    /// Whether its content is a template, to be expanded for each task.
    pub(crate) fn is_templated(&self) -> bool {
        let driver = self.spec.get("Templating").and_then(|t| t.get("Name"));
        driver.and_then(Value::as_str).is_some_and(|name| !name.is_empty())
    }

    /// As its record's body, with another spec or content.
    pub(crate) fn body(&self) -> AssetBody {
        AssetBody {
            created: self.created,
            spec: self.spec.to_string(),
            edition: self.edition,
            signal: self.signal.clone(),
            data: self.content.bytes().to_vec(),
        }
    }

    pub(crate) fn view(&self) -> AssetView {
        AssetView {
            kind: self.kind,
            id: self.id,
            version: self.version(),
            created: membership::time::Wall(self.created.ms),
            updated: membership::time::Wall(self.stamp.ms),
            name: self.name().to_owned(),
            spec: Arc::clone(&self.spec),
            content: self.content.clone(),
            shadowed_by: self.shadowed_by,
        }
    }
}

/// All secrets and configs, kept in step with the registers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Assets {
    all: BTreeMap<(AssetKind, AssetId), Asset>,
}

impl Assets {
    pub(crate) fn read(registers: &Registers) -> Self {
        let mut assets = Self::default();
        for kind in [AssetKind::Secret, AssetKind::Config] {
            for (id, record) in registers.live(kind.record()) {
                if let Some(asset) = Asset::read(kind, record) {
                    assets.all.insert((kind, AssetId(id)), asset);
                }
            }
        }
        assets.resolve_names();
        assets
    }

    /// Reads one again after its register changed; gives what it was before.
    pub(crate) fn refresh(
        &mut self,
        kind: AssetKind,
        id: AssetId,
        registers: &Registers,
    ) -> Option<Asset> {
        let before = self.all.remove(&(kind, id));
        let record = registers.get(&Key { kind: kind.record(), id: id.0 });
        if let Some(asset) = record.and_then(|record| Asset::read(kind, record)) {
            self.all.insert((kind, id), asset);
        }
        self.resolve_names();
        before
    }

    fn resolve_names(&mut self) {
        let mut bearer: BTreeMap<(AssetKind, String), (Stamp, AssetId)> = BTreeMap::new();
        for asset in self.all.values() {
            let mine = (asset.created, asset.id);
            let best = bearer.entry((asset.kind, asset.name().to_owned())).or_insert(mine);
            *best = (*best).min(mine);
        }
        for asset in self.all.values_mut() {
            let best = bearer.get(&(asset.kind, asset.name().to_owned())).map(|(_, id)| *id);
            asset.shadowed_by = best.filter(|id| *id != asset.id);
        }
    }

    pub(crate) fn get(&self, kind: AssetKind, id: AssetId) -> Option<&Asset> {
        self.all.get(&(kind, id))
    }

    pub(crate) fn of_kind(&self, kind: AssetKind) -> impl Iterator<Item = &Asset> {
        self.all.values().filter(move |asset| asset.kind == kind)
    }

    pub(crate) fn named(&self, kind: AssetKind, name: &str) -> Option<&Asset> {
        self.of_kind(kind).find(|asset| asset.shadowed_by.is_none() && asset.name() == name)
    }

    /// Whether every asset that a service's spec asks for is there.
    ///
    /// # Errors
    /// In Swarm's words: which are not, or what is wrong with the reference.
    pub(crate) fn check(&self, spec: &Value) -> Result<(), String> {
        let wanted = Reference::all(spec.get("TaskTemplate").unwrap_or(&Value::Null))?;
        for kind in [AssetKind::Secret, AssetKind::Config] {
            let missing: Vec<&str> = wanted
                .iter()
                .filter(|r| r.kind == kind && self.get(kind, r.id).is_none())
                .map(|r| r.name.as_str())
                .collect();
            if !missing.is_empty() {
                let plural = if missing.len() == 1 { "" } else { "s" };
                return Err(format!("{}{plural} not found: {}", kind.name(), missing.join(", ")));
            }
        }
        Ok(())
    }
}

/// The services that ask for an asset, by what their specs say now.
pub(crate) fn users(
    services: &Services,
    kind: AssetKind,
    id: AssetId,
) -> impl Iterator<Item = (ServiceId, &str)> {
    services
        .iter()
        .filter(move |service| {
            // A spec that another version wrote and this one cannot read keeps what it names.
            let template = &service.task_template;
            match Reference::all(template) {
                Ok(all) => all.iter().any(|r| r.kind == kind && r.id == id),
                Err(_) => template.to_string().contains(&id.to_string()),
            }
        })
        .map(|service| (service.id, service.name()))
}

/// Swarm's rule for the name of a secret or config.
///
/// # Errors
/// In Swarm's words.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let ends = edge(name.chars().next()) && edge(name.chars().last());
    if name.is_empty() {
        return Err("name must be provided".to_owned());
    }
    if name.len() > 64 || !ends || !name.chars().all(inner) {
        return Err(
            "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]"
                .to_owned(),
        );
    }
    Ok(())
}

/// The fields of a spec that an update has changed although only labels may change.
pub(crate) fn changed_fields(old: &Value, new: &Value) -> BTreeSet<String> {
    let names = |spec: &Value| -> BTreeSet<String> {
        spec.as_object().into_iter().flat_map(|map| map.keys().cloned()).collect()
    };
    let means_nothing = |value: &Value| {
        value.is_null()
            || value.as_str() == Some("")
            || value.as_object().is_some_and(|m| m.is_empty())
    };
    names(old)
        .union(&names(new))
        .filter(|name| !matches!(name.as_str(), "Labels" | "Data"))
        .filter(|name| {
            let (a, b) = (&old[name.as_str()], &new[name.as_str()]);
            a != b && !(means_nothing(a) && means_nothing(b))
        })
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use membership::id::{CellId, NodeId};
    use serde_json::json;

    fn record(kind: Kind, id: u128, ms: u64, name: &str, data: &[u8]) -> Record {
        let body = AssetBody {
            created: Stamp { ms, counter: 0 },
            spec: json!({"Name": name}).to_string(),
            edition: 0,
            signal: None,
            data: data.to_vec(),
        };
        Record {
            cell: CellId(0),
            key: Key { kind, id },
            stamp: Stamp { ms, counter: 0 },
            writer: NodeId(1),
            ancestors: Vec::new(),
            body: Some(wire::encode(&body).unwrap()),
        }
    }

    #[test]
    fn the_layout_stands_still() {
        let body = AssetBody {
            created: Stamp { ms: 300, counter: 2 },
            spec: "{}".to_owned(),
            edition: 1,
            signal: Some("HUP".to_owned()),
            data: vec![7, 8],
        };
        let golden = [97, 1, 251, 44, 1, 2, 2, b'{', b'}', 1, 1, 3, b'H', b'U', b'P', 2, 7, 8];
        assert_eq!(wire::encode(&body).unwrap(), golden);
        assert!(wire::decode::<AssetBody>(&golden).unwrap() == body);
    }

    #[test]
    fn the_largest_fits_a_record_a_message_and_a_conflict() {
        let body = AssetBody {
            created: Stamp { ms: u64::MAX, counter: u16::MAX },
            spec: "x".repeat(MAX_SPEC_BYTES),
            edition: u64::MAX,
            signal: Some("SIGRTMAX-14".to_owned()),
            data: vec![255; CONFIG_LIMIT],
        };
        let mut record = record(Kind::Config, 1, 1, "x", b"");
        record.body = Some(wire::encode(&body).unwrap());
        record.ancestors = vec![Digest(u128::MAX); membership::record::MAX_ANCESTORS];
        assert_eq!(record.check(membership::time::Wall(1)), Ok(()));
        let stored = wire::encode(&record).unwrap();
        assert!(wire::decode::<Record>(&stored).unwrap() == record);
        let mut other = record.clone();
        other.stamp.ms = 2;
        other.ancestors.clear();
        other.body = Some(wire::encode(&AssetBody { edition: 0, ..body }).unwrap());
        let mut registers = Registers::new(CellId(0));
        registers.merge(record);
        let conflict = registers.merge(other).conflict.expect("they were concurrent");
        assert_eq!(conflict.check(membership::time::Wall(1)), Ok(()));
        let message =
            membership::message::Message::Records { records: vec![conflict], confirm: true };
        let envelope = membership::message::Envelope { cell: CellId(0), message };
        assert!(wire::encode(&envelope).is_ok());
    }

    #[test]
    fn the_older_bears_the_name() {
        let mut registers = Registers::new(CellId(0));
        for one in [
            record(Kind::Secret, 5, 20, "key", b"b"),
            record(Kind::Secret, 9, 10, "key", b"a"),
            record(Kind::Config, 7, 5, "key", b"c"),
        ] {
            registers.merge(one);
        }
        let assets = Assets::read(&registers);
        assert_eq!(assets.named(AssetKind::Secret, "key").unwrap().id, AssetId(9));
        assert_eq!(
            assets.get(AssetKind::Secret, AssetId(5)).unwrap().shadowed_by,
            Some(AssetId(9))
        );
        assert_eq!(assets.named(AssetKind::Config, "key").unwrap().id, AssetId(7));
        assert!(!format!("{assets:?}").contains("[97]"), "contents are not printed");
    }

    #[test]
    fn names_are_swarms() {
        for good in ["a", "A-1_b.c", &"x".repeat(64)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        assert_eq!(check_name(""), Err("name must be provided".to_owned()));
        for bad in ["-a", "a-", "a b", "a/b", &"x".repeat(65)] {
            assert!(check_name(bad).unwrap_err().contains("only 64"), "{bad}");
        }
    }

    #[test]
    fn only_labels_may_differ() {
        let old = json!({"Name": "a", "Labels": {"x": "1"}});
        let same =
            json!({"Name": "a", "Labels": {}, "Data": "eA==", "Driver": null, "Templating": {}});
        assert!(changed_fields(&old, &same).is_empty());
        let other = json!({"Name": "b", "Templating": {"Name": "golang"}});
        assert_eq!(
            changed_fields(&old, &other).into_iter().collect::<Vec<_>>(),
            ["Name", "Templating"]
        );
    }
}
