//! The sending side of the report channel, as the runtimes hold it.

use node::runtime::{ActionId, ActionResult, RuntimeEvent};
use tokio::sync::mpsc;

use super::{REPORT_QUEUE, Report};

#[derive(Clone, Debug)]
pub(crate) struct Reports(mpsc::Sender<Report>);

impl Reports {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Report>) {
        let (sender, receiver) = mpsc::channel(REPORT_QUEUE);
        (Self(sender), receiver)
    }

    // A closed channel means that the loop has ended and with it the process: nobody is left to tell.
    pub(crate) async fn done(&self, id: ActionId, result: ActionResult) {
        let _ = self.0.send(Report::Done { id, result }).await;
    }

    pub(crate) async fn event(&self, event: RuntimeEvent) {
        let _ = self.0.send(Report::Event(event)).await;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}
