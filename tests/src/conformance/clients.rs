//! The clients that are driven: each docker CLI on this machine, and the Python SDK.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{self, TOOL_BOUND};
use crate::wait::secs;

/// The version of docker-py that the SDK's program was written for.
const SDK: &str = "docker==7.1.0";

/// One docker CLI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cli {
    pub path: PathBuf,
    pub version: String,
}

/// Every docker CLI on PATH, the newest first; each version once.
///
/// # Errors
/// When there is none.
pub fn command_lines() -> Result<Vec<Cli>> {
    let mut found: Vec<Cli> = Vec::new();
    let path = std::env::var_os("PATH").unwrap_or_default();
    for path in std::env::split_paths(&path).map(|folder| folder.join("docker")) {
        if !path.is_file() {
            continue;
        }
        let mut ask = Command::new(&path);
        let version = run::succeed(ask.arg("--version"), b"", TOOL_BOUND)?;
        let version = version.split([' ', ',']).nth(2).unwrap_or_default().to_owned();
        if found.iter().all(|one| one.version != version) {
            found.push(Cli { path, version });
        }
    }
    found.sort_by_key(|one| std::cmp::Reverse(numbers(&one.version)));
    if found.is_empty() {
        bail!(
            "no docker command line on PATH: apt-get install docker.io (docker-cli on newer Debian)"
        );
    }
    Ok(found)
}

fn numbers(version: &str) -> Vec<u32> {
    let digits = version.split(|c: char| !c.is_ascii_digit());
    digits.take(3).map(|part| part.parse().unwrap_or_default()).collect()
}

/// Installs the Python SDK into an environment of its own, and returns its interpreter.
///
/// # Errors
/// With what to do, when there is no Python, no venv or no way to the package.
pub fn python_sdk(directory: &Path) -> Result<PathBuf> {
    let folder = directory.join("sdk");
    let python = folder.join("bin/python");
    let advice = "the conformance tests drive docker-py: they need python3 with venv (apt-get install python3-venv) \
                  and a way to PyPI for docker==7.1.0 (PIP_INDEX_URL names a mirror)";
    let mut make = Command::new("python3");
    make.args(["-m", "venv"]).arg(&folder);
    run::succeed(&mut make, b"", secs(60)).context(advice)?;
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", SDK]);
    run::succeed(&mut install, b"", secs(120)).context(advice)?;
    Ok(python)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert!(numbers("28.2.2") > numbers("20.10.24+dfsg1"));
        assert_eq!(numbers("20.10.24+dfsg1"), [20, 10, 24]);
    }
}
