//! Networks as the records say: one register for each, with names, ranges and numbers settled the same way on every
//! node.
//!
//! Two sides of a partition may each create a network, and name it alike or give it a range that overlaps. As with
//! services the one created earlier (by stamp, then id) has the right; what the other one may not have keeps it from
//! being used, with the reason in words, and it has to be removed. The number that names a network in packets is
//! derived from its id; of two that would have the same the later moves on to the next one that is free.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use membership::clock::Stamp;
use membership::id::NetworkId;
use membership::record::{Digest, Key, Kind, Record};
use membership::registers::Registers;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::encryption;
use super::picture::Subnet;
use super::subnet::Cut;

/// The network that services with ports published on every node are on. It is there without being created; one that
/// is created as the ingress network takes its place.
pub const INGRESS: NetworkId = NetworkId(0x0a0c_55d1_96b4_4b0e_9f31_6e67_7265_7373);
const INGRESS_SUBNET: Subnet = Subnet { first: Ipv4Addr::new(10, 255, 0, 0), prefix: 16 };
/// When it counts as created where it has a record: before all that operators create, as without one.
const INGRESS_RECORDED: Stamp = Stamp { ms: 0, counter: 1 };

/// The version of bodies that this node writes.
const BODY_VERSION: u16 = 1;
/// Docker's option for the size of packets.
const MTU_OPTION: &str = "com.docker.network.driver.mtu";
/// Ranges that are given to networks that ask for none: `10.1.0.0/16` to `10.254.0.0/16`.
const POOL: u32 = 254;
/// Numbers of networks in packets have 24 bits; the first ones are left to people.
const VNI_FIRST: u32 = 4_096;
const VNIS: u32 = (1 << 24) - VNI_FIRST;

/// The body of a `Kind::Network` record. JSON, so that an older node carries what it does not know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NetworkBody {
    v: u16,
    created_ms: u64,
    created_counter: u16,
    /// As the client sent it.
    spec: Value,
    /// What it asked for, or what was chosen when it was created.
    subnet: String,
    /// It was decided when it was created, for its spec does not say.
    #[serde(default, skip_serializing_if = "is_false")]
    encrypted: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl NetworkBody {
    pub(crate) fn new(created: Stamp, spec: Value, subnet: Subnet, encrypted: bool) -> Self {
        let (created_ms, created_counter, subnet) =
            (created.ms, created.counter, subnet.to_string());
        Self { v: BODY_VERSION, created_ms, created_counter, spec, subnet, encrypted }
    }

    /// Of the ingress network that nobody created, encrypted. The same whoever writes it, so that both sides of a
    /// partition may.
    pub(crate) fn encrypted_ingress() -> Self {
        Self::new(INGRESS_RECORDED, ingress_spec(), INGRESS_SUBNET, true)
    }
}

/// One network, read from its record.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub id: NetworkId,
    pub created: Stamp,
    pub stamp: Stamp,
    pub spec: Arc<Value>,
    pub name: String,
    pub subnet: Subnet,
    pub cut: Cut,
    pub vni: u32,
    pub mtu: Option<u32>,
    /// What leaves the host is encrypted.
    pub encrypted: bool,
    /// The operator said that it need not be.
    pub open: bool,
    /// Another network bears its name, or has its range: nothing new is attached to it.
    pub unusable: Option<String>,
    pub shadowed_by: Option<NetworkId>,
}

impl Network {
    fn read(record: &Record) -> Option<Self> {
        let body: NetworkBody = serde_json::from_slice(record.body.as_deref()?).ok()?;
        let created = Stamp { ms: body.created_ms, counter: body.created_counter };
        let subnet: Subnet = body.subnet.parse().ok()?;
        let decided = body.encrypted;
        Self::of(NetworkId(record.key.id), created, record.stamp, body.spec, subnet, decided)
    }

