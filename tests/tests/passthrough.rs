//! What is not Swarm's goes through a node's socket as if it were the engine's own: containers, images, volumes, local
//! networks, builds, events, and the connections that a client takes over for attach, exec and BuildKit's sessions. Each
//! docker command line on this machine does the same by both sockets of one host, and has to get the same.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tests::conformance::clients::{Cli, command_lines};
use tests::conformance::compare::{Played, differences};
use tests::conformance::normalise;
use tests::image::BUSYBOX;
use tests::{Engine, Testbed, run, secs};

/// Far above what any of it takes.
const BOUND: Duration = secs(90);

/// Command lines, and what is typed into them. What one leaves behind, a later one removes.
const LINES: &[(&str, &str)] = &[
    ("version --format '{{.Server.Version}} {{.Server.APIVersion}} {{.Server.Os}}'", ""),
    ("run --rm -i shoal/busybox:1 cat", "typed into it\nto the end\n"),
    ("run --rm shoal/busybox:1 sh -c 'echo out; echo err >&2; exit 5'", ""),
    ("run -d --name one --label a=b -p 127.0.0.1:18099:80 shoal/busybox:1 sleep 1d", ""),
    ("run -d --name one shoal/busybox:1 true", ""),
    ("ps --filter label=a=b", ""),
    ("ps -a --no-trunc --filter name=one --format '{{json .}}'", ""),
    ("port one", ""),
    ("top one -o comm", ""),
    ("exec one sh -c 'echo in it; exit 7'", ""),
    (
        "exec -i one sh -c 'read first; echo \"got $first\"; cat; echo done >&2'",
        "line\nrest\nof it",
    ),
    ("exec -d one touch /made", ""),
    ("exec nobody true", ""),
    ("exec one nosuchprogram", ""),
    ("exec -e A=1 -w /tmp -u 7 one sh -c 'echo $A; pwd; id -u'", ""),
    ("cp here/big one:/tmp/big", ""),
    ("exec one sha256sum /tmp/big", ""),
    ("cp one:/tmp/big back", ""),
    ("cp here one:/tmp/folder", ""),
    ("exec one ls /tmp/folder", ""),
    ("cp one:/nothing back", ""),
    ("diff one", ""),
    ("rename one two", ""),
    ("update --memory 64m --memory-swap 64m two", ""),
    ("inspect --format '{{.Name}} {{.HostConfig.Memory}} {{.State.Status}}' two", ""),
    ("pause two", ""),
    ("inspect --format '{{.State.Status}}' two", ""),
    ("unpause two", ""),
    ("stats --no-stream --format '{{.Name}}' two", ""),
    ("commit -m because two shoal/committed:1", ""),
    ("history --format '{{.CreatedBy}} {{.Comment}}' shoal/committed:1", ""),
    ("restart -t 0 two", ""),
    ("kill two", ""),
    ("wait two", ""),
    ("rm two", ""),
    ("rm two", ""),
    ("create -i --name kept shoal/busybox:1 sh -c 'read word; echo $word; exit 3'", ""),
    ("start -ai kept", "said\n"),
    ("logs kept", ""),
    ("logs --tail 0 kept", ""),
    ("logs nobody", ""),
    ("rm -f kept", ""),
    ("run --rm shoal/nowhere:1 true", ""),
    ("images --format '{{.Repository}}:{{.Tag}}'", ""),
    ("images --filter reference=shoal/committed", ""),
    ("tag shoal/committed:1 shoal/tagged:2", ""),
    ("rmi shoal/committed:1", ""),
    ("save -o saved.tar shoal/tagged:2", ""),
    ("rmi shoal/tagged:2", ""),
    ("image inspect shoal/tagged:2", ""),
    ("load -i saved.tar", ""),
    ("image inspect --format '{{.RepoTags}} {{.Comment}}' shoal/tagged:2", ""),
    ("rmi -f shoal/tagged:2", ""),
    ("import -c 'CMD true' tree.tar shoal/imported:1", ""),
    ("image inspect --format '{{json .Config.Cmd}}' shoal/imported:1", ""),
    ("rmi shoal/imported:1", ""),
    ("volume create --label k=w keep", ""),
    ("volume ls --filter label=k=w", ""),
    ("volume inspect keep", ""),
    ("run --rm -v keep:/data shoal/busybox:1 sh -c 'echo stays > /data/file'", ""),
    ("run --rm -v keep:/data:ro shoal/busybox:1 cat /data/file", ""),
    ("volume rm keep nothing", ""),
    ("network create --subnet 172.29.7.0/24 --label k=w local", ""),
    ("network create local", ""),
    ("network ls --filter label=k=w", ""),
    ("network inspect --format '{{.Name}} {{.Scope}} {{.Driver}} {{json .IPAM.Config}}' local", ""),
    ("run --rm --network local --ip 172.29.7.9 shoal/busybox:1 hostname -i", ""),
    ("run -d --name on --network local shoal/busybox:1 sleep 1d", ""),
    ("network rm local", ""),
    ("network connect bridge on", ""),
    ("inspect --format '{{len .NetworkSettings.Networks}}' on", ""),
    ("network disconnect local on", ""),
    ("rm -f on", ""),
    ("network rm local nothing", ""),
    ("system df --format '{{.Type}}'", ""),
    ("container prune -f", ""),
    ("plugin ls", ""),
];

