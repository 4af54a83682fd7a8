//! A tiny image without a registry: a tar archive around the static busybox of this host.

use std::fs;
use std::path::{Path, PathBuf};

/// What the demo's replicas and curious people call.
const APPLETS: [&str; 16] = [
    "sh", "sleep", "echo", "hostname", "cat", "ls", "ps", "kill", "date", "env", "head", "tail",
    "wget", "httpd", "nc", "top",
];
/// A busybox is about 1 to 2 MB; something much larger is something else.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

const BLOCK: usize = 512;

/// The archive, if this host has a busybox. Whether it is static is found out by running it.
pub(super) fn from_busybox() -> Option<Vec<u8>> {
    let program = fs::read(find_busybox()?).ok()?;
    let mut tar = Vec::with_capacity(program.len() + 64 * BLOCK);
    for dir in ["bin/", "etc/", "tmp/"] {
        entry(&mut tar, dir, if dir == "tmp/" { 0o1777 } else { 0o755 }, Kind::Directory);
    }
    entry(&mut tar, "bin/busybox", 0o755, Kind::File(&program));
    entry(&mut tar, "etc/passwd", 0o644, Kind::File(b"root:x:0:0:root:/:/bin/sh\n"));
    for applet in APPLETS {
        entry(&mut tar, &format!("bin/{applet}"), 0o777, Kind::Link("busybox"));
    }
    // Two empty blocks end an archive.
    tar.resize(tar.len() + 2 * BLOCK, 0);
    Some(tar)
}

fn find_busybox() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/bin"), PathBuf::from("/usr/bin")])
        .map(|dir| dir.join("busybox"))
        .find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_BYTES)
}

#[derive(Clone, Copy)]
enum Kind<'a> {
    File(&'a [u8]),
    Directory,
    Link(&'a str),
}

/// One entry in the ustar format (POSIX.1-1988): a header of 512 bytes, then the content in blocks.
fn entry(tar: &mut Vec<u8>, name: &str, mode: u32, kind: Kind<'_>) {
    let (flag, content, target): (u8, &[u8], &str) = match kind {
        Kind::File(content) => (b'0', content, ""),
        Kind::Directory => (b'5', &[], ""),
        Kind::Link(target) => (b'2', &[], target),
    };
    let mut header = [0_u8; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{:011o}", content.len()).as_bytes());
    put(136, b"00000000000");
    // The checksum is made with spaces in its own place.
    put(148, b"        ");
    put(156, &[flag]);
    put(157, target.as_bytes());
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(&header);
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_what_tar_reads() {
        let mut tar = Vec::new();
        entry(&mut tar, "bin/", 0o755, Kind::Directory);
        entry(&mut tar, "bin/busybox", 0o755, Kind::File(&[7; 700]));
        entry(&mut tar, "bin/sh", 0o777, Kind::Link("busybox"));
        tar.resize(tar.len() + 2 * BLOCK, 0);
        assert_eq!(tar.len() % BLOCK, 0);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.tar");
        fs::write(&file, &tar).unwrap();
        let done = std::process::Command::new("tar")
            .args(["-xf", "a.tar"])
            .current_dir(dir.path())
            .status()
            .unwrap();
        assert!(done.success());
        assert_eq!(fs::read(dir.path().join("bin/busybox")).unwrap(), [7; 700]);
        let link = fs::read_link(dir.path().join("bin/sh")).unwrap();
        assert_eq!(link, Path::new("busybox"));
    }
}
