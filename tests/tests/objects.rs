//! Secrets, configs and templates, driven by the real docker command line: what reaches the containers, what
//! is on no disk, and what survives the end of shoal, of an engine, of a host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::image::BUSYBOX;
use tests::tap::Tap;
use tests::{Options, Testbed, secs, wait_for};

const REPAIR: Duration = secs(60);
/// What must not be found anywhere.
const SECRET: &str = "correct-horse-battery-staple-7d1f";
const ROTATED: &str = "another-horse-altogether-93ac";
/// The same two as the API carries them.
const SECRET_64: &str = "Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5LXN0YXBsZS03ZDFm";
const ROTATED_64: &str = "YW5vdGhlci1ob3JzZS1hbHRvZ2V0aGVyLTkzYWM=";
/// What is sent from host to host in the open, to see that it would be seen.
const OPEN: &str = "this-is-for-everybody-51c2";

#[test]
fn secrets_and_configs_reach_containers_and_secrets_no_disk() -> Result<()> {
    // Logs tell everything that they can tell.
    let flags = ["--log", "trace"].map(str::to_owned).to_vec();
    let mut bed = Testbed::with(Options { live_restore: true, flags, ..Options::hosts(3) })?;
    let unsaid = [SECRET, SECRET_64, ROTATED, ROTATED_64];
    let tap = Tap::between_hosts(&bed, &[unsaid.as_slice(), &[OPEN]].concat())?;
    bed.shoal_up_all()?;
    let dir = bed.directory().to_owned();
    let secret = file(&dir, "secret", SECRET)?;
    bed.host(0).docker_by_shoal(["secret", "create", "key", &secret])?;
    // Nobody's disk needs the plain file any more.
    fs::remove_file(&secret)?;
    let site = file(&dir, "site", "edition one")?;
    bed.host(1).docker_by_shoal(["config", "create", "site", &site])?;
    let greeting =
        "{{env \"WHO\"}} on {{.Node.Hostname}}: {{config \"/etc/site\"}}, {{.Service.Name}}";
    let greeting = file(&dir, "greeting", greeting)?;
    let made = ["config", "create", "--template-driver", "golang", "greeting", &greeting];
    bed.host(2).docker_by_shoal(made)?;

    files_are_there_and_as_asked(&bed)?;
    templates_are_filled_in_or_refused(&bed)?;
    what_is_in_use_is_not_removed(&bed)?;
    a_config_is_replaced_in_place(&bed, &dir)?;
    nothing_else_has_the_secret(&bed)?;
    restarts_leave_the_files_alone(&mut bed)?;
    a_secret_is_rotated(&bed, &dir)?;
    a_lost_host_takes_no_secret_along(&mut bed)?;
    nothing_else_has_the_secret(&bed)?;
    what_ended_leaves_no_files(&bed)?;
    nobody_can_read_it_between_hosts(&bed, tap)?;
    bed.done()
}

/// The secrets went from the host where they were made to all others, more than once; what carried them told nobody.
fn nobody_can_read_it_between_hosts(bed: &Testbed, tap: Tap) -> Result<()> {
    let say = format!(
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'{OPEN}', ('{}', 9))",
        bed.host(1).address()
    );
    bed.host(0).tool(&["python3", "-c", &say])?;
    let seen = tap.close()?;
    let (open, unsaid) = seen.marked.split_last().context("nothing was looked for")?;
    ensure!(*open > 0, "what is sent in the open is not seen: {seen:?}");
    ensure!(seen.bytes > 100_000, "the hosts said next to nothing: {seen:?}");
    ensure!(unsaid.iter().all(|packets| *packets == 0), "a secret could be read: {seen:?}");
    Ok(())
}

fn file(dir: &Path, name: &str, content: &str) -> Result<String> {
    let path = dir.join(name);
    fs::write(&path, content)?;
    Ok(path.to_string_lossy().into_owned())
}

fn files_are_there_and_as_asked(bed: &Testbed) -> Result<()> {
    bed.host(0).docker_by_shoal([
        "service",
        "create",
        "--quiet",
        "--name",
        "web",
        "--replicas",
        "6",
        "--stop-signal",
        "SIGKILL",
        "--env",
        "WHO=web-{{.Task.Slot}}",
        "--secret",
        "source=key,target=key,uid=7,gid=8,mode=0400",
        "--config",
        "source=site,target=/etc/site",
        "--config",
        "source=greeting,target=/srv/greeting",
        BUSYBOX,
        "sh",
        "-c",
        "trap 'cat /etc/site > /tmp/heard' HUP; while true; do sleep 0.1; done",
    ])?;
    bed.wait_running("web", 6, REPAIR)?;
    for (host, container) in bed.running("web").containers() {
        let id = container.id.as_str();
        let slot = container.slot.context("a slot")?;
        let exec = |line: &str| bed.host(host).docker(["exec", id, "sh", "-c", line]);
        ensure!(exec("cat /run/secrets/key")? == SECRET, "{}", exec("cat /run/secrets/key")?);
        let stat = exec("stat -c '%u %g %a' /run/secrets/key /etc/site")?;
        ensure!(stat.trim() == "7 8 400\n0 0 444", "{stat}");
        ensure!(exec("stat -f -c %T /run/secrets/key")?.trim() == "tmpfs", "it is not in memory");
        ensure!(exec("echo x > /run/secrets/key").is_err(), "a secret can be written to");
        let greeting = exec("cat /srv/greeting")?;
        let wanted = format!("web-{slot} on h{host}: edition one, web");
        ensure!(greeting == wanted, "'{greeting}' is not '{wanted}'");
    }
    Ok(())
}

