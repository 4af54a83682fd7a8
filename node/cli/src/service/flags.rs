//! The flags of `service create` and `service update`, with the docker CLI's names and meanings.

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::values::{self, Given};

/// What both commands take.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct SharedFlags {
    /// How many replicas
    #[arg(long)]
    pub(crate) replicas: Option<u64>,
    /// Of a replicated job: how many run at once [default: all]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) max_concurrent: Option<u64>,
    /// Cores to set aside on the node, such as 0.5
    #[arg(long, value_name = "CORES", value_parser = values::cpus)]
    pub(crate) reserve_cpu: Option<i64>,
    /// Memory to set aside on the node, such as 64m
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    pub(crate) reserve_memory: Option<i64>,
    /// The most cores that a replica may use
    #[arg(long, value_name = "CORES", value_parser = values::cpus)]
    pub(crate) limit_cpu: Option<i64>,
    /// The most memory that a replica may use
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    pub(crate) limit_memory: Option<i64>,
    /// The most processes in a replica (0: no limit)
    #[arg(long, value_name = "COUNT")]
    pub(crate) limit_pids: Option<i64>,
    /// When a replica that ended is replaced [default: any]
    #[arg(long, value_enum)]
    pub(crate) restart_condition: Option<RestartCondition>,
    /// The pause before a replacement [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) restart_delay: Option<i64>,
    /// How often a replica is replaced before it is given up (0: for ever)
    #[arg(long, value_name = "COUNT")]
    pub(crate) restart_max_attempts: Option<u64>,
    /// The time over which those attempts are counted
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) restart_window: Option<i64>,
    #[command(flatten)]
    pub(crate) update: UpdateFlags,
    #[command(flatten)]
    pub(crate) rollback_config: RollbackFlags,
    #[command(flatten)]
    pub(crate) health: HealthFlags,
    #[command(flatten)]
    pub(crate) process: ProcessFlags,
    /// The most replicas on one node (0: no limit)
    #[arg(long, value_name = "COUNT")]
    pub(crate) replicas_max_per_node: Option<u64>,
    /// While the cluster is cut in parts: `available` runs in every part, `majority` starts anew only
    /// in the larger part, `fenced` also stops in the smaller
    #[arg(long, value_enum)]
    pub(crate) partition: Option<Partition>,
    #[command(flatten)]
    pub(crate) wait: WaitFlags,
}

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct UpdateFlags {
    /// How many replicas are replaced at once (0: all) [default: 1]
    #[arg(long, value_name = "COUNT")]
    pub(crate) update_parallelism: Option<u64>,
    /// The pause between replacements
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) update_delay: Option<i64>,
    /// Stop the old one first, or start the new one first [default: stop-first]
    #[arg(long, value_enum)]
    pub(crate) update_order: Option<Order>,
    /// How long a new replica is watched for failure [default: 5s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) update_monitor: Option<i64>,
    /// What to do when too many fail [default: pause]
    #[arg(long, value_enum)]
    pub(crate) update_failure_action: Option<UpdateFailure>,
    /// The share that may fail, 0 to 1
    #[arg(long, value_name = "RATIO", value_parser = values::ratio)]
    pub(crate) update_max_failure_ratio: Option<f64>,
}

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct RollbackFlags {
    /// As --update-parallelism, for a rollback
    #[arg(long, value_name = "COUNT")]
    pub(crate) rollback_parallelism: Option<u64>,
    /// As --update-delay, for a rollback
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) rollback_delay: Option<i64>,
    /// As --update-order, for a rollback
    #[arg(long, value_enum)]
    pub(crate) rollback_order: Option<Order>,
    /// As --update-monitor, for a rollback
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) rollback_monitor: Option<i64>,
    /// As --update-failure-action, for a rollback
    #[arg(long, value_enum)]
    pub(crate) rollback_failure_action: Option<RollbackFailure>,
    /// As --update-max-failure-ratio, for a rollback
    #[arg(long, value_name = "RATIO", value_parser = values::ratio)]
    pub(crate) rollback_max_failure_ratio: Option<f64>,
}

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct HealthFlags {
    /// Command that says whether a replica is healthy
    #[arg(long, value_name = "COMMAND")]
    pub(crate) health_cmd: Option<String>,
    /// How often it is run
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) health_interval: Option<i64>,
    /// How long it may take
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) health_timeout: Option<i64>,
    /// How often in a row it must fail to count
    #[arg(long, value_name = "COUNT")]
    pub(crate) health_retries: Option<u64>,
    /// Time to come up, during which failures do not count
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) health_start_period: Option<i64>,
    /// Ignore the image's own health check
    #[arg(long, conflicts_with_all = ["health_cmd", "health_interval", "health_timeout", "health_retries", "health_start_period"])]
    pub(crate) no_healthcheck: bool,
}

