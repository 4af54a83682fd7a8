//! Promise 1: any node takes any command. What is asked of a node that runs is answered, also where it is the
//! only one left; and where nothing has gone wrong for a while it is not refused for want of others.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, Found, Picture};
use crate::links::HostIx;
use crate::operators::CommandNo;
use crate::seen::Seen;
use crate::time::{At, Span};

/// Disks that take 15 s for a write, several of them in a row, and the deadline for the second disk.
const BOUND: Span = Span::secs(90);

#[derive(Debug, Default)]
pub(super) struct Answers {
    open: BTreeMap<CommandNo, (HostIx, At)>,
    strained: BTreeSet<HostIx>,
    /// What a clock that was ahead has stamped is not taken by others until its time has come.
    clock_was_ahead: bool,
}

fn calm(at: At, picture: &Picture) -> bool {
    at.since(picture.disturbed.max(picture.parts_since)) > BOUND
}

impl Check for Answers {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        match seen {
            Seen::Asked { host, command } => {
                self.open.insert(*command, (*host, at));
            }
            Seen::Answered { host, command, stored } => {
                self.open.remove(command);
                if !stored && calm(at, picture) && !self.clock_was_ahead {
                    let text = format!("{host} refuses command {} in a calm cluster", command.0);
                    found.push(at, "answers", text);
                }
            }
            Seen::ProcessGone { host } => self.open.retain(|_, (of, _)| of != host),
            Seen::Strained { host, strained: true } => {
                self.strained.insert(*host);
            }
            Seen::Strained { host, strained: false } => {
                self.strained.remove(host);
            }
            Seen::ClockSetBack { .. } => self.clock_was_ahead = true,
            _ => {}
        }
    }

    fn second(&mut self, at: At, picture: &Picture, found: &mut Found) {
        if !calm(at, picture) {
            return;
        }
        let strained = &self.strained;
        self.open.retain(|command, (host, asked)| {
            let late = at.since(*asked) > BOUND
                && picture.part.contains_key(host)
                && !strained.contains(host);
            if late {
                let text = format!("{host} has not answered command {} since {asked}", command.0);
                found.push(at, "answers", text);
            }
            !late
        });
    }
}
