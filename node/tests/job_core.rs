//! Jobs on one core by itself: what it starts, what it writes down of it, and what another process of the
//! same node makes of that.

mod bench;

use std::collections::{BTreeMap, BTreeSet};

use bench::{SERVICE, core, now, records};
use membership::record::{Key, Kind, Record};
use node::command::{Command, Reply};
use node::io::CommandId;
use node::registry_auth::AuthChange;
use node::runtime::{
    ActionResult, ContainerHealth, ContainerState, Found, RuntimeAction, RuntimeEvent, StartTask,
};
use node::slot::Slot;
use node::views::ServiceView;
use node::{Effect, Input, Node, Settings};
use serde_json::{Value, json};

struct Host {
    node: Node,
    at: u64,
    disk: BTreeMap<Key, Record>,
    /// What runs, and what has ended and lies there.
    engine: BTreeMap<String, Found>,
    starts: Vec<Slot>,
    replies: Vec<String>,
}

fn job(slots: u32, most: u32) -> Value {
    json!({
        "Name": "job",
        "TaskTemplate": { "ContainerSpec": { "Image": "job" }, "RestartPolicy": { "Delay": 1 } },
        "Mode": { "ReplicatedJob": { "TotalCompletions": slots, "MaxConcurrent": most } },
    })
}

fn found(order: &StartTask) -> Found {
    Found {
        container: format!("c{}", order.task),
        task: order.task,
        service: order.service,
        service_name: order.service_name.clone(),
        slot: order.slot,
        epoch: order.epoch,
        template: order.template,
        created: order.created,
        state: ContainerState::Running { health: ContainerHealth::None },
        started: None,
        stopping: false,
        pid: None,
        ports: Vec::new(),
        addresses: Vec::new(),
    }
}

impl Host {
    fn new(spec: &Value) -> Self {
        let mut disk: BTreeMap<Key, Record> =
            records(1, 1).into_iter().map(|record| (record.key, record)).collect();
        let service =
            disk.get_mut(&Key { kind: Kind::Service, id: SERVICE.0 }).expect("it is on the disk");
        let body = json!({
            "v": 1, "created_ms": 1, "created_counter": 0, "spec": spec,
            "job": { "iteration": 0, "executed_ms": 1 },
        });
        service.body = Some(serde_json::to_vec(&body).expect("it is JSON"));
        Self::boot(disk, BTreeMap::new(), 0, 1)
    }

    fn boot(
        disk: BTreeMap<Key, Record>,
        engine: BTreeMap<String, Found>,
        at: u64,
        life: u64,
    ) -> Self {
        let (node, effects) = core(0, life, disk.values().cloned().collect(), &Settings::lan(), at);
        let (starts, replies) = (Vec::new(), Vec::new());
        let mut host = Self { node, at, disk, engine, starts, replies };
        host.carry_out(effects);
        host.pass(30_000);
        host
    }

    /// Its process ends and another one takes over what lies there.
    fn again(self) -> Self {
        Self::boot(self.disk, self.engine, self.at + 1_000, 2)
    }

