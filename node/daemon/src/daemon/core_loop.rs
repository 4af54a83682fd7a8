//! The loop: whatever happens becomes an input, whatever the core wants is done. Nothing in here
//! decides, and nothing in here waits for a peer, an engine or a disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gossip::{FromGossip, GossipHandle, HostAnswer};
use membership::id::Incarnation;
use membership::time::Wall;
use node::Node;
use node::command::{Command, CommandError, Refused, Reply};
use node::io::{CommandId, Effect, Input, Notice, PersistId};
use node::network::picture::Picture as NetworkPicture;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::Ended;
use super::backend::Shown;
use super::clock::Clocks;
use super::switch::{Destination, LoopEnd};
use crate::runtime::{Report, Runtime};
use crate::store::Store;

/// Inputs that are handled before timers and other sources get their turn again.
const BURST: usize = 64;

/// The pause after a new incarnation could not be stored.
const DRAW_AGAIN: Duration = Duration::from_secs(3);

/// What the API asks of the loop.
pub(crate) enum Request {
    Command(Command, oneshot::Sender<Result<Reply, CommandError>>),
    Read(Box<dyn FnOnce(&Node) + Send>),
    /// End here and start again in another cluster, if the node may.
    Move(Destination, oneshot::Sender<Result<(), CommandError>>),
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Command(command, _) => f.debug_tuple("Command").field(command).finish(),
            Self::Read(_) => f.write_str("Read"),
            Self::Move(there, _) => f.debug_tuple("Move").field(there).finish(),
        }
    }
}

/// What comes back from the disk.
enum FromStore {
    Persisted(PersistId, Result<(), String>),
    Incarnation(Incarnation),
}

pub(crate) struct CoreLoop {
    pub(crate) node: Node,
    pub(crate) clocks: Clocks,
    pub(crate) gossip: GossipHandle,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) store: Arc<Store>,
    pub(crate) from_gossip: mpsc::Receiver<FromGossip>,
    pub(crate) runtime_reports: mpsc::Receiver<Report>,
    pub(crate) asked: mpsc::Receiver<Request>,
    pub(crate) notices: broadcast::Sender<Notice>,
    pub(crate) shown: Arc<Mutex<Shown>>,
    /// What this host's links, rules and names are made from.
    pub(crate) network: watch::Sender<Arc<NetworkPicture>>,
    /// Where the runtime's work is done: not on this thread.
    pub(crate) work: Handle,
    pub(crate) stop: CancellationToken,
}

/// What the loop remembers besides the core.
struct Open {
    replies: BTreeMap<CommandId, oneshot::Sender<Result<Reply, CommandError>>>,
    next_command: u64,
    to_loop: mpsc::Sender<FromStore>,
    exit: Option<LoopEnd>,
}

/// Answers from the disk that wait for the loop; there are never more writes under way than this.
const FROM_STORE: usize = 64;

impl CoreLoop {
    pub(crate) async fn run(mut self, first: Vec<Effect>) -> LoopEnd {
        let (to_loop, mut from_store) = mpsc::channel(FROM_STORE);
        let mut open = Open { replies: BTreeMap::new(), next_command: 0, to_loop, exit: None };
        self.carry_out(first, &mut open);
        loop {
            if let Some(end) = open.exit.take() {
                return end;
            }
            let wake = self.clocks.when(self.node.next_wake());
            tokio::select! {
                () = self.stop.cancelled() => return LoopEnd::Ended(Ended::Stopped),
                () = tokio::time::sleep_until(wake) => self.put(Input::Tick, &mut open),
                Some(report) = self.from_gossip.recv() => {
                    self.on_gossip(report, &mut open);
                    for _ in 0..BURST {
                        let Ok(report) = self.from_gossip.try_recv() else { break };
                        self.on_gossip(report, &mut open);
                    }
                }
                Some(report) = self.runtime_reports.recv() => self.on_runtime(report, &mut open),
                Some(answer) = from_store.recv() => self.on_store(answer, &mut open),
                Some(request) = self.asked.recv() => self.on_request(request, &mut open),
            }
        }
    }

    fn put(&mut self, input: Input, open: &mut Open) {
        let effects = self.node.handle(self.clocks.now(), input);
        self.carry_out(effects, open);
    }

    fn on_gossip(&mut self, report: FromGossip, open: &mut Open) {
        let input = match report {
            FromGossip::Message { from, message } => Input::Message { from, message },
            FromGossip::Fact(fact) => Input::Fact(fact),
            FromGossip::Connected { peer, addr, observed, .. } => {
                debug!(%peer, %addr, %observed, "connected");
                Input::Connected { peer, addr }
            }
            FromGossip::Disconnected { peer, reason } => {
                debug!(%peer, ?reason, "disconnected");
                Input::Disconnected { peer }
            }
            FromGossip::HostAnswer { target, answer } => {
                Input::HostAnswer { target, refused: answer == HostAnswer::Refused }
            }
            FromGossip::Call { from, request, answer } => {
                let _elsewhere = self.work.enter();
                super::remote_logs::answer(&self.runtime, from, &request, answer);
                return;
            }
            FromGossip::SeedFailed { seed, error } => {
                let text = format!("cannot join at {seed}: {error}; it is tried on for ever");
                self.notice(Notice::Warning { text });
                return;
            }
            FromGossip::SeedJoined { seed, peer } => {
                info!(%seed, %peer, "joined");
                return;
            }
            FromGossip::IncarnationNeeded { reason, above } => {
                warn!(%reason, above = above.0, "gossip needs a new incarnation");
                self.draw_incarnation(above, open);
                return;
            }
            FromGossip::Restarted { .. } => Input::Republish,
            FromGossip::GroupFull { members, refused } => {
                let who = refused.map(|id| format!(" ({id})")).unwrap_or_default();
                let text = format!(
                    "this cluster has {members} members and takes no more in one gossip group: a node{who} was kept out"
                );
                self.notice(Notice::Warning { text });
                return;
            }
        };
        self.put(input, open);
    }

