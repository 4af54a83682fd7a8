//! One call of the driver to the engine.

use node::runtime::{ActionId, ActionResult, RuntimeAction, StartFailure};

use super::{Boot, Engine, EngineManner, Manner, no_such_image};
use crate::chance::Chance;
use crate::time::Span;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct JobId(pub u64);

#[derive(Clone, Debug)]
pub struct Job {
    pub boot: Boot,
    pub action_id: ActionId,
    pub action: RuntimeAction,
    /// The engine has it; before that it waits for a free place.
    pub begun: bool,
    /// The core has an answer already (a deadline), or is gone: the result goes nowhere.
    pub answered: bool,
    /// The caller died between create and start.
    pub half: bool,
}

impl Job {
    pub(super) fn duration(
        &self,
        manner: EngineManner,
        slow_image_is_here: bool,
        chance: &mut Chance,
    ) -> Span {
        let mut pull = |template| match Manner::of(template) {
            Manner::SlowPull if manner.images_act && !slow_image_is_here => {
                chance.span(Span::secs(5), Span::secs(90))
            }
            _ => Span::ZERO,
        };
        match &self.action {
            RuntimeAction::Prepare { template_json, .. } => {
                pull(template_json) + chance.tailed(Span::ms(2), Span::ms(50))
            }
            RuntimeAction::Start(start) => {
                let pull = pull(&start.template_json);
                pull + chance.tailed(manner.start.0, manner.start.1)
            }
            RuntimeAction::Stop { grace, .. } => {
                let takes = chance.tailed(manner.stop.0, manner.stop.1);
                takes.min(Span::from(*grace) + Span::ms(100))
            }
            RuntimeAction::Remove { .. } | RuntimeAction::Refresh { .. } => {
                chance.tailed(Span::ms(20), Span::ms(300))
            }
            RuntimeAction::List | RuntimeAction::Networks { .. } => {
                chance.tailed(Span::ms(5), Span::ms(100))
            }
        }
    }
}

/// What the driver answers when the engine does not.
pub(super) fn refusal(action: &RuntimeAction, message: &str) -> ActionResult {
    let message = message.to_owned();
    match action {
        RuntimeAction::Start(_) | RuntimeAction::Prepare { .. } => {
            ActionResult::StartFailed { why: StartFailure::EngineUnavailable, message }
        }
        RuntimeAction::Stop { .. } | RuntimeAction::Remove { .. } => {
            ActionResult::StopFailed { message }
        }
        RuntimeAction::Refresh { .. } => ActionResult::RefreshFailed { message },
        RuntimeAction::List => ActionResult::ListFailed { message },
        RuntimeAction::Networks { .. } => ActionResult::NetworksFailed { message },
    }
}

impl Engine {
    pub(super) fn fetched(&mut self, template: &serde_json::Value) -> ActionResult {
        let manner = Manner::of(template);
        if manner == Manner::Missing && self.manner.images_act {
            let (why, message) = no_such_image();
            return ActionResult::StartFailed { why, message };
        }
        self.has_slow_image |= manner == Manner::SlowPull;
        ActionResult::Prepared
    }
}
