//! The cluster as Docker's API shows a swarm: `/swarm` and the `Swarm` part of `/info`.
//!
//! There is no raft, no dispatcher and no certificate authority to show; their fields are there with
//! zeros because clients read them without looking.

use node::views::MemberView;
use serde_json::{Value, json};

use super::backend::ClusterView;
use super::rfc3339;

/// How many ended tasks are kept for each slot, as Swarm's default has it.
pub(super) const TASK_HISTORY: u64 = 5;

/// The Cluster object, without join tokens.
pub(super) fn cluster(view: &ClusterView) -> Value {
    json!({
        "ID": view.id.to_string(),
        "Version": { "Index": view.version },
        "CreatedAt": rfc3339::from_wall(view.created),
        "UpdatedAt": rfc3339::from_wall(view.updated),
        "Spec": view.spec.clone().unwrap_or_else(default_spec),
        "TLSInfo": { "TrustRoot": "", "CertIssuerSubject": "", "CertIssuerPublicKey": "" },
        "RootRotationInProgress": false,
        "DefaultAddrPool": ["10.0.0.0/8"],
        "SubnetSize": 24,
        "DataPathPort": 4789,
    })
}

fn default_spec() -> Value {
    json!({
        "Name": "default",
        "Labels": {},
        "Orchestration": { "TaskHistoryRetentionLimit": TASK_HISTORY },
        "Raft": {
            "SnapshotInterval": 0,
            "KeepOldSnapshots": 0,
            "LogEntriesForSlowFollowers": 0,
            "ElectionTick": 0,
            "HeartbeatTick": 0,
        },
        "Dispatcher": { "HeartbeatPeriod": 0 },
        "CAConfig": { "NodeCertExpiry": 0 },
        "TaskDefaults": {},
        "EncryptionConfig": { "AutoLockManagers": false },
    })
}

/// What stands under `Swarm` in `/info`. `stack deploy` needs `ControlAvailable`, and `Nodes` is the
/// number of rows of `docker node ls`.
pub(super) fn swarm_info(view: &ClusterView, members: &[MemberView]) -> Value {
    let managers: Vec<Value> = members
        .iter()
        .filter(|member| member.state.holds_claims())
        .map(|member| json!({ "NodeID": member.id.to_string(), "Addr": member.addr }))
        .collect();
    json!({
        "NodeID": view.me.to_string(),
        "NodeAddr": super::node_json::host_part(&view.my_addr),
        "LocalNodeState": "active",
        "ControlAvailable": true,
        "Error": "",
        "RemoteManagers": managers,
        "Nodes": members.len(),
        "Managers": members.len(),
        "Cluster": cluster(view),
    })
}
