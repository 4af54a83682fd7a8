//! Services as the records say: the registers of a service (spec, scale, rollout) read and parsed
//! once for each change, with the names resolved the same way on every node.
//!
//! Two sides of a partition may each create a service of one name. Both are kept; the one created
//! earlier (by stamp, then id) bears the name and runs, the other is shown as shadowed, with what to
//! do about it, and runs nothing. That rule needs nobody's opinion: every node computes it alike.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use membership::clock::Stamp;
use membership::id::ServiceId;
use membership::record::{Key, Kind, Record};
use membership::registers::Registers;
use membership::time::Wall;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::completions::Ended;
use crate::jobs::Job;
use crate::network::Chosen;
use crate::registry_auth::RegistryAuth;
use crate::rollout::Rollout;
use crate::spec::{ServiceSpec, with_replicas};

/// The body of a `Kind::Service` record. JSON, so that an older node carries what it does not know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ServiceBody {
    pub v: u16,
    /// When the service was created: decides who bears a name. Kept through all edits.
    pub created_ms: u64,
    pub created_counter: u16,
    pub spec: Value,
    #[serde(default)]
    pub previous: Option<Value>,
    /// Never shown: neither to clients nor in a conflict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_auth: Option<RegistryAuth>,
    /// What belonged to `previous`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_registry_auth: Option<RegistryAuth>,
    /// Virtual addresses and ports that were chosen for it.
    #[serde(default, skip_serializing_if = "Chosen::is_empty")]
    pub chosen: Chosen,
    /// Of a job: which execution this spec is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobBody>,
}

/// Which execution of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobBody {
    /// Docker's `JobIteration`: 0, and one more with each change of the spec.
    pub iteration: u64,
    /// When it was asked for, by the clock of the node that was asked.
    pub executed_ms: u64,
}

/// A stored body as it may be shown.
pub(crate) fn without_secrets(mut body: Value) -> Value {
    if let Some(fields) = body.as_object_mut() {
        fields.remove("registry_auth");
        fields.remove("previous_registry_auth");
    }
    body
}

/// The version of bodies that this node writes. It reads every version up to this one, and carries
/// newer ones without acting on what it does not know.
pub(crate) const BODY_VERSION: u16 = 1;

/// The body of a `Kind::Scale` record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ScaleBody {
    pub v: u16,
    pub replicas: u32,
}

/// One service, ready to be planned.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub id: ServiceId,
    pub created: Stamp,
    /// The greatest stamp of its spec and scale registers.
    pub stamp: Stamp,
    pub body: Arc<ServiceBody>,
    /// As echoed: the stored spec with the replica count of the scale register.
    pub shown: Arc<Value>,
    pub task_template: Arc<Value>,
    pub spec: Result<ServiceSpec, String>,
    pub rollout: Option<Rollout>,
    /// Of a job: how far it has come.
    pub job: Option<Arc<Job>>,
    pub shadowed_by: Option<ServiceId>,
}

impl Service {
    pub(crate) fn version(&self) -> u64 {
        self.stamp.index()
    }

    pub(crate) fn name(&self) -> &str {
        self.shown.get("Name").and_then(Value::as_str).unwrap_or_default()
    }

    /// The spec, if this service is to run at all on this node's reading.
    pub(crate) fn active(&self) -> Option<&ServiceSpec> {
        if self.shadowed_by.is_some() { None } else { self.spec.as_ref().ok() }
    }

    /// Of a job: with what the records say has ended of its present execution.
    fn with_job(mut self, registers: &Registers) -> Self {
        let Ok(spec) = &mut self.spec else { return self };
        if spec.mode.is_job() {
            let body = self.body.job.unwrap_or_default();
            spec.template = spec.template.of_iteration(body.iteration);
            let ended = Ended::of(registers, self.id, spec.template);
            self.job = Some(Arc::new(Job::new(spec, body, ended)));
        }
        self
    }

    pub(crate) fn updated(&self) -> Wall {
        Wall(self.stamp.ms)
    }
}

/// All services, kept in step with the registers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Services {
    all: BTreeMap<ServiceId, Service>,
}

impl Services {
    pub(crate) fn read(registers: &Registers) -> Self {
        let mut services = Self::default();
        let ids: Vec<u128> = registers.live(Kind::Service).map(|(id, _)| id).collect();
        for id in ids {
            services.load(ServiceId(id), registers);
        }
        services.resolve_names();
        services
    }

    /// Reads one service again after one of its registers changed; answers whose name resolution
    /// changed with it (always containing `id`).
    pub(crate) fn refresh(&mut self, id: ServiceId, registers: &Registers) -> BTreeSet<ServiceId> {
        let before: BTreeMap<ServiceId, Option<ServiceId>> =
            self.all.iter().map(|(id, s)| (*id, s.shadowed_by)).collect();
        self.all.remove(&id);
        self.load(id, registers);
        self.resolve_names();
        let mut changed: BTreeSet<ServiceId> = self
            .all
            .iter()
            .filter(|(id, s)| before.get(id) != Some(&s.shadowed_by))
            .map(|(id, _)| *id)
            .collect();
        changed.insert(id);
        changed
    }

