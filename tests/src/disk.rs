//! A small disk of a host's own, which can be full, read-only or torn.
//!
//! An ext4 image on a loop device, mounted where shoal keeps its data, so that the errors are the real
//! ones (ENOSPC, EROFS) and survive a reboot of the host as a real disk does. Without it a host's data is
//! a plain directory, which is quicker.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::namespace::Namespaces;
use crate::run;
use crate::wait::{secs, wait_for};

/// An ext4 image and where it is mounted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Disk {
    image: PathBuf,
    mount_point: PathBuf,
}

impl Disk {
    /// Makes an empty disk of `mib` MiB.
    pub fn make(image: &Path, mount_point: &Path, mib: u32) -> Result<Disk> {
        ensure!(mib >= 8, "a disk of {mib} MiB has no room for a file system: ask for 8 or more");
        fs::File::create(image)?.set_len(u64::from(mib) << 20)?;
        run::tool(["mkfs.ext4", "-q", "-F", "-m", "0", &image.to_string_lossy()])?;
        Ok(Disk { image: image.to_path_buf(), mount_point: mount_point.to_path_buf() })
    }

    /// Mounts it in a host's namespaces, which it leaves when they end.
    pub fn mount(&self, host: &Namespaces) -> Result<()> {
        // Two loop devices over one file would corrupt it: the last reboot's must be gone.
        let (image, mount_point) = (self.image.to_string_lossy(), self.mount_point());
        wait_for("the disk's old loop device to go", secs(10), || {
            let used = run::tool(["losetup", "-j", &image]).map_err(|error| error.to_string())?;
            if used.trim().is_empty() { Ok(()) } else { Err(used.trim().to_string()) }
        })?;
        host.tool(&["mount", "-o", "loop,errors=remount-ro", &image, &mount_point])?;
        Ok(())
    }

    /// Fills it to the last byte.
    pub fn fill(&self, host: &Namespaces) -> Result<()> {
        let ballast = format!("of={}", self.ballast());
        let output = host.run(&["dd", "if=/dev/zero", &ballast, "bs=4k"], run::TOOL_BOUND)?;
        let said = output.complaint();
        ensure!(said.contains("No space left"), "the disk could not be filled: {said}");
        Ok(())
    }

    /// Takes away what [`Disk::fill`] put there.
    pub fn free(&self, host: &Namespaces) -> Result<()> {
        host.tool(&["rm", "-f", &self.ballast()])?;
        Ok(())
    }

    /// Makes it read-only. While files are open for writing the kernel refuses to do that politely: then
    /// the file system is told that it is broken, which is how disks become read-only in real life.
    pub fn make_read_only(&self, host: &Namespaces) -> Result<()> {
        let mount_point = self.mount_point();
        if host.tool(&["mount", "-o", "remount,ro", &mount_point]).is_ok() {
            return Ok(());
        }
        let device = self.device(host)?;
        let trigger = format!("echo testbed > /sys/fs/ext4/{device}/trigger_fs_error");
        host.tool(&["sh", "-c", &trigger])?;
        let options = self.options(host)?;
        ensure!(is_read_only(&options), "the disk did not become read-only: {options}");
        Ok(())
    }

    /// Makes it writable again, with a repair, as an operator would; nothing may have it open.
    pub fn make_writable(&self, host: &Namespaces) -> Result<()> {
        let (image, mount_point) = (self.image.to_string_lossy(), self.mount_point());
        host.tool(&["umount", &mount_point]).context("stop what uses the disk first")?;
        // 0: clean, 1: repaired; more: not repaired.
        let repaired = host.run(&["e2fsck", "-f", "-p", &image], run::TOOL_BOUND)?;
        if !matches!(repaired.status.code(), Some(0 | 1)) {
            bail!("the disk could not be repaired: {}", repaired.complaint());
        }
        self.mount(host)
    }

    fn device(&self, host: &Namespaces) -> Result<String> {
        let source = host.tool(&["findmnt", "-n", "-o", "SOURCE", &self.mount_point()])?;
        Ok(source.trim().trim_start_matches("/dev/").to_string())
    }

    fn options(&self, host: &Namespaces) -> Result<String> {
        let mounts = host.tool(&["cat", "/proc/mounts"])?;
        let point = self.mount_point();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(&point));
        let options = line.and_then(|line| line.split(' ').nth(3));
        Ok(options.with_context(|| format!("{point} is not mounted"))?.to_string())
    }

    fn mount_point(&self) -> String {
        self.mount_point.to_string_lossy().into_owned()
    }

    fn ballast(&self) -> String {
        self.mount_point.join("ballast").to_string_lossy().into_owned()
    }
}

/// Newer kernels say `emergency_ro` beside `rw`, older ones `ro`.
fn is_read_only(options: &str) -> bool {
    options.split(',').any(|option| matches!(option, "ro" | "emergency_ro"))
}