fn templates_are_filled_in_or_refused(bed: &Testbed) -> Result<()> {
    bed.host(1).docker_by_shoal([
        "service",
        "create",
        "--quiet",
        "--name",
        "words",
        "--replicas",
        "2",
        "--label",
        "com.example.tier=front",
        "--hostname",
        "{{.Service.Name}}-{{.Task.Slot}}",
        "--env",
        "TIER={{index .Service.Labels \"com.example.tier\"}}",
        "--env",
        "NODE={{.Node.ID}} {{.Node.Hostname}} {{.Node.Platform.OS}}",
        "--mount",
        "type=volume,source=v{{.Task.Slot}},target=/data/{{.Task.Slot}}",
        BUSYBOX,
        "sleep",
        "1d",
    ])?;
    bed.wait_running("words", 2, REPAIR)?;
    for (host, container) in bed.running("words").containers() {
        let slot = container.slot.context("a slot")?;
        let line = format!("hostname; echo $TIER; echo $NODE; ls -d /data/{slot}");
        let said = bed.host(host).docker(["exec", &container.id, "sh", "-c", &line])?;
        let node = container.labels.get("shoal.node.id").context("a node")?;
        let wanted = format!("words-{slot}\nfront\n{node} h{host} linux\n/data/{slot}\n");
        ensure!(said == wanted, "{said} is not {wanted}");
        bed.host(host).docker(["volume", "inspect", &format!("v{slot}")])?;
    }
    let refused = bed.host(0).docker_by_shoal([
        "service",
        "create",
        "-d",
        "--name",
        "wrong",
        "--env",
        "A={{.Task.Slto}}",
        BUSYBOX,
    ]);
    let why = format!("{:#}", refused.err().context("an unknown word was accepted")?);
    ensure!(why.contains("ContainerSpec.Env[0]") && why.contains("Slto"), "{why}");
    // Known only where the task is: the label is there, what it holds as a template is not.
    let config = ["config", "create", "--template-driver", "golang", "lost", "-"];
    let api = bed.host(0).shoal_api().url();
    let argv = [["docker", "-H", &api].as_slice(), &config].concat();
    tests::run::tool_with_input(&argv, b"{{secret \"none\"}}")?;
    bed.host(0).docker_by_shoal([
        "service",
        "create",
        "-d",
        "--name",
        "lost",
        "--restart-condition",
        "none",
        "--config",
        "lost",
        BUSYBOX,
        "sleep",
        "1d",
    ])?;
    wait_for("the task to be rejected", REPAIR, || {
        let ps = bed.host(2).docker_by_shoal(["service", "ps", "--no-trunc", "lost"]);
        let ps = ps.map_err(|e| format!("{e:#}"))?;
        if ps.contains("Rejected") && ps.contains("secret target none not found") {
            Ok(())
        } else {
            Err(ps)
        }
    })?;
    bed.host(0).docker_by_shoal(["service", "rm", "lost", "words"])?;
    bed.host(0).docker_by_shoal(["config", "rm", "lost"])?;
    Ok(())
}

fn what_is_in_use_is_not_removed(bed: &Testbed) -> Result<()> {
    for (kind, name) in [("secret", "key"), ("config", "site")] {
        let refused = bed.host(2).docker_by_shoal([kind, "rm", name]);
        let why = format!("{:#}", refused.err().context("it was removed")?);
        ensure!(
            why.contains(&format!("{kind} '{name}' is in use by the following service: web")),
            "{why}"
        );
    }
    Ok(())
}

