//! The one thing that cannot be done in a table of our own: the engine's firewall drops what comes from outside for a
//! container, and what one table drops no other can bring back.
//!
//! So shoal has a chain in the engine's table that accepts packets whose destination was a published port, and the
//! answers to them. It is called from the chain that the engine leaves to its host's operator, after everything that
//! the operator has there: who is kept out by a rule of his own stays out.

use std::collections::BTreeSet;

use super::DriveError;
use super::tool::run;

const TOOL: &str = "iptables";
const CHAIN: &str = "SHOAL";
/// The engine's chain for rules of the host's operator; hosts without an engine's firewall have only the other one.
const OPERATORS: &str = "DOCKER-USER";
const FORWARD: &str = "FORWARD";

/// Makes the chain let packets through to these bridges, or takes it away if there are none. Says whether something
/// had to be done.
pub(super) async fn ensure(published: &BTreeSet<String>) -> Result<bool, DriveError> {
    let found = list(CHAIN).await;
    if published.is_empty() {
        return match found {
            Ok(_) => remove().await.map(|()| true),
            Err(_) => Ok(false),
        };
    }
    let wanted = rules(published);
    let mut changed = false;
    if found.ok().is_none_or(|found| found != wanted) {
        let mut text = format!("*filter\n:{CHAIN} - [0:0]\n");
        for rule in &wanted {
            text.push_str(rule);
            text.push('\n');
        }
        text.push_str("COMMIT\n");
        run("iptables-restore", &["-w", "10", "--noflush"], Some(&text)).await?;
        changed = true;
    }
    Ok(called().await? || changed)
}

/// Takes the chain away and every call of it.
pub(super) async fn remove() -> Result<(), DriveError> {
    for from in [OPERATORS, FORWARD] {
        let calls = list(from).await.unwrap_or_default();
        for _ in calls.iter().filter(|rule| **rule == call(from)) {
            run(TOOL, &["-w", "10", "-D", from, "-j", CHAIN], None).await?;
        }
    }
    if list(CHAIN).await.is_ok() {
        run(TOOL, &["-w", "10", "-F", CHAIN], None).await?;
        run(TOOL, &["-w", "10", "-X", CHAIN], None).await?;
    }
    Ok(())
}

/// Makes the chain be called; says whether it was not.
async fn called() -> Result<bool, DriveError> {
    let (from, rules) = match list(OPERATORS).await {
        Ok(rules) => (OPERATORS, rules),
        Err(_) => (FORWARD, list(FORWARD).await?),
    };
    if rules.contains(&call(from)) {
        return Ok(false);
    }
    // The engine ends its operator's chain with a return; what comes behind it is never looked at.
    let place = match rules.last() {
        Some(last) if *last == format!("-A {from} -j RETURN") => rules.len(),
        _ => rules.len() + 1,
    };
    run(TOOL, &["-w", "10", "-I", from, &place.to_string(), "-j", CHAIN], None).await?;
    Ok(true)
}

fn call(from: &str) -> String {
    format!("-A {from} -j {CHAIN}")
}

fn rules(published: &BTreeSet<String>) -> Vec<String> {
    let translated = "-m conntrack --ctstate DNAT";
    published
        .iter()
        .flat_map(|bridge| {
            [
                format!("-A {CHAIN} -o {bridge} {translated} -j ACCEPT"),
                format!("-A {CHAIN} -i {bridge} {translated} --ctdir REPLY -j ACCEPT"),
            ]
        })
        .collect()
}

/// The rules of a chain, as `iptables` writes them; an error if there is no such chain.
async fn list(chain: &str) -> Result<Vec<String>, DriveError> {
    let text = run(TOOL, &["-w", "10", "-S", chain], None).await?;
    Ok(text.lines().filter(|line| line.starts_with("-A ")).map(str::to_owned).collect())
}