    fn load(&mut self, id: ServiceId, registers: &Registers) {
        let record = registers.get(&Key { kind: Kind::Service, id: id.0 });
        let Some(body) = record.and_then(|r| r.body.as_deref()) else { return };
        let Some(record) = record else { return };
        let scale_key = Key { kind: Kind::Scale, id: id.0 };
        let scale = registers.get(&scale_key);
        let rollout = registers.get(&Key { kind: Kind::Rollout, id: id.0 });
        if let Some(service) = read_service(id, record, body, scale, rollout) {
            self.all.insert(id, service.with_job(registers));
        }
    }

    fn resolve_names(&mut self) {
        let mut bearer: BTreeMap<String, (Stamp, ServiceId)> = BTreeMap::new();
        for service in self.all.values() {
            let mine = (service.created, service.id);
            let best = bearer.entry(service.name().to_owned()).or_insert(mine);
            *best = (*best).min(mine);
        }
        for service in self.all.values_mut() {
            let best = bearer.get(service.name()).map(|(_, id)| *id);
            service.shadowed_by = best.filter(|id| *id != service.id);
        }
    }

    pub(crate) fn get(&self, id: ServiceId) -> Option<&Service> {
        self.all.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Service> {
        self.all.values()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = ServiceId> + '_ {
        self.all.keys().copied()
    }

    /// Who bears this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Service> {
        self.all.values().find(|s| s.shadowed_by.is_none() && s.name() == name)
    }
}

fn read_service(
    id: ServiceId,
    record: &Record,
    body: &[u8],
    scale: Option<&Record>,
    rollout: Option<&Record>,
) -> Option<Service> {
    let body: ServiceBody = serde_json::from_slice(body).ok()?;
    let replicas = scale
        .and_then(|r| r.body.as_deref())
        .and_then(|bytes| serde_json::from_slice::<ScaleBody>(bytes).ok())
        .map(|scale| scale.replicas);
    let shown = match replicas {
        Some(replicas) => with_replicas(&body.spec, replicas),
        None => body.spec.clone(),
    };
    let mut spec = ServiceSpec::parse(&body.spec).map_err(|e| e.to_string());
    if let Ok(spec) = &mut spec {
        body.chosen.fill(&mut spec.ingress_ports);
    }
    if let (Ok(spec), Some(replicas)) = (&mut spec, replicas) {
        spec.replicas = replicas;
    }
    let rollout = rollout
        .and_then(|r| r.body.as_deref())
        .and_then(|bytes| serde_json::from_slice::<Rollout>(bytes).ok())
        // A steward that had not heard of this spec yet may have written about the one before: that
        // would be shown, and waited for, for ever.
        .filter(|rollout| spec.as_ref().is_ok_and(|spec| spec.template.0 == rollout.template));
    Some(Service {
        id,
        created: Stamp { ms: body.created_ms, counter: body.created_counter },
        stamp: record.stamp.max(scale.map(|r| r.stamp).unwrap_or_default()),
        task_template: Arc::new(shown.get("TaskTemplate").cloned().unwrap_or_default()),
        shown: Arc::new(shown),
        spec,
        rollout,
        job: None,
        shadowed_by: None,
        body: Arc::new(body),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn body(auth: Option<&str>) -> ServiceBody {
        ServiceBody {
            v: BODY_VERSION,
            created_ms: 1,
            created_counter: 2,
            spec: json!({ "Name": "web" }),
            previous: None,
            registry_auth: auth.and_then(|json| RegistryAuth::new(json.to_owned())),
            previous_registry_auth: None,
            chosen: Chosen::default(),
            job: None,
        }
    }

    #[test]
    fn credentials_are_stored_and_neither_shown_nor_formatted() {
        let without =
            r#"{"v":1,"created_ms":1,"created_counter":2,"spec":{"Name":"web"},"previous":null}"#;
        assert_eq!(serde_json::to_string(&body(None)).unwrap(), without);
        let secret = body(Some(r#"{"password":"p"}"#));
        let stored = serde_json::to_value(&secret).unwrap();
        assert_eq!(stored["registry_auth"], r#"{"password":"p"}"#);
        let read: ServiceBody = serde_json::from_value(stored.clone()).unwrap();
        assert_eq!(read.registry_auth, secret.registry_auth);
        assert_eq!(without_secrets(stored).to_string(), without);
        assert!(!format!("{secret:?}").contains("password"), "{secret:?}");
    }

    #[test]
    fn credentials_have_a_size() {
        assert!(
            RegistryAuth::new("x".repeat(crate::registry_auth::MAX_REGISTRY_AUTH_BYTES)).is_some()
        );
        assert!(
            RegistryAuth::new("x".repeat(crate::registry_auth::MAX_REGISTRY_AUTH_BYTES + 1))
                .is_none()
        );
    }
}
