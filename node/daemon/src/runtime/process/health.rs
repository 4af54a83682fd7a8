//! Health checks, as Docker runs them: periodically, each with a time limit; so many failures in a row
//! make a task unhealthy, one success makes it healthy again; failures in the start period do not count.

use std::process::Stdio;
use std::sync::Arc;

use nix::sys::signal::Signal;
use node::runtime::ContainerHealth;
use tokio::time::Instant;

use super::Shared;
use super::launch::{HealthPlan, Launch};
use super::task::{Task, signal_group};

/// Checks until the task ends.
pub(super) async fn run(shared: Arc<Shared>, task: Arc<Task>) {
    let Some(launch) = &task.launch else { return };
    let Some(plan) = &launch.health else { return };
    let checks = async {
        let begun = Instant::now();
        let mut verdict = Verdict::new(plan.retries);
        loop {
            let starting =
                verdict.health == ContainerHealth::Starting && begun.elapsed() < plan.start_period;
            let pause =
                if starting { plan.start_interval.min(plan.interval) } else { plan.interval };
            tokio::time::sleep(pause).await;
            let well = check(&task, launch, plan).await;
            let excused = begun.elapsed() < plan.start_period;
            if task.set_health(verdict.next(well, excused)) {
                shared.report(&task).await;
            }
        }
    };
    tokio::select! {
        () = checks => {}
        () = task.ended() => {}
        () = shared.ended.cancelled() => {}
    }
}

async fn check(task: &Task, launch: &Launch, plan: &HealthPlan) -> bool {
    let mut command = launch.health_command(plan, task.id, &task.dir.join("cwd"));
    // The check ends with us, unlike the task.
    command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            tracing::debug!(task = %task.id, %error, "a health check cannot be run");
            return false;
        }
    };
    let pid = child.id();
    match tokio::time::timeout(plan.timeout, child.wait()).await {
        Ok(status) => status.is_ok_and(|status| status.success()),
        Err(_) => {
            // It has not been waited for, so its group is still its own.
            if let Some(pid) = pid {
                let _ = signal_group(pid, Signal::SIGKILL);
            }
            let _ = child.wait().await;
            false
        }
    }
}

/// From single checks to a verdict.
#[derive(Debug)]
struct Verdict {
    health: ContainerHealth,
    failures: u32,
    retries: u32,
}

impl Verdict {
    fn new(retries: u32) -> Self {
        Self { health: ContainerHealth::Starting, failures: 0, retries: retries.max(1) }
    }

    fn next(&mut self, well: bool, excused: bool) -> ContainerHealth {
        if well {
            self.failures = 0;
            self.health = ContainerHealth::Healthy;
        } else if !(excused && self.health == ContainerHealth::Starting) {
            self.failures = self.failures.saturating_add(1);
            if self.failures >= self.retries {
                self.health = ContainerHealth::Unhealthy;
            }
        }
        self.health
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_count_and_the_start_is_excused() {
        let mut verdict = Verdict::new(2);
        let checks = [(false, true), (false, true), (false, true), (true, false), (false, false)];
        let told = checks.map(|(well, excused)| verdict.next(well, excused));
        use ContainerHealth::{Healthy, Starting, Unhealthy};
        assert_eq!(told, [Starting, Starting, Starting, Healthy, Healthy]);
        assert_eq!(verdict.next(true, false), Healthy);
        assert_eq!(verdict.next(false, false), Healthy);
        assert_eq!(verdict.next(false, false), Unhealthy);
        assert_eq!(verdict.next(true, false), Healthy);
    }
}
