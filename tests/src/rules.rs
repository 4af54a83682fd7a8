//! What the switch between the hosts drops, as data, and the nftables rules that say so.
//!
//! Cutting happens on the bridge's side, where neither end notices: no carrier is lost, nothing is
//! answered, packets just do not arrive. The kernel has no netem, so loss is a random number per packet.

use std::collections::BTreeSet;
use std::fmt::Write;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// Which packets between hosts are dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// Directions that are cut, `(from, to)` by host index.
    cut: BTreeSet<(usize, usize)>,
    /// Percent of all packets between hosts that are lost, each on its own, 0 to 99.
    loss_percent: u8,
}

impl Faults {
    /// Cuts every pair of hosts in different groups, both ways. Hosts in no group still reach all.
    pub fn cut(&mut self, groups: &[&[usize]]) {
        for (nth, group) in groups.iter().enumerate() {
            for other in groups.iter().skip(nth + 1) {
                self.cut_one_way(group, other);
                self.cut_one_way(other, group);
            }
        }
    }

    /// Cuts the way from some hosts to others; the way back stays open.
    pub fn cut_one_way(&mut self, from: &[usize], to: &[usize]) {
        for &sender in from {
            self.cut.extend(to.iter().filter(|&&to| to != sender).map(|&to| (sender, to)));
        }
    }

    /// Sets the loss between all hosts.
    pub fn lose(&mut self, percent: u8) -> Result<()> {
        ensure!(percent < 100, "a loss of {percent}% is a cut: say `cut`, or a loss from 0 to 99");
        self.loss_percent = percent;
        Ok(())
    }

    /// Whether nothing is dropped.
    pub fn is_none(&self) -> bool {
        *self == Faults::default()
    }

    /// The rules, to be loaded as a whole: nft applies one file in one transaction, so there is no moment
    /// with half a partition.
    pub fn ruleset(&self) -> String {
        // Declaring the table first makes deleting it work the first time too.
        let mut text = String::from("table bridge shoal\ndelete table bridge shoal\n");
        text.push_str("table bridge shoal {\n chain forward {\n");
        text.push_str("  type filter hook forward priority 0; policy accept;\n");
        for (from, to) in &self.cut {
            let (from, to) = (port(*from), port(*to));
            let _ = writeln!(text, "  iifname \"{from}\" oifname \"{to}\" counter drop");
        }
        if self.loss_percent > 0 {
            let _ = writeln!(text, "  numgen random mod 100 < {} counter drop", self.loss_percent);
        }
        text.push_str(" }\n}\n");
        text
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_none() {
            return f.write_str("none");
        }
        let cuts: Vec<String> =
            self.cut.iter().map(|(from, to)| format!("h{from} -x-> h{to}")).collect();
        let mut parts = Vec::new();
        if !cuts.is_empty() {
            parts.push(cuts.join(", "));
        }
        if self.loss_percent > 0 {
            parts.push(format!("{}% of all packets lost", self.loss_percent));
        }
        f.write_str(&parts.join("; "))
    }
}

/// The bridge's port that a host is plugged into.
pub fn port(host: usize) -> String {
    format!("p{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(faults: &Faults) -> Vec<(usize, usize)> {
        faults.cut.iter().copied().collect()
    }

    #[test]
    fn groups_are_cut_from_each_other_both_ways_and_stay_whole() {
        let mut faults = Faults::default();
        faults.cut(&[&[0, 1], &[2]]);
        assert_eq!(dropped(&faults), [(0, 2), (1, 2), (2, 0), (2, 1)]);
        assert_eq!(faults.ruleset().matches("drop").count(), 4);
    }

    #[test]
    fn one_way_leaves_the_way_back() {
        let mut faults = Faults::default();
        faults.cut_one_way(&[0], &[0, 1]);
        assert_eq!(dropped(&faults), [(0, 1)]);
        assert!(faults.ruleset().contains("iifname \"p0\" oifname \"p1\""));
    }

    #[test]
    fn loss_is_a_rule_of_its_own_and_has_bounds() -> Result<()> {
        let mut faults = Faults::default();
        assert!(!faults.ruleset().contains("drop"));
        faults.lose(5)?;
        assert!(faults.ruleset().contains("numgen random mod 100 < 5 counter drop"));
        assert!(faults.lose(100).is_err());
        assert_eq!(faults.to_string(), "5% of all packets lost");
        Ok(())
    }
}
