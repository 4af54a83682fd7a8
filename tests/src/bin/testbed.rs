//! `testbed`: a cluster of real Docker hosts on this machine, by hand.
//!
//! `testbed up 5` brings one up and says how to use it, `testbed down` takes it away. In between, hosts can
//! be crashed, frozen and cut off. Each call finds the bed by its record on disk.
#![allow(clippy::print_stdout, reason = "this is a command line: it speaks to a person")]

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use tests::{Options, Power, Testbed, guard, removal, shoal};

/// Real Docker hosts on this machine: make them, break them, remove them.
#[derive(Parser)]
#[command(name = "testbed", version)]
struct Arguments {
    /// Which bed; several may be up at once.
    #[arg(long, global = true, default_value = "hand", env = "TESTBED")]
    bed: String,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Bring up hosts, with shoal on each when its binary is found.
    Up {
        hosts: usize,
        /// The shoal binary [default: the newest in target/{release,quick,debug}].
        #[arg(long)]
        shoal: Option<PathBuf>,
        /// Engines only.
        #[arg(long, conflicts_with = "shoal")]
        no_shoal: bool,
        /// Passed to `shoal up`: local, lan or wan.
        #[arg(long)]
        profile: Option<String>,
        /// Zone of each host in turn: --zone a --zone a --zone b.
        #[arg(long = "zone")]
        zones: Vec<String>,
        /// Give shoal's data a disk of so many MiB on each host.
        #[arg(long, value_name = "MIB")]
        disk: Option<u32>,
        /// Containers outlive their engine's daemon.
        #[arg(long)]
        live_restore: bool,
    },
    /// Bring up engines only, until this program ends, in whatever way; each has another name.
    Hold { hosts: usize },
    /// Remove everything.
    Down,
    /// Show the hosts and how to use them.
    Status,
    /// Power off, silently.
    Crash {
        #[arg(required = true)]
        hosts: Vec<usize>,
    },
    /// Start crashed hosts again.
    Restart {
        #[arg(required = true)]
        hosts: Vec<usize>,
    },
    /// Stop every process of hosts (SIGSTOP).
    Freeze {
        #[arg(required = true)]
        hosts: Vec<usize>,
    },
    /// Let frozen hosts go on; all of them when none is named.
    Thaw { hosts: Vec<usize> },
    /// Cut groups of hosts from each other: `cut 0,1 2`.
    Cut {
        #[arg(required = true, num_args = 2..)]
        groups: Vec<String>,
        /// Only packets from the first group to the second are lost.
        #[arg(long)]
        one_way: bool,
    },
    /// Lose so many percent of all packets.
    Loss { percent: u8 },
    /// End all cuts and losses.
    Heal,
    /// A shell on a host, or a command.
    Shell {
        host: usize,
        #[arg(trailing_var_arg = true)]
        command: Vec<String>,
    },
    /// Run the shoal command line on a host.
    Shoal {
        host: usize,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// kill -9 of shoal alone.
    KillShoal { host: usize },
    /// Start shoal on a host where it does not run.
    StartShoal { host: usize },
    /// Make a host's engine hang (SIGSTOP of dockerd alone).
    HangEngine { host: usize },
    /// Let it go on.
    UnhangEngine { host: usize },
    /// Remove what killed programs left behind.
    Sweep,
    /// Used by the beds of tests: remove one when its program ends.
    #[command(hide = true)]
    Guard { directory: PathBuf },
}

fn main() -> Result<()> {
    let Arguments { bed, what } = Arguments::parse();
    match what {
        What::Up { hosts, shoal, no_shoal, profile, zones, disk, live_restore } => {
            let options = Options {
                hosts,
                name: Some(bed),
                shoal,
                profile,
                zones,
                disk_mib: disk,
                live_restore,
                ..Options::default()
            };
            up(options, no_shoal)
        }
        What::Hold { hosts } => hold(hosts),
        What::Sweep => {
            let swept = removal::sweep()?;
            println!("removed {} abandoned beds: {}", swept.len(), swept.join(" "));
            Ok(())
        }
        What::Guard { directory } => guard::stand(&directory),
        What::Down => {
            Testbed::open(&bed)?.done()?;
            println!("the bed {bed} is gone");
            Ok(())
        }
        What::Status => {
            show(&Testbed::open(&bed)?);
            Ok(())
        }
        other => act(Testbed::open(&bed)?, other),
    }
}

fn up(mut options: Options, no_shoal: bool) -> Result<()> {
    let found = options.shoal.take().or_else(shoal::find_binary);
    options.shoal = if no_shoal { None } else { found };
    let with_shoal = options.shoal.is_some();
    let mut bed = Testbed::with(options)?;
    if with_shoal {
        bed.shoal_up_all()?;
    }
    show(&bed);
    bed.keep()
}

fn hold(hosts: usize) -> Result<()> {
    let bed = Testbed::up(hosts)?;
    show(&bed);
    println!("\nup until this program ends (Ctrl-C)");
    loop {
        std::thread::park();
    }
}

fn act(mut bed: Testbed, what: What) -> Result<()> {
    match what {
        What::Crash { hosts } => bed.crash_together(&hosts)?,
        What::Restart { hosts } => hosts.into_iter().try_for_each(|host| bed.restart(host))?,
        What::Freeze { hosts } => hosts.into_iter().try_for_each(|host| bed.freeze(host))?,
        What::Thaw { hosts } => {
            let frozen = bed.hosts().iter().filter(|host| host.power() == Power::Frozen);
            let all = frozen.map(|host| host.index()).collect();
            let hosts = if hosts.is_empty() { all } else { hosts };
            hosts.into_iter().try_for_each(|host| bed.thaw(host))?;
        }
        What::Cut { groups, one_way } => {
            let groups: Vec<Vec<usize>> =
                groups.iter().map(|group| indices(group)).collect::<Result<_>>()?;
            let groups: Vec<&[usize]> = groups.iter().map(Vec::as_slice).collect();
            match (one_way, groups.as_slice()) {
                (true, [from, to]) => bed.cut_one_way(from, to)?,
                (true, _) => bail!("--one-way takes two groups: from, to"),
                (false, groups) => bed.cut(groups)?,
            }
        }
        What::Loss { percent } => bed.lose(percent)?,
        What::Heal => bed.heal()?,
        What::Shell { host, command } => return shell(&bed, host, command),
        What::Shoal { host, arguments } => {
            let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
            print!("{}", bed.host(checked(&bed, host)?).shoal_with(&words)?);
            return Ok(());
        }
        What::KillShoal { host } => change(&mut bed, host)?.kill_shoal()?,
        What::StartShoal { host } => change(&mut bed, host)?.start_shoal()?,
        What::HangEngine { host } => change(&mut bed, host)?.hang_engine()?,
        What::UnhangEngine { host } => change(&mut bed, host)?.unhang_engine()?,
        What::Up { .. }
        | What::Hold { .. }
        | What::Down
        | What::Status
        | What::Sweep
        | What::Guard { .. } => {
            bail!("is done elsewhere")
        }
    }
    bed.save()?;
    show(&bed);
    Ok(())
}

fn shell(bed: &Testbed, host: usize, command: Vec<String>) -> Result<()> {
    let host = bed.host(checked(bed, host)?);
    let command = if command.is_empty() { vec!["sh".to_string()] } else { command };
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let line = host.command_line(&words)?;
    let failed =
        Command::new(&line[0]).args(&line[1..]).env("DOCKER_HOST", host.engine().url()).exec();
    Err(failed).context("cannot start nsenter")
}

fn show(bed: &Testbed) {
    println!("bed {} in {}", bed.name(), bed.directory().display());
    if let Ok(faults) = bed.faults() {
        println!("the switch drops: {faults}");
    }
    for host in bed.hosts() {
        let shoal = match host.shoal_process() {
            Some(process) => format!("shoal is pid {}", process.pid),
            None => "no shoal".to_string(),
        };
        println!("\n{} {} {:?}, {shoal}", host.name(), host.address(), host.power());
        if let Ok(enter) = host.enter() {
            println!("  export DOCKER_HOST={}    # its engine", host.engine().url());
            if host.shoal_process().is_some() {
                println!("  export DOCKER_HOST={}    # shoal there", host.shoal_api().url());
            }
            println!("  {} sh", enter.join(" "));
        }
    }
    println!("\ntestbed crash 2 | restart 2 | freeze 1 | thaw | cut 0,1 2 | loss 5 | heal | down");
}

fn change(bed: &mut Testbed, host: usize) -> Result<&mut tests::Host> {
    let host = checked(bed, host)?;
    Ok(bed.host_mut(host))
}

fn checked(bed: &Testbed, host: usize) -> Result<usize> {
    let hosts = bed.hosts().len();
    if host >= hosts {
        bail!("there is no h{host}: the bed has h0 to h{}", hosts - 1);
    }
    Ok(host)
}

fn indices(group: &str) -> Result<Vec<usize>> {
    let numbers = group.split(',').map(|word| word.trim_start_matches('h').parse());
    numbers
        .collect::<Result<_, _>>()
        .with_context(|| format!("{group:?} is not a list of hosts like 0,1"))
}
