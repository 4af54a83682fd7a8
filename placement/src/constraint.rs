//! Constraints, in Swarm's grammar and with Swarm's meaning: `key == value` or `key != value`.
//!
//! Keys: `node.id`, `node.hostname`, `node.role`, `node.ip` (an address or a CIDR), `node.platform.os`,
//! `node.platform.arch`, `node.labels.NAME`, `engine.labels.NAME`, and shoal's own `node.zone`. Keys and
//! values are compared without regard to case, label names with it. A label that a host does not have
//! counts as empty, so `!=` holds and `==` does not. A key nobody knows never holds, not even with `!=`:
//! a typing error must not place replicas everywhere. (Behaviour and error texts as in swarmkit's
//! manager/constraint, because people and scripts look for them.)

use std::fmt;
use std::net::IpAddr;

use crate::host::Host;

/// One constraint that parsed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Constraint {
    key: String,
    operator: Operator,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Operator {
    Equal,
    NotEqual,
}

/// In the order in which Swarm looks for them.
const OPERATORS: [(&str, Operator); 2] = [("==", Operator::Equal), ("!=", Operator::NotEqual)];

/// Text that is not a constraint, in Swarm's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    #[error("constraint expected one operator from ==, !=")]
    NoOperator,
    #[error("key '{0}' is invalid")]
    Key(String),
    #[error("value '{0}' is invalid")]
    Value(String),
}

impl Constraint {
    pub fn parse(text: &str) -> Result<Self, ConstraintError> {
        let (key, operator, value) = OPERATORS
            .iter()
            .find_map(|(sign, operator)| {
                text.split_once(sign).map(|(key, value)| (key, *operator, value))
            })
            .ok_or(ConstraintError::NoOperator)?;
        let (key, value) = (key.trim(), value.trim());
        if !is_key(key) {
            return Err(ConstraintError::Key(key.to_owned()));
        }
        if !is_value(value) {
            return Err(ConstraintError::Value(value.to_owned()));
        }
        Ok(Self { key: key.to_owned(), operator, value: value.to_owned() })
    }

    /// All of a service's constraints; the first error stands for the rest.
    pub fn parse_all<'t>(
        texts: impl IntoIterator<Item = &'t str>,
    ) -> Result<Vec<Self>, ConstraintError> {
        texts.into_iter().map(Self::parse).collect()
    }

    /// True if `host` satisfies it.
    pub fn holds(&self, host: &Host) -> bool {
        let key = self.key.to_ascii_lowercase();
        match key.as_str() {
            "node.id" => self.matches(&host.id.to_string()),
            "node.hostname" => self.matches(&host.name),
            "node.role" => self.matches(&host.role),
            "node.zone" => self.matches(&host.zone),
            "node.ip" => self.matches_ip(host.ip),
            "node.platform.os" => self.matches(&host.os),
            "node.platform.arch" => self.matches(&host.arch),
            _ => {
                let labels =
                    [("node.labels.", &host.node_labels), ("engine.labels.", &host.engine_labels)];
                labels.iter().any(|(prefix, labels)| {
                    // The name as written: labels are compared with regard to case.
                    key.starts_with(prefix)
                        && key.len() > prefix.len()
                        && self.matches(labels.get(&self.key[prefix.len()..]).map_or("", |v| v))
                })
            }
        }
    }

    fn matches(&self, what: &str) -> bool {
        let equal = self.value == what
            || self.value.len() == what.len() && self.value.eq_ignore_ascii_case(what);
        equal == (self.operator == Operator::Equal)
    }

    /// An address or a CIDR. What is neither never holds, with either operator, as in Swarm.
    fn matches_ip(&self, ip: IpAddr) -> bool {
        let inside = match self.value.parse::<IpAddr>() {
            Ok(single) => Some(single == ip),
            Err(_) => in_cidr(&self.value, ip),
        };
        inside.is_some_and(|inside| inside == (self.operator == Operator::Equal))
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.operator {
            Operator::Equal => "==",
            Operator::NotEqual => "!=",
        };
        write!(f, "{}{sign}{}", self.key, self.value)
    }
}

/// `^(?i)[a-z_][a-z0-9\-_.]+$`
fn is_key(key: &str) -> bool {
    let bytes = key.as_bytes();
    bytes.len() >= 2
        && (bytes[0].is_ascii_alphabetic() || bytes[0] == b'_')
        && bytes[1..].iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

/// `^(?i)[a-z0-9:\-_\s\.\*\(\)\?\+\[\]\\\^\$\|\/]+$`
fn is_value(value: &str) -> bool {
    const PUNCTUATION: &[u8] = b":-_.*()?+[]\\^$|/ \t\n\r\x0c";
    !value.is_empty()
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || PUNCTUATION.contains(&b))
}

