//! What is demanded of secrets and configs once everything is healed: all nodes have the same, and what runs has
//! them as they are now.

use std::collections::BTreeMap;

use membership::id::{AssetId, ServiceId};
use membership::record::Digest;
use node::assets::AssetKind;
use node::slot::TemplateId;
use node::spec::{ServiceSpec, template_id};
use serde_json::Value;

use super::Run;
use crate::links::HostIx;
use crate::operators::assets::{digest, named_in};

/// All secrets and configs of a node, by what is in them.
pub(super) type Assets = BTreeMap<AssetId, (AssetKind, Digest)>;

impl Run {
    /// The secrets and configs that all nodes agree are there; in words where they do not.
    pub(super) fn agreed_assets(&self) -> Result<Assets, String> {
        let mut agreed: Option<(HostIx, Assets)> = None;
        for host in self.world.hosts.iter().filter(|host| host.acts()) {
            let Some(process) = &host.process else { continue };
            let views = process.core.assets().into_iter();
            let assets: Assets =
                views.map(|view| (view.id, (view.kind, digest(&view.content)))).collect();
            match &agreed {
                None => agreed = Some((host.ix, assets)),
                Some((first, theirs)) if *theirs != assets => {
                    let ix = host.ix;
                    return Err(format!("{first} and {ix} have different secrets or configs"));
                }
                Some(_) => {}
            }
        }
        Ok(agreed.map(|(_, assets)| assets).unwrap_or_default())
    }

    /// A service that names what is gone, which takes two operators on two sides of a cut. What of it does not
    /// run yet waits for its file, and nobody can help it.
    pub(super) fn waits_for_files(spec: &str, assets: &Assets) -> bool {
        let spec: Value = serde_json::from_str(spec).unwrap_or_default();
        named_in(&spec["TaskTemplate"]).iter().any(|asset| !assets.contains_key(asset))
    }

    /// The templates of this service whose tasks keep up with their configs: the present one, and the one before,
    /// of which tasks run while an update is paused. `None` for a job, of which nothing older runs.
    fn kept_up(&self, service: ServiceId) -> Option<Vec<TemplateId>> {
        let mut processes = self.world.hosts.iter().filter_map(|host| host.process.as_ref());
        let views = processes.next()?.core.services();
        let view = views.into_iter().find(|view| view.id == service)?;
        if ServiceSpec::parse(&view.spec).is_ok_and(|spec| spec.mode.is_job()) {
            return None;
        }
        let specs = [Some(view.spec), view.previous_spec];
        Some(specs.into_iter().flatten().map(|spec| template_id(&spec)).collect())
    }

    /// What runs of a service has its configs as they are now; in words where something has an older one.
    pub(super) fn has_present_files(
        &self,
        service: ServiceId,
        assets: &Assets,
    ) -> Result<(), String> {
        let kept_up = self.kept_up(service);
        for host in &self.world.hosts {
            let running = host.engine.containers().filter(|c| c.is_running() && !c.stopping);
            for container in running.filter(|container| container.service == service) {
                if kept_up.as_ref().is_some_and(|those| !those.contains(&container.template)) {
                    continue;
                }
                let old = container.configs.iter().find(|(id, content)| {
                    assets.get(id).is_some_and(|(kind, present)| {
                        *kind == AssetKind::Config && *present != digest(content)
                    })
                });
                if let Some((id, _)) = old {
                    return Err(format!("{} runs a task with an old content of {id}", host.ix));
                }
            }
        }
        Ok(())
    }
}
