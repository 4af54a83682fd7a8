//! The commands, and where each goes.

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::client::Client;
use crate::exit::Outcome;
use crate::output::say;
use crate::service::{self, ServiceCommand};
use crate::{
    configs, conflicts, demo, explain, host, import, leave, nodes, plan, simulate, status, token,
    up,
};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused or failed; the text says why and what is still true
  2  the command line is wrong; nothing was sent
  3  the change is stored and has not come about (yet); of `plan`: something would be left waiting
  4  no shoal node could be reached

The node is found by --host, else SHOAL_HOST, else DOCKER_HOST, else unix:///run/shoal/docker.sock.
The docker command line works as well: docker -H unix:///run/shoal/docker.sock service ls";

/// Runs containers on many Docker hosts, without masters.
#[derive(Parser, Clone, Debug)]
#[command(name = "shoal", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Shoal {
    #[command(flatten)]
    host: HostFlag,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args, Clone, Debug)]
struct HostFlag {
    /// The node to ask, as unix:///path
    #[arg(long, short = 'H', global = true, env = "SHOAL_HOST", value_name = "ADDRESS")]
    host: Option<String>,
}

#[derive(Subcommand, Clone, Debug)]
enum Command {
    /// Start a node on this machine, and join others
    Up(Box<up::UpFlags>),
    /// Watch a cluster on this machine lose a host and recover; needs nothing and leaves nothing
    Demo(demo::DemoFlags),
    /// Hand this node's replicas over to the others and leave the cluster
    Leave(leave::LeaveFlags),
    /// Show this node, the members and why they are in their state, and what needs looking at
    Status(service::FormatFlag),
    /// Print the token and the command with which another machine joins
    Token(service::FormatFlag),
    /// List, inspect and change the members
    #[command(subcommand)]
    Node(nodes::NodeCommand),
    /// Create, list, change and remove services
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Foresee what would move where if hosts were lost, drained or added, or services scaled
    Plan(Box<plan::PlanFlags>),
    /// Say why a replica is where it is, or nowhere
    Explain(explain::ExplainFlags),
    /// Replace the content of configs in place
    #[command(subcommand)]
    Config(configs::ConfigCommand),
    /// Create here what another orchestrator runs
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// Look at edits that lost against a concurrent one
    #[command(subcommand)]
    Conflicts(conflicts::ConflictsCommand),
    /// Play failures in virtual time, with this program's own code, before they happen
    #[command(subcommand)]
    Simulate(Box<simulations::command::Simulate>),
    /// Print a shell's completion script
    Completion {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

pub(crate) async fn run(line: Shoal) -> Outcome {
    let client = || -> Result<Client, crate::exit::Failure> {
        let docker_host = std::env::var("DOCKER_HOST").ok();
        Ok(Client::new(host::socket(line.host.host.as_deref(), docker_host.as_deref())?))
    };
    match line.command {
        Command::Up(flags) => up::run(*flags).await,
        Command::Demo(flags) => demo::run(flags).await,
        Command::Leave(flags) => leave::run(&client()?, &flags).await,
        Command::Status(flags) => status::run(&client()?, flags.format).await,
        Command::Token(flags) => token::run(&client()?, flags.format).await,
        Command::Node(command) => nodes::run(&client()?, command).await,
        Command::Service(command) => service::run(&client()?, command).await,
        Command::Plan(flags) => plan::run(&client()?, &flags).await,
        Command::Explain(flags) => explain::run(&client()?, &flags).await,
        Command::Config(command) => configs::run(&client()?, command).await,
        Command::Import(command) => import::run(&client()?, command).await,
        Command::Conflicts(command) => conflicts::run(&client()?, command).await,
        Command::Simulate(what) => simulate::run(*what, client).await,
        Command::Completion { shell } => {
            let mut command = Shoal::command();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, "shoal", &mut script);
            say(String::from_utf8_lossy(&script).trim_end())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Shoal::command().debug_assert();
    }

    fn accepts(line: &str) -> bool {
        Shoal::try_parse_from(line.split(' ')).is_ok()
    }

    #[test]
    fn what_people_type_is_understood() {
        for line in [
            "shoal up --name a --listen 0.0.0.0:7946 --join b:7946 --join c:7946 --label k=v",
            "shoal service create --name web --replicas 100 nodejs",
            "shoal service create -e A=1 -l k=v -p mode=host,target=80 -u nobody -w /x busybox sh -c exit",
            "shoal service create busybox httpd -f -p 80",
            "shoal service create --init --read-only --tty -d -q --mode global busybox",
            "shoal service create --init=false busybox",
            "shoal service scale web=5 db=2",
            "shoal service update --args -v --env-rm A --publish-rm 80 --force web",
            "shoal service logs -f --tail 10 --since 10m web",
            "shoal --host unix:///x service ls --format json",
            "shoal service ls -H unix:///x",
            "shoal node update --availability drain --label-add a=b n1",
            "shoal plan --kill a --kill b --kill-zone r1 --drain c --scale web=200 --scale db=2",
            "shoal plan --add 2 --like a --cpu 8 --memory 32g --zone r2 --label disk=ssd",
            "shoal plan --add-label a:disk=ssd --remove-label b:disk --format json",
            "shoal explain web.3 --format json",
            "shoal completion bash",
            "shoal simulate scenarios",
            "shoal simulate scenario rack-loss --seed 7 --html report.html --twice",
            "shoal simulate scenario rack-loss --from-cluster --host unix:///x",
            "shoal simulate run --hosts 10 --replicas 100 --kill 30%",
            "shoal config update site ./site.conf --signal HUP",
            "shoal import swarm",
            "shoal import swarm --from unix:///x --stopped --secrets . --dry-run --format json web db",
            "shoal service create --secret key --config source=site,target=/etc/site busybox",
            "shoal service update --secret-rm old --secret-add source=new,target=old web",
            "shoal demo",
            "shoal demo --nodes 5 --replicas 20 --keep --runtime process",
        ] {
            assert!(accepts(line), "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_wrong_usage() {
        for line in [
            "shoal",
            "shoal service create",
            "shoal service create --replicas -1 x",
            "shoal service create --mode half x",
            "shoal service create --mount /a:/b x",
            "shoal service create --no-healthcheck --health-cmd x y",
            "shoal service scale web",
            "shoal service rm",
            "shoal node update --availability gone n1",
            "shoal demo --nodes 1",
            "shoal simulate",
            "shoal simulate scenario",
            "shoal simulate scenario rack-loss --speed 0",
            "shoal plan --zone r1",
            "shoal plan --scale web",
            "shoal plan --add 0",
            "shoal explain",
            "shoal import",
            "shoal service create --secret target=x busybox",
            "shoal nonsense",
        ] {
            assert!(!accepts(line), "{line}");
        }
    }
}
