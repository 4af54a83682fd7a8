//! `--watch`: the run as a live picture on a terminal, in virtual time at a chosen speed.
//!
//! The picture is a [`Watcher`] like the recorder of the report: it looks, and lets real time pass, and
//! changes nothing of the run. A run that is watched has the same trace as one that is not.

mod draw;
mod picture;

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use self::draw::{Pace, draw};
use self::picture::Picture;
use crate::run::{Run, Watcher};

/// Virtual seconds for each real one, least and most.
const SPEEDS: (u32, u32) = (1, 256);
/// While paused, keys are looked for this often.
const LOOK: Duration = Duration::from_millis(50);
/// What a program that was ended with Ctrl-C ends with.
const INTERRUPTED: i32 = 130;

/// The live picture.
#[derive(Debug)]
pub struct Watch {
    /// `None` once somebody has seen enough.
    terminal: Option<DefaultTerminal>,
    picture: Picture,
    pace: Pace,
}

impl Watch {
    /// Takes the terminal.
    ///
    /// # Errors
    /// A sentence, when standard output is no terminal or cannot be drawn on.
    pub fn new(title: &str, speed: u32) -> Result<Self, String> {
        if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return Err("--watch draws on a terminal, and this is none. Nothing was run. Leave it out, or write a report with --html FILE".to_owned());
        }
        let terminal = ratatui::try_init().map_err(|error| {
            format!("the terminal cannot be drawn on: {error}. Nothing was run")
        })?;
        let pace = Pace { speed: speed.clamp(SPEEDS.0, SPEEDS.1), paused: false };
        Ok(Self { terminal: Some(terminal), picture: Picture::new(title), pace })
    }

    /// Gives the terminal back; the run goes on without a picture.
    fn leave(&mut self) {
        if self.terminal.take().is_some() {
            ratatui::restore();
        }
    }

    fn draw(&mut self) {
        let (picture, pace) = (&self.picture, self.pace);
        if let Some(terminal) = &mut self.terminal
            && terminal.draw(|frame| draw(frame, picture, pace)).is_err()
        {
            self.leave();
        }
    }

    /// What a key does; true when the picture changes by it.
    fn key(&mut self, code: KeyCode, modifiers: KeyModifiers) -> bool {
        match code {
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => {
                self.leave();
                std::process::exit(INTERRUPTED);
            }
            KeyCode::Char('q') | KeyCode::Esc => self.leave(),
            KeyCode::Char(' ') => self.pace.paused = !self.pace.paused,
            KeyCode::Char('+' | '=') => self.pace.speed = (self.pace.speed * 2).min(SPEEDS.1),
            KeyCode::Char('-') => self.pace.speed = (self.pace.speed / 2).max(SPEEDS.0),
            _ => return false,
        }
        true
    }

    /// Lets the real time of one virtual second pass, listening to keys.
    fn wait(&mut self) {
        let since = Instant::now();
        while self.terminal.is_some() {
            let second = Duration::from_secs(1) / self.pace.speed;
            let left = second.saturating_sub(since.elapsed());
            if left.is_zero() && !self.pace.paused {
                return;
            }
            let wait = if self.pace.paused { LOOK } else { left.min(LOOK) };
            match event::poll(wait) {
                Ok(false) => {}
                Ok(true) => match event::read() {
                    Ok(Event::Key(key)) if key.kind == KeyEventKind::Press => {
                        if self.key(key.code, key.modifiers) {
                            self.draw();
                        }
                    }
                    Ok(Event::Resize(..)) => self.draw(),
                    Ok(_) => {}
                    Err(_) => self.leave(),
                },
                Err(_) => self.leave(),
            }
        }
    }
}

impl Watcher for Watch {
    fn second(&mut self, run: &Run) {
        if self.terminal.is_some() {
            self.picture.look(run);
            self.draw();
            self.wait();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Two that look on.
#[derive(Debug)]
pub struct Both<A, B>(pub A, pub B);

impl<A: Watcher, B: Watcher> Watcher for Both<A, B> {
    fn second(&mut self, run: &Run) {
        self.0.second(run);
        self.1.second(run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_change_the_pace_within_its_bounds() {
        let pace = Pace { speed: 128, paused: false };
        let mut watch = Watch { terminal: None, picture: Picture::new("x"), pace };
        for _ in 0..3 {
            assert!(watch.key(KeyCode::Char('+'), KeyModifiers::NONE));
        }
        assert_eq!(watch.pace.speed, 256);
        for _ in 0..12 {
            watch.key(KeyCode::Char('-'), KeyModifiers::NONE);
        }
        watch.key(KeyCode::Char(' '), KeyModifiers::NONE);
        assert_eq!(watch.pace, Pace { speed: 1, paused: true });
        assert!(!watch.key(KeyCode::Char('x'), KeyModifiers::NONE));
    }

    #[test]
    fn without_a_terminal_it_refuses_in_words() {
        // Tests run without one: their output is captured or piped.
        if !io::stdout().is_terminal() {
            let error = Watch::new("x", 5).unwrap_err();
            assert!(error.contains("Nothing was run") && error.contains("--html"), "{error}");
        }
    }
}
