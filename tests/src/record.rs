//! What is written down about a bed, and where: so that another program can go on with it or remove it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::host::Host;
use crate::process::Process;
use crate::switch::Switch;

/// State directories are `TEMP/shoal-bed-NAME`. Short, for paths of Unix sockets hold 108 bytes.
pub(crate) const DIRECTORY_PREFIX: &str = "shoal-bed-";
const RECORD: &str = "bed.json";

/// What is on disk about a bed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) directory: PathBuf,
    /// The program it belongs to; none for a bed kept by hand.
    pub(crate) owner: Option<Process>,
    pub(crate) group: Group,
    pub(crate) switch: Option<Switch>,
    pub(crate) hosts: Vec<Host>,
}

impl Record {
    pub(crate) fn load(directory: &Path) -> Result<Record> {
        let path = directory.join(RECORD);
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is not a bed", path.display()))
    }

    pub(crate) fn save(&self) -> Result<()> {
        let path = self.directory.join(RECORD);
        let new = path.with_extension("new");
        fs::write(&new, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&new, &path).with_context(|| format!("cannot write {}", path.display()))
    }

    pub(crate) fn switch(&self) -> Result<&Switch> {
        self.switch.as_ref().context("the bed has no switch: it did not come up whole")
    }
}

/// The state directory of a bed kept by hand.
pub(crate) fn directory_named(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("{DIRECTORY_PREFIX}{name}"))
}

pub(crate) fn make_directory(name: Option<&str>) -> Result<PathBuf> {
    let Some(name) = name else {
        let made = tempfile::Builder::new().prefix(DIRECTORY_PREFIX).rand_bytes(5).tempdir()?;
        return Ok(made.keep());
    };
    let simple = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    ensure!(
        !name.is_empty() && name.len() <= 20 && name.bytes().all(simple),
        "a bed's name is 1 to 20 letters, digits and dashes, not {name:?}"
    );
    let directory = directory_named(name);
    fs::create_dir(&directory).with_context(|| {
        format!(
            "{} exists: is the bed {name} up already? `testbed down` ends it",
            directory.display()
        )
    })?;
    Ok(directory)
}

pub(crate) fn name_of(directory: &Path) -> Result<String> {
    let last = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = last.strip_prefix(DIRECTORY_PREFIX).context("a bed's directory has its name")?;
    Ok(name.to_string())
}

/// Any byte will do, for each bed has a switch of its own; different ones make logs easier to tell apart.
pub(crate) fn subnet_of(name: &str) -> u8 {
    let sum = name.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    // 1 to 240, so that neither 10.0 nor anything that looks like a broadcast comes up.
    u8::try_from(sum % 240).unwrap_or(0) + 1
}
