//! How the cores of a run are made: the real node with the `lan` settings and a signature that signs
//! nothing, since no simulated peer forges.

use membership::fact::SignedFact;
use membership::id::{CellId, ClusterId};
use membership::time::Millis;
use node::{Node, Settings, Start};

use crate::core::Core;
use crate::world::{Maker, StartArgs};

/// The cluster that every simulated node belongs to.
pub const CLUSTER: ClusterId = ClusterId(0x5_10a1);

#[derive(Debug)]
struct NoSignature;

impl node::Sign for NoSignature {
    fn sign(&self, _: &mut SignedFact) {}
}

/// Real nodes.
pub fn real(settings: Settings) -> Maker {
    Box::new(move |args: StartArgs| {
        let start = Start {
            me: args.id,
            cluster: CLUSTER,
            cell: CellId(0),
            incarnation: args.incarnation,
            profile: args.profile,
            settings: settings.clone(),
            records: args.records,
            seed: args.seed,
            now: args.now,
        };
        let (node, effects) = Node::new(start, Box::new(NoSignature));
        (Box::new(node) as Box<dyn Core>, effects)
    })
}

/// The `lan` settings, with the one patience shortened that outlasts any run: a node that failed a slot
/// takes it again after a minute instead of ten.
pub fn settings() -> Settings {
    Settings { pass_over: Millis(60_000), ..Settings::lan() }
}
