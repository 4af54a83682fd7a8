//! Drawing: the shared time axis, and the few shapes that the report is made of.
//!
//! Whatever comes from outside (names, messages) goes through [`escaped`] on its way into the page.

use std::fmt::Write as _;

use crate::time::At;

/// Width of every drawing, and what is left of the axis for names.
pub(super) const WIDTH: f64 = 1120.0;
pub(super) const LEFT: f64 = 110.0;
const RIGHT: f64 = 16.0;

/// Text that means nothing to a browser but itself.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter if letter.is_control() && letter != '\n' => out.push(' '),
            letter => out.push(letter),
        }
    }
    out
}

/// Maps moments of the run to the horizontal axis; 0 is where the timeline begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) from: At,
    pub(super) to: At,
    pub(super) origin: At,
}

impl Axis {
    pub(super) fn x(&self, at: At) -> f64 {
        let at = at.max(self.from).min(self.to);
        let width = self.to.since(self.from).0.max(1) as f64;
        LEFT + at.since(self.from).0 as f64 / width * (WIDTH - LEFT - RIGHT)
    }

    /// Seconds since the origin.
    pub(super) fn seconds(&self, at: At) -> i64 {
        let micros = at.0 as i64 - self.origin.0 as i64;
        micros.div_euclid(1_000_000)
    }

    /// Marks at round times: the moment and what it is called.
    pub(super) fn ticks(&self) -> Vec<(At, String)> {
        const STEPS: [i64; 12] = [5, 10, 20, 30, 60, 120, 300, 600, 1_200, 3_600, 7_200, 21_600];
        let (first, last) = (self.seconds(self.from), self.seconds(self.to));
        let step = STEPS.into_iter().find(|step| (last - first) / step <= 12).unwrap_or(86_400);
        let mut ticks = Vec::new();
        let mut second = first.div_euclid(step) * step;
        while second <= last {
            if second >= first {
                let at = (self.origin.0 as i64 + second * 1_000_000).max(0);
                ticks.push((At(at as u64), clock(second)));
            }
            second += step;
        }
        ticks
    }
}

/// `1:05` for 65 seconds.
pub(super) fn clock(seconds: i64) -> String {
    let (sign, all) = if seconds < 0 { ("-", -seconds) } else { ("", seconds) };
    let (hours, minutes, seconds) = (all / 3600, all / 60 % 60, all % 60);
    if hours > 0 {
        format!("{sign}{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{sign}{minutes}:{seconds:02}")
    }
}

/// One drawing, growing.
#[derive(Debug)]
pub(super) struct Drawing {
    body: String,
    height: f64,
    label: String,
}

impl Drawing {
    pub(super) fn new(height: f64, label: &str) -> Self {
        Self { body: String::new(), height, label: escaped(label) }
    }

    // Writing into a string cannot fail.
    pub(super) fn rect(&mut self, x: f64, y: f64, w: f64, h: f64, class: &str, title: &str) {
        let title = if title.is_empty() {
            String::new()
        } else {
            format!("<title>{}</title>", escaped(title))
        };
        let _ = write!(
            self.body,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{h:.1}\" class=\"{class}\">{title}</rect>",
            w.max(0.6)
        );
    }

    pub(super) fn line(&mut self, a: (f64, f64), b: (f64, f64), class: &str) {
        let _ = write!(
            self.body,
            "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" class=\"{class}\"/>",
            a.0, a.1, b.0, b.1
        );
    }

    /// `anchor`: start, middle or end.
    pub(super) fn text(&mut self, x: f64, y: f64, anchor: &str, class: &str, text: &str) {
        let _ = write!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{}</text>",
            escaped(text)
        );
    }

    /// A line in steps through these points, and the area below it down to `floor` where that is given.
    pub(super) fn steps(&mut self, points: &[(f64, f64)], floor: Option<f64>, class: &str) {
        let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
        let mut path = match floor {
            Some(floor) => format!("M{:.1} {floor:.1}V{:.1}", first.0, first.1),
            None => format!("M{:.1} {:.1}", first.0, first.1),
        };
        for (x, y) in &points[1..] {
            let _ = write!(path, "H{x:.1}V{y:.1}");
        }
        if let Some(floor) = floor {
            let _ = write!(path, "H{:.1}V{floor:.1}Z", last.0);
        }
        let _ = write!(self.body, "<path d=\"{path}\" class=\"{class}\"/>");
    }

    /// Vertical lines at round times, with their names below where there is room for them.
    pub(super) fn grid(&mut self, axis: &Axis, bottom: f64, names: bool) {
        for (at, name) in axis.ticks() {
            let x = axis.x(at);
            self.line((x, 0.0), (x, bottom), "grid");
            if names {
                self.text(x, bottom + 13.0, "middle", "tick", &name);
            }
        }
    }

    pub(super) fn end(self) -> String {
        format!(
            "<svg viewBox=\"0 0 {WIDTH:.0} {:.0}\" role=\"img\" aria-label=\"{}\">{}</svg>\n",
            self.height, self.label, self.body
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    #[test]
    fn what_comes_from_outside_cannot_leave_its_place() {
        assert_eq!(escaped("<a href='x'>&\"\u{7}"), "&lt;a href=&#39;x&#39;&gt;&amp;&quot; ");
    }

    #[test]
    fn the_axis_has_a_dozen_round_marks_and_ends_at_its_ends() {
        let axis = Axis { from: At(5_000_000), to: At(305_000_000), origin: At(20_000_000) };
        let ticks = axis.ticks();
        assert!((4..=13).contains(&ticks.len()), "{ticks:?}");
        assert!(ticks.contains(&(At(20_000_000), "0:00".to_owned())), "{ticks:?}");
        assert!((axis.x(At::ZERO) - LEFT).abs() < 0.01);
        assert!((axis.x(At::ZERO + Span::secs(9_999)) - (WIDTH - RIGHT)).abs() < 0.01);
        assert_eq!(clock(-5), "-0:05");
        assert_eq!(clock(3_725), "1:02:05");
    }
}