    fn of(
        id: NetworkId,
        created: Stamp,
        stamp: Stamp,
        spec: Value,
        subnet: Subnet,
        decided: bool,
    ) -> Option<Self> {
        let asked = encryption::asked(&spec);
        let mtu = spec.get("Options").and_then(|options| options.get(MTU_OPTION));
        Some(Self {
            id,
            created,
            stamp,
            name: spec.get("Name").and_then(Value::as_str).unwrap_or_default().to_owned(),
            subnet,
            cut: Cut::of(subnet)?,
            vni: 0,
            mtu: mtu.and_then(Value::as_str).and_then(|text| text.parse().ok()),
            encrypted: asked.unwrap_or(decided),
            open: asked == Some(false),
            spec: Arc::new(spec),
            unusable: None,
            shadowed_by: None,
        })
    }

    fn ingress() -> Option<Self> {
        let none = Stamp::default();
        Self::of(INGRESS, none, none, ingress_spec(), INGRESS_SUBNET, false)
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.spec.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    fn order(&self) -> (Stamp, NetworkId) {
        (self.created, self.id)
    }
}

fn ingress_spec() -> Value {
    json!({ "Name": "ingress", "Driver": "overlay", "Ingress": true })
}

/// All networks of the cluster, kept in step with the registers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Networks {
    all: BTreeMap<NetworkId, Network>,
    /// What was decided of the ingress network that nobody created.
    recorded: Option<Network>,
}

impl Networks {
    pub(crate) fn read(registers: &Registers) -> Self {
        let records = registers.live(Kind::Network);
        let all = records.filter_map(|(_, record)| Network::read(record));
        let all: BTreeMap<NetworkId, Network> = all.map(|network| (network.id, network)).collect();
        let recorded = all.get(&INGRESS).cloned();
        let mut networks = Self { all, recorded };
        networks.settle();
        networks
    }

    /// Reads one again after its register changed; gives what it was before.
    pub(crate) fn refresh(&mut self, id: NetworkId, registers: &Registers) -> Option<Network> {
        let before = self.all.remove(&id);
        let record = registers.get(&Key { kind: Kind::Network, id: id.0 });
        let network = record.and_then(Network::read);
        if id == INGRESS {
            self.recorded.clone_from(&network);
        }
        if let Some(network) = network {
            self.all.insert(id, network);
        }
        self.settle();
        before
    }

    /// Who has which name, range and number.
    fn settle(&mut self) {
        self.all.remove(&INGRESS);
        if !self.all.values().any(|network| network.flag("Ingress")) {
            let network = self.recorded.clone().or_else(Network::ingress);
            self.all.extend(network.map(|network| (INGRESS, network)));
        }
        let mut order: Vec<NetworkId> = self.all.keys().copied().collect();
        order.sort_by_key(|id| self.all.get(id).map(Network::order));
        let mut names: BTreeMap<String, NetworkId> = BTreeMap::new();
        let mut ranges: Vec<(Subnet, String)> = Vec::new();
        let mut numbers = BTreeSet::new();
        for id in order {
            let Some(network) = self.all.get_mut(&id) else { continue };
            let bearer = *names.entry(network.name.clone()).or_insert(id);
            network.shadowed_by = Some(bearer).filter(|bearer| *bearer != id);
            let taken = ranges.iter().find(|(range, _)| range.overlaps(network.subnet));
            network.unusable = match (network.shadowed_by, taken) {
                (Some(other), _) => Some(format!(
                    "network {} ({id}) cannot be used: {other}, created earlier, bears its name; remove one of them",
                    network.name
                )),
                (None, Some((range, other))) => Some(format!(
                    "network {} cannot be used: its range {} overlaps with {range} of network {other}, created earlier; remove it and create it anew",
                    network.name, network.subnet
                )),
                (None, None) => None,
            };
            if network.unusable.is_none() {
                ranges.push((network.subnet, network.name.clone()));
            }
            let hash = Digest::of_bytes(format!("vni {id}").as_bytes()).0;
            // The remainder is below the number of numbers.
            let first = (hash % u128::from(VNIS)) as u32;
            let free = (0..VNIS).map(|n| VNI_FIRST + (first + n) % VNIS);
            network.vni = free.into_iter().find(|n| !numbers.contains(n)).unwrap_or(VNI_FIRST);
            numbers.insert(network.vni);
        }
    }

