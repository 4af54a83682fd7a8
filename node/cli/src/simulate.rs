//! `shoal simulate`: the simulator's commands, on a thread of their own, and with a running cluster to begin
//! with where that is asked for.

use serde_json::Value;
use simulations::command::{self, Ended, Program, Simulate};
use simulations::from_cluster::{Answers, PATHS};

use crate::client::Client;
use crate::exit::{Code, Failure, Outcome};

/// What a running cluster is made of.
async fn ask(client: &Client) -> Result<Answers, Failure> {
    let mut answers: Vec<Value> = Vec::new();
    for path in PATHS {
        answers.push(client.get(path).await?);
    }
    let mut next = answers.into_iter();
    let mut take = || next.next().unwrap_or_default();
    Ok(Answers { nodes: take(), services: take(), tasks: take(), status: take() })
}

/// Runs it. `client` is made only when a cluster has to be asked.
pub(crate) async fn run(
    what: Simulate,
    client: impl FnOnce() -> Result<Client, Failure>,
) -> Outcome {
    let cluster = if what.wants_cluster() { Some(ask(&client()?).await?) } else { None };
    let simulated = move || command::run(what, Program::Shoal, cluster.as_ref());
    // A simulation computes for as long as it takes, and its gossip brings a runtime of its own.
    let ended = tokio::task::spawn_blocking(simulated)
        .await
        .map_err(|error| Failure::failed(format!("the simulation broke off: {error}")))?;
    match ended {
        Ended::Clean => Ok(()),
        Ended::Found => {
            Err(Failure::new(Code::Failed, "the simulation found something; see above"))
        }
        Ended::Refused => Err(Failure::new(Code::Usage, "nothing came of it; the reason is above")),
    }
}
