//! `shoal service ls`

use clap::Args;
use serde_json::{Value, json};

use super::{FormatFlag, mode, text};
use crate::client::Client;
use crate::exit::Outcome;
use crate::output::{self, Colour, Format, Palette, short};

#[derive(Args, Clone, Debug)]
pub(crate) struct LsFlags {
    #[command(flatten)]
    format: FormatFlag,
    /// Print ids only
    #[arg(long, short = 'q')]
    quiet: bool,
}

pub(super) async fn run(client: &Client, flags: &LsFlags) -> Outcome {
    let mut services =
        client.get("/services?status=true").await?.as_array().cloned().unwrap_or_default();
    services.sort_by(|a, b| text(&a["Spec"], "Name").cmp(text(&b["Spec"], "Name")));
    if flags.quiet {
        return services.iter().try_for_each(|service| output::say(short(text(service, "ID"))));
    }
    if flags.format.format == Format::Json {
        return output::json(&services.iter().map(as_json).collect());
    }
    let palette = Palette::stdout();
    let rows: Vec<Vec<String>> = services.iter().map(|service| row(service, palette)).collect();
    output::table(&["ID", "NAME", "MODE", "REPLICAS", "IMAGE", "PORTS"], &rows)
}

fn counts(service: &Value) -> (u64, u64) {
    let status = &service["ServiceStatus"];
    (
        status["RunningTasks"].as_u64().unwrap_or_default(),
        status["DesiredTasks"].as_u64().unwrap_or_default(),
    )
}

fn is_job(service: &Value) -> bool {
    !service["JobStatus"].is_null()
}

/// How many slots of a job are done, and of how many.
fn of_job(service: &Value) -> (u64, u64) {
    let status = &service["ServiceStatus"];
    let done = status["CompletedTasks"].as_u64().unwrap_or_default();
    (done, mode(&service["Spec"]).1.unwrap_or(done + counts(service).1))
}

fn completed(service: &Value) -> String {
    let (done, all) = of_job(service);
    if is_job(service) { format!(" ({done}/{all} completed)") } else { String::new() }
}

fn image(service: &Value) -> &str {
    text(&service["Spec"]["TaskTemplate"]["ContainerSpec"], "Image")
}

fn row(service: &Value, palette: Palette) -> Vec<String> {
    let (running, desired) = counts(service);
    let whole = match (is_job(service), of_job(service)) {
        (true, (done, all)) => done == all,
        (false, _) => running == desired,
    };
    let colour = if whole { Colour::Green } else { Colour::Yellow };
    vec![
        short(text(service, "ID")),
        text(&service["Spec"], "Name").to_owned(),
        mode(&service["Spec"]).0.to_owned(),
        palette.paint(colour, &format!("{running}/{desired}{}", completed(service))),
        image(service).to_owned(),
        ports(&service["Endpoint"]["Ports"]),
    ]
}

pub(super) fn ports(ports: &Value) -> String {
    let one = |port: &Value| {
        let published = port["PublishedPort"].as_u64().unwrap_or_default();
        let (target, protocol) = (&port["TargetPort"], text(port, "Protocol"));
        if published == 0 {
            format!("*:any->{target}/{protocol}")
        } else {
            format!("*:{published}->{target}/{protocol}")
        }
    };
    let all: Vec<String> = ports.as_array().into_iter().flatten().map(one).collect();
    all.join(", ")
}

fn as_json(service: &Value) -> Value {
    let (running, desired) = counts(service);
    json!({
        "id": service["ID"],
        "name": service["Spec"]["Name"],
        "mode": mode(&service["Spec"]).0,
        "running": running,
        "desired": desired,
        "completed": is_job(service).then(|| of_job(service).0),
        "image": image(service),
        "ports": service["Endpoint"]["Ports"].as_array().cloned().unwrap_or_default(),
        "update": service["UpdateStatus"],
    })
}
