//! Jobs of the fake node: what is asked for is done at once.

use std::sync::Arc;

use node::slot::{Slot, TaskState};
use node::views::{DesiredState, ServiceView};
use serde_json::Value;

use super::World;

impl World {
    /// All slots of a job run to their end in no time.
    pub(super) fn do_job(&mut self, service: &ServiceView, template: &Arc<Value>) {
        let slots: Vec<Slot> =
            match service.spec["Mode"]["ReplicatedJob"]["TotalCompletions"].as_u64() {
                Some(total) => (0..u32::try_from(total).unwrap()).map(Slot::Index).collect(),
                None => self.members.iter().map(|member| Slot::Node(member.id)).collect(),
            };
        for task in self.tasks.iter_mut().filter(|task| task.service == service.id) {
            task.up_to_date = false;
        }
        let now = self.tick();
        for slot in &slots {
            let mut task = self.new_task(service, *slot, template, now);
            (task.status.state, task.desired) = (TaskState::Complete, DesiredState::Complete);
            self.tasks.push(task);
        }
        let most = service.spec["Mode"]["ReplicatedJob"]["MaxConcurrent"].as_u64();
        let service = self.services.get_mut(&service.id).unwrap();
        (service.desired, service.completed) = (most.unwrap_or(0), slots.len() as u64);
    }
}
