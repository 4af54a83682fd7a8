//! One host: namespaces, an engine of its own, perhaps a small disk, and shoal.
//!
//! A host survives its crash as a real one does: its directory stays, everything in memory (processes,
//! mounts, addresses, `/run`) is gone, and starting it again makes all of that anew over the same data.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::disk::Disk;
use crate::engine::Engine;
use crate::namespace::Namespaces;
use crate::process::Process;
use crate::removal;
use crate::run::{self, Output};
use crate::shoal::Shoal;
use crate::switch::Switch;
use crate::wait::{secs, wait_for};

/// Where the engine and its containerd write their pids, in the host's own /run.
const DOCKERD_PID: &str = "/run/docker.pid";
const CONTAINERD_PID: &str = "/run/docker/containerd/containerd.pid";
/// Bound of an engine's start; a second on a quiet machine, more when five start at once.
const ENGINE_START_BOUND: Duration = secs(60);
/// Bound of killing or stopping all of a host: a hundred containers and their shims.
const SIGNAL_BOUND: Duration = secs(30);

/// Whether a host runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Power {
    On,
    /// Every process is stopped (SIGSTOP); the kernel still answers pings for it.
    Frozen,
    Off,
}

/// One Docker host of a bed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Host {
    index: usize,
    directory: PathBuf,
    address: String,
    group: Group,
    power: Power,
    namespaces: Option<Namespaces>,
    live_restore: bool,
    dockerd: Option<Process>,
    disk: Option<Disk>,
    pub(crate) shoal: Shoal,
}

impl Host {
    /// Lays the host's directory out; [`Host::boot`] starts it.
    pub(crate) fn new(
        index: usize,
        bed: &Group,
        bed_directory: &Path,
        address: String,
        live_restore: bool,
        disk_mib: Option<u32>,
        shoal: Shoal,
    ) -> Result<Host> {
        let directory = bed_directory.join(format!("h{index}"));
        for folder in ["etc-docker", "shoal"] {
            fs::create_dir_all(directory.join(folder))?;
        }
        let disk = disk_mib
            .map(|mib| Disk::make(&directory.join("disk.ext4"), &directory.join("shoal"), mib))
            .transpose()?;
        Ok(Host {
            index,
            group: bed.below(&format!("h{index}")),
            directory,
            address,
            power: Power::Off,
            namespaces: None,
            live_restore,
            dockerd: None,
            disk,
            shoal,
        })
    }

    /// `h0`, `h1`, …: its host name, and shoal's name for the node.
    pub fn name(&self) -> String {
        format!("h{}", self.index)
    }

    /// Its place in the bed, from 0.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its IPv4 address on the switch.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where its files and logs are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether it runs.
    pub fn power(&self) -> Power {
        self.power
    }

    /// Its Docker engine.
    pub fn engine(&self) -> Engine {
        Engine::at(&self.directory.join("docker.sock"))
    }

    /// Its engine's process.
    pub fn dockerd(&self) -> Option<Process> {
        self.dockerd
    }

    /// What `nsenter` needs to get inside, as words to put before a command.
    pub fn enter(&self) -> Result<Vec<String>> {
        Ok(self.inside()?.enter())
    }

    /// The command line that runs something on the host, as part of it.
    pub fn command_line(&self, argv: &[&str]) -> Result<Vec<String>> {
        self.inside()?.command_line(argv)
    }

    /// Runs a program on the host to its end; any exit status is an answer.
    pub fn run(&self, argv: &[&str], bound: Duration) -> Result<Output> {
        self.inside()?.run(argv, bound)
    }

    /// Runs a program on the host that must succeed within 30 s, and returns its output.
    pub fn tool(&self, argv: &[&str]) -> Result<String> {
        self.inside()?.tool(argv)
    }

    /// Starts a program on the host that goes on by itself; its output goes to `NAME.log`. It dies when
    /// the host crashes.
    pub fn spawn(&self, name: &str, argv: &[String], env: &[(String, String)]) -> Result<Process> {
        let mut words = self.inside()?.enter();
        words.extend_from_slice(argv);
        run::detach(&self.group.below("host"), name, &words, env, &self.log(name))
    }

    /// The log of a program started on the host.
    pub fn log(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.log"))
    }

    /// Runs the real docker command against this host's engine; it must succeed.
    pub fn docker<const N: usize>(&self, arguments: [&str; N]) -> Result<String> {
        docker(&self.engine(), &arguments).with_context(|| self.name())
    }

