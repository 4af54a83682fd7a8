//! The networks that every engine has and that therefore need nothing of the cluster: `host`, `bridge`, `none`.
//!
//! Docker's clients turn a network's name into an id before they put it into a service's spec, so two of them have ids
//! here, the same on every node: those that Swarm shows, too.

/// Names that a spec may attach a service to on every node, as an engine calls them.
const NAMES: [&str; 3] = ["host", "bridge", "none"];

/// Those that are shown as networks of the whole cluster; Swarm does not show `none`.
pub(crate) const SHOWN: [&str; 2] = ["host", "bridge"];

/// The id of one that is shown: its name, filled up to the 25 letters of Swarm's ids.
pub(crate) fn id(name: &str) -> String {
    format!("{name:0<25}")
}

/// The engine's name of the network that a spec means, by name or id.
pub(crate) fn named(target: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|name| *name == target).or_else(|| shown(target))
}

/// The one that is shown under this name or id.
pub(crate) fn shown(target: &str) -> Option<&'static str> {
    SHOWN.into_iter().find(|name| *name == target || id(name) == target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_mean_the_same() {
        assert_eq!(id("host").len(), 25);
        for name in SHOWN {
            assert_eq!(named(name), Some(name));
            assert_eq!(named(&id(name)), Some(name));
            assert_eq!(shown(&id(name)), Some(name));
        }
        assert_eq!(named("none"), Some("none"));
        for other in ["", "hos", "web", "host0"] {
            assert_eq!(named(other), None, "{other}");
        }
        assert_eq!(shown("none"), None);
    }
}
