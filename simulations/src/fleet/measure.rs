//! How long news travels in the ordinary simulation: every node's core is watched from outside, and what it
//! hears is compared with when it was published.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use membership::fact::{FactKey, SignedFact};
use membership::id::NodeId;
use membership::message::Message;
use membership::time::{Instant, Now, Wall};
use node::foresight::Picture;
use node::io::{Effect, Input};
use node::network::NetworkView;
use node::network::picture::Picture as NetworkPicture;
use node::slot::Place;
use node::views::{AssetView, ConflictView, MemberView, ServiceView, TaskView};

use crate::core::Core;
use crate::cores;
use crate::outage::{self, OutageSpec};
use crate::time::Span;
use crate::world::{Fidelity, Maker};

/// One fact, by what tells it from all others.
type Name = (NodeId, u64, u64);

#[derive(Debug, Default)]
struct Log {
    published: BTreeMap<Name, Wall>,
    heard: BTreeSet<(NodeId, Name)>,
    delays: Vec<Span>,
}

/// A core with somebody who listens at its door.
#[derive(Debug)]
struct Overheard {
    me: NodeId,
    core: Box<dyn Core>,
    log: Rc<RefCell<Log>>,
}

fn name(fact: &SignedFact) -> Option<Name> {
    let claims = matches!(fact.key, FactKey::Claims { .. });
    claims.then_some((fact.owner, fact.incarnation.0, fact.seq))
}

impl Log {
    fn hear(&mut self, me: NodeId, fact: &SignedFact, wall: Wall) {
        let Some(name) = name(fact).filter(|_| fact.owner != me) else { return };
        if let Some(published) = self.published.get(&name).copied()
            && self.heard.insert((me, name))
        {
            self.delays.push(Span::ms(wall.0.saturating_sub(published.0)));
        }
    }
}

impl Core for Overheard {
    fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut log = self.log.borrow_mut();
        match &input {
            Input::Fact(fact) => log.hear(self.me, fact, now.wall),
            Input::Message { message: Message::Facts(facts), .. } => {
                facts.iter().for_each(|fact| log.hear(self.me, fact, now.wall));
            }
            _ => {}
        }
        let effects = self.core.handle(now, input);
        for effect in &effects {
            if let Effect::Publish(fact) = effect
                && let Some(name) = name(fact)
            {
                log.published.insert(name, now.wall);
            }
        }
        effects
    }

    fn next_wake(&self) -> Instant {
        self.core.next_wake()
    }

    fn services(&self) -> Vec<ServiceView> {
        self.core.services()
    }

    fn members(&self) -> Vec<MemberView> {
        self.core.members()
    }

    fn tasks(&self) -> Vec<TaskView> {
        self.core.tasks()
    }

    fn conflicts(&self) -> Vec<ConflictView> {
        self.core.conflicts()
    }

    fn assets(&self) -> Vec<AssetView> {
        self.core.assets()
    }

    fn picture(&self) -> Picture {
        self.core.picture()
    }

    fn networks(&self) -> Vec<NetworkView> {
        self.core.networks()
    }

    fn kept_away(&self) -> BTreeSet<Place> {
        self.core.kept_away()
    }

    fn network_picture(&self) -> Arc<NetworkPicture> {
        self.core.network_picture()
    }
}

/// From publication to each node's first hearing, of all claims, sorted: in milliseconds of a run in which
/// all hosts stay.
pub fn delays(seed: u64, hosts: usize, replicas: u64, gossip: Fidelity) -> Vec<Span> {
    let log = Rc::new(RefCell::new(Log::default()));
    let inside = Rc::clone(&log);
    let real = cores::real(cores::settings());
    let maker: Maker = Box::new(move |args| {
        let me = args.id;
        let (core, effects) = real(args);
        let log = Rc::clone(&inside);
        (Box::new(Overheard { me, core, log }) as Box<dyn Core>, effects)
    });
    let spec = OutageSpec {
        seed,
        hosts,
        replicas,
        kill_per_mille: 0,
        back_after: None,
        gossip,
        tell: false,
    };
    outage::run(&spec, maker);
    let mut delays = std::mem::take(&mut log.borrow_mut().delays);
    delays.sort_unstable();
    delays
}
