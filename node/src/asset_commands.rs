//! Commands about secrets and configs: created, labelled, replaced in place, removed.

use std::collections::BTreeSet;

use membership::id::{AssetId, ServiceId};
use membership::record::{Key, Kind, MAX_BODY_BYTES};
use membership::time::Now;
use membership::wire;
use rand::RngExt;
use serde_json::Value;

use crate::assets::{
    self, Asset, AssetBody, AssetKind, MAX_SPEC_BYTES, SEAL_BYTES, changed_fields, users,
};
use crate::command::{CommandError, Refused, Reply};
use crate::execute::{Outcome, done, refused};
use crate::files::Content;
use crate::io::{AssetChange, Effect, Notice};
use crate::node::Node;
use crate::views::AssetView;

/// The longest name of a signal.
const MAX_SIGNAL_BYTES: usize = 16;

impl Node {
    pub(crate) fn create_asset(
        &mut self,
        kind: AssetKind,
        spec: &Value,
        content: &Content,
        now: Now,
    ) -> Outcome {
        let name = spec.get("Name").and_then(Value::as_str).unwrap_or_default();
        assets::check_name(name).map_err(|why| refused(Refused::Invalid, why))?;
        check_size(kind, content)?;
        if self.view.assets.named(kind, name).is_some() {
            let text = format!("{} {name} already exists", kind.name());
            return Err(refused(Refused::Conflict, text));
        }
        let id = AssetId(self.rng.random());
        let wall = self.wall(now);
        let body = AssetBody {
            created: self.clock.tick(wall),
            spec: spec_text(spec)?,
            edition: 0,
            signal: None,
            data: content.bytes().to_vec(),
        };
        let record = self.draft(kind.record(), id.0, encoded(&body)?, now)?;
        Ok((record.into_iter().collect(), Reply::AssetCreated { id }))
    }

    /// Only its labels may change.
    pub(crate) fn update_asset(
        &mut self,
        kind: AssetKind,
        id: AssetId,
        version: u64,
        spec: &Value,
        now: Now,
    ) -> Outcome {
        let asset = self.asset_at(kind, id, version)?;
        if !changed_fields(&asset.spec, spec).is_empty() {
            return Err(refused(Refused::Invalid, "only updates to Labels are allowed"));
        }
        let body = AssetBody { spec: spec_text(spec)?, ..asset.body() };
        let record = self.draft(kind.record(), id.0, encoded(&body)?, now)?;
        Ok((record.into_iter().collect(), done()))
    }

    /// Puts another content in a config's place; those who have it as a file get the new one.
    pub(crate) fn replace_config(
        &mut self,
        id: AssetId,
        version: u64,
        content: &Content,
        signal: Option<String>,
        now: Now,
    ) -> Outcome {
        let asset = self.asset_at(AssetKind::Config, id, version)?;
        check_size(AssetKind::Config, content)?;
        if let Some(signal) = &signal {
            let plain = signal.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-'));
            if signal.is_empty() || signal.len() > MAX_SIGNAL_BYTES || !plain {
                let text = format!("'{}' is not a signal: HUP, for example", signal.escape_debug());
                return Err(refused(Refused::Invalid, text));
            }
        }
        if asset.content == *content {
            return Ok((Vec::new(), done()));
        }
        let body = AssetBody {
            edition: asset.edition.saturating_add(1),
            signal,
            data: content.bytes().to_vec(),
            ..asset.body()
        };
        let record = self.draft(Kind::Config, id.0, encoded(&body)?, now)?;
        Ok((record.into_iter().collect(), done()))
    }

    pub(crate) fn remove_asset(&mut self, kind: AssetKind, id: AssetId, now: Now) -> Outcome {
        let Some(asset) = self.view.assets.get(kind, id) else {
            return Err(refused(Refused::NotFound, format!("{} {id} not found", kind.name())));
        };
        let names: BTreeSet<&str> =
            users(&self.view.services, kind, id).map(|(_, name)| name).collect();
        if !names.is_empty() {
            let services = if names.len() == 1 { "service" } else { "services" };
            let text = format!(
                "{} '{}' is in use by the following {services}: {}",
                kind.name(),
                asset.name(),
                names.into_iter().collect::<Vec<_>>().join(", ")
            );
            return Err(refused(Refused::Invalid, text));
        }
        let record = self.draft(kind.record(), id.0, None, now)?;
        Ok((record.into_iter().collect(), done()))
    }

    fn asset_at(&self, kind: AssetKind, id: AssetId, version: u64) -> Result<Asset, CommandError> {
        let asset =
            self.view.assets.get(kind, id).ok_or_else(|| {
                refused(Refused::NotFound, format!("{} {id} not found", kind.name()))
            })?;
        if asset.version() != version {
            return Err(refused(Refused::OutOfSequence, "update out of sequence"));
        }
        Ok(asset.clone())
    }

    /// A register of a secret or config changed: says so, and has those planned anew who use it.
    pub(crate) fn asset_changed(&mut self, kind: AssetKind, id: AssetId) {
        let before = self.view.assets.refresh(kind, id, &self.view.registers);
        let after = self.view.assets.get(kind, id);
        let what = match (&before, after) {
            (None, Some(_)) => AssetChange::Created,
            (Some(_), Some(_)) => AssetChange::Updated,
            (Some(_), None) => AssetChange::Removed,
            (None, None) => return,
        };
        let name = after.or(before.as_ref()).map(|a| a.name().to_owned()).unwrap_or_default();
        self.out.push(Effect::Notice(Notice::Asset { kind, id, name, what }));
        let ids: Vec<ServiceId> = users(&self.view.services, kind, id).map(|(id, _)| id).collect();
        self.dirty.extend(ids);
    }

    /// All secrets, or all configs.
    pub fn assets(&self, kind: AssetKind) -> Vec<AssetView> {
        self.view.assets.of_kind(kind).map(Asset::view).collect()
    }
}

/// Which asset a key is about.
pub(crate) fn asset_of(key: &Key) -> Option<(AssetKind, AssetId)> {
    let kind = match key.kind {
        Kind::Secret => AssetKind::Secret,
        Kind::Config => AssetKind::Config,
        _ => return None,
    };
    Some((kind, AssetId(key.id)))
}

fn check_size(kind: AssetKind, content: &Content) -> Result<(), CommandError> {
    let sealed = if kind == AssetKind::Secret { SEAL_BYTES } else { 0 };
    let bytes = content.bytes().len();
    if bytes == 0 || bytes >= kind.limit() + sealed {
        let text = format!(
            "{} data must be larger than 0 and less than {} bytes",
            kind.name(),
            kind.limit()
        );
        return Err(refused(Refused::Invalid, text));
    }
    Ok(())
}

/// What is stored of a spec: all of it but the data, which has its own place.
fn spec_text(spec: &Value) -> Result<String, CommandError> {
    let mut spec = spec.clone();
    if let Some(map) = spec.as_object_mut() {
        map.shift_remove("Data");
    }
    let text = spec.to_string();
    if text.len() > MAX_SPEC_BYTES {
        let text = format!(
            "its name, labels and options have {} bytes together and {MAX_SPEC_BYTES} are allowed",
            text.len()
        );
        return Err(refused(Refused::Invalid, text));
    }
    Ok(text)
}

fn encoded(body: &AssetBody) -> Result<Option<Vec<u8>>, CommandError> {
    debug_assert!(AssetKind::Config.limit() + MAX_SPEC_BYTES < MAX_BODY_BYTES);
    wire::encode(body).map(Some).map_err(|e| refused(Refused::Invalid, e.to_string()))
}
