//! shoal's own tables of packet rules: loaded as a whole, and compared with what the kernel lists.
//!
//! What the kernel lists is not what was loaded, word for word: names for numbers, another order. So the listing right
//! after loading is kept, and whoever changes the tables later changes the listing.

use node::network::rules::{FAMILIES, TABLE, no_rules};

use super::DriveError;
use super::tool::run;

/// What was loaded last, and what the kernel then listed.
#[derive(Debug, Default)]
pub(super) struct Tables {
    loaded: Option<(String, Vec<String>)>,
}

/// What had to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loaded {
    Nothing,
    /// Other rules were wanted than before.
    New,
    /// Somebody had changed or deleted them.
    Mended,
}

impl Tables {
    /// Makes the kernel have these rules.
    pub(super) async fn ensure(&mut self, wanted: Option<&str>) -> Result<Loaded, DriveError> {
        let Some(script) = wanted else { return self.ensure_none().await };
        let mut done = Loaded::New;
        if let Some((loaded, listed)) = &self.loaded
            && loaded == script
        {
            if list().await.is_ok_and(|now| now == *listed) {
                return Ok(Loaded::Nothing);
            }
            done = Loaded::Mended;
        }
        self.loaded = None;
        run("nft", &["-f", "-"], Some(script)).await?;
        self.loaded = Some((script.to_owned(), list().await?));
        Ok(done)
    }

    async fn ensure_none(&mut self) -> Result<Loaded, DriveError> {
        let there = run("nft", &["list", "tables"], None).await?;
        self.loaded = None;
        if !there.lines().any(|line| line.split(' ').next_back() == Some(TABLE)) {
            return Ok(Loaded::Nothing);
        }
        run("nft", &["-f", "-"], Some(&no_rules())).await?;
        Ok(Loaded::New)
    }
}

/// The words of all tables. Sorted, for a hash map lists its elements in any order.
async fn list() -> Result<Vec<String>, DriveError> {
    let mut words = Vec::new();
    for family in FAMILIES {
        let text = run("nft", &["-n", "list", "table", family, TABLE], None).await?;
        let separated = text.split(|c: char| c.is_whitespace() || c == ',');
        words.extend(separated.filter(|word| !word.is_empty()).map(str::to_owned));
    }
    words.sort_unstable();
    Ok(words)
}
