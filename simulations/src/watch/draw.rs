//! How the live picture is drawn on a terminal.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Gauge, Paragraph, Sparkline};

use super::picture::{Cell, Picture, Tone};
use crate::history::State;

/// Columns of one host where there is room for its name.
const CELL: u16 = 20;

/// How fast it goes, for the bottom line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// Virtual seconds for each real one.
    pub(super) speed: u32,
    pub(super) paused: bool,
}

fn colour(state: State) -> Color {
    match state {
        State::Up => Color::Green,
        State::Absent => Color::DarkGray,
        State::Off => Color::Red,
        State::Frozen => Color::LightBlue,
        State::NoShoal => Color::Magenta,
        State::NoEngine => Color::Yellow,
        State::Slow => Color::LightYellow,
        State::CutOff => Color::LightRed,
    }
}

pub(super) fn draw(frame: &mut Frame<'_>, picture: &Picture, pace: Pace) {
    let [top, bar, middle, bottom] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(5),
        Constraint::Min(4),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let [hosts, news] =
        Layout::horizontal([Constraint::Percentage(64), Constraint::Percentage(36)]).areas(middle);
    title(frame, top, picture);
    replicas(frame, bar, picture);
    host_cells(frame, hosts, picture);
    newest(frame, news, picture);
    let state =
        if pace.paused { "paused".to_owned() } else { format!("{} x real time", pace.speed) };
    let keys = format!(" {state}   space: pause   + -: speed   q: to the end without the picture");
    frame.render_widget(Paragraph::new(keys).style(Style::new().fg(Color::DarkGray)), bottom);
}

fn title(frame: &mut Frame<'_>, area: Rect, picture: &Picture) {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let checks = match picture.violations {
        0 => Span::styled("every check holds", Style::new().fg(Color::Green)),
        n => Span::styled(format!("{n} violations"), Style::new().fg(Color::Red)),
    };
    let line = Line::from(vec![
        Span::styled(format!(" {}  ", picture.title), bold),
        Span::raw(format!("{}  ", Picture::clock(picture.now))),
        checks,
    ]);
    frame.render_widget(Paragraph::new(line), area);
}

fn replicas(frame: &mut Frame<'_>, area: Rect, picture: &Picture) {
    let [left, right] =
        Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(area);
    let share = (picture.ready * 100).checked_div(picture.wanted).unwrap_or(0).min(100);
    let all = picture.ready >= picture.wanted;
    let label = format!(
        "{} of {} served, {} twice; {} starts, {} stops",
        picture.ready, picture.wanted, picture.copies, picture.starts, picture.stops
    );
    let gauge = Gauge::default()
        .block(Block::bordered().title(" replicas "))
        .gauge_style(Style::new().fg(if all { Color::Green } else { Color::Yellow }))
        .percent(share as u16)
        .label(label);
    frame.render_widget(gauge, left);
    let width = usize::from(right.width.saturating_sub(2));
    let from = picture.curve.len().saturating_sub(width);
    let curve = Sparkline::default()
        .block(Block::bordered().title(" served, by the second "))
        .max(picture.wanted.max(1))
        .style(Style::new().fg(Color::Cyan))
        .data(&picture.curve[from..]);
    frame.render_widget(curve, right);
}

fn host_cells(frame: &mut Frame<'_>, area: Rect, picture: &Picture) {
    let up = picture.hosts.iter().filter(|host| host.state == State::Up).count();
    let title = format!(" {up} of {} hosts well ", picture.hosts.len());
    let block = Block::bordered().title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let columns = usize::from((inner.width / CELL).max(1));
    let named = columns * usize::from(inner.height) >= picture.hosts.len();
    let lines: Vec<Line<'_>> = if named {
        picture
            .hosts
            .chunks(columns)
            .map(|row| Line::from_iter(row.iter().flat_map(cell)))
            .collect()
    } else {
        // One letter for each host: how many replicas it runs, in the colour of its state.
        let width = usize::from(inner.width.max(1));
        picture.hosts.chunks(width).map(|row| Line::from_iter(row.iter().map(letter))).collect()
    };
    frame.render_widget(Paragraph::new(lines), inner);
}