    pub(crate) fn get(&self, id: NetworkId) -> Option<&Network> {
        self.all.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Network> {
        self.all.values()
    }

    /// Who bears this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Network> {
        self.all.values().find(|n| n.shadowed_by.is_none() && n.name == name)
    }

    /// The network that published ports are reached over.
    pub(crate) fn ingress(&self) -> Option<&Network> {
        self.all.values().filter(|n| n.flag("Ingress")).min_by_key(|n| n.order())
    }

    /// Which network a range is in the way of.
    pub(crate) fn overlapping(&self, subnet: Subnet) -> Option<&Network> {
        self.all.values().find(|network| network.subnet.overlaps(subnet))
    }

    /// A range for a network that asked for none: not one that another network has or that a host's own address is
    /// in. By its id, so that two that are created at the same time are likely to get different ones.
    pub(crate) fn free_range(
        &self,
        id: NetworkId,
        hosts: impl Iterator<Item = IpAddr>,
    ) -> Option<Subnet> {
        let hosts: BTreeSet<IpAddr> = hosts.collect();
        let hash = Digest::of_bytes(format!("range {id}").as_bytes()).0;
        // The remainder is below the size of the pool.
        let first = (hash % u128::from(POOL)) as u32;
        let ranges = (0..POOL).map(|n| Subnet {
            first: Ipv4Addr::from((10 << 24) | ((1 + (first + n) % POOL) << 16)),
            prefix: 16,
        });
        let inside =
            |range: Subnet, ip: &IpAddr| matches!(ip, IpAddr::V4(ip) if range.contains(*ip));
        let mut free = ranges.filter(|range| self.overlapping(*range).is_none());
        free.find(|range| !hosts.iter().any(|ip| inside(*range, ip)))
    }
}

#[cfg(test)]
mod tests {
    use membership::id::{CellId, NodeId};

    use super::*;

    fn record(id: u128, created_ms: u64, spec: Value, subnet: &str) -> Record {
        let created = Stamp { ms: created_ms, counter: 0 };
        let body = NetworkBody::new(created, spec, subnet.parse().unwrap(), false);
        Record {
            cell: CellId(0),
            key: Key { kind: Kind::Network, id },
            stamp: Stamp { ms: 100 + created_ms, counter: 0 },
            writer: NodeId(1),
            ancestors: Vec::new(),
            body: Some(serde_json::to_vec(&body).unwrap()),
        }
    }

    fn networks(records: Vec<Record>) -> Networks {
        Networks::read(&Registers::load(CellId(0), records))
    }

    #[test]
    fn the_body_is_stored_as_it_always_was() {
        let body = record(1, 5, json!({"Name": "back", "X": 1}), "10.9.0.0/16").body.unwrap();
        assert_eq!(
            String::from_utf8(body).unwrap(),
            r#"{"v":1,"created_ms":5,"created_counter":0,"spec":{"Name":"back","X":1},"subnet":"10.9.0.0/16"}"#
        );
    }

    #[test]
    fn the_earlier_one_has_the_name_and_the_range() {
        let named = |name: &str| json!({ "Name": name });
        let all = networks(vec![
            record(1, 30, named("a"), "10.1.0.0/16"),
            record(2, 20, named("a"), "10.2.0.0/16"),
            record(3, 10, named("b"), "10.3.0.0/16"),
            record(4, 40, named("c"), "10.3.7.0/24"),
        ]);
        assert_eq!(all.named("a").unwrap().id, NetworkId(2));
        assert_eq!(all.get(NetworkId(1)).unwrap().shadowed_by, Some(NetworkId(2)));
        let unusable: Vec<u128> =
            all.iter().filter(|n| n.unusable.is_some()).map(|n| n.id.0).collect();
        assert_eq!(unusable, [1, 4]);
        let why = all.get(NetworkId(4)).unwrap().unusable.clone().unwrap();
        assert!(why.contains("10.3.7.0/24") && why.contains("network b"), "{why}");
        let numbers: BTreeSet<u32> = all.iter().map(|n| n.vni).collect();
        assert_eq!(numbers.len(), 5, "with the ingress network's");
    }

