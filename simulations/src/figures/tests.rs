use membership::id::{Incarnation, NodeId, ServiceId, TaskId};
use membership::member::Resources;
use node::slot::{Epoch, TemplateId};
use node::spec::Partition;

use super::*;
use crate::links::HostIx;
use crate::seen::OwnView;

const H: [HostIx; 3] = [HostIx(0), HostIx(1), HostIx(2)];

#[derive(Default)]
struct Story {
    figures: Figures,
    picture: Picture,
    tasks: u128,
}

fn place(slot: u32) -> Place {
    Place { service: ServiceId(1), slot: Slot::Index(slot) }
}

fn secs(at: u64) -> At {
    At::ZERO + Span::secs(at)
}

impl Story {
    fn see(&mut self, at: u64, seen: Seen) {
        self.picture.see(secs(at), &seen);
        self.figures.see(secs(at), &seen, &self.picture);
    }

    fn members(&mut self) {
        for host in H {
            let id = NodeId(u128::from(host.0));
            self.see(0, Seen::Process { host, id, incarnation: Incarnation(1) });
        }
        self.see(0, Seen::Parts(vec![H.to_vec()]));
    }

    fn view(desired: u64) -> OwnView {
        OwnView {
            draining: false,
            desired,
            global: false,
            partition: Partition::Available,
            stop_first: true,
            reservation: Resources::default(),
            forbidden: None,
            per_node: 0,
            template: TemplateId(1),
        }
    }

    fn start(&mut self, at: u64, host: HostIx, slot: u32, template: u64) -> TaskId {
        self.tasks += 1;
        let task = TaskId(self.tasks);
        let (epoch, view) = (Epoch(1), Some(Self::view(3)));
        let template = TemplateId(template);
        self.see(at, Seen::Start { host, place: place(slot), task, epoch, template, view });
        task
    }

    fn became(&mut self, at: u64, host: HostIx, slot: u32, task: TaskId, what: Became) {
        self.see(at, Seen::Container { host, place: place(slot), task, what });
    }

    fn runs(&mut self, at: u64, host: HostIx, slot: u32) -> TaskId {
        let task = self.start(at, host, slot, 1);
        self.became(at, host, slot, task, Became::Ready);
        task
    }

    fn verdict(&mut self, at: u64, by: usize, about: usize, to: MemberState) {
        let about = NodeId(u128::from(H[about].0));
        self.see(at, Seen::Verdict { host: H[by], about, to });
    }
}

#[test]
fn an_outage_is_timed_from_the_loss_to_the_verdicts_and_to_the_replacements() {
    let mut story = Story::default();
    story.members();
    let (one, two) = (story.runs(5, H[0], 1), story.runs(5, H[0], 2));
    story.became(100, H[0], 1, one, Became::NotReady);
    story.became(100, H[0], 2, two, Became::NotReady);
    story.see(100, Seen::Parts(vec![H[1..].to_vec()]));
    story.verdict(102, 1, 0, MemberState::Down);
    story.verdict(103, 2, 0, MemberState::Down);
    story.figures.second(secs(103), &story.picture, Some(2));
    story.runs(104, H[1], 1);
    story.runs(106, H[2], 2);
    let figures = &story.figures;
    assert_eq!(figures.detection.first, [Span::secs(2)]);
    assert_eq!(figures.detection.each, [Span::secs(2), Span::secs(3)]);
    assert_eq!(figures.episodes.first, [Span::secs(4)]);
    assert_eq!(figures.episodes.full, [Span::secs(6)]);
    assert_eq!((figures.gap_seconds, figures.false_verdicts, figures.open_gaps()), (2, 0, 0));
    let wanted = Moves { created: 2, lost: 2, ..Moves::default() };
    assert_eq!((figures.moves(), figures.moves().least()), (wanted, 4));
}

#[test]
fn a_verdict_about_a_member_that_could_be_reached_is_false_unless_it_has_just_come_back() {
    let mut story = Story::default();
    story.members();
    story.verdict(60, 1, 0, MemberState::Down);
    assert_eq!(story.figures.false_verdicts, 1);
    story.see(100, Seen::Parts(vec![H[1..].to_vec()]));
    story.see(130, Seen::Parts(vec![H.to_vec()]));
    story.verdict(135, 1, 0, MemberState::Down);
    assert_eq!(story.figures.false_verdicts, 1, "an echo of the outage");
}

#[test]
fn what_is_cut_off_is_detected_from_the_cut_on() {
    let mut story = Story::default();
    story.members();
    story.see(200, Seen::Parts(vec![vec![H[0]], H[1..].to_vec()]));
    story.verdict(203, 1, 0, MemberState::Down);
    assert_eq!(story.figures.detection.each, [Span::secs(3)]);
}

#[test]
fn starts_are_told_apart_by_their_reason() {
    let mut story = Story::default();
    story.members();
    let one = story.runs(5, H[0], 1);
    story.start(10, H[1], 1, 1);
    story.start(11, H[1], 1, 2);
    story.became(12, H[0], 1, one, Became::NotReady);
    story.start(13, H[2], 1, 2);
    story.verdict(14, 1, 0, MemberState::Draining);
    story.runs(15, H[0], 2);
    story.start(16, H[1], 2, 1);
    let moves = story.figures.moves();
    let wanted = Moves { created: 2, elsewhere: 1, updated: 1, again: 1, drained: 1, lost: 0 };
    assert_eq!(moves, wanted);
    assert_eq!((moves.all(), moves.least()), (6, 4));
}

#[test]
fn a_slot_that_nobody_wants_is_no_gap() {
    let mut story = Story::default();
    story.members();
    let one = story.runs(5, H[0], 3);
    let view = Some(Story::view(2));
    story.see(10, Seen::Stop { host: H[0], place: place(3), task: one, view });
    story.became(10, H[0], 3, one, Became::NotReady);
    assert_eq!(story.figures.open_gaps(), 0);
    let two = story.runs(20, H[1], 1);
    story.became(30, H[1], 1, two, Became::NotReady);
    assert_eq!(story.figures.open_gaps(), 1);
    story.see(31, Seen::Removed { service: ServiceId(1) });
    assert_eq!(story.figures.open_gaps(), 0);
}

#[test]
fn shares_that_run_count_from_the_beginning_of_the_timeline() {
    let mut story = Story::default();
    story.members();
    story.figures.second(secs(1), &story.picture, Some(4));
    story.figures.counts_from = Some(secs(2));
    story.runs(2, H[0], 1);
    story.figures.second(secs(3), &story.picture, Some(4));
    assert_eq!(story.figures.running.least_per_mille, 250);
    assert_eq!(Times::of(&[]), Times::default());
    let times = Times::of(&[Span::secs(3), Span::secs(1), Span::secs(2)]);
    assert_eq!((times.p50_ms, times.max_ms, times.count), (Some(2000), Some(3000), 3));
}
