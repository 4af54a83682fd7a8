//! Starts with and without their files.

use membership::id::AssetId;
use membership::record::Digest;

use super::*;

#[test]
fn a_start_without_its_files_or_with_strange_ones_is_seen_and_so_is_a_content_that_is_shown() {
    let (a, b) = (AssetId(1), AssetId(2));
    let offered = |asset, content| Seen::Offered { asset, content: Digest(content) };
    let starts = |has: &[(AssetId, u128)]| Seen::Files {
        host: A,
        task: task(1),
        place: place(),
        wants: vec![a, b],
        has: has.iter().map(|(id, content)| (*id, Digest(*content))).collect(),
    };
    let found = |has: &[(AssetId, u128)]| {
        let mut script = Script::new();
        script.sees([offered(a, 10), offered(b, 20), offered(b, 21), starts(has)]);
        script.found()
    };
    assert!(found(&[(a, 10), (b, 20)]).is_empty());
    assert!(found(&[(b, 21), (a, 10)]).is_empty(), "either of two contents");
    assert_eq!(found(&[(a, 10)]), ["files"], "one is missing");
    assert_eq!(found(&[(a, 20), (b, 20)]), ["files"], "another one's content");
    let mut script = Script::new();
    script.sees([Seen::Shown { host: A, by: "a notice" }]);
    assert_eq!(script.found(), ["files"]);
}
