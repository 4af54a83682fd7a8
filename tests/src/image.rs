//! The images the scenarios run: busybox, put into an engine without a registry.
//!
//! A tarball of the statically linked busybox with a link per applet is enough for `sh`, `sleep`, `httpd`,
//! `nc` and `wget`. It is made once per bed and imported into each engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::engine::Engine;
use crate::run;

/// Plain busybox; does nothing by itself.
pub const BUSYBOX: &str = "shoal/busybox:1";

/// Busybox with a health check: unhealthy within about two seconds of `touch /sick` in the container.
pub const HEALTHY: &str = "shoal/healthy:1";

/// Makes the tarball in `directory` and returns its path.
pub fn make_tarball(directory: &Path) -> Result<PathBuf> {
    let busybox = crate::needs::find("busybox").context("busybox is not on PATH")?;
    let program = fs::read(&busybox)?;
    if program.windows(9).any(|bytes| bytes == b"/ld-linux") {
        bail!(
            "{} is linked dynamically and cannot run alone in an image: \
             apt-get install busybox-static",
            busybox.display()
        );
    }
    let root = directory.join("image");
    for folder in ["bin", "etc", "proc", "sys", "dev", "tmp", "run", "root", "www"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
    fs::copy(&busybox, root.join("bin/busybox"))?;
    let applets = run::succeed(Command::new(&busybox).arg("--list"), b"", run::TOOL_BOUND)?;
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
    }
    let tarball = directory.join("image.tar");
    let (from, to) = (root.to_string_lossy(), tarball.to_string_lossy());
    run::tool(["tar", "--owner=0", "--group=0", "-C", &from, "-cf", &to, "."])?;
    fs::remove_dir_all(&root)?;
    Ok(tarball)
}

/// Imports both images into an engine.
pub fn import(engine: &Engine, tarball: &Path) -> Result<()> {
    let host = engine.url();
    let tarball = tarball.to_string_lossy();
    run::tool(["docker", "-H", &host, "import", "-c", "CMD [\"sh\"]", &tarball, BUSYBOX])?;
    let check = "HEALTHCHECK --interval=1s --timeout=2s --retries=2 CMD test ! -e /sick";
    let sleep = "CMD [\"sleep\", \"1000000\"]";
    run::tool(["docker", "-H", &host, "import", "-c", check, "-c", sleep, &tarball, HEALTHY])?;
    Ok(())
}
