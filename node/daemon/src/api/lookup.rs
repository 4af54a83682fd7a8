//! From what a person pasted to an object: full id, else exact name, else a prefix of one id.

use axum::http::StatusCode;
use node::views::{AssetView, MemberView, ServiceView, TaskView};

use super::error::ApiError;

/// How an object of one kind is found.
pub(super) trait Named {
    const KIND: &'static str;
    fn id_text(&self) -> String;
    /// Empty when there is none to be found by.
    fn name_text(&self) -> &str;
    /// Whether its name counts: of two services with one name, the shadowed one is found by id only.
    fn owns_name(&self) -> bool {
        true
    }
}

impl Named for ServiceView {
    const KIND: &'static str = "service";
    fn id_text(&self) -> String {
        self.id.to_string()
    }
    fn name_text(&self) -> &str {
        &self.name
    }
    fn owns_name(&self) -> bool {
        self.shadowed_by.is_none()
    }
}

impl Named for MemberView {
    const KIND: &'static str = "node";
    fn id_text(&self) -> String {
        self.id.to_string()
    }
    fn name_text(&self) -> &str {
        &self.name
    }
}

impl Named for TaskView {
    const KIND: &'static str = "task";
    fn id_text(&self) -> String {
        self.id().to_string()
    }
    fn name_text(&self) -> &str {
        ""
    }
}

impl Named for AssetView {
    const KIND: &'static str = "object";
    fn id_text(&self) -> String {
        self.id.to_string()
    }
    fn name_text(&self) -> &str {
        &self.name
    }
    fn owns_name(&self) -> bool {
        self.shadowed_by.is_none()
    }
}

/// The one object that `wanted` names.
///
/// # Errors
/// 404 when there is none, 400 when there are several.
pub(super) fn find<'a, T: Named>(items: &'a [T], wanted: &str) -> Result<&'a T, ApiError> {
    find_as(T::KIND, items, wanted)
}

/// As [`find`], where one type stands for several kinds of objects.
pub(super) fn find_as<'a, T: Named>(
    kind: &str,
    items: &'a [T],
    wanted: &str,
) -> Result<&'a T, ApiError> {
    if wanted.is_empty() {
        return Err(ApiError::not_found(kind, wanted));
    }
    if let Some(item) = items.iter().find(|item| item.id_text() == wanted) {
        return Ok(item);
    }
    let mut by_name: Vec<&T> =
        items.iter().filter(|item| item.owns_name() && item.name_text() == wanted).collect();
    if by_name.is_empty() {
        by_name = items.iter().filter(|item| item.id_text().starts_with(wanted)).collect();
    }
    match by_name.as_slice() {
        [] => Err(ApiError::not_found(kind, wanted)),
        [one] => Ok(one),
        several => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            format!("{kind} {wanted} is ambiguous ({} matches found)", several.len()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(&'static str, &'static str, bool);

    impl Named for Thing {
        const KIND: &'static str = "thing";
        fn id_text(&self) -> String {
            self.0.to_owned()
        }
        fn name_text(&self) -> &str {
            self.1
        }
        fn owns_name(&self) -> bool {
            self.2
        }
    }

    #[test]
    fn id_then_name_then_prefix() {
        let things = [
            Thing("abc1", "web", true),
            Thing("abd2", "abc1", true),
            Thing("xyz3", "twin", true),
            Thing("xyw4", "twin", true),
            Thing("qqq5", "web", false),
        ];
        let found = |wanted| find(&things, wanted).map(|t| t.0);
        assert_eq!(found("abc1"), Ok("abc1"), "an id goes before a name");
        assert_eq!(found("web"), Ok("abc1"), "a shadowed name is not ambiguous");
        assert_eq!(found("abd"), Ok("abd2"));
        assert_eq!(found("ab").unwrap_err().message, "thing ab is ambiguous (2 matches found)");
        assert_eq!(found("twin").unwrap_err().status, 400);
        assert_eq!(found("none").unwrap_err().message, "thing none not found");
        assert_eq!(found("").unwrap_err().status, 404);
    }
}
