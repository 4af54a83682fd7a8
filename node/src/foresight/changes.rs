//! What may be supposed: hosts lost, drained, added, labels and replica counts changed. Each makes of
//! a picture the one that every node would have a moment after it really happened.

use std::collections::BTreeMap;

use membership::id::{NodeId, ServiceId};
use membership::member::{MemberState, Resources};
use placement::{Accepts, Closed, Host};

use super::{Picture, PicturedMember};
use crate::spec::{MAX_REPLICAS, Mode};
use crate::views::Availability;

/// The most hosts that may be supposed to be added.
pub const MAX_ADDED: usize = 1_000;

/// One supposition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The host is lost, and everything on it.
    Kill(NodeId),
    Drain(NodeId),
    Pause(NodeId),
    /// Back from drained or paused.
    Activate(NodeId),
    /// A new member. Its id is a stand-in: that of the real one is not known before it is there.
    Add(Box<NewHost>),
    SetLabel {
        node: NodeId,
        key: String,
        value: String,
    },
    RemoveLabel {
        node: NodeId,
        key: String,
    },
    Scale {
        service: ServiceId,
        replicas: u64,
    },
}

/// A host that is not there yet; what is `None` is as on the host it is like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewHost {
    /// The member it is like, its labels included; `None` for a plain host with the capacity and the zone
    /// of some member that takes new replicas.
    pub like: Option<NodeId>,
    pub name: String,
    pub zone: Option<String>,
    pub cpu_milli: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// Beside those of the host it is like (`node.labels.*` and `engine.labels.*` alike).
    pub labels: Vec<(String, String)>,
}

/// A supposition that makes no sense here. Nothing was changed: nothing ever is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error("node {0} is not a member")]
    UnknownNode(NodeId),
    #[error("service {0} not found")]
    UnknownService(ServiceId),
    #[error("node {name} {why}")]
    Node { name: String, why: &'static str },
    #[error("service {name} {why}")]
    Service { name: String, why: String },
    #[error("{MAX_REPLICAS} replicas is the most that a service may have: {name}={replicas}")]
    TooMany { name: String, replicas: u64 },
    #[error("at most {MAX_ADDED} hosts can be supposed to be added")]
    TooManyHosts,
    #[error(
        "no member is known well enough to be copied: say what the new host has (CPU and memory)"
    )]
    NothingToCopy,
}

impl Picture {
    /// The picture a moment after `changes`, all of them at one instant.
    ///
    /// # Errors
    /// [`ChangeError`] for the first change that makes no sense.
    pub fn after(&self, changes: &[Change]) -> Result<Self, ChangeError> {
        let mut after = self.clone();
        let mut added = 0;
        for change in changes {
            match change {
                Change::Kill(node) => after.kill(*node)?,
                Change::Drain(node) => after.set_availability(*node, Availability::Drain)?,
                Change::Pause(node) => after.set_availability(*node, Availability::Pause)?,
                Change::Activate(node) => after.set_availability(*node, Availability::Active)?,
                Change::Add(new) => {
                    added += 1;
                    if added > MAX_ADDED {
                        return Err(ChangeError::TooManyHosts);
                    }
                    // What it is like is what it was before anything else was supposed.
                    let like = self.like(new)?;
                    after.add(new, like, added);
                }
                Change::SetLabel { node, key, value } => {
                    after.host_mut(*node)?.node_labels.insert(key.clone(), value.clone());
                }
                Change::RemoveLabel { node, key } => after.remove_label(*node, key)?,
                Change::Scale { service, replicas } => after.scale(*service, *replicas)?,
            }
        }
        Ok(after)
    }

    fn member_mut(&mut self, node: NodeId) -> Result<&mut PicturedMember, ChangeError> {
        self.members.get_mut(&node).ok_or(ChangeError::UnknownNode(node))
    }

