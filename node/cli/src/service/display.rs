//! Progress while a person or a log waits: a bar on a terminal, plain lines elsewhere.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::converge::Progress;
use crate::output::note;

/// How often a line may say that more, or fewer, are running.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// How often it may say anew why the rest is not: reasons go back and forth while something is retried.
const REASON_EVERY: Duration = Duration::from_secs(10);

pub(super) struct Display {
    name: String,
    quiet: bool,
    bar: Option<ProgressBar>,
    last: RefCell<Option<Said>>,
}

struct Said {
    at: Instant,
    counts: (usize, usize),
    line: String,
}

impl Display {
    pub(super) fn new(name: &str, quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let template = "{prefix} [{bar:30}] {pos}/{len}  {wide_msg}";
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.with_style(style.progress_chars("=> ")).with_prefix(name.to_owned())
        });
        Self { name: name.to_owned(), quiet, bar, last: RefCell::new(None) }
    }

    pub(super) fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None if !self.quiet => note(line),
            None => {}
        }
    }

    /// `left` is how long it must stay as it is, once all that is wanted runs.
    pub(super) fn show(&self, progress: &Progress, left: Option<Duration>) {
        let reasons: Vec<String> =
            progress.troubles.iter().map(|(why, count)| format!("{count} {why}")).collect();
        let reasons = reasons.join("; ");
        match &self.bar {
            Some(bar) => {
                bar.set_length(u64::try_from(progress.wanted).unwrap_or(u64::MAX));
                bar.set_position(u64::try_from(progress.running).unwrap_or(u64::MAX));
                bar.set_message(match left.filter(|left| !left.is_zero()) {
                    Some(left) => format!("watching for {} s more", left.as_secs() + 1),
                    None => reasons,
                });
            }
            None if !self.quiet => self.line(progress, &reasons, left),
            None => {}
        }
    }

    fn line(&self, progress: &Progress, reasons: &str, left: Option<Duration>) {
        let counts = (progress.running, progress.wanted);
        let mut line = format!("{}: {} of {} {}", self.name, counts.0, counts.1, progress.what());
        if !reasons.is_empty() {
            line = format!("{line} ({reasons})");
        }
        let mut last = self.last.borrow_mut();
        let due = last.as_ref().is_none_or(|said| {
            let pause = if said.counts == counts { REASON_EVERY } else { COUNT_EVERY };
            said.line != line && (said.at.elapsed() >= pause || left.is_some())
        });
        if due {
            note(&line);
            *last = Some(Said { at: Instant::now(), counts, line });
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish();
        }
    }
}
