//! What must hold. Safety is checked after every observation, what is bounded in time once a second,
//! liveness after healing ([`crate::run`]).
//!
//! A check is a reader of [`Seen`]: it gets each observation with the [`Picture`] that all observations
//! so far make, and reports violations. Each file has a test that plants one.

mod adopted;
mod answers;
mod capacity;
mod conflicts;
mod durable;
mod expelled;
mod files;
mod jobs;
mod limits;
mod make_before_break;
mod minority;
mod moves;
mod networks;
mod outsiders;
mod picture;
mod removed;
mod rising;
mod silence;
mod twins;
mod verdicts;

pub use picture::Picture;

use crate::seen::Seen;
use crate::time::At;

/// Something that must not happen has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub at: At,
    pub check: &'static str,
    pub text: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}: {}", self.check, self.at, self.text)
    }
}

/// Where checks put what they found.
#[derive(Debug, Default)]
pub struct Found {
    pub violations: Vec<Violation>,
    /// Beyond the first few of a run the rest are only counted: they are mostly echoes.
    pub more: u64,
}

const KEPT: usize = 50;

impl Found {
    pub fn push(&mut self, at: At, check: &'static str, text: impl Into<String>) {
        // But not the first of a check: echoes of one must not hide another.
        let known = self.violations.iter().any(|violation| violation.check == check);
        if self.violations.len() < KEPT || !known {
            self.violations.push(Violation { at, check, text: text.into() });
        } else {
            self.more += 1;
        }
    }

    pub fn count(&self) -> u64 {
        self.violations.len() as u64 + self.more
    }
}

pub trait Check: std::fmt::Debug {
    /// `picture` has the observation in it already.
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found);

    /// Called once in a virtual second.
    fn second(&mut self, at: At, picture: &Picture, found: &mut Found) {
        let _ = (at, picture, found);
    }

    /// Called when the run is over.
    fn end(&mut self, at: At, picture: &Picture, found: &mut Found) {
        let _ = (at, picture, found);
    }
}

/// All checks of a run, with the picture they share.
#[derive(Debug)]
pub struct Checks {
    pub picture: Picture,
    pub found: Found,
    checks: Vec<Box<dyn Check>>,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            picture: Picture::default(),
            found: Found::default(),
            checks: vec![
                Box::new(twins::Twins::default()),
                Box::new(make_before_break::MakeBeforeBreak::default()),
                Box::new(durable::Durable::default()),
                Box::new(rising::Rising::default()),
                Box::new(capacity::Capacity),
                Box::new(minority::Minority::default()),
                Box::new(removed::Removed::default()),
                Box::new(silence::Silence),
                Box::new(verdicts::Verdicts::default()),
                Box::new(answers::Answers::default()),
                Box::new(adopted::Adopted::default()),
                Box::new(limits::Limits),
                Box::new(moves::Moves::default()),
                Box::new(conflicts::Conflicts::default()),
                Box::new(expelled::Expelled::default()),
                Box::new(outsiders::Outsiders::default()),
                Box::new(jobs::Jobs::default()),
                Box::new(files::Files::default()),
                Box::new(networks::Networks),
            ],
        }
    }
}

impl Checks {
    pub fn see(&mut self, at: At, seen: &Seen) {
        self.picture.see(at, seen);
        for check in &mut self.checks {
            check.see(at, seen, &self.picture, &mut self.found);
        }
    }

    pub fn second(&mut self, at: At) {
        for check in &mut self.checks {
            check.second(at, &self.picture, &mut self.found);
        }
    }

    pub fn end(&mut self, at: At) {
        for check in &mut self.checks {
            check.end(at, &self.picture, &mut self.found);
        }
    }
}

#[cfg(test)]
mod plant;
