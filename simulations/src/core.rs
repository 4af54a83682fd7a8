//! The decider that a simulated process runs: the real [`node::Node`], or a test's stand-in.
//!
//! The world drives it through the same two calls as the daemon and reads it through the same views
//! as the API. Mutants (see [`crate::mutants`]) wrap it to show that the checks catch what they should.

use std::collections::BTreeSet;
use std::sync::Arc;

use membership::time::{Instant, Now};
use node::Node;
use node::assets::AssetKind;
use node::foresight::Picture;
use node::io::{Effect, Input};
use node::network::NetworkView;
use node::network::picture::Picture as NetworkPicture;
use node::slot::Place;
use node::views::{AssetView, ConflictView, MemberView, ServiceView, TaskView};

pub trait Core: std::fmt::Debug {
    fn handle(&mut self, now: Now, input: Input) -> Vec<Effect>;
    fn next_wake(&self) -> Instant;
    fn services(&self) -> Vec<ServiceView>;
    fn members(&self) -> Vec<MemberView>;
    fn tasks(&self) -> Vec<TaskView>;
    fn conflicts(&self) -> Vec<ConflictView>;
    /// Secrets, then configs.
    fn assets(&self) -> Vec<AssetView>;
    fn picture(&self) -> Picture;
    fn kept_away(&self) -> BTreeSet<Place>;
    fn networks(&self) -> Vec<NetworkView>;
    fn network_picture(&self) -> Arc<NetworkPicture>;
}

impl Core for Node {
    fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
        Self::handle(self, now, input)
    }

    fn next_wake(&self) -> Instant {
        Self::next_wake(self)
    }

    fn services(&self) -> Vec<ServiceView> {
        Self::services(self)
    }

    fn members(&self) -> Vec<MemberView> {
        Self::members(self)
    }

    fn tasks(&self) -> Vec<TaskView> {
        Self::tasks(self)
    }

    fn conflicts(&self) -> Vec<ConflictView> {
        Self::conflicts(self)
    }

    fn assets(&self) -> Vec<AssetView> {
        let kinds = [AssetKind::Secret, AssetKind::Config];
        kinds.into_iter().flat_map(|kind| Self::assets(self, kind)).collect()
    }

    fn picture(&self) -> Picture {
        Self::picture(self)
    }

    fn kept_away(&self) -> BTreeSet<Place> {
        Self::kept_away(self)
    }

    fn networks(&self) -> Vec<NetworkView> {
        Self::networks(self)
    }

    fn network_picture(&self) -> Arc<NetworkPicture> {
        Self::network_picture(self)
    }
}
