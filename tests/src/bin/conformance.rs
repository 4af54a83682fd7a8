//! Drop-in: Docker's own clients say the same against shoal as against a Swarm, but for the differences that
//! docs/COMPATIBILITY.md lists with their reasons.
//!
//! `SHOAL_CONFORMANCE` names sections to play alone (all that contain the text); rows of the table that match nothing
//! are then no failure. Both transcripts and the difference are kept in `TARGET/conformance`.
#![allow(clippy::print_stderr, reason = "this is a command line: it speaks to a person")]

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use tests::conformance::clients::{self, Cli};
use tests::conformance::compare::{Played, differences};
use tests::conformance::player::{Player, System};
use tests::conformance::script::{Section, parse};
use tests::conformance::{folder, listed, page};
use tests::{Testbed, secs, wait_for};

fn main() -> Result<()> {
    let clis = clients::command_lines()?;
    let only = std::env::var("SHOAL_CONFORMANCE").unwrap_or_default();
    let sections = sections(&only)?;
    let with_sdk = "python sdk".contains(&only);
    let named: Vec<&str> = clis.iter().map(|cli| cli.version.as_str()).collect();
    say(&format!("docker CLIs {}; {} sections", named.join(", "), sections.len()));

    let scratch = tempfile::tempdir()?;
    let python = std::thread::scope(|scope| -> Result<_> {
        let python =
            scope.spawn(|| with_sdk.then(|| clients::python_sdk(scratch.path())).transpose());
        let swarm = scope.spawn(|| play(System::Swarm, &sections, &clis));
        let shoal = scope.spawn(|| play(System::Shoal, &sections, &clis));
        let python =
            python.join().map_err(|_| anyhow::anyhow!("installing the SDK panicked"))??;
        // Sections first: the SDK looks at a cluster in which nothing else runs.
        let mut sides = Vec::new();
        for (system, side) in [(System::Swarm, swarm), (System::Shoal, shoal)] {
            let (mut played, bed) = side
                .join()
                .map_err(|_| anyhow::anyhow!("a side panicked"))?
                .context(format!("{system:?}"))?;
            if let Some(python) = &python {
                played.extend(Player::new(system, &bed)?.sdk(python)?);
            }
            bed.done()?;
            sides.push(played);
        }
        Ok(sides)
    })?;
    let [swarm, shoal] = python.as_slice() else { bail!("two sides were played") };
    judge(swarm, shoal, only.is_empty())
}

fn sections(only: &str) -> Result<Vec<Section>> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder())?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.sort();
    let mut sections = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|ext| ext == "cmds")) {
        let read =
            parse(&std::fs::read_to_string(file)?).with_context(|| file.display().to_string())?;
        sections.extend(read.into_iter().filter(|section| section.title.contains(only)));
    }
    Ok(sections)
}

/// Brings one of the two up and plays all sections on it.
fn play(system: System, sections: &[Section], clis: &[Cli]) -> Result<(Vec<Played>, Testbed)> {
    let mut bed = Testbed::up(3)?;
    match system {
        System::Swarm => start_swarm(&bed)?,
        System::Shoal => bed.shoal_up_all()?,
    }
    let mut player = Player::new(system, &bed)?;
    let mut played = Vec::new();
    for section in sections {
        let used = if section.all_clients { clis } else { &clis[..1] };
        for cli in used {
            let begun = Instant::now();
            played.extend(player.play(section, cli)?);
            let (title, took) = (&section.title, begun.elapsed().as_secs_f64());
            say(&format!("{system:?} {}: {title} took {took:.1} s", cli.version));
        }
    }
    Ok((played, bed))
}

/// All hosts managers, as all nodes of a shoal are.
fn start_swarm(bed: &Testbed) -> Result<()> {
    let first = bed.host(0);
    first.docker(["swarm", "init", "--advertise-addr", first.address()])?;
    let token = first.docker(["swarm", "join-token", "-q", "manager"])?;
    let join = format!("{}:2377", first.address());
    for host in &bed.hosts()[1..] {
        let here = host.address();
        host.docker(["swarm", "join", "--advertise-addr", here, "--token", token.trim(), &join])?;
    }
    wait_for("the Swarm to be whole", secs(60), || {
        let nodes = first.engine().nodes().map_err(|error| format!("{error:#}"))?;
        let ready = nodes.iter().filter(|node| node.ready).count();
        if ready == bed.hosts().len() { Ok(()) } else { Err(format!("{ready} nodes ready")) }
    })?;
    Ok(())
}

fn judge(swarm: &[Played], shoal: &[Played], whole: bool) -> Result<()> {
    let rows = listed::rows(&std::fs::read_to_string(page())?)?;
    let found = differences(swarm, shoal);
    let mut used = vec![0_usize; rows.len()];
    let (mut explained, mut unexplained) = (String::new(), String::new());
    let mut unlisted = 0;
    for difference in &found {
        match rows.iter().position(|row| row.explains(difference)) {
            Some(row) => {
                used[row] += 1;
                writeln!(explained, "{difference}\n    because: {}", rows[row].why)?;
            }
            None => {
                unlisted += 1;
                writeln!(unexplained, "{difference}")?;
            }
        }
    }
    let idle: Vec<&listed::Row> =
        rows.iter().zip(&used).filter(|(_, count)| **count == 0).map(|(row, _)| row).collect();
    keep(swarm, shoal, &explained, &unexplained)?;
    say(&format!(
        "{} commands, {} differences: {} listed, {unlisted} not",
        swarm.len(),
        found.len(),
        found.len() - unlisted
    ));
    // Two that fail alike are no agreement: the script asks for something that cannot be.
    let vain = |played: &Played| played.lines.iter().any(|line| line.starts_with("in vain: "));
    let both = swarm.iter().zip(shoal).filter(|(a, b)| vain(a) && vain(b));
    let both: Vec<&str> = both.map(|(a, _)| a.command.as_str()).collect();
    ensure!(both.is_empty(), "both sides waited in vain, so this compares nothing: {both:#?}");
    ensure!(unlisted == 0, "differences that docs/COMPATIBILITY.md does not list:\n{unexplained}");
    ensure!(
        !whole || idle.is_empty(),
        "rows of docs/COMPATIBILITY.md that no difference matches any more:\n{idle:#?}"
    );
    Ok(())
}

/// Both transcripts and what differs, to be read.
fn keep(swarm: &[Played], shoal: &[Played], explained: &str, unexplained: &str) -> Result<()> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).context("a target directory")?;
    let folder = target.join("conformance");
    std::fs::create_dir_all(&folder)?;
    for (name, played) in [("swarm.txt", swarm), ("shoal.txt", shoal)] {
        let mut text = String::new();
        for one in played {
            writeln!(text, "[{}] $ {}\n{}\n", one.section, one.command, one.lines.join("\n"))?;
        }
        std::fs::write(folder.join(name), text)?;
    }
    std::fs::write(folder.join("listed.txt"), explained)?;
    std::fs::write(folder.join("unlisted.txt"), unexplained)?;
    say(&format!("transcripts are in {}", folder.display()));
    Ok(())
}

#[expect(clippy::print_stderr, reason = "a test that takes minutes says what it found")]
fn say(text: &str) {
    eprintln!("conformance: {text}");
}