    fn put(&mut self, input: Input) {
        let effects = self.node.handle(now(self.at), input);
        self.carry_out(effects);
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 50 {
            self.at += 50;
            self.put(Input::Tick);
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Persist { id, records } => {
                    self.disk.extend(records.into_iter().map(|record| (record.key, record)));
                    self.put(Input::Persisted { id, result: Ok(()) });
                }
                Effect::Reply { result: Err(error), .. } => self.replies.push(error.message),
                Effect::Reply { result: Ok(Reply::Done { .. }), .. } => {
                    self.replies.push("done".to_owned());
                }
                Effect::Runtime { id, action } => {
                    let result = match action {
                        RuntimeAction::Start(order) => {
                            self.starts.push(order.slot);
                            let found = found(&order);
                            self.engine.insert(found.container.clone(), found.clone());
                            ActionResult::Started(Box::new(found))
                        }
                        RuntimeAction::Stop { container, .. }
                        | RuntimeAction::Remove { container, .. } => {
                            self.engine.remove(&container);
                            ActionResult::Stopped
                        }
                        RuntimeAction::List => {
                            ActionResult::Listed(self.engine.values().cloned().collect())
                        }
                        RuntimeAction::Networks { .. } => {
                            ActionResult::Networks { found: Vec::new(), failed: Vec::new() }
                        }
                        RuntimeAction::Prepare { .. } => ActionResult::Prepared,
                        RuntimeAction::Refresh { .. } => ActionResult::Refreshed,
                    };
                    self.put(Input::Done { id, result });
                }
                _ => {}
            }
        }
    }

    fn running(&self) -> BTreeSet<Slot> {
        let runs = |f: &&Found| matches!(f.state, ContainerState::Running { .. });
        self.engine.values().filter(runs).map(|found| found.slot).collect()
    }

    /// The task in a slot ends.
    fn ends(&mut self, slot: u32, code: i32) {
        let runs = |f: &&mut Found| {
            f.slot == Slot::Index(slot) && matches!(f.state, ContainerState::Running { .. })
        };
        let found = self.engine.values_mut().find(runs).expect("it runs");
        found.state = ContainerState::Exited { code, out_of_memory: false };
        let event = RuntimeEvent::Container(Box::new(found.clone()));
        self.put(Input::Runtime(event));
        self.pass(2_000);
    }

    fn view(&self) -> ServiceView {
        self.node.service(SERVICE).expect("it is known")
    }

    fn update(&mut self, change: impl FnOnce(&mut Value)) {
        let view = self.view();
        let mut spec = (*view.spec).clone();
        change(&mut spec);
        let command = Command::UpdateService {
            id: SERVICE,
            version: view.version,
            spec,
            auth: AuthChange::Keep,
        };
        self.put(Input::Command { id: CommandId(1), command });
        self.pass(2_000);
    }
}

fn slots(slots: impl IntoIterator<Item = u32>) -> BTreeSet<Slot> {
    slots.into_iter().map(Slot::Index).collect()
}

#[test]
fn the_lowest_slots_that_have_not_ended_run_so_many_at_once() {
    let mut host = Host::new(&job(5, 2));
    assert_eq!(host.running(), slots([0, 1]));
    host.ends(1, 0);
    assert_eq!(host.running(), slots([0, 2]));
    host.ends(2, 7);
    assert_eq!(host.running(), slots([0, 2]), "what failed is tried again, and nothing instead");
    for slot in [0, 2, 3, 4] {
        host.ends(slot, 0);
    }
    host.pass(120_000);
    assert_eq!(host.running(), slots([]));
    assert_eq!(host.starts.len(), 6);
    let view = host.view();
    assert_eq!((view.running, view.desired, view.completed), (0, 2, 5));
}

#[test]
fn another_process_goes_on_where_the_records_say() {
    let mut host = Host::new(&job(4, 2));
    host.ends(0, 0);
    host.ends(1, 0);
    let mut host = host.again();
    assert_eq!(host.running(), slots([2, 3]), "they were adopted");
    assert_eq!(host.starts, []);
    // What ended while nobody looked is found by its container; the rest is known from the disk alone.
    for found in host.engine.values_mut().filter(|found| found.slot == Slot::Index(2)) {
        found.state = ContainerState::Exited { code: 0, out_of_memory: false };
    }
    let mut host = host.again();
    assert_eq!((host.view().completed, host.running()), (3, slots([3])));
    host.ends(3, 0);
    host.engine.clear();
    let mut host = host.again();
    host.pass(120_000);
    assert_eq!((host.view().completed, host.starts.len()), (4, 0));
}

