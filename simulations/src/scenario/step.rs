//! A step of the timeline: read, checked against what its word takes, and made ready to be carried out.

use super::action::{Action, WORDS, Word};
use super::amount;
use super::file::{Step as Raw, Texts};
use super::layout::Layout;
use super::problem::{Problems, nearest};
use super::service;
use super::target::Target;
use crate::links::Quality;
use crate::time::Span;

/// One step, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub at: Span,
    /// Again after this, so often in all.
    pub every: Span,
    pub times: u32,
    /// Between one host and the next.
    pub apart: Span,
    /// As the file says it.
    pub word: &'static str,
    pub on: Option<Target>,
    pub to: Option<Target>,
    pub named: Option<String>,
    /// How long it lasts, least and most.
    pub lasts: Option<(Span, Span)>,
    pub action: Action,
}

/// Two durations or one, as the least and the most.
pub(super) fn range(texts: &Texts) -> Result<(Span, Span), String> {
    match texts.all().as_slice() {
        [one] => amount::span(one).map(|span| (span, span)),
        [least, most] => {
            let range = (amount::span(least)?, amount::span(most)?);
            if range.0 > range.1 {
                return Err(format!("'{least}' is more than '{most}': the least comes first"));
            }
            Ok(range)
        }
        _ => Err("write one duration, or the least and the most as [\"1s\", \"5s\"]".to_owned()),
    }
}

/// Which of the keys that only some words take are there.
fn given(raw: &Raw) -> Vec<&'static str> {
    let keys = [
        ("on", raw.on.is_some()),
        ("from", raw.from.is_some()),
        ("to", raw.to.is_some()),
        ("as", raw.named.is_some()),
        ("apart", raw.apart.is_some()),
        ("for", raw.lasts.is_some()),
        ("service", raw.service.is_some()),
        ("replicas", raw.replicas.is_some()),
        ("spec", raw.spec.is_some()),
        ("by", raw.by.is_some()),
        ("loss", raw.loss.is_some()),
        ("delay", raw.delay.is_some()),
        ("duplicated", raw.duplicated.is_some()),
        ("reordered", raw.reordered.is_some()),
        ("start", raw.start.is_some()),
        ("share", raw.share.is_some()),
        ("containers", raw.containers.is_some()),
        ("disk", raw.disk.is_some()),
    ];
    keys.into_iter().filter(|(_, there)| *there).map(|(key, _)| key).collect()
}

/// Keys that a word takes, those included that go with `on`.
fn taken(word: &Word) -> Vec<&'static str> {
    let mut keys = [word.needs, word.takes].concat();
    if keys.contains(&"on") {
        keys.extend(["as", "apart"]);
    }
    keys
}

fn check_keys(raw: &Raw, word: &Word, place: &str, problems: &mut Problems) {
    let there = given(raw);
    let takes = taken(word);
    for key in &there {
        if !takes.contains(key) {
            let text =
                format!("means nothing to '{}', which takes {}", word.name, takes.join(", "));
            problems.add(place, key, text);
        }
    }
    for key in word.needs {
        if !there.contains(key) {
            problems.add(place, key, format!("is missing: '{}' means: {}", word.name, word.means));
        }
    }
}

/// What a file says of the network, over `base`.
pub(super) fn quality(
    base: Quality,
    [loss, duplicated, reordered]: [&Option<String>; 3],
    delay: &Option<Texts>,
    place: &str,
    problems: &mut Problems,
) -> Quality {
    let mut share = |key: &str, text: &Option<String>, default: u32| match text {
        Some(text) => problems.take(place, key, amount::share(text)),
        None => default,
    };
    let (loss, duplicated, reordered) = (
        share("loss", loss, base.loss),
        share("duplicated", duplicated, base.duplicated),
        share("reordered", reordered, base.reordered),
    );
    let delay = match delay {
        Some(texts) => problems.take(place, "delay", range(texts)),
        None => base.delay,
    };
    Quality { delay, loss, duplicated, reordered }
}

impl Step {
    pub(super) fn check(
        raw: &Raw,
        place: &str,
        layout: &Layout,
        names: &mut Vec<String>,
        base: Quality,
        problems: &mut Problems,
    ) -> Option<Self> {
        let Some(word) = WORDS.iter().find(|word| word.name == raw.what) else {
            let known = WORDS.map(|word| word.name);
            let hint = nearest(&raw.what, known).map(|near| format!("did you mean '{near}'? "));
            let text = format!(
                "'{}' is no word for a step. {}There are {}",
                raw.what,
                hint.unwrap_or_default(),
                known.join(", ")
            );
            problems.add(place, "do", text);
            return None;
        };
        check_keys(raw, word, place, problems);
        let target = |key: &str, texts: &Option<Texts>, problems: &mut Problems| {
            let texts = texts.as_ref()?;
            Some(problems.take(place, key, Target::parse(&texts.all(), layout, names)))
        };
        let on = target("on", &raw.on, problems);
        let from = target("from", &raw.from, problems);
        let to = target("to", &raw.to, problems);
        names.extend(raw.named.clone());
        let mut span = |key: &str, text: &Option<String>| {
            text.as_ref()
                .map(|text| problems.take(place, key, amount::span(text)))
                .unwrap_or_default()
        };
        let (at, every, apart) = (
            span("at", &Some(raw.at.clone())),
            span("every", &raw.every),
            span("apart", &raw.apart),
        );
        if raw.every.is_some() != raw.times.is_some() {
            problems.add(place, "every", "goes together with `times`: every = \"40s\", times = 5");
        }
        let lasts = raw.lasts.as_ref().map(|texts| problems.take(place, "for", range(texts)));
        let action = action(word.name, raw, place, base, problems)?;
        Some(Self {
            at,
            every,
            times: raw.times.unwrap_or(1),
            apart,
            word: word.name,
            on: on.or(from),
            to,
            named: raw.named.clone(),
            lasts,
            action,
        })
    }