    /// Runs the real docker command against shoal on this host; it must succeed.
    pub fn docker_by_shoal<const N: usize>(&self, arguments: [&str; N]) -> Result<String> {
        docker(&self.shoal_api(), &arguments).with_context(|| self.name())
    }

    /// As [`Host::docker`], for a list made at run time.
    pub fn docker_with(&self, arguments: &[&str]) -> Result<String> {
        docker(&self.engine(), arguments).with_context(|| self.name())
    }

    /// As [`Host::docker_by_shoal`], for a list made at run time.
    pub fn docker_by_shoal_with(&self, arguments: &[&str]) -> Result<String> {
        docker(&self.shoal_api(), arguments).with_context(|| self.name())
    }

    /// Whether it answers pings of another host.
    pub fn reaches(&self, other: &Host) -> Result<bool> {
        let argv = ["busybox", "ping", "-c", "1", "-W", "1", &other.address];
        Ok(self.run(&argv, secs(10))?.status.success())
    }

    /// Where shoal's data is, as seen from outside the host.
    pub fn shoal_data(&self) -> PathBuf {
        let path = self.directory.join("shoal");
        match (&self.disk, &self.namespaces) {
            // A mounted disk is only visible inside: look through the holder's eyes.
            (Some(_), Some(inside)) => {
                let inside = PathBuf::from(format!("/proc/{}/root", inside.pid()));
                inside.join(path.strip_prefix("/").unwrap_or(&path))
            }
            _ => path,
        }
    }

    /// Cuts a file of shoal's data to its first `length` bytes: what a crash in the middle of a write may
    /// leave. The name is relative to the data directory.
    pub fn truncate(&self, file: &str, length: u64) -> Result<()> {
        let path = self.shoal_data().join(file);
        let opened = OpenOptions::new().write(true).open(&path);
        opened.with_context(|| format!("cannot open {}", path.display()))?.set_len(length)?;
        Ok(())
    }

    /// Overwrites bytes in a file of shoal's data: a torn or rotten sector.
    pub fn overwrite(&self, file: &str, offset: u64, bytes: &[u8]) -> Result<()> {
        let path = self.shoal_data().join(file);
        let opened = OpenOptions::new().write(true).open(&path);
        let opened = opened.with_context(|| format!("cannot open {}", path.display()))?;
        opened.write_all_at(bytes, offset)?;
        Ok(())
    }

    /// Makes the disk full, to the last byte.
    pub fn fill_disk(&self) -> Result<()> {
        self.disk()?.fill(self.inside()?)
    }

    /// Gives the room back.
    pub fn free_disk(&self) -> Result<()> {
        self.disk()?.free(self.inside()?)
    }

    /// Makes the disk read-only under whatever uses it.
    pub fn make_disk_read_only(&self) -> Result<()> {
        self.disk()?.make_read_only(self.inside()?)
    }

    /// Repairs the disk and makes it writable; shoal must not run meanwhile.
    pub fn make_disk_writable(&self) -> Result<()> {
        self.disk()?.make_writable(self.inside()?)
    }

    /// Starts the host: namespaces, disk, network, engine. Shoal is started by the bed.
    pub(crate) fn boot(&mut self, switch: &Switch) -> Result<()> {
        ensure!(self.power == Power::Off, "{} is already running", self.name());
        let group = self.group.below("host");
        group.make()?;
        let etc = self.directory.join("etc-docker");
        // /run is memory and so empty after a boot; /etc/docker holds the engine's identity.
        let setup = format!(
            "hostname {}; mount -t tmpfs -o mode=755 tmpfs /run; mkdir -p /run/lock /etc/docker; \
             mount --bind '{}' /etc/docker",
            self.name(),
            etc.display()
        );
        let inside = Namespaces::make(&group, "host", &self.directory, &setup)?;
        self.namespaces = Some(inside.clone());
        self.power = Power::On;
        if let Some(disk) = &self.disk {
            disk.mount(&inside)?;
        }
        switch.plug(self.index, &self.address, &inside)?;
        self.start_engine()
    }