    fn host_mut(&mut self, node: NodeId) -> Result<&mut Host, ChangeError> {
        let member = self.member_mut(node)?;
        let name = member.name.clone();
        let why = "has not been heard of yet: nothing is known of it but its name";
        member.host.as_mut().ok_or(ChangeError::Node { name, why })
    }

    fn kill(&mut self, node: NodeId) -> Result<(), ChangeError> {
        let member = self.member_mut(node)?;
        if !member.belongs {
            let name = member.name.clone();
            return Err(ChangeError::Node { name, why: "has left the cluster: it runs nothing" });
        }
        (member.state, member.counted, member.settling) = (MemberState::Down, false, false);
        if let Some(host) = &mut member.host {
            host.accepts = Accepts::No(Closed::Down);
        }
        for claims in self.services.values_mut().flat_map(|service| service.claims.values_mut()) {
            claims.iter_mut().filter(|claim| claim.node == node).for_each(|gone| gone.live = false);
            claims.sort_by_key(|claim| !claim.live);
        }
        Ok(())
    }

    fn set_availability(
        &mut self,
        node: NodeId,
        availability: Availability,
    ) -> Result<(), ChangeError> {
        let member = self.member_mut(node)?;
        let refuse = |why| Err(ChangeError::Node { name: member.name.clone(), why });
        let by_operator = member.availability != Availability::Active;
        match member.state {
            MemberState::Left => return refuse("has left the cluster: it runs nothing"),
            MemberState::Down => return refuse("is down: it runs nothing"),
            MemberState::Unstable => {
                return refuse("is unstable: nothing is moved off it before it is reached again");
            }
            MemberState::Draining if !by_operator => {
                return refuse("is draining of its own accord, whatever its availability");
            }
            MemberState::Alive | MemberState::Draining => {}
        }
        let (state, accepts) = match availability {
            Availability::Drain => (MemberState::Draining, Accepts::No(Closed::Draining)),
            Availability::Pause => (MemberState::Alive, Accepts::No(Closed::Paused)),
            Availability::Active if member.settling => {
                (MemberState::Alive, Accepts::No(Closed::Settling))
            }
            Availability::Active => (MemberState::Alive, Accepts::Yes),
        };
        (member.state, member.availability) = (state, availability);
        if let Some(host) = &mut member.host {
            host.accepts = accepts;
        }
        Ok(())
    }

    fn remove_label(&mut self, node: NodeId, key: &str) -> Result<(), ChangeError> {
        let name = self.name(node);
        if self.host_mut(node)?.node_labels.remove(key).is_some() {
            return Ok(());
        }
        let why =
            "has no such label (labels that are set on the host itself cannot be removed here)";
        Err(ChangeError::Node { name, why })
    }

    fn scale(&mut self, service: ServiceId, replicas: u64) -> Result<(), ChangeError> {
        let service =
            self.services.get_mut(&service).ok_or(ChangeError::UnknownService(service))?;
        let name = service.name.clone();
        let Some(wants) = &mut service.wants else {
            let why = service.idle.clone().unwrap_or_else(|| "does not run".to_owned());
            return Err(ChangeError::Service { name, why: format!("cannot be foreseen: {why}") });
        };
        if wants.mode == Mode::Global {
            let why = "is global: it runs once on every node that suits, and has no count".into();
            return Err(ChangeError::Service { name, why });
        }
        match u32::try_from(replicas).ok().filter(|_| replicas <= MAX_REPLICAS) {
            Some(replicas) => wants.replicas = replicas,
            None => return Err(ChangeError::TooMany { name, replicas }),
        }
        Ok(())
    }

