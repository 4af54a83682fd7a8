use std::collections::BTreeMap;
use std::sync::Arc;

use membership::time::{Millis, Wall};
use node::runtime::{StartFailure, StartTask};
use node::slot::{Epoch, Slot, TemplateId};

use super::*;
use crate::chance::Stream;
use crate::queue::Queue;
use crate::time::At;

/// An engine with its own little queue, so that a test reads as a script.
struct Bench {
    engine: Engine,
    queue: Queue<EngineEvent>,
    now: At,
    chance: Chance,
    heard: Vec<Input>,
    changes: Vec<Change>,
}

const BOOT: Boot = Boot(1);

impl Bench {
    fn new() -> Self {
        let mut bench = Self {
            engine: Engine::new(EngineManner::default()),
            queue: Queue::default(),
            now: At::ZERO,
            chance: Chance::new(1, Stream::Engines),
            heard: Vec::new(),
            changes: Vec::new(),
        };
        bench.with(|engine, _, out| engine.attach(BOOT, out));
        bench
    }

    fn with(&mut self, f: impl FnOnce(&mut Engine, &mut Chance, &mut Out)) {
        let mut out = Out::default();
        f(&mut self.engine, &mut self.chance, &mut out);
        for (after, event) in out.later {
            self.queue.push(self.now + after, event);
        }
        self.heard.extend(out.inputs.into_iter().map(|(_, input)| input));
        self.changes.extend(out.changes);
    }

    fn start(&mut self, n: u64, image: &str) {
        let task = StartTask {
            task: TaskId(u128::from(n)),
            service: ServiceId(1),
            service_name: "web".to_owned(),
            slot: Slot::Index(n as u32),
            epoch: Epoch(1),
            template: TemplateId(1),
            created: Wall(0),
            name: format!("web.{n}"),
            labels: BTreeMap::new(),
            template_json: Arc::new(serde_json::json!({ "ContainerSpec": { "Image": image } })),
            registry_auth: None,
            ports: Vec::new(),
            files: Arc::default(),
            networks: Vec::new(),
            name_servers: Vec::new(),
        };
        let action = RuntimeAction::Start(Box::new(task));
        self.with(|engine, chance, out| engine.act(BOOT, ActionId(n), action, chance, out));
    }

    fn run_for(&mut self, span: Span) {
        let until = self.now + span;
        while self.queue.next_at().is_some_and(|at| at <= until) {
            let (at, event) = self.queue.pop().unwrap();
            self.now = at;
            self.with(|engine, chance, out| engine.on(event, chance, out));
        }
        self.now = until;
    }

    fn started(&self) -> usize {
        self.heard
            .iter()
            .filter(|i| matches!(i, Input::Done { result: ActionResult::Started(_), .. }))
            .count()
    }
}

#[test]
fn starts_run_a_few_at_a_time_and_all_end() {
    let mut bench = Bench::new();
    (0..40).for_each(|n| bench.start(n, "sim/web"));
    bench.run_for(Span::ms(100));
    assert_eq!(bench.started(), 0);
    bench.run_for(Span::secs(10));
    assert_eq!(bench.started(), 40);
    assert_eq!(bench.changes.iter().filter(|c| c.what == Became::Ready).count(), 40);
}

#[test]
fn a_hung_engine_is_reported_and_may_carry_a_call_out_after_the_driver_gave_up() {
    let mut bench = Bench::new();
    bench.start(1, "sim/web");
    bench.with(|engine, _, out| engine.hang(out));
    bench.run_for(Span::secs(70));
    assert!(
        bench.heard.iter().any(|i| matches!(i, Input::Runtime(RuntimeEvent::EngineLost { .. })))
    );
    assert!(bench.heard.iter().any(|i| matches!(
        i,
        Input::Done {
            result: ActionResult::StartFailed { why: StartFailure::EngineUnavailable, .. },
            ..
        }
    )));
    bench.with(|engine, chance, out| engine.recover(chance, out));
    assert_eq!(bench.started(), 0, "nobody is told twice");
    assert_eq!(bench.engine.running_of(ServiceId(1)), 1, "but it runs");
    assert!(matches!(bench.heard.last(), Some(Input::Runtime(RuntimeEvent::EngineBack { .. }))));
}

#[test]
fn containers_survive_the_process_and_die_with_the_host() {
    let mut bench = Bench::new();
    bench.start(1, "sim/web");
    bench.run_for(Span::secs(5));
    bench.with(|engine, chance, _| engine.detach(chance));
    assert_eq!(bench.engine.running_of(ServiceId(1)), 1);
    bench.with(|engine, chance, out| engine.power_lost(chance, out));
    assert_eq!(bench.engine.running_of(ServiceId(1)), 0);
    assert_eq!(bench.engine.containers().count(), 1, "it is found exited at the next boot");
    assert_eq!(bench.changes.last().map(|c| c.what), Some(Became::Ended));
}

#[test]
fn a_name_is_a_lock_and_a_stop_of_nothing_succeeds() {
    let mut bench = Bench::new();
    bench.start(1, "sim/web");
    bench.start(1, "sim/web");
    bench.run_for(Span::secs(5));
    assert_eq!(bench.started(), 1);
    let stop = RuntimeAction::Stop {
        task: TaskId(9),
        container: "nothing".to_owned(),
        grace: Millis(1000),
    };
    bench.with(|engine, chance, out| engine.act(BOOT, ActionId(9), stop, chance, out));
    bench.run_for(Span::secs(5));
    assert!(matches!(bench.heard.last(), Some(Input::Done { result: ActionResult::Stopped, .. })));
}

#[test]
fn a_crashing_image_exits_and_behaves_once_images_do_not_act() {
    let mut bench = Bench::new();
    bench.start(1, "sim/crash");
    bench.run_for(Span::secs(10));
    assert_eq!(bench.engine.running_of(ServiceId(1)), 0);
    bench.engine.manner.images_act = false;
    bench.start(2, "sim/crash");
    bench.run_for(Span::secs(60));
    assert_eq!(bench.engine.running_of(ServiceId(1)), 1);
}