    /// Starts the engine and waits until it answers.
    pub fn start_engine(&mut self) -> Result<()> {
        let socket = self.directory.join("docker.sock");
        let _ = fs::remove_file(&socket);
        // A killed engine leaves these, and takes anything that has such a pid, a zombie even, for itself.
        self.tool(&["rm", "-f", DOCKERD_PID, CONTAINERD_PID])?;
        let path = |name: &str| self.directory.join(name).to_string_lossy().into_owned();
        let mut argv: Vec<String> = vec!["dockerd".into(), "--data-root".into(), path("docker")];
        argv.extend(
            ["--exec-root", "/run/docker", "--pidfile", "/run/docker.pid"].map(String::from),
        );
        argv.extend(["--host".into(), format!("unix://{}", socket.display())]);
        argv.extend(["--cgroup-parent".into(), self.group.below("containers").as_parent()]);
        if self.live_restore {
            argv.push("--live-restore".into());
        }
        // Registries of the bed speak plain HTTP.
        if let Some((network, _)) = self.address.rsplit_once('.') {
            argv.extend(["--insecure-registry".into(), format!("{network}.0/24")]);
        }
        let dockerd = self.spawn("dockerd", &argv, &[])?;
        self.dockerd = Some(dockerd);
        let (engine, log) = (self.engine(), self.log("dockerd"));
        let what = format!("the engine of {}", self.name());
        let answers = || engine.answers(secs(2));
        run::wait_until_it_answers(&what, ENGINE_START_BOUND, dockerd, &log, answers)
    }

    /// Stops the engine politely (SIGTERM), which stops its containers too unless live-restore is on.
    pub fn stop_engine(&mut self) -> Result<()> {
        self.end_engine(Signal::SIGTERM)
    }

    /// Kills the engine's daemon, and nothing else: containers go on under their shims.
    pub fn kill_engine(&mut self) -> Result<()> {
        self.end_engine(Signal::SIGKILL)
    }

    fn end_engine(&mut self, signal: Signal) -> Result<()> {
        let Some(dockerd) = self.dockerd.take() else { return Ok(()) };
        // The engine's containerd is its child, and dies with it, a moment later.
        let pid = self.tool(&["cat", CONTAINERD_PID])?;
        let containerd = pid.trim().parse().ok().and_then(Process::with_pid);
        dockerd.signal(signal)?;
        wait_for("dockerd and its containerd to end", secs(60), || {
            let mut both = std::iter::once(&dockerd).chain(&containerd);
            match both.find(|process| process.is_alive()) {
                Some(process) => Err(format!("pid {} lives", process.pid)),
                None => Ok(()),
            }
        })?;
        Ok(())
    }

    /// Makes the engine hang: it takes connections and never answers.
    pub fn hang_engine(&self) -> Result<()> {
        self.dockerd.context("no engine runs")?.stop()
    }

    /// Lets a hanging engine go on.
    pub fn unhang_engine(&self) -> Result<()> {
        self.dockerd.context("no engine runs")?.signal(Signal::SIGCONT)
    }

    /// Power lost: nobody hears a word of it. The link goes first, so that no closing connection and no
    /// reset gets out; then every process of the host is killed, and with them all it had in memory.
    pub(crate) fn crash(&mut self, switch: &Switch) -> Result<()> {
        if self.power == Power::Off {
            bail!("{} is already off", self.name());
        }
        switch.link_down(self.index)?;
        let inhabitants = self.inhabitants();
        self.group.kill(SIGNAL_BOUND)?;
        removal::all_gone(&inhabitants)?;
        self.power = Power::Off;
        self.namespaces = None;
        self.dockerd = None;
        self.shoal.forget_process();
        self.group.remove(secs(10))
    }

    /// Stops every process on the host, containers included.
    pub(crate) fn freeze(&mut self) -> Result<()> {
        self.group.stop(SIGNAL_BOUND)?;
        self.power = Power::Frozen;
        Ok(())
    }

    /// It gets this address when it is started next.
    pub(crate) fn move_to(&mut self, address: String) -> Result<()> {
        ensure!(self.power == Power::Off, "{} is running: crash it first", self.name());
        self.address = address;
        Ok(())
    }

    /// Lets a frozen host go on.
    pub(crate) fn thaw(&mut self) -> Result<()> {
        self.group.thaw(SIGNAL_BOUND)?;
        self.power = Power::On;
        Ok(())
    }

    /// Every process of the host.
    pub fn processes(&self) -> Vec<Process> {
        self.group.processes()
    }

    /// Every process in its namespaces, whether in its group or not.
    pub(crate) fn inhabitants(&self) -> Vec<Process> {
        self.namespaces.as_ref().map(Namespaces::inhabitants).unwrap_or_default()
    }

    pub(crate) fn inside(&self) -> Result<&Namespaces> {
        self.namespaces.as_ref().with_context(|| format!("{} is off", self.name()))
    }

    fn disk(&self) -> Result<&Disk> {
        self.disk.as_ref().with_context(|| {
            format!("{} has no disk of its own: set Options::disk_mib", self.name())
        })
    }
}

fn docker(api: &Engine, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("docker");
    command.args(["-H", &api.url()]).args(arguments);
    run::succeed(&mut command, b"", secs(120))
}
