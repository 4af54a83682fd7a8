//! Which hosts a step means: `all`, a name, `random`, `3`, `30%`, `2 of zone-1`, `a rack`, or a list of
//! these.

use super::amount;
use super::layout::Layout;
use crate::chance::Chance;
use crate::links::HostIx;

/// How many of the hosts that are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Many {
    All,
    Count(usize),
    Share(u32),
}

/// Among which hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pool {
    Everyone,
    Named(String),
    /// Some zone or rack, drawn from the seed.
    SomeZone,
    SomeRack,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    many: Many,
    pool: Pool,
}

/// Hosts, as a step means them. What is left to chance is drawn when the step comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    parts: Vec<Part>,
}

impl Target {
    pub fn all() -> Self {
        Self { parts: vec![Part { many: Many::All, pool: Pool::Everyone }] }
    }

    /// Reads it; `named` are names that earlier steps gave with `as`.
    ///
    /// # Errors
    /// A sentence that says what the cluster has instead.
    pub fn parse(texts: &[&str], layout: &Layout, named: &[String]) -> Result<Self, String> {
        if texts.is_empty() {
            return Err("an empty list names no host".to_owned());
        }
        let parts = texts.iter().map(|text| part(text.trim(), layout, named));
        Ok(Self { parts: parts.collect::<Result<_, _>>()? })
    }

    /// Chooses the hosts, in the order of their numbers. Among equals those that pass `fit` go first.
    pub fn pick(
        &self,
        layout: &Layout,
        named: impl Fn(&str) -> Option<Vec<HostIx>>,
        fit: impl Fn(HostIx) -> bool,
        chance: &mut Chance,
    ) -> Vec<HostIx> {
        let mut picked = Vec::new();
        for part in &self.parts {
            let some = |names: Vec<&str>, chance: &mut Chance| {
                chance.pick(&names).and_then(|name| layout.group(name)).map(<[HostIx]>::to_vec)
            };
            let pool = match &part.pool {
                Pool::Everyone => layout.all(),
                Pool::Named(name) => named(name)
                    .or_else(|| layout.group(name).map(<[HostIx]>::to_vec))
                    .unwrap_or_default(),
                Pool::SomeZone => some(layout.zones(), chance).unwrap_or_default(),
                Pool::SomeRack => some(layout.racks(), chance).unwrap_or_default(),
            };
            let count = match part.many {
                Many::All => {
                    picked.extend(pool);
                    continue;
                }
                Many::Count(count) => count,
                Many::Share(share) => (pool.len() * share as usize).div_ceil(1000),
            };
            let (mut first, mut rest): (Vec<_>, Vec<_>) =
                pool.into_iter().filter(|host| !picked.contains(host)).partition(|host| fit(*host));
            chance.shuffle(&mut first);
            chance.shuffle(&mut rest);
            picked.extend(first.into_iter().chain(rest).take(count));
        }
        picked.sort();
        picked.dedup();
        picked
    }
}

fn part(text: &str, layout: &Layout, named: &[String]) -> Result<Part, String> {
    let (many, pool) = match text.split_once(" of ") {
        Some((many, pool)) => (quantity(many.trim()), pool.trim()),
        None => match quantity(text) {
            Some(many) => (Some(many), "all"),
            None => (Some(Many::All), text),
        },
    };
    let many = many.ok_or_else(|| {
        format!(
            "'{text}': before 'of' stands a number or a share, as '2 of zone-1' or '30% of all'"
        )
    })?;
    let pool = match pool {
        "all" => Pool::Everyone,
        "a zone" if !layout.zones().is_empty() => Pool::SomeZone,
        "a zone" => {
            return Err(
                "'a zone': no host is in a zone; give the hosts `zone` or `zones`".to_owned()
            );
        }
        "a rack" if !layout.racks().is_empty() => Pool::SomeRack,
        "a rack" => {
            return Err(
                "'a rack': no host stands in a rack; give the hosts `rack` or `racks`".to_owned()
            );
        }
        name if layout.group(name).is_some() || named.iter().any(|known| known == name) => {
            Pool::Named(name.to_owned())
        }
        name => return Err(unknown(name, layout, named)),
    };
    Ok(Part { many, pool })
}

fn quantity(text: &str) -> Option<Many> {
    match text {
        "random" => Some(Many::Count(1)),
        _ if text.ends_with('%') => amount::share(text).ok().map(Many::Share),
        _ => text.parse().ok().map(Many::Count),
    }
}

fn unknown(name: &str, layout: &Layout, named: &[String]) -> String {
    let mut known = layout.group_names();
    known.extend(named.iter().map(String::as_str));
    let first = layout.hosts.first().map_or("", |host| host.name.as_str());
    let last = layout.hosts.last().map_or("", |host| host.name.as_str());
    let groups = if known.is_empty() { String::new() } else { format!(", {}", known.join(", ")) };
    format!(
        "no host or group is called '{name}': there are {first} to {last}{groups}; and all, random, a number, a share as 30%, '2 of GROUP', 'a zone', 'a rack'"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use membership::member::Resources;

    use super::*;
    use crate::chance::Stream;
    use crate::host::HostSpec;

    fn layout() -> Layout {
        let mut layout = Layout::default();
        for n in 0..10 {
            let labels = BTreeMap::from([("rack".to_owned(), format!("rack-{}", n / 5))]);
            let (name, zone) = (format!("h-{n}"), format!("zone-{}", n % 2));
            let host = HostSpec { name, zone, labels, capacity: Resources::default() };
            layout.push(host, Some("h"), None);
        }
        layout
    }

    fn pick(texts: &[&str]) -> Vec<u32> {
        let layout = layout();
        let target = Target::parse(texts, &layout, &["old".to_owned()]).unwrap();
        let mut chance = Chance::new(1, Stream::Scenario);
        let named = |name: &str| (name == "old").then(|| vec![HostIx(7)]);
        let hosts = target.pick(&layout, named, |host| host.0 != 3, &mut chance);
        hosts.into_iter().map(|host| host.0).collect()
    }

    #[test]
    fn names_numbers_shares_and_lists() {
        assert_eq!(pick(&["all"]).len(), 10);
        assert_eq!(pick(&["h-3"]), [3]);
        assert_eq!(pick(&["zone-1"]), [1, 3, 5, 7, 9]);
        assert_eq!(pick(&["rack-0", "h-9"]), [0, 1, 2, 3, 4, 9]);
        assert_eq!(pick(&["old"]), [7]);
        assert_eq!(pick(&["30%"]).len(), 3);
        assert_eq!(pick(&["random"]).len(), 1);
        let two = pick(&["2 of zone-1"]);
        assert!(two.len() == 2 && two.iter().all(|host| host % 2 == 1 && *host != 3));
        assert_eq!(pick(&["50% of rack-1"]).len(), 3);
        let rack = pick(&["a rack"]);
        assert!(rack == [0, 1, 2, 3, 4] || rack == [5, 6, 7, 8, 9]);
        assert_eq!(
            pick(&["5 of zone-1"]),
            [1, 3, 5, 7, 9],
            "the unfit ones where nothing else is left"
        );
    }

    #[test]
    fn what_is_not_there_is_said_with_what_is() {
        let layout = layout();
        for (text, says) in [
            ("zone-9", "zone-0"),
            ("many of all", "before 'of'"),
            ("2 of nowhere", "no host or group is called 'nowhere'"),
        ] {
            let error = Target::parse(&[text], &layout, &[]).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
        assert!(Target::parse(&[], &layout, &[]).is_err());
        assert!(Target::parse(&["a rack"], &Layout::default(), &[]).unwrap_err().contains("racks"));
    }
}