#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ProcessFlags {
    /// Time to stop by itself before it is killed [default: 10s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) stop_grace_period: Option<i64>,
    /// The signal that asks it to stop
    #[arg(long, value_name = "SIGNAL")]
    pub(crate) stop_signal: Option<String>,
    /// User name or id, with group after a colon
    #[arg(long, short = 'u', value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Working directory inside the container
    #[arg(long, short = 'w', value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// Host name inside the container; may hold templates such as {{.Node.Hostname}}
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Replaces the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    pub(crate) entrypoint: Option<String>,
    /// Run an init that passes signals on and reaps processes
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) init: Option<bool>,
    /// Mount the container's root file system read only
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) read_only: Option<bool>,
    /// Give it a terminal
    #[arg(long, short = 't', value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub(crate) tty: Option<bool>,
}

/// How long to wait for the change to come about.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct WaitFlags {
    /// Return as soon as the change is stored
    #[arg(long, short = 'd')]
    pub(crate) detach: bool,
    /// Show no progress
    #[arg(long, short = 'q')]
    pub(crate) quiet: bool,
    /// Give up waiting after this long, with exit code 3; the change stands [default: wait for ever]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub(crate) timeout: Option<i64>,
}

/// `shoal service create`
#[derive(Args, Clone, Debug)]
pub(crate) struct CreateFlags {
    /// Name of the service; one is made up when none is given
    #[arg(long)]
    pub(crate) name: Option<String>,
    #[arg(long, value_enum, default_value_t)]
    pub(crate) mode: ModeName,
    /// Environment variable; NAME alone takes its value from here
    #[arg(long, short = 'e', value_name = "NAME[=VALUE]", value_parser = values::env)]
    pub(crate) env: Vec<String>,
    /// Label of the service
    #[arg(long, short = 'l', value_name = "KEY=VALUE", value_parser = values::label)]
    pub(crate) label: Vec<(String, String)>,
    /// Label of each container
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::label)]
    pub(crate) container_label: Vec<(String, String)>,
    /// Where it may run, such as node.labels.disk==ssd
    #[arg(long, value_name = "EXPRESSION")]
    pub(crate) constraint: Vec<String>,
    /// type=bind|volume|tmpfs,source=…,target=…[,readonly]
    #[arg(long, value_name = "MOUNT", value_parser = values::mount)]
    pub(crate) mount: Vec<Value>,
    /// mode=host,target=80[,published=8080][,protocol=udp]
    #[arg(long, short = 'p', value_name = "PORT", value_parser = values::publish)]
    pub(crate) publish: Vec<Value>,
    /// A secret to give it: NAME, or source=NAME[,target=FILE][,uid=0][,gid=0][,mode=0444]
    #[arg(long, value_name = "SECRET", value_parser = values::given)]
    pub(crate) secret: Vec<Given>,
    /// A config to give it: NAME, or source=NAME[,target=PATH][,uid=0][,gid=0][,mode=0444]
    #[arg(long, value_name = "CONFIG", value_parser = values::given)]
    pub(crate) config: Vec<Given>,
    #[command(flatten)]
    pub(crate) shared: SharedFlags,
    /// The image, and then the arguments of its command
    #[arg(value_name = "IMAGE")]
    pub(crate) image: String,
    #[arg(value_name = "ARG", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) args: Vec<String>,
}