    fn on_runtime(&mut self, report: Report, open: &mut Open) {
        match report {
            Report::Done { id, result } => self.put(Input::Done { id, result }, open),
            Report::Event(event) => self.put(Input::Runtime(event), open),
        }
    }

    fn on_store(&mut self, answer: FromStore, open: &mut Open) {
        match answer {
            FromStore::Persisted(id, result) => {
                if let Err(reason) = &result {
                    error!(%reason, "the disk did not take a change");
                }
                self.put(Input::Persisted { id, result }, open);
            }
            FromStore::Incarnation(incarnation) => {
                self.gossip.set_incarnation(incarnation);
                self.put(Input::Incarnation(incarnation), open);
            }
        }
    }

    fn on_request(&mut self, request: Request, open: &mut Open) {
        match request {
            Request::Read(read) => read(&self.node),
            Request::Move(there, reply) => {
                let may = self.node.may_move();
                if may.is_ok() {
                    open.exit = Some(LoopEnd::Moves(there));
                }
                // Whoever asked may have gone away: it is done all the same.
                let _ = reply.send(may);
            }
            Request::Command(command, reply) => {
                open.next_command += 1;
                let id = CommandId(open.next_command);
                open.replies.retain(|_, reply| !reply.is_closed());
                open.replies.insert(id, reply);
                self.put(Input::Command { id, command }, open);
            }
        }
    }

    fn draw_incarnation(&self, above: Incarnation, open: &Open) {
        let (store, answer) = (Arc::clone(&self.store), open.to_loop.clone());
        // The store draws above the time it is given.
        let wall = self.clocks.now().wall.max(Wall(above.0));
        tokio::spawn(async move {
            // The core waits for it; a disk that is full now may not be in a moment.
            let drawn = loop {
                match store.draw_incarnation(wall).await {
                    Ok(drawn) => break drawn,
                    Err(error) => {
                        error!(%error, "no new incarnation could be stored; peers go on believing what they believe of this node");
                        tokio::time::sleep(DRAW_AGAIN).await;
                    }
                }
            };
            let _ = answer.send(FromStore::Incarnation(drawn)).await;
        });
    }

    fn carry_out(&mut self, effects: Vec<Effect>, open: &mut Open) {
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    if let Err(error) = self.gossip.send(to, message) {
                        debug!(%to, %error, "not sent");
                    }
                }
                Effect::Publish(fact) => {
                    if let Err(error) = self.gossip.publish(fact) {
                        warn!(%error, "a fact was not published");
                    }
                }
                Effect::Persist { id, records } => {
                    let (store, answer) = (Arc::clone(&self.store), open.to_loop.clone());
                    tokio::spawn(async move {
                        let result = store.put(records).await.map_err(|e| e.to_string());
                        let _ = answer.send(FromStore::Persisted(id, result)).await;
                    });
                }
                Effect::Forget(records) => {
                    let store = Arc::clone(&self.store);
                    tokio::spawn(async move {
                        // What stays on the disk is forgotten again after the next start.
                        if let Err(error) = store.forget(records).await {
                            warn!(%error, "tombstones could not be deleted from the disk");
                        }
                    });
                }
                Effect::Peers(peers) => self.gossip.set_peers(peers),
                Effect::Refuse(nodes) => self.gossip.set_refused(nodes.into_iter().collect()),
                Effect::Runtime { id, action } => {
                    let _elsewhere = self.work.enter();
                    self.runtime.act(id, action);
                }
                Effect::Reply { id, result } => {
                    if let Some(reply) = open.replies.remove(&id) {
                        let _ = reply.send(result);
                    }
                }
                Effect::AskHost { target } => self.gossip.ask_host(target),
                Effect::RaiseIncarnation { above } => self.draw_incarnation(above, open),
                // Whoever makes links and names of it looks at the latest.
                Effect::Network(picture) => drop(self.network.send_replace(picture)),
                Effect::Notice(notice) => self.notice(notice),
                Effect::Exit => open.exit = Some(LoopEnd::Ended(Ended::Left)),
            }
        }
    }

    fn notice(&self, notice: Notice) {
        log(&notice);
        self.shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take(&notice, self.clocks.now().wall);
        // Nobody listening is no error.
        let _ = self.notices.send(notice);
    }
}

/// One line for each change of state.
fn log(notice: &Notice) {
    match notice {
        Notice::Member { id, name, from, to, reason } => {
            info!(node = %id, %name, ?from, ?to, %reason, "member");
        }
        Notice::Node { id, name, what } => info!(node = %id, %name, ?what, "node"),
        Notice::Service { id, name, what } => info!(service = %id, %name, ?what, "service"),
        Notice::Asset { kind, id, name, what } => info!(%id, %name, ?what, "{}", kind.name()),
        Notice::Network { id, name, what } => info!(network = %id, %name, ?what, "network"),
        Notice::Task { service_name, slot, task, state, text, .. } => {
            info!(service = %service_name, %slot, %task, state = state.name(), %text, "task");
        }
        Notice::Conflict { text } | Notice::Warning { text } => warn!("{text}"),
        Notice::HoldingBack { on, reason, at_most } => info!(on, %reason, %at_most, "holding back"),
    }
}

/// What a command that cannot reach the loop is answered.
pub(crate) fn loop_is_gone() -> CommandError {
    CommandError::new(
        Refused::NotStored,
        "this node is stopping: nothing was changed; ask another node",
    )
}