    /// When it happens, each time.
    pub fn moments(&self) -> impl Iterator<Item = Span> {
        let (at, every) = (self.at, self.every);
        (0..u64::from(self.times))
            .map(move |n| Span(at.0.saturating_add(every.0.saturating_mul(n))))
    }
}

fn action(
    word: &str,
    raw: &Raw,
    place: &str,
    base: Quality,
    problems: &mut Problems,
) -> Option<Action> {
    let service = || raw.service.clone().unwrap_or_default();
    let by = |problems: &mut Problems, default: &str| {
        let text = raw.by.as_deref().unwrap_or(default);
        problems.take(place, "by", amount::span(text))
    };
    Some(match word {
        "create" => {
            let wanted = raw.spec.as_ref()?;
            Action::Create(service::spec(wanted, &format!("{place}.spec"), problems))
        }
        "scale" => Action::Scale { service: service(), replicas: raw.replicas? },
        "update" => Action::Update { service: service() },
        "remove" => Action::Remove { service: service() },
        "drain" => Action::Availability("drain"),
        "activate" => Action::Availability("active"),
        "pause" => Action::Availability("pause"),
        "crash" => Action::Crash { new_disk: disk_is(raw, "new", place, problems) },
        "boot" => Action::Boot,
        "reboot" => Action::Reboot,
        "kill-shoal" => Action::KillShoal,
        "start-shoal" => Action::StartShoal,
        "freeze" => Action::Freeze,
        "thaw" => Action::Thaw,
        "slow" => Action::Slow(by(problems, "1ms")),
        "partition" => Action::Partition,
        "bridge" => Action::Bridge,
        "one-way" => Action::OneWay,
        "network" => Action::Network(quality(
            base,
            [&raw.loss, &raw.duplicated, &raw.reordered],
            &raw.delay,
            place,
            problems,
        )),
        // What a link is worse by comes on top of what all have.
        "link" => Action::Link(quality(
            Quality { delay: (Span::ZERO, Span::ZERO), ..Quality::default() },
            [&raw.loss, &raw.duplicated, &raw.reordered],
            &raw.delay,
            place,
            problems,
        )),
        "garbage" => {
            let share = raw.share.as_deref().unwrap_or("10%");
            Action::Garbage(problems.take(place, "share", amount::share(share)))
        }
        "engine-hang" => Action::EngineHang,
        "engine-restart" => Action::EngineRestart { containers: raw.containers.unwrap_or(false) },
        "engine-slow" => Action::EngineSlow {
            start: raw.start.as_ref().map(|texts| problems.take(place, "start", range(texts))),
            fails: raw
                .share
                .as_ref()
                .map_or(0, |text| problems.take(place, "share", amount::share(text))),
        },
        "container-dies" => Action::ContainerDies { service: raw.service.clone() },
        "container-removed" => Action::ContainerRemoved { service: raw.service.clone() },
        "disk-full" => Action::DiskFull,
        "disk-slow" => Action::DiskSlow(by(problems, "15s")),
        "disk-lies" => Action::DiskLies,
        "slow-pull" => Action::SlowPull(by(problems, "45s")),
        "crash-loop" => Action::CrashLoop,
        "torn-write" => Action::TornWrite { damaged: disk_is(raw, "damaged", place, problems) },
        "copy-disk" => Action::CopyDisk,
        "restore-disk" => Action::RestoreDisk,
        "clone" => Action::Clone,
        "downgrade" => Action::Downgrade,
        "upgrade" => Action::Upgrade,
        "clock" => {
            let text = raw.by.as_deref().unwrap_or("0");
            Action::Clock { ms: problems.take(place, "by", amount::offset_ms(text)) }
        }
        "heal" => Action::Heal,
        _ => Action::Note(raw.by.clone().unwrap_or_default()),
    })
}

/// Whether the disk comes back as `other` says, and not as it was.
fn disk_is(raw: &Raw, other: &str, place: &str, problems: &mut Problems) -> bool {
    match raw.disk.as_deref() {
        None | Some("kept") => false,
        Some(word) if word == other && raw.lasts.is_some() => true,
        Some(word) if word == other => {
            let text =
                format!("\"{other}\" takes `for`: the host comes back then, as an empty one");
            problems.add(place, "disk", text);
            false
        }
        Some(word) => {
            problems.add(place, "disk", format!("'{word}' is not one of kept, {other}"));
            false
        }
    }
}