/// `shoal service update`
#[derive(Args, Clone, Debug)]
pub(crate) struct ChangeFlags {
    /// The image to run
    #[arg(long)]
    pub(crate) image: Option<String>,
    /// The command's arguments, in one word of the shell
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub(crate) args: Option<String>,
    #[arg(long, value_name = "NAME[=VALUE]", value_parser = values::env)]
    pub(crate) env_add: Vec<String>,
    #[arg(long, value_name = "NAME")]
    pub(crate) env_rm: Vec<String>,
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::label)]
    pub(crate) label_add: Vec<(String, String)>,
    #[arg(long, value_name = "KEY")]
    pub(crate) label_rm: Vec<String>,
    #[arg(long, value_name = "KEY=VALUE", value_parser = values::label)]
    pub(crate) container_label_add: Vec<(String, String)>,
    #[arg(long, value_name = "KEY")]
    pub(crate) container_label_rm: Vec<String>,
    #[arg(long, value_name = "EXPRESSION")]
    pub(crate) constraint_add: Vec<String>,
    #[arg(long, value_name = "EXPRESSION")]
    pub(crate) constraint_rm: Vec<String>,
    #[arg(long, value_name = "PORT", value_parser = values::publish)]
    pub(crate) publish_add: Vec<Value>,
    /// By target port
    #[arg(long, value_name = "TARGET")]
    pub(crate) publish_rm: Vec<u16>,
    #[arg(long, value_name = "MOUNT", value_parser = values::mount)]
    pub(crate) mount_add: Vec<Value>,
    /// By path inside the container
    #[arg(long, value_name = "TARGET")]
    pub(crate) mount_rm: Vec<String>,
    #[arg(long, value_name = "SECRET", value_parser = values::given)]
    pub(crate) secret_add: Vec<Given>,
    /// By name of the secret
    #[arg(long, value_name = "NAME")]
    pub(crate) secret_rm: Vec<String>,
    #[arg(long, value_name = "CONFIG", value_parser = values::given)]
    pub(crate) config_add: Vec<Given>,
    /// By name of the config
    #[arg(long, value_name = "NAME")]
    pub(crate) config_rm: Vec<String>,
    /// Replace all replicas even if nothing changed
    #[arg(long)]
    pub(crate) force: bool,
    /// Go back to the previous spec; takes no other change
    #[arg(long)]
    pub(crate) rollback: bool,
    #[command(flatten)]
    pub(crate) shared: SharedFlags,
    /// Name, id, or the beginning of an id
    #[arg(value_name = "SERVICE")]
    pub(crate) service: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModeName {
    /// So many replicas, wherever they fit
    #[default]
    Replicated,
    /// One on every node
    Global,
    /// So many that each run to their end once
    ReplicatedJob,
    /// One on every node, to its end, once
    GlobalJob,
}

impl ModeName {
    /// As the API calls it.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Replicated => "Replicated",
            Self::Global => "Global",
            Self::ReplicatedJob => "ReplicatedJob",
            Self::GlobalJob => "GlobalJob",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RestartCondition {
    None,
    OnFailure,
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Order {
    StopFirst,
    StartFirst,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum UpdateFailure {
    Pause,
    Continue,
    Rollback,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RollbackFailure {
    Pause,
    Continue,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Partition {
    Available,
    Majority,
    Fenced,
}

/// The word of a value as it stands in the API, which is the one on the command line.
pub(crate) fn word(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|known| known.get_name().to_owned()).unwrap_or_default()
}