fn cell(host: &Cell) -> [Span<'static>; 2] {
    let style = Style::new().fg(colour(host.state));
    let name: String = host.name.chars().take(11).collect();
    let what = match host.state {
        State::Up | State::Slow | State::CutOff => host.replicas.to_string(),
        _ => "-".to_owned(),
    };
    [Span::styled("\u{2588} ", style), Span::raw(format!("{name:<12}{what:<5} "))]
}

fn letter(host: &Cell) -> Span<'static> {
    let digit = match host.replicas {
        0 => '.',
        n @ 1..=9 => char::from(b'0' + n as u8),
        _ => '+',
    };
    Span::styled(digit.to_string(), Style::new().fg(colour(host.state)))
}

fn newest(frame: &mut Frame<'_>, area: Rect, picture: &Picture) {
    let block = Block::bordered().title(" faults, commands, verdicts ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let room = usize::from(inner.height);
    let from = picture.news.len().saturating_sub(room);
    let lines: Vec<Line<'_>> = picture.news[from..]
        .iter()
        .map(|(at, tone, text)| {
            let colour = match tone {
                Tone::Fault => Color::Red,
                Tone::Command => Color::Blue,
                Tone::Heal => Color::Green,
                Tone::Verdict => Color::Yellow,
            };
            let clock = Span::styled(
                format!("{:>7} ", Picture::clock(*at)),
                Style::new().fg(Color::DarkGray),
            );
            Line::from(vec![clock, Span::styled(text.clone(), Style::new().fg(colour))])
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), inner);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::time::{At, Span as Time};

    fn picture(hosts: usize) -> Picture {
        let mut picture = Picture::new("rack-loss");
        picture.now = At::ZERO + Time::secs(65);
        (picture.wanted, picture.ready, picture.copies) = (20, 15, 1);
        picture.curve = vec![20; 50];
        picture.hosts = (0..hosts)
            .map(|n| Cell {
                name: format!("host-{n}"),
                state: if n == 2 { State::Off } else { State::Up },
                replicas: if n == 2 { 0 } else { 5 },
            })
            .collect();
        picture.news.push((At::ZERO + Time::secs(60), Tone::Fault, "crash host-2".to_owned()));
        picture
    }

    fn shown(picture: &Picture, width: u16, height: u16) -> (String, Terminal<TestBackend>) {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let pace = Pace { speed: 5, paused: false };
        terminal.draw(|frame| draw(frame, picture, pace)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let lines = buffer.content().chunks(usize::from(width));
        let text: Vec<String> =
            lines.map(|line| line.iter().map(ratatui::buffer::Cell::symbol).collect()).collect();
        (text.join("\n"), terminal)
    }

    #[test]
    fn hosts_replicas_faults_and_the_clock_are_there() {
        let (text, terminal) = shown(&picture(4), 120, 30);
        for wanted in [
            "rack-loss",
            "1:05",
            "15 of 20 served, 1 twice",
            "3 of 4 hosts well",
            "host-3",
            "crash host-2",
            "5 x real time",
            "every check holds",
        ] {
            assert!(text.contains(wanted), "{wanted}:\n{text}");
        }
        let red = terminal
            .backend()
            .buffer()
            .content()
            .iter()
            .filter(|cell| cell.fg == Color::Red && cell.symbol() == "\u{2588}");
        assert_eq!(red.count(), 1, "one host is without power");
    }

    #[test]
    fn many_hosts_are_letters_and_small_terminals_do_not_panic() {
        let (text, _) = shown(&picture(900), 120, 30);
        assert!(text.contains("55.555"), "{text}");
        for (width, height) in [(1, 1), (20, 5), (40, 10), (300, 3)] {
            shown(&picture(900), width, height);
            shown(&Picture::new("empty"), width, height);
        }
    }
}