    #[test]
    fn ranges_of_hosts_and_of_other_networks_are_left_alone() {
        let all = networks(Vec::new());
        let none = std::iter::empty();
        let first = all.free_range(NetworkId(7), none.clone()).unwrap();
        let host = IpAddr::V4(first.nth(9).unwrap());
        let second = all.free_range(NetworkId(7), [host].into_iter()).unwrap();
        assert!(!second.overlaps(first));
        let all = networks(vec![record(1, 1, json!({"Name": "a"}), &second.to_string())]);
        let third = all.free_range(NetworkId(7), [host].into_iter()).unwrap();
        assert!(!third.overlaps(first) && !third.overlaps(second));
    }

    #[test]
    fn what_was_decided_of_encryption_is_written_down_and_what_was_asked_for_counts_first() {
        let decided = |options: Value| {
            let spec = json!({"Name": "back", "Options": options});
            let created = Stamp { ms: 5, counter: 0 };
            let body = NetworkBody::new(created, spec, "10.9.0.0/16".parse().unwrap(), true);
            let body = Some(serde_json::to_vec(&body).unwrap());
            let record = Record { body, ..record(1, 5, json!({}), "10.9.0.0/16") };
            let network = networks(vec![record]).get(NetworkId(1)).unwrap().clone();
            (network.encrypted, network.open)
        };
        assert_eq!(decided(json!({})), (true, false));
        assert_eq!(decided(json!({"encrypted": "false"})), (false, true));
    }

    #[test]
    fn the_ingress_network_that_is_always_there_may_have_been_decided_to_be_encrypted() {
        let body = serde_json::to_vec(&NetworkBody::encrypted_ingress()).unwrap();
        assert_eq!(
            String::from_utf8(body.clone()).unwrap(),
            r#"{"v":1,"created_ms":0,"created_counter":1,"spec":{"Name":"ingress","Driver":"overlay","Ingress":true},"subnet":"10.255.0.0/16","encrypted":true}"#
        );
        let recorded =
            Record { body: Some(body), ..record(INGRESS.0, 0, json!({}), "10.1.0.0/16") };
        let all = networks(vec![recorded.clone()]);
        assert!(all.ingress().unwrap().encrypted && all.iter().count() == 1);
        assert!(!networks(Vec::new()).ingress().unwrap().encrypted);
        // An operators' own comes in its place, and when that goes what was decided holds again.
        let own = record(5, 1, json!({"Name": "in", "Ingress": true}), "10.77.0.0/16");
        let mut registers = Registers::load(CellId(0), vec![recorded, own.clone()]);
        let mut all = Networks::read(&registers);
        assert_eq!(all.ingress().unwrap().id, NetworkId(5));
        let gone = Record { body: None, stamp: Stamp { ms: 900, counter: 0 }, ..own };
        registers.merge(gone);
        all.refresh(NetworkId(5), &registers);
        assert!(all.ingress().is_some_and(|one| one.id == INGRESS && one.encrypted));
    }

    #[test]
    fn an_ingress_network_of_the_operators_takes_the_place_of_the_one_that_is_always_there() {
        assert_eq!(networks(Vec::new()).ingress().unwrap().id, INGRESS);
        let own = json!({"Name": "in", "Ingress": true});
        let all = networks(vec![record(5, 1, own, "10.77.0.0/16")]);
        assert_eq!(all.ingress().unwrap().id, NetworkId(5));
        assert_eq!(all.iter().count(), 1);
    }
}