#[test]
fn what_failed_for_good_is_written_down_like_what_was_done() {
    let mut spec = job(3, 1);
    spec["TaskTemplate"]["RestartPolicy"] = json!({ "Condition": "none" });
    let mut host = Host::new(&spec);
    host.ends(0, 1);
    assert_eq!(host.running(), slots([1]), "the others go on");
    host.ends(1, 0);
    host.engine.clear();
    let host = host.again();
    assert_eq!((host.starts.clone(), host.view().completed), (vec![Slot::Index(2)], 1));
}

#[test]
fn each_change_is_an_iteration_and_only_the_present_one_counts() {
    let mut host = Host::new(&job(2, 2));
    host.ends(0, 0);
    host.update(|spec| spec["TaskTemplate"]["ForceUpdate"] = json!(1));
    assert_eq!(host.running(), slots([0, 1]));
    assert_eq!(host.view().job.map(|job| job.iteration), Some(1));
    assert_eq!(host.view().completed, 0);
    // Back to what it was: executed once more, for it is another iteration.
    host.ends(0, 0);
    host.ends(1, 0);
    host.update(|spec| spec["TaskTemplate"]["ForceUpdate"] = json!(0));
    assert_eq!((host.running(), host.view().completed), (slots([0, 1]), 0));
    let starts = host.starts.len();
    host.update(|_| ());
    assert_eq!((host.starts.len(), host.view().job.map(|job| job.iteration)), (starts, Some(2)));
    let iterations: BTreeSet<Option<u64>> =
        host.node.tasks().into_iter().map(|task| task.iteration).collect();
    assert_eq!(iterations, BTreeSet::from([Some(0), Some(1), Some(2)]));
    host.update(|spec| spec["UpdateConfig"] = json!({ "Parallelism": 1 }));
    assert_eq!(host.replies.last().map(String::as_str), Some("Jobs may not have an update config"));
}

#[test]
fn with_the_service_goes_what_was_written_of_it() {
    let mut host = Host::new(&job(1, 1));
    host.ends(0, 0);
    let live = |host: &Host| {
        let of = |r: &&Record| r.key.kind == Kind::Completions && !r.is_tombstone();
        host.disk.values().filter(of).count()
    };
    assert_eq!(live(&host), 1);
    host.put(Input::Command { id: CommandId(1), command: Command::RemoveService { id: SERVICE } });
    host.pass(30_000);
    assert_eq!((live(&host), host.engine.len()), (0, 0));
}

/// Seeds 100620, 210471 and 210498: a host that had lost the record of a job's next iteration, and had the one of what
/// had ended of that, ran slots of the iteration before again.
#[test]
fn who_has_missed_an_iteration_starts_nothing_of_the_one_before() {
    let mut host = Host::new(&job(2, 2));
    host.ends(0, 0);
    host.ends(1, 0);
    let key = Key { kind: Kind::Service, id: SERVICE.0 };
    let before = host.disk.get(&key).cloned().expect("it is on the disk");
    host.update(|spec| spec["TaskTemplate"]["ForceUpdate"] = json!(1));
    host.ends(0, 0);
    let present = host.disk.insert(key, before).expect("it was changed");
    host.engine.clear();
    let mut host = host.again();
    host.pass(500_000);
    assert_eq!(host.starts, [], "nobody is there to ask");
    // What it misses comes.
    host.disk.insert(key, present);
    let host = host.again();
    assert_eq!((host.starts.clone(), host.view().completed), (vec![Slot::Index(1)], 1));
}

#[test]
fn who_has_missed_an_iteration_does_not_wait_for_it_for_ever() {
    let mut host = Host::new(&job(1, 1));
    let key = Key { kind: Kind::Service, id: SERVICE.0 };
    let before = host.disk.get(&key).cloned().expect("it is on the disk");
    host.update(|spec| spec["TaskTemplate"]["ForceUpdate"] = json!(1));
    host.ends(0, 0);
    host.disk.insert(key, before);
    host.engine.clear();
    let mut host = host.again();
    assert_eq!(host.starts, []);
    host.pass(700_000);
    assert_eq!(host.starts, [Slot::Index(0)]);
}
