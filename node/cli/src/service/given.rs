//! The secrets and configs that a service is given. On the command line they have names; in a spec each is a
//! reference that holds the id too, so that a new secret under an old name is not mistaken for the old one.

use serde_json::{Value, json};

use super::values::Given;
use crate::client::{Client, encoded};
use crate::exit::Failure;

/// What differs between the two in the API.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    endpoint: &'static str,
    list: &'static str,
    id: &'static str,
    name: &'static str,
}

pub(super) const SECRETS: Kind =
    Kind { endpoint: "secrets", list: "Secrets", id: "SecretID", name: "SecretName" };
pub(super) const CONFIGS: Kind =
    Kind { endpoint: "configs", list: "Configs", id: "ConfigID", name: "ConfigName" };

/// Looks the ids up, and writes the references.
///
/// # Errors
/// The node's own words when there is no such secret or config, or when it does not answer.
pub(super) async fn references(
    client: &Client,
    kind: Kind,
    given: &[Given],
) -> Result<Vec<Value>, Failure> {
    let mut references = Vec::with_capacity(given.len());
    for one in given {
        let known = client.get(&format!("/{}/{}", kind.endpoint, encoded(&one.source))).await?;
        let name = known["Spec"]["Name"].as_str().unwrap_or(&one.source);
        references.push(json!({ "File": one.file, kind.id: known["ID"], kind.name: name }));
    }
    Ok(references)
}

/// Takes away by name, then adds: so a name can be taken away and given anew in one command, which is how a
/// secret is rotated.
pub(super) fn change(container: &mut Value, kind: Kind, add: &[Value], remove: &[String]) {
    if add.is_empty() && remove.is_empty() {
        return;
    }
    let mut list = container[kind.list].as_array().cloned().unwrap_or_default();
    list.retain(|old| !remove.iter().any(|name| old[kind.name] == json!(name)));
    list.extend(add.iter().cloned());
    // An empty list is left out, as the docker CLI leaves it out.
    if !list.is_empty() {
        container[kind.list] = Value::Array(list);
    } else if let Some(map) = container.as_object_mut() {
        map.shift_remove(kind.list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_is_one_change() {
        let old = json!({"SecretID": "1", "SecretName": "key", "File": {"Name": "key"}});
        let new = json!({"SecretID": "2", "SecretName": "key", "File": {"Name": "key"}});
        let mut container = json!({"Image": "x", "Secrets": [old]});
        change(&mut container, SECRETS, std::slice::from_ref(&new), &["key".to_owned()]);
        assert_eq!(container, json!({"Image": "x", "Secrets": [new]}));
        change(&mut container, SECRETS, &[], &["key".to_owned()]);
        assert_eq!(container, json!({"Image": "x"}));
        change(&mut container, CONFIGS, &[], &[]);
        assert_eq!(container, json!({"Image": "x"}), "nothing asked for changes nothing");
    }
}
