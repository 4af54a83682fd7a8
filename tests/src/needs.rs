//! What a bed needs of the machine, checked before anything is made.
//!
//! Missing things are one clear message, not a failure half-way. Nothing is skipped: a test that asks for
//! real hosts and cannot have them fails.

use std::path::Path;

use anyhow::{Result, bail};

/// Programs, and the Debian package that has each.
const PROGRAMS: [(&str, &str); 13] = [
    ("dockerd", "docker.io"),
    ("docker", "docker.io"),
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("busybox", "busybox-static"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
    ("mkfs.ext4", "e2fsprogs"),
    ("tar", "tar"),
];

/// Fails with everything that is missing.
pub fn check() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "real hosts need root: namespaces, bridges and Docker engines are made. Run it with sudo"
        );
    }
    let missing: Vec<(&str, &str)> =
        PROGRAMS.into_iter().filter(|(program, _)| find(program).is_none()).collect();
    if !missing.is_empty() {
        let programs: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
        let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
        packages.sort_unstable();
        packages.dedup();
        bail!(
            "real hosts need {}, not found on PATH. On Debian: apt-get install {} (tests/run does it)",
            programs.join(", "),
            packages.join(" ")
        );
    }
    Ok(())
}

/// Where a program is on PATH.
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