fn a_config_is_replaced_in_place(bed: &Testbed, dir: &Path) -> Result<()> {
    let before = bed.running("web").ids();
    let two = file(dir, "site", "edition two, which is longer")?;
    let said = bed.host(2).shoal(["config", "update", "site", &two, "--signal", "HUP"])?;
    ensure!(said.contains("web"), "{said}");
    wait_for("all to have heard", REPAIR, || {
        for (host, container) in bed.running("web").containers() {
            let heard = bed.host(host).docker(["exec", &container.id, "cat", "/tmp/heard"]);
            let heard = heard.map_err(|e| format!("{e:#}"))?;
            if heard != "edition two, which is longer" {
                return Err(format!("h{host} heard {heard}"));
            }
        }
        Ok(())
    })?;
    for (host, container) in bed.running("web").containers() {
        let greeting = bed.host(host).docker(["exec", &container.id, "cat", "/srv/greeting"])?;
        ensure!(greeting.contains("edition two"), "a template sees the old one: {greeting}");
    }
    ensure!(bed.running("web").ids() == before, "a container was replaced");
    Ok(())
}

/// The bytes are in no file of any host (data, engine, logs) and in nothing that an engine or shoal shows.
fn nothing_else_has_the_secret(bed: &Testbed) -> Result<()> {
    for bytes in [SECRET, SECRET_64, ROTATED, ROTATED_64] {
        let found = Command::new("grep").args(["-rlF", bytes]).arg(bed.directory()).output()?;
        let files = String::from_utf8_lossy(&found.stdout).into_owned();
        ensure!(files.is_empty(), "{bytes} is in {files}");
        ensure!(found.status.code() == Some(1), "the search failed: {found:?}");
    }
    for host in bed.running_hosts() {
        let host = bed.host(host);
        let store = fs::read(host.shoal_data().join("store.redb"))?;
        ensure!(store.len() > 1000 && !contains(&store, SECRET), "the store has it");
        for id in host.docker(["ps", "-aq", "--no-trunc"])?.lines() {
            let shown = host.docker(["inspect", id])?;
            ensure!(!shown.contains(SECRET) && !shown.contains(ROTATED), "inspect shows it");
        }
        let shown = host.docker_by_shoal(["secret", "inspect", "key"])?;
        let events = host.docker_by_shoal(["events", "--since", "1h", "--until", "0s"])?;
        ensure!(!shown.contains(SECRET) && !events.contains(SECRET), "{shown} {events}");
    }
    Ok(())
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn restarts_leave_the_files_alone(bed: &mut Testbed) -> Result<()> {
    let before = bed.running("web").ids();
    bed.host_mut(0).kill_shoal()?;
    bed.host_mut(1).stop_engine()?;
    bed.host_mut(0).start_shoal()?;
    bed.host_mut(1).start_engine()?;
    bed.wait_members(&[0, 1, 2], secs(60))?;
    bed.stays_as("web", &before, secs(8))?;
    everybody_reads(bed, SECRET)
}

fn everybody_reads(bed: &Testbed, secret: &str) -> Result<()> {
    for (host, container) in bed.running("web").containers() {
        let read = bed.host(host).docker(["exec", &container.id, "cat", "/run/secrets/key"])?;
        ensure!(read == secret, "on h{host} it is {read}");
    }
    Ok(())
}

fn a_secret_is_rotated(bed: &Testbed, dir: &Path) -> Result<()> {
    let secret = file(dir, "secret", ROTATED)?;
    bed.host(1).docker_by_shoal(["secret", "create", "key2", &secret])?;
    fs::remove_file(&secret)?;
    bed.host(2).docker_by_shoal([
        "service",
        "update",
        "--quiet",
        "--update-parallelism",
        "3",
        "--secret-rm",
        "key",
        "--secret-add",
        "source=key2,target=key",
        "web",
    ])?;
    bed.wait_running("web", 6, REPAIR)?;
    wait_for("all to have the new one", REPAIR, || {
        everybody_reads(bed, ROTATED).map_err(|e| format!("{e:#}"))
    })?;
    Ok(())
}

fn a_lost_host_takes_no_secret_along(bed: &mut Testbed) -> Result<()> {
    bed.crash(2)?;
    bed.wait_running("web", 6, REPAIR)?;
    everybody_reads(bed, ROTATED)?;
    bed.restart(2)?;
    bed.wait_members(&[0, 1, 2], secs(60)).map(|_| ())
}

fn what_ended_leaves_no_files(bed: &Testbed) -> Result<()> {
    ensure!(!left_files(bed).is_empty(), "this finds nothing, whatever there is");
    bed.host(1).docker_by_shoal(["service", "rm", "web"])?;
    wait_for("memory to be free of secrets", REPAIR, || match left_files(bed) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    })?;
    bed.host(1).docker_by_shoal(["secret", "rm", "key", "key2"])?;
    bed.host(1).docker_by_shoal(["config", "rm", "site", "greeting"])?;
    Ok(())
}

/// The files of tasks on all hosts, in their memory.
fn left_files(bed: &Testbed) -> Vec<PathBuf> {
    let mut left = Vec::new();
    for host in bed.running_hosts() {
        let find = ["busybox", "find", "/run/shoal/files", "-type", "f"];
        let said = bed.host(host).tool(&find).unwrap_or_default();
        left.extend(said.lines().map(PathBuf::from));
    }
    left
}
