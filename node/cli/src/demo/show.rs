//! What the demo prints of its cluster.

use super::watch::Recovery;
use super::{Member, Replica, SERVICE, seconds};
use crate::exit::Outcome;
use crate::output::{Colour, Palette, say};

/// One line for each node: how many replicas, and which.
pub(super) fn spread(members: &[Member], replicas: &[Replica]) -> Outcome {
    let palette = Palette::stdout();
    for member in members {
        if !member.alive {
            say(palette.paint(Colour::Red, &format!("  {:<8} dead", member.name)))?;
            continue;
        }
        let slots: Vec<String> = replicas
            .iter()
            .filter(|replica| replica.node == member.id)
            .map(|replica| format!("{SERVICE}.{}", replica.slot))
            .collect();
        let bar = palette.paint(Colour::Green, &"█".repeat(slots.len()));
        say(format!("  {:<8} {:>3} {bar} {}", member.name, slots.len(), slots.join(" ")))?;
    }
    Ok(())
}

/// The measured times.
pub(super) fn recovery(seen: &Recovery, victim: &str, replicas: usize, lost: usize) -> Outcome {
    let palette = Palette::stdout();
    let line = |what: String, after: Option<std::time::Duration>| {
        let after = after.map_or("not seen".to_owned(), |time| format!("after {}", seconds(time)));
        say(format!("  {what:<42} {}", palette.paint(Colour::Bold, &after)))
    };
    line(format!("{victim} is agreed to be down"), seen.down)?;
    if lost > 0 {
        line("the first lost replica runs elsewhere".to_owned(), seen.first)?;
    }
    line(format!("all {replicas} replicas run again"), Some(seen.whole))?;
    let kept = replicas.saturating_sub(lost);
    if seen.moved == 0 {
        say(format!("  the other {kept} replicas were not touched"))
    } else {
        say(format!("  {} of the other {kept} replicas were restarted or moved", seen.moved))
    }
}