#[test]
fn what_is_not_swarms_is_the_engines_own_answer() -> Result<()> {
    let mut bed = Testbed::up(1)?;
    bed.shoal_up_all()?;
    for cli in command_lines()? {
        let mut both = Vec::new();
        for (name, socket) in [("engine", bed.host(0).engine()), ("shoal", bed.host(0).shoal_api())]
        {
            let client = Client::new(&bed, cli.clone(), &socket)?;
            both.push(client.everything().with_context(|| format!("{} by {name}", cli.version))?);
        }
        let [engine, shoal] = both.as_slice() else { bail!("two were played") };
        ensure!(engine.len() > LINES.len(), "little was played");
        let different = differences(engine, shoal);
        let shown: Vec<String> = different
            .iter()
            .map(|one| format!("{} | {:?}: {}", one.command, one.side, one.line))
            .collect();
        ensure!(shown.is_empty(), "{}, Swarm being the engine: {shown:#?}", cli.version);
    }
    bed.done()
}

/// One command line on one socket.
struct Client {
    cli: Cli,
    url: String,
    directory: PathBuf,
}

impl Client {
    fn new(bed: &Testbed, cli: Cli, socket: &Engine) -> Result<Client> {
        let directory = bed.directory().join("passthrough");
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(directory.join("config"))?;
        fs::create_dir_all(directory.join("here"))?;
        // Larger than any buffer on the way.
        let big: Vec<u8> = (0..12_u32 << 20).map(|at| (at.wrapping_mul(31) >> 7) as u8).collect();
        fs::write(directory.join("here/big"), big)?;
        fs::write(directory.join("here/small"), "small")?;
        let (from, to) = (directory.join("here"), directory.join("tree.tar"));
        run::tool(["tar", "-C", &from.to_string_lossy(), "-cf", &to.to_string_lossy(), "small"])?;
        Ok(Client { cli, url: socket.url(), directory })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.cli.path);
        command.env_clear().envs(run::inherited_environment());
        command.env("DOCKER_CONFIG", self.directory.join("config"));
        command.current_dir(&self.directory).args(["-H", &self.url]).args(words);
        command
    }

    /// How a command ends and what it says.
    fn play(&self, line: &str, input: &str) -> Result<Played> {
        let words = shlex::split(line).with_context(|| format!("unclosed quotes: {line}"))?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.played(line, &mut self.command(&words), input)
    }

    fn played(&self, name: &str, command: &mut Command, input: &str) -> Result<Played> {
        let output = run::run(command, input.as_bytes(), BOUND)?;
        let mut lines = vec![format!("exit {:?}", output.status.code())];
        lines.extend(normalise::output(&output.stdout));
        let said = normalise::output(&output.stderr);
        lines.extend(said.into_iter().map(|line| format!("stderr: {line}")));
        Ok(Played { section: self.cli.version.clone(), command: name.to_owned(), lines })
    }

    fn done(&self, line: &str) -> Result<String> {
        let words = shlex::split(line).with_context(|| format!("unclosed quotes: {line}"))?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        run::succeed(&mut self.command(&words), b"", BOUND)
    }

    fn everything(&self) -> Result<Vec<Played>> {
        let mut played = LINES
            .iter()
            .map(|(line, input)| self.play(line, input).with_context(|| (*line).to_owned()))
            .collect::<Result<Vec<_>>>()?;
        ensure!(
            fs::read(self.directory.join("back"))? == fs::read(self.directory.join("here/big"))?,
            "a file was not the same after it had gone there and back"
        );
        let seen = |name: &str, lines: Vec<String>| Played {
            section: self.cli.version.clone(),
            command: name.to_owned(),
            lines,
        };
        played.push(seen("logs -f", self.logs_are_followed()?));
        played.push(seen("attach", self.attached()?));
        played.push(seen("events", self.events()?));
        played.push(self.with_a_terminal()?);
        played.extend(self.through_pipes()?);
        played.extend(self.built()?);
        Ok(played)
    }

    /// Lines come when they are said, not when the container has ended.
    fn logs_are_followed(&self) -> Result<Vec<String>> {
        let script = "echo first; until test -e /go; do sleep 0.1; done; echo last";
        self.done(&format!("run -d --name talks {BUSYBOX} sh -c '{script}'"))?;
        let mut follow = Streamed::start(self.command(&["logs", "-f", "talks"]))?;
        let mut lines = vec![follow.line()?];
        self.done("exec talks touch /go")?;
        lines.extend(follow.rest()?);
        ensure!(lines == ["first", "last"], "{lines:?}");
        self.done("rm -f talks")?;
        Ok(lines)
    }

    /// What is typed reaches the program while it runs; when the input ends, so does the program's.
    fn attached(&self) -> Result<Vec<String>> {
        let script = "while read word; do echo \"heard $word\"; done; echo over";
        self.done(&format!("create -i --name hears {BUSYBOX} sh -c '{script}'"))?;
        self.done("start hears")?;
        let mut attach = Streamed::start(self.command(&["attach", "hears"]))?;
        let mut lines = Vec::new();
        for word in ["one", "two"] {
            attach.say(word)?;
            lines.push(attach.line()?);
        }
        attach.close_input();
        lines.extend(attach.rest()?);
        ensure!(lines == ["heard one", "heard two", "over"], "{lines:?}");
        self.done("rm -f hears")?;
        Ok(lines)
    }

    /// Told as they happen, and told again when asked for later.
    fn events(&self) -> Result<Vec<String>> {
        let since = self.done("info --format '{{.SystemTime}}'")?;
        let format = "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}";
        let filters = ["--filter", "type=container", "--filter", "container=told"];
        let since = since.trim();
        let words = [&["events", "--since", since, "--format", format][..], &filters].concat();
        let mut events = Streamed::start(self.command(&words))?;
        self.done(&format!("create --name told {BUSYBOX} true"))?;
        self.done("start -a told")?;
        self.done("rm told")?;
        let mut live = Vec::new();
        while live.last().is_none_or(|line: &String| !line.contains("destroy")) {
            live.push(events.line()?);
        }
        drop(events);
        let until = self.done("info --format '{{.SystemTime}}'")?;
        let until = until.trim();
        let again = self.done(&format!(
            "events --since {since} --until {until} --format '{format}' --filter container=told"
        ))?;
        let again: Vec<String> =
            again.lines().filter(|l| l.starts_with("container ")).map(str::to_owned).collect();
        ensure!(again == live, "{again:?} later, {live:?} live");
        ensure!(live.iter().any(|line| line == "container start told"), "{live:?}");
        Ok(live)
    }

    /// `exec -it` and `run -it`, which want a terminal: `script` makes one, of a size of its own.
    fn with_a_terminal(&self) -> Result<Played> {
        self.done(&format!("run -d --name screen {BUSYBOX} sleep 1d"))?;
        let inner = "exec -it screen sh -c 'test -t 0 && test -t 1 && read word && echo \"seen $word\"; exit 4'";
        let line = format!("{} -H {} {inner}", self.cli.path.display(), self.url);
        let mut command = Command::new("script");
        command.env_clear().envs(run::inherited_environment());
        command.env("DOCKER_CONFIG", self.directory.join("config")).env("TERM", "xterm");
        command.args(["-q", "-e", "-c", &line, "/dev/null"]);
        let mut played = self.played("exec -it", &mut command, "typed\n")?;
        // Whether what is typed is shown once or twice depends on the moment.
        played.lines.retain(|line| line.starts_with("exit") || line.contains("seen"));
        ensure!(
            played.lines.iter().any(|line| line.contains("seen typed"))
                && played.lines[0] == "exit Some(4)",
            "{played:?}"
        );
        self.done("rm -f screen")?;
        Ok(played)
    }

    /// Archives on standard input and output: save, load, export, cp.
    fn through_pipes(&self) -> Result<Vec<Played>> {
        let pipe = |line: &str| {
            let line =
                line.replace("docker", &format!("{} -H {}", self.cli.path.display(), self.url));
            let mut command = Command::new("sh");
            command.env_clear().envs(run::inherited_environment());
            command.env("DOCKER_CONFIG", self.directory.join("config"));
            command.current_dir(&self.directory).args(["-c", &line]);
            command
        };
        let lines = [
            "docker tag shoal/busybox:1 shoal/piped:1",
            "docker save shoal/piped:1 | tar -tf - | grep -c layer.tar",
            "docker save shoal/piped:1 > piped.tar && docker rmi shoal/piped:1 && docker load < piped.tar",
            "docker rmi shoal/piped:1",
            "docker create --name archive shoal/busybox:1 true >/dev/null",
            "tar -C here -cf - small | docker cp - archive:/tmp",
            "docker cp archive:/tmp/small - | tar -xOf -",
            "docker export archive | tar -tf - | grep '^tmp/'",
            "docker rm archive",
        ];
        let played: Vec<Played> = lines
            .iter()
            .map(|line| self.played(line, &mut pipe(line), ""))
            .collect::<Result<_>>()?;
        let bad = played.iter().find(|one| one.lines[0] != "exit Some(0)");
        ensure!(bad.is_none(), "{bad:?}");
        Ok(played)
    }

    /// The classic builder, and BuildKit where the command line has it.
    fn built(&self) -> Result<Vec<Played>> {
        let folder = self.directory.join("build");
        fs::create_dir_all(&folder)?;
        let recipe = format!(
            "FROM {BUSYBOX}\nARG WHO=nobody\nCOPY big small /srv/\nRUN cat /srv/small > /srv/made && echo $WHO >> /srv/made\n\
             CMD [\"cat\", \"/srv/made\"]\n"
        );
        fs::write(folder.join("Dockerfile"), recipe)?;
        for file in ["big", "small"] {
            fs::copy(self.directory.join("here").join(file), folder.join(file))?;
        }
        let mut all = Vec::new();
        for kit in ["0", "1"] {
            let words = [
                "build",
                "--no-cache",
                "--build-arg",
                "WHO=somebody",
                "-t",
                "shoal/built:1",
                "build",
            ];
            let mut command = self.command(&words);
            command.env("DOCKER_BUILDKIT", kit).env("BUILDKIT_PROGRESS", "plain");
            let mut built = self.played(&format!("build {kit}"), &mut command, "")?;
            if has_no_kit(&built) {
                all.push(built);
                continue;
            }
            ensure!(built.lines[0] == "exit Some(0)", "DOCKER_BUILDKIT={kit}: {built:#?}");
            // How BuildKit tells of it depends on the moment.
            built.lines.truncate(1);
            all.push(built);
            let made = self.play("run --rm shoal/built:1", "")?;
            ensure!(made.lines.contains(&"smallsomebody".to_owned()), "{made:?}");
            all.push(made);
            self.done("rmi shoal/built:1")?;
        }
        let bad = folder.join("Dockerfile");
        fs::write(bad, format!("FROM {BUSYBOX}\nRUN exit 9\n"))?;
        let mut command = self.command(&["build", "--no-cache", "--force-rm", "build"]);
        all.push(self.played("a build that fails", command.env("DOCKER_BUILDKIT", "0"), "")?);
        Ok(all)
    }
}

