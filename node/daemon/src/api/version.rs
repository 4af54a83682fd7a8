//! API versions in paths: `/v1.41/services`.
//!
//! We speak the local engine's versions, because what is not ours is answered by it. A path without
//! a version means the newest.

use std::fmt;

use super::error::ApiError;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ApiVersion {
    pub(super) major: u16,
    pub(super) minor: u16,
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl ApiVersion {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        let number = |part: &str| {
            if part.bytes().all(|b| b.is_ascii_digit()) { part.parse().ok() } else { None }
        };
        Some(Self { major: number(major)?, minor: number(minor)? })
    }
}

/// Splits `/v1.41/services` into the version and `/services`.
pub(super) fn split(path: &str) -> (Option<ApiVersion>, &str) {
    let whole = (None, path);
    let Some(rest) = path.strip_prefix("/v") else { return whole };
    let Some((text, _)) = rest.split_once('/') else { return whole };
    match ApiVersion::parse(text) {
        Some(version) => (Some(version), &path[2 + text.len()..]),
        None => whole,
    }
}

/// Docker's own two refusals.
pub(super) fn check(asked: ApiVersion, min: ApiVersion, max: ApiVersion) -> Result<(), ApiError> {
    if asked > max {
        return Err(ApiError::bad(format!(
            "client version {asked} is too new. Maximum supported API version is {max}"
        )));
    }
    if asked < min {
        return Err(ApiError::bad(format!(
            "client version {asked} is too old. Minimum supported API version is {min}, please upgrade your client to a newer version"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn v(major: u16, minor: u16) -> ApiVersion {
        ApiVersion { major, minor }
    }

    #[test]
    fn versions_are_taken_off_and_other_paths_are_left() {
        assert_eq!(split("/v1.41/services"), (Some(v(1, 41)), "/services"));
        assert_eq!(split("/v1.41/"), (Some(v(1, 41)), "/"));
        for path in ["/volumes", "/version", "/v1.41", "/v1/x", "/v1.x/y", "/v-1.2/x", "", "/"] {
            assert_eq!(split(path), (None, path));
        }
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let check = |asked| check(asked, v(1, 12), v(1, 41));
        assert!(check(v(1, 41)).is_ok());
        assert!(check(v(1, 12)).is_ok());
        assert!(check(v(1, 9)).unwrap_err().message.contains("too old"));
        let new = check(v(1, 99)).unwrap_err();
        assert_eq!(
            new.message,
            "client version 1.99 is too new. Maximum supported API version is 1.41"
        );
    }
}
