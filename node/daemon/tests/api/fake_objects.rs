//! Secrets, configs and networks of the fake node.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use membership::id::{AssetId, NetworkId};
use node::command::{Command, CommandError, Refused, Reply};
use node::network::NetworkView;
use node::views::AssetView;
use serde_json::Value;

use super::{World, refuse};

impl World {
    fn change_asset(
        &mut self,
        id: AssetId,
        version: u64,
        edit: impl FnOnce(&mut AssetView),
    ) -> Result<Reply, CommandError> {
        let asset = self.assets.iter_mut().find(|asset| asset.id == id).unwrap();
        if asset.version != version {
            return refuse(Refused::OutOfSequence, "update out of sequence");
        }
        asset.version += 1;
        edit(asset);
        Ok(Reply::Done { warnings: Vec::new() })
    }

    pub(super) fn obey_about_objects(&mut self, command: Command) -> Result<Reply, CommandError> {
        match command {
            Command::CreateAsset { kind, spec, content } => {
                let name = spec["Name"].as_str().unwrap().to_owned();
                if self.assets.iter().any(|a| a.kind == kind && a.name == name) {
                    return refuse(
                        Refused::Conflict,
                        &format!("{} {name} already exists", kind.name()),
                    );
                }
                let now = self.tick();
                let id = AssetId((u128::try_from(self.assets.len()).unwrap() + 1) << 90);
                let spec = Arc::new(spec);
                self.assets.push(AssetView {
                    kind,
                    id,
                    version: 20,
                    created: now,
                    updated: now,
                    name,
                    spec,
                    content,
                    shadowed_by: None,
                });
                Ok(Reply::AssetCreated { id })
            }
            Command::UpdateAsset { id, version, spec, .. } => {
                self.change_asset(id, version, |asset| asset.spec = Arc::new(spec))
            }
            Command::ReplaceConfig { id, version, content, .. } => {
                self.change_asset(id, version, |asset| asset.content = content)
            }
            Command::RemoveAsset { id, .. } => {
                self.assets.retain(|asset| asset.id != id);
                Ok(Reply::Done { warnings: Vec::new() })
            }
            Command::CreateNetwork { spec } => Ok(self.create_network(spec)),
            Command::RemoveNetwork { id } => {
                self.networks.retain(|network| network.id != id);
                Ok(Reply::Done { warnings: Vec::new() })
            }
            Command::AttachHere { .. } => Ok(Reply::Done { warnings: Vec::new() }),
            other => refuse(Refused::NotSupported, &format!("the fake node knows no {other:?}")),
        }
    }

    fn create_network(&mut self, spec: Value) -> Reply {
        let number = u128::try_from(self.networks.len()).unwrap() + 1;
        let id = NetworkId(number << 80);
        let now = self.tick();
        self.networks.push(NetworkView {
            id,
            version: 30,
            created: now,
            updated: now,
            name: spec["Name"].as_str().unwrap().to_owned(),
            spec: Arc::new(spec),
            subnet: "10.9.0.0/16".parse().unwrap(),
            vni: 4097,
            encrypted: false,
            gateway: Some(Ipv4Addr::new(10, 9, 40, 1)),
            unusable: None,
            shadowed_by: None,
            services: BTreeMap::new(),
            tasks: BTreeMap::new(),
        });
        Reply::NetworkCreated { id }
    }
}