/// The newer command line has BuildKit in a plugin, which may not be there.
fn has_no_kit(built: &Played) -> bool {
    built.lines.iter().any(|line| line.contains("buildx component is missing"))
}

/// A command that goes on while others run; ended when dropped.
struct Streamed {
    child: Child,
    /// What it says, line by line, until it ends.
    lines: mpsc::Receiver<String>,
}

impl Streamed {
    fn start(mut command: Command) -> Result<Streamed> {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn()?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Nobody may want to hear the rest.
                let _ = sender.send(line);
            }
        });
        Ok(Streamed { child, lines })
    }

    fn say(&mut self, word: &str) -> Result<()> {
        let input = self.child.stdin.as_mut().context("its input is closed")?;
        writeln!(input, "{word}").context("it does not listen")
    }

    fn close_input(&mut self) {
        self.child.stdin = None;
    }

    fn line(&mut self) -> Result<String> {
        self.lines.recv_timeout(BOUND).context("it says nothing")
    }

    fn rest(&mut self) -> Result<Vec<String>> {
        let mut rest = Vec::new();
        loop {
            match self.lines.recv_timeout(BOUND) {
                Ok(line) => rest.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => bail!("it does not end after {rest:?}"),
            }
        }
        let status = self.child.wait()?;
        ensure!(status.success(), "it ended with {status}");
        Ok(rest)
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        // Ended already, unless it is one that does not end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
