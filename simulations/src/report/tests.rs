use super::*;
use crate::history::{HostRow, Mark, Sample};
use crate::links::HostIx;
use crate::time::Span;

fn secs(at: u64) -> At {
    At::ZERO + Span::secs(at)
}

fn history(hosts: usize, seconds: u64) -> History {
    let row = |n: usize| HostRow {
        name: format!("<host-{n}>"),
        zone: String::new(),
        states: vec![(secs(1), State::Up), (secs(60), State::Off), (secs(90), State::Up)],
        replicas: vec![(secs(1), 4), (secs(60), 0), (secs(95), 4)],
    };
    let sample =
        |at| Sample { at: secs(at), wanted: 8, ready: 8 - (at % 60) / 30, ..Sample::default() };
    History { samples: (1..seconds).map(sample).collect(), hosts: (0..hosts).map(row).collect() }
}

fn page(hosts: usize, seconds: u64, violations: &[Violation]) -> String {
    let mut figures = Figures::default();
    figures.marks.push(Mark {
        at: secs(60),
        until: Some(secs(90)),
        kind: MarkKind::Fault,
        text: "crash <host-1>".to_owned(),
        hosts: vec![HostIx(1)],
    });
    figures.verdicts.push((
        secs(63),
        membership::id::NodeId(1),
        membership::member::MemberState::Down,
    ));
    let sheet =
        Sheet { what: "a&b".to_owned(), violations: violations.len() as u64, ..Sheet::default() };
    html(&Material {
        title: "A <script>alert(1)</script> title",
        about: "about",
        look_at: "",
        sheet: &sheet,
        figures: &figures,
        violations,
        history: &history(hosts, seconds),
        origin: secs(30),
        start_ms: (200, 1500),
        modelled: true,
        replay: "simulations scenario 'x' --seed 1",
    })
}

/// Every element that is opened is closed, in order: enough for a browser to show what was meant.
fn is_balanced(page: &str) -> Result<(), String> {
    const ALONE: [&str; 3] = ["meta", "br", "!doctype"];
    let mut open: Vec<&str> = Vec::new();
    for piece in page.split('<').skip(1) {
        let (tag, _) = piece.split_once('>').ok_or(format!("no end of a tag: {piece}"))?;
        let name = tag.split_whitespace().next().unwrap_or_default();
        if let Some(closing) = name.strip_prefix('/') {
            if open.pop() != Some(closing) {
                return Err(format!("</{closing}> closes nothing"));
            }
        } else if !tag.ends_with('/') && !ALONE.contains(&name) {
            open.push(name);
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("left open: {open:?}")) }
}

#[test]
fn the_page_is_whole_and_nothing_from_outside_is_markup() {
    let found = Violation { at: secs(1), check: "twins", text: "<b>two</b>".to_owned() };
    let page = page(4, 200, &[found]);
    assert_eq!(is_balanced(&page), Ok(()));
    assert!(!page.contains("<script") && !page.contains("<host-") && !page.contains("<b>two"));
    assert!(page.contains("&lt;script&gt;") && page.contains("a&amp;b"));
    assert!(page.contains("1 violation") && page.contains("crash &lt;host-1&gt;"));
    for fetched in ["http://", "https://", "src=", "url(", "@import", "<link"] {
        assert!(!page.contains(fetched), "{fetched}");
    }
}

#[test]
fn the_peers_stand_beside_a_crash_and_are_called_models() {
    let page = page(4, 200, &[]);
    assert!(page.contains("models of documented settings, not measurements"));
    assert!(page.contains("1 of 4 with 4 replicas"));
    for name in ["Docker Swarm (model)", "Nomad (model)", "Kubernetes (model)", "dispatcher.go"] {
        assert!(page.contains(name), "{name}");
    }
}

#[test]
fn long_runs_of_many_hosts_stay_small() {
    let page = page(900, 40_000, &[]);
    assert!(page.len() < 600_000, "{} bytes", page.len());
    assert!(page.contains("15 hosts share a row"));
    assert_eq!(is_balanced(&page), Ok(()));
}

#[test]
fn a_run_without_anything_is_a_page_too() {
    let (sheet, figures, history) = (Sheet::default(), Figures::default(), History::default());
    let page = html(&Material {
        title: "nothing",
        about: "",
        look_at: "",
        sheet: &sheet,
        figures: &figures,
        violations: &[],
        history: &history,
        origin: At::ZERO,
        start_ms: (1, 2),
        modelled: true,
        replay: "",
    });
    assert_eq!(is_balanced(&page), Ok(()));
    assert!(!page.contains("id=\"peers\""));
}