/// Whether `ip` lies in `cidr`; `None` if that is no CIDR.
fn in_cidr(cidr: &str, ip: IpAddr) -> Option<bool> {
    let (net, bits) = cidr.split_once('/')?;
    let bits: u32 = bits.parse().ok()?;
    match (net.parse().ok()?, ip) {
        (IpAddr::V4(net), IpAddr::V4(ip)) if bits <= 32 => {
            let shift = 32 - bits;
            Some(u32::from(net).checked_shr(shift) == u32::from(ip).checked_shr(shift))
        }
        (IpAddr::V6(net), IpAddr::V6(ip)) if bits <= 128 => {
            let shift = 128 - bits;
            Some(u128::from(net).checked_shr(shift) == u128::from(ip).checked_shr(shift))
        }
        (IpAddr::V4(_), _) if bits <= 32 => Some(false),
        (IpAddr::V6(_), _) if bits <= 128 => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::worlds::host;
    use proptest::prelude::*;

    /// 10.0.0.7, labelled `disk=SSD` by an operator and `rack=r1` on the host.
    fn example() -> Host {
        let mut host = host(7, "eu-1", 4, 8);
        host.node_labels.insert("disk".to_owned(), "SSD".to_owned());
        host.engine_labels.insert("rack".to_owned(), "r1".to_owned());
        host
    }

    fn holds(text: &str) -> bool {
        Constraint::parse(text).unwrap().holds(&example())
    }

    #[test]
    fn keys_and_values_are_compared_as_swarm_does() {
        for text in [
            "node.hostname == HOST-7",
            "NODE.Hostname==host-7",
            "node.role!=manager",
            "node.zone == eu-1",
            "node.platform.os==linux",
            "node.platform.arch == x86_64",
            "node.labels.disk==ssd",
            "engine.labels.rack == r1",
            "node.labels.missing != anything",
            "node.ip == 10.0.0.7",
            "node.ip == 10.0.0.0/24",
            "node.ip != 10.0.1.0/24",
            "node.ip != ::/0",
        ] {
            assert!(holds(text), "{text}");
            let negated = match text.contains("==") {
                true => text.replace("==", "!="),
                false => text.replace("!=", "=="),
            };
            assert!(!holds(&negated), "{negated}");
        }
        let id = example().id.to_string();
        assert!(holds(&format!("node.id=={id}")));
        assert!(!holds("node.labels.Disk==ssd"), "label names are compared with regard to case");
    }

    #[test]
    fn what_nobody_knows_never_holds() {
        for text in ["node.lables.disk!=ssd", "disk!=ssd", "node.labels.!=x", "node.ip != 10.0.0"] {
            assert!(!holds(text), "{text}");
        }
    }

    #[test]
    fn errors_are_in_swarms_words() {
        let error = |text: &str| Constraint::parse(text).unwrap_err().to_string();
        assert_eq!(error("node.role=manager"), "constraint expected one operator from ==, !=");
        assert_eq!(error(""), "constraint expected one operator from ==, !=");
        assert_eq!(error("9node==x"), "key '9node' is invalid");
        assert_eq!(error("==x"), "key '' is invalid");
        assert_eq!(error("a==x"), "key 'a' is invalid");
        assert_eq!(error("node.role=="), "value '' is invalid");
        assert_eq!(error("node.role == a > b"), "value 'a > b' is invalid");
        assert_eq!(error("node.role == a != b"), "value 'a != b' is invalid");
    }

    proptest! {
        #[test]
        fn any_text_is_a_constraint_or_an_error(text in ".*") {
            if let Ok(constraint) = Constraint::parse(&text) {
                let _ = constraint.holds(&example());
            }
        }

        #[test]
        fn text_round_trips(key in "[a-z_][a-z0-9_.-]{1,20}", value in "[a-zA-Z0-9:/]{1,20}") {
            let constraint = Constraint::parse(&format!("{key} ==  {value} ")).unwrap();
            prop_assert_eq!(constraint.to_string(), format!("{key}=={value}"));
            prop_assert_eq!(Constraint::parse(&constraint.to_string()), Ok(constraint));
        }
    }
}
