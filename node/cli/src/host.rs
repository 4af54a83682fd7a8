//! Which node the command line speaks to.

use std::path::PathBuf;

use crate::exit::Failure;

pub(crate) const DEFAULT_HOST: &str = "unix:///run/shoal/docker.sock";

/// `--host` (or SHOAL_HOST, which clap reads), else DOCKER_HOST, else the default socket.
///
/// # Errors
/// A usage failure when the address is not a Unix socket.
pub(crate) fn socket(flag: Option<&str>, docker_host: Option<&str>) -> Result<PathBuf, Failure> {
    let filled = |text: &&str| !text.is_empty();
    let (host, from) = flag
        .filter(filled)
        .map(|host| (host, "--host or SHOAL_HOST"))
        .or(docker_host.filter(filled).map(|host| (host, "DOCKER_HOST")))
        .unwrap_or((DEFAULT_HOST, "the default"));
    let path = match host.split_once("://") {
        Some(("unix", path)) => path,
        None if host.starts_with('/') => host,
        _ => {
            return Err(Failure::usage(format!(
                "cannot use the address '{host}' (from {from}): shoal speaks to a node on this machine, over its Unix socket; give one as unix:///path"
            )));
        }
    };
    if path.is_empty() {
        return Err(Failure::usage(format!("the address '{host}' (from {from}) names no socket")));
    }
    Ok(PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_goes_before_the_environment() {
        let path = |flag, docker| socket(flag, docker).map(|p| p.display().to_string());
        assert_eq!(path(Some("unix:///a"), Some("unix:///b")), Ok("/a".to_owned()));
        assert_eq!(path(None, Some("unix:///b")), Ok("/b".to_owned()));
        assert_eq!(path(Some(""), Some("")), Ok("/run/shoal/docker.sock".to_owned()));
        assert_eq!(path(Some("/x.sock"), None), Ok("/x.sock".to_owned()));
        assert!(path(Some("tcp://1.2.3.4:2375"), None).is_err());
        assert!(path(Some("unix://"), None).is_err());
    }
}
