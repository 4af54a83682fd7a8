//! `X-Registry-Auth`: credentials that come with a service (`docker service create --with-registry-auth`).
//!
//! They are stored with the service and used for its pulls on every host. No answer of this API shows them.

use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use node::registry_auth::{AuthChange, MAX_REGISTRY_AUTH_BYTES, RegistryAuth};
use serde_json::Value;

use super::error::ApiError;

const HEADER: &str = "x-registry-auth";

/// What the request brings: nothing, or credentials, or that there shall be none (all fields empty).
///
/// # Errors
/// 400 when the header is not base64 of a JSON object with texts.
pub(super) fn sent(headers: &HeaderMap) -> Result<Option<Option<RegistryAuth>>, ApiError> {
    let Some(value) = headers.get(HEADER).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    // Nothing of it is repeated in the answer.
    let bad = || {
        ApiError::bad(
            "the header X-Registry-Auth is not base64 of a JSON object with texts: nothing was changed; docker login, then --with-registry-auth, sends a good one",
        )
    };
    let text = value.to_str().map_err(|_| bad())?;
    let bytes = URL_SAFE
        .decode(text)
        .or_else(|_| URL_SAFE_NO_PAD.decode(text))
        .or_else(|_| STANDARD.decode(text))
        .map_err(|_| bad())?;
    let auth: Value = serde_json::from_slice(&bytes).map_err(|_| bad())?;
    let fields = auth.as_object().ok_or_else(bad)?;
    if !fields.values().all(|value| value.is_string() || value.is_null()) {
        return Err(bad());
    }
    if !fields.values().any(|value| value.as_str().is_some_and(|text| !text.is_empty())) {
        return Ok(Some(None));
    }
    let auth = RegistryAuth::new(auth.to_string()).ok_or_else(|| {
        ApiError::new(
            StatusCode::BAD_REQUEST,
            format!("the credentials in X-Registry-Auth are longer than {MAX_REGISTRY_AUTH_BYTES} bytes: nothing was changed"),
        )
    })?;
    Ok(Some(Some(auth)))
}

/// What an update does about the credentials that the service has.
///
/// # Errors
/// As [`sent`], and 400 for a `from` that Docker does not know.
pub(super) fn change(headers: &HeaderMap, from: Option<&str>) -> Result<AuthChange, ApiError> {
    if let Some(auth) = sent(headers)? {
        return Ok(AuthChange::Set(auth));
    }
    match from.unwrap_or_default() {
        "" | "spec" => Ok(AuthChange::Keep),
        "previous-spec" => Ok(AuthChange::FromPrevious),
        other => Err(ApiError::bad(format!("unsupported registryAuthFrom value {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HEADER.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn credentials_are_read_and_say_nothing_of_themselves() {
        assert!(sent(&HeaderMap::new()).unwrap().is_none());
        assert_eq!(sent(&headers("e30=")).unwrap(), Some(None));
        let json = r#"{"username":"u","password":"p?>~"}"#;
        for encoded in [URL_SAFE.encode(json), URL_SAFE_NO_PAD.encode(json), STANDARD.encode(json)]
        {
            let auth = sent(&headers(&encoded)).unwrap().unwrap().unwrap();
            assert_eq!(auth.reveal(), json);
            assert_eq!(format!("{auth:?}"), "RegistryAuth(hidden)");
        }
        for garbage in ["%%%", "bm90IGpzb24=", "WzFd", "eyJ1c2VybmFtZSI6MX0="] {
            assert!(sent(&headers(garbage)).is_err(), "{garbage}");
        }
    }

    #[test]
    fn an_update_without_credentials_keeps_those_of_a_spec() {
        let none = HeaderMap::new();
        assert_eq!(change(&none, None).unwrap(), AuthChange::Keep);
        assert_eq!(change(&none, Some("spec")).unwrap(), AuthChange::Keep);
        assert_eq!(change(&none, Some("previous-spec")).unwrap(), AuthChange::FromPrevious);
        assert!(change(&none, Some("elsewhere")).is_err());
        assert_eq!(change(&headers("e30="), Some("spec")).unwrap(), AuthChange::Set(None));
    }
}
