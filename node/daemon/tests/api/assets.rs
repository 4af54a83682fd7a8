//! Secrets and configs, as Docker's clients ask for them.

use daemon::api::backend::Backend;
use node::command::Command;
use serde_json::json;

use crate::server::{Server, encoded};

#[tokio::test]
async fn a_config_lives_and_its_data_is_shown() {
    let server = Server::start().await;
    let made = server
        .post(
            "/configs/create",
            &json!({"Name": "site", "Labels": {"a": "1"}, "Data": "aGVsbG8=", "New": 7}),
        )
        .await;
    assert_eq!(made.status, 201);
    let id = made.json()["ID"].as_str().unwrap().to_owned();
    for wanted in [id.as_str(), "site", &id[..9]] {
        let shown = server.get(&format!("/configs/{wanted}")).await.json();
        assert_eq!(shown["Spec"]["Data"], "aGVsbG8=");
        assert_eq!((&shown["Spec"]["New"], &shown["Version"]["Index"]), (&json!(7), &json!(20)));
    }
    let again = server.post("/configs/create", &json!({"Name": "site", "Data": "eA=="})).await;
    assert_eq!((again.status, again.message().as_str()), (409, "config site already exists"));
    for (filter, found) in [
        (r#"{"name":{"si":true}}"#, 1),
        (r#"{"names":["si"]}"#, 0),
        (r#"{"names":["site"],"label":["a=1"]}"#, 1),
        (r#"{"label":["b"]}"#, 0),
    ] {
        let list = server.get(&format!("/configs?filters={}", encoded(filter))).await.json();
        assert_eq!(list.as_array().unwrap().len(), found, "{filter}");
    }
    assert_eq!(server.get("/secrets").await.json(), json!([]), "a config is no secret");

    // As `stack deploy` does: the same data again, other labels.
    let spec = json!({"Name": "site", "Labels": {"a": "2"}, "Data": "aGVsbG8="});
    assert_eq!(server.post(&format!("/configs/{id}/update?version=20"), &spec).await.status, 200);
    let stale = server.post(&format!("/configs/{id}/update?version=20"), &spec).await;
    assert!(stale.message().ends_with("update out of sequence"));
    let other = json!({"Name": "site", "Data": "aGVsbG8h"});
    let refused = server.post(&format!("/configs/{id}/update?version=21"), &other).await;
    assert_eq!(
        (refused.status, refused.message().as_str()),
        (400, "only updates to Labels are allowed")
    );

    // In place, by shoal's own word.
    let path = format!("/shoal/v1/configs/{id}/data?signal=HUP");
    assert_eq!(server.post(&path, &json!({"Data": "bmV3"})).await.status, 200);
    assert_eq!(server.get("/configs/site").await.json()["Spec"]["Data"], "bmV3");
    assert!(matches!(
        server.fake.world().commands.last(),
        Some(Command::ReplaceConfig { signal: Some(signal), version: 21, .. }) if signal == "HUP"
    ));
    assert_eq!(server.delete(&format!("/configs/{id}")).await.status, 204);
    assert_eq!(server.get("/configs/site").await.message(), "config site not found");
}

#[tokio::test]
async fn a_secret_is_sealed_at_the_door_and_never_shown() {
    let server = Server::start().await;
    let body = json!({"Name": "key", "Data": "aHVudGVyMg=="});
    assert_eq!(server.post("/secrets/create", &body).await.status, 201);
    for path in ["/secrets", "/secrets/key", "/secrets?filters=%7B%22names%22%3A%5B%22key%22%5D%7D"]
    {
        let answer = server.get(path).await;
        let text = String::from_utf8(answer.body).unwrap();
        assert!(text.contains("\"Name\":\"key\""), "{text}");
        assert!(!text.contains("Data") && !text.contains("aHVudGVyMg"), "{text}");
    }
    {
        let world = server.fake.world();
        let Some(Command::CreateAsset { spec, content, .. }) = world.commands.last() else {
            panic!("a create")
        };
        assert_eq!(*spec, json!({"Name": "key"}));
        let sealed = content.bytes();
        assert!(!sealed.windows(7).any(|bytes| bytes == b"hunter2"), "it left the API unsealed");
        let opened = server.fake.vault().open("key", content).unwrap();
        assert_eq!(opened.as_slice(), b"hunter2");
        assert!(!format!("{world:?}", world = world.commands).contains("hunter2"));
    }
    let same = json!({"Name": "key", "Labels": {"x": "y"}, "Data": "aHVudGVyMg=="});
    assert_eq!(server.post("/secrets/key/update?version=20", &same).await.status, 200);
    let other = json!({"Name": "key", "Data": "b3RoZXI="});
    assert_eq!(server.post("/secrets/key/update?version=21", &other).await.status, 400);
    let in_place = server.post("/shoal/v1/configs/key/data", &json!({"Data": "eA=="})).await;
    assert_eq!(in_place.status, 404, "secrets are not replaced in place");
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_dockers_words() {
    let server = Server::start().await;
    let big = "A".repeat((1000 * 1024_usize).div_ceil(3) * 4);
    for (path, body, status, words) in [
        ("/secrets/create", json!({"Name": "a"}), 400, "larger than 0 and less than 512000 bytes"),
        ("/secrets/create", json!({"Name": "a", "Data": ""}), 400, "larger than 0"),
        ("/configs/create", json!({"Name": "a", "Data": big}), 400, "less than 1024000 bytes"),
        ("/configs/create", json!({"Name": "a", "Data": "*"}), 400, "not base64"),
        ("/configs/create", json!({"Name": "a", "Data": "eA==", "Labels": 1}), 400, "Labels"),
        (
            "/secrets/create",
            json!({"Name": "a", "Driver": {"Name": "vault"}}),
            501,
            "secret driver 'vault' is not supported",
        ),
        (
            "/configs/create",
            json!({"Name": "a", "Data": "eA==", "Templating": {"Name": "jinja"}}),
            400,
            "template driver 'jinja'",
        ),
        (
            "/configs/create",
            json!({"Name": "a", "Data": "e3sgZW52", "Templating": {"Name": "golang"}}),
            400,
            "no template",
        ),
        ("/configs/create", json!([]), 400, "JSON object"),
    ] {
        let answer = server.post(path, &body).await;
        assert_eq!(answer.status, status, "{words}");
        assert!(answer.message().contains(words), "{words}: {}", answer.message());
    }
    let version = server.post("/configs/none/update?version=x", &json!({})).await;
    assert!(version.message().contains("invalid config version 'x'"));
}