    /// The host that a new one is modelled on.
    fn like(&self, new: &NewHost) -> Result<Option<Host>, ChangeError> {
        if let Some(like) = new.like {
            let member = self.members.get(&like).ok_or(ChangeError::UnknownNode(like))?;
            let name = member.name.clone();
            let why = "has not been heard of yet: it cannot be copied";
            return member.host.clone().map(Some).ok_or(ChangeError::Node { name, why });
        }
        let open = |host: &&Host| host.accepts == Accepts::Yes;
        let hosts = || self.members.values().filter_map(|member| member.host.as_ref());
        let host = hosts().find(open).or_else(|| hosts().next());
        if host.is_none() && (new.cpu_milli.is_none() || new.memory_bytes.is_none()) {
            return Err(ChangeError::NothingToCopy);
        }
        Ok(host.cloned().map(|host| Host { node_labels: BTreeMap::new(), ..host }))
    }

    fn add(&mut self, new: &NewHost, like: Option<Host>, number: usize) {
        let mut number = number as u128;
        // Spread over the whole range as real ids are, and nobody's.
        let id = loop {
            let id = NodeId(number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
            if !self.members.contains_key(&id) {
                break id;
            }
            number += MAX_ADDED as u128;
        };
        let mut host = like.unwrap_or_else(|| plain(id));
        host.id = id;
        host.name.clone_from(&new.name);
        if let Some(zone) = &new.zone {
            host.zone.clone_from(zone);
        }
        host.capacity = Resources {
            cpu_milli: new.cpu_milli.unwrap_or(host.capacity.cpu_milli),
            memory_bytes: new.memory_bytes.unwrap_or(host.capacity.memory_bytes),
        };
        for (key, value) in &new.labels {
            host.node_labels.insert(key.clone(), value.clone());
            host.engine_labels.insert(key.clone(), value.clone());
        }
        host.accepts = Accepts::Yes;
        let member = PicturedMember {
            name: new.name.clone(),
            state: MemberState::Alive,
            reason: "supposed to be added".to_owned(),
            availability: Availability::Active,
            belongs: true,
            counted: true,
            settling: false,
            host: Some(host),
        };
        self.members.insert(id, member);
    }
}

/// A host of which nothing is known but what is said of it.
fn plain(id: NodeId) -> Host {
    Host {
        id,
        name: String::new(),
        zone: String::new(),
        node_labels: BTreeMap::new(),
        engine_labels: BTreeMap::new(),
        role: "manager".to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        ip: [0, 0, 0, 0].into(),
        capacity: Resources::default(),
        accepts: Accepts::Yes,
    }
}

/// For the head line of an answer: what was supposed, with the names people know.
pub fn describe(picture: &Picture, changes: &[Change]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut group = |verb: &str, names: Vec<String>| {
        if !names.is_empty() {
            parts.push(format!("{verb} {}", names.join(", ")));
        }
    };
    let nodes = |of: fn(&Change) -> Option<NodeId>| -> Vec<String> {
        changes.iter().filter_map(of).map(|node| picture.name(node)).collect()
    };
    group("lose", nodes(|c| if let Change::Kill(node) = c { Some(*node) } else { None }));
    group("drain", nodes(|c| if let Change::Drain(node) = c { Some(*node) } else { None }));
    group("pause", nodes(|c| if let Change::Pause(node) = c { Some(*node) } else { None }));
    group("activate", nodes(|c| if let Change::Activate(node) = c { Some(*node) } else { None }));
    let texts = |of: &dyn Fn(&Change) -> Option<String>| -> Vec<String> {
        changes.iter().filter_map(of).collect()
    };
    group("add", texts(&|c| if let Change::Add(new) = c { Some(new.name.clone()) } else { None }));
    group(
        "label",
        texts(&|change| match change {
            Change::SetLabel { node, key, value } => {
                Some(format!("{} with {key}={value}", picture.name(*node)))
            }
            Change::RemoveLabel { node, key } => {
                Some(format!("{} without {key}", picture.name(*node)))
            }
            _ => None,
        }),
    );
    group(
        "scale",
        texts(&|change| {
            let Change::Scale { service, replicas } = change else { return None };
            let name = picture.services.get(service).map_or("", |service| &service.name);
            Some(format!("{name} to {replicas}"))
        }),
    );
    parts.join("; ")
}
