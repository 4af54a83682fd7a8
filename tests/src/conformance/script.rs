//! The scripts: command lines as a person types them, and the little that a machine has to be told besides.
//!
//! ```text
//! # a comment
//! == services                    a section; `all clients` after it plays it with each docker CLI, not only the newest
//! docker service ls              compared: what it prints, how it ends
//! do docker service rm web       done, not compared
//! h1: docker node ls             on another host than h0 (works with `do` too: `do h1: docker ...`)
//! wait web 3                     until three containers of the service run, by the engines
//! until complete docker ...      asks until the answer contains the word ('or words'); not compared
//! set ID docker ...              what it prints goes into $ID
//! http GET /nodes/none           the plain API: status and body
//! container web                  what the engine says of the service's container: compared
//! file stack.yml                 the lines up to a lone dot are put into a file of that name
//! ```

use anyhow::{Context, Result, bail};

/// One part of a script that stands alone: it removes what it made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    pub title: String,
    /// With each docker CLI that was found, not only with the newest.
    pub all_clients: bool,
    pub steps: Vec<Step>,
}

/// One line of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A docker command line.
    Docker { host: usize, line: String, compared: bool },
    /// A request of the plain API.
    Http { method: String, path: String, body: String },
    /// Until so many containers of a service run.
    Wait { service: String, containers: usize },
    /// Until the output of a command contains a word.
    Until { word: String, line: String },
    /// The output of a command, by a name.
    Set { name: String, line: String },
    /// The engine's own view of one of a service's containers.
    Container { service: String },
    /// A file for the commands that follow.
    File { name: String, text: String },
}

/// Reads a script.
///
/// # Errors
/// The line that is none of the above.
pub fn parse(text: &str) -> Result<Vec<Section>> {
    let mut sections: Vec<Section> = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix("== ") {
            let (title, all_clients) = match title.strip_suffix(" all clients") {
                Some(title) => (title, true),
                None => (title, false),
            };
            sections.push(Section { title: title.trim().into(), all_clients, steps: Vec::new() });
            continue;
        }
        let step = if let Some(name) = line.strip_prefix("file ") {
            let text: Vec<&str> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| *line != ".").collect();
            Step::File { name: name.into(), text: text.join("\n") + "\n" }
        } else {
            step(line).with_context(|| format!("line {}: {line}", number + 1))?
        };
        let section = sections.last_mut().context("a step before the first section (== title)")?;
        section.steps.push(step);
    }
    Ok(sections)
}

fn step(line: &str) -> Result<Step> {
    let (word, rest) = line.split_once(' ').context("a word alone")?;
    let owned = str::to_owned;
    let two =
        || rest.split_once(' ').map(|(a, b)| (owned(a), owned(b))).context("a word is missing");
    Ok(match word {
        "docker" => Step::Docker { host: 0, line: owned(rest), compared: true },
        "do" => match step(rest)? {
            Step::Docker { host, line, .. } => Step::Docker { host, line, compared: false },
            _ => bail!("`do` is for docker commands"),
        },
        "http" => {
            let mut words = rest.splitn(3, ' ').map(owned);
            let mut next = || words.next().unwrap_or_default();
            Step::Http { method: next(), path: next(), body: next() }
        }
        "wait" => {
            let (service, count) = two()?;
            Step::Wait { service, containers: count.parse().context("how many?")? }
        }
        "until" => {
            // The word may be several, in quotes.
            let quoted = rest.strip_prefix('\'').and_then(|rest| rest.split_once("' "));
            let (word, line) =
                quoted.or_else(|| rest.split_once(' ')).context("a word is missing")?;
            let line = line.strip_prefix("docker ").context("docker ...")?;
            Step::Until { word: owned(word), line: owned(line) }
        }
        "set" => {
            let (name, line) = two()?;
            Step::Set { name, line: owned(line.strip_prefix("docker ").context("docker ...")?) }
        }
        "container" => Step::Container { service: owned(rest) },
        host if host.starts_with('h') && host.ends_with(':') => {
            let index = host[1..host.len() - 1].parse().context("a host such as h1:")?;
            match step(rest)? {
                Step::Docker { line, compared, .. } => Step::Docker { host: index, line, compared },
                _ => bail!("a host is for docker commands"),
            }
        }
        other => bail!("'{other}' is no step"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_step_is_read() -> Result<()> {
        let sections = parse(
            "# x\n== one all clients\ndocker service ls\ndo h1: docker node ls\nwait web 3\n\
             until done docker service ps web\nset ID docker service ls -q\nhttp POST /a {\"b\": 1}\n\
             container web\n\n== two\nfile a.yml\nx: 1\n\ny: 2\n.\nh2: docker info\n",
        )?;
        let docker =
            |host, line: &str, compared| Step::Docker { host, line: line.into(), compared };
        assert_eq!(sections.len(), 2);
        assert!(sections[0].all_clients && !sections[1].all_clients);
        assert_eq!(sections[0].steps[0], docker(0, "service ls", true));
        assert_eq!(sections[0].steps[1], docker(1, "node ls", false));
        assert_eq!(sections[0].steps[2], Step::Wait { service: "web".into(), containers: 3 });
        assert_eq!(
            sections[0].steps[5],
            Step::Http { method: "POST".into(), path: "/a".into(), body: "{\"b\": 1}".into() }
        );
        assert_eq!(
            sections[1].steps,
            [
                Step::File { name: "a.yml".into(), text: "x: 1\n\ny: 2\n".into() },
                docker(2, "info", true)
            ]
        );
        Ok(())
    }

    #[test]
    fn a_line_that_is_no_step_is_named() {
        for wrong in
            ["== a\nserve ls", "docker service ls", "== a\nwait web many", "== a\ndo wait web 3"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
