//! Which replicas new connections are given to.
//!
//! The ready ones; those that are about to stop only where there is no other. A service may ask for those on the
//! client's own host first, by the label [`PREFER_LABEL`]: that saves the way between the hosts, at the price that load
//! is as uneven as clients and replicas are spread. Which host is the client's follows from where the connection
//! comes into shoal's rules: the host of the container that asks, or the host whose published port is asked.

use serde_json::Value;

use super::picture::Backend;
use crate::spec::{SpecError, at, wrong};

/// The label of a service that chooses between all replicas and those of the same host.
pub const PREFER_LABEL: &str = "shoal.network.prefer";

/// Reads [`PREFER_LABEL`].
///
/// # Errors
/// The label's value is none of its values.
pub(crate) fn prefers_local(spec: &Value) -> Result<bool, SpecError> {
    match at(spec, &["Labels", PREFER_LABEL]).and_then(Value::as_str) {
        None | Some("" | "any") => Ok(false),
        Some("local") => Ok(true),
        Some(other) => {
            Err(wrong(format!("label {PREFER_LABEL}: '{other}' is not one of any, local")))
        }
    }
}

/// The replicas that share new connections evenly, in the order of the picture.
pub fn eligible(backends: &[Backend], prefer_local: bool) -> Vec<&Backend> {
    let of = |draining: bool, local: bool| -> Vec<&Backend> {
        let ready = backends.iter().filter(|b| b.ready && b.draining == draining);
        ready.filter(|b| b.local || !local).collect()
    };
    let mut choices = vec![of(false, false), of(true, false)];
    if prefer_local {
        choices.insert(0, of(false, true));
    }
    choices.into_iter().find(|choice| !choice.is_empty()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use membership::id::{NodeId, TaskId};
    use serde_json::json;

    use super::*;

    fn backend(last: u8, local: bool, ready: bool, draining: bool) -> Backend {
        Backend {
            address: Ipv4Addr::new(10, 1, 9, last),
            node: NodeId(u128::from(local)),
            local,
            task: TaskId(u128::from(last)),
            slot_name: format!("web.{last}"),
            hostname: None,
            ready,
            draining,
        }
    }

    fn chosen(backends: &[Backend], prefer_local: bool) -> Vec<u8> {
        eligible(backends, prefer_local).iter().map(|one| one.address.octets()[3]).collect()
    }

    #[test]
    fn those_of_the_same_host_are_preferred_only_where_asked_for_and_ready() {
        let mut all = vec![
            backend(1, true, true, false),
            backend(2, false, true, false),
            backend(3, true, false, false),
            backend(4, true, true, true),
        ];
        assert_eq!(chosen(&all, false), [1, 2]);
        assert_eq!(chosen(&all, true), [1]);
        // One that is about to stop is no reason to stay on this host.
        all[0].ready = false;
        assert_eq!(chosen(&all, true), [2]);
        all[1].ready = false;
        assert_eq!((chosen(&all, true), chosen(&all, false)), (vec![4], vec![4]));
        all[3].ready = false;
        assert!(chosen(&all, true).is_empty());
    }

    #[test]
    fn the_label_has_two_values() {
        let of = |value: &str| prefers_local(&json!({ "Labels": { PREFER_LABEL: value } }));
        assert_eq!((of("local"), of("any"), of("")), (Ok(true), Ok(false), Ok(false)));
        assert_eq!(prefers_local(&json!({})), Ok(false));
        assert!(of("near").unwrap_err().to_string().contains("'near' is not one of any, local"));
    }
}
