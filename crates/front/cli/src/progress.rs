//! How far a pull, push, load or save is: a line for each layer on a terminal, plain lines elsewhere.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tare_model::size;
use tare_store::{Event, Progress};

/// Prints progress on standard error.
#[derive(Debug)]
pub(crate) struct Reporter {
    style: Style,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Lines that are drawn anew.
    Terminal,
    /// One line when an item is finished.
    Plain,
    /// Nothing.
    Quiet,
}

#[derive(Debug, Default)]
struct State {
    items: Vec<Item>,
    /// Lines on the screen that belong to us.
    drawn: usize,
    last: Option<Instant>,
}

#[derive(Debug)]
struct Item {
    name: String,
    verb: &'static str,
    total: Option<u64>,
    done: u64,
    outcome: Option<&'static str>,
}

/// Often enough to look alive, seldom enough to cost nothing.
const PAUSE: Duration = Duration::from_millis(100);

impl Reporter {
    /// For pull and push.
    pub(crate) fn for_transfers() -> Reporter {
        Reporter::new(if on_terminal() { Style::Terminal } else { Style::Plain })
    }

    /// For load, save and import: only a terminal is told.
    pub(crate) fn for_archives() -> Reporter {
        Reporter::new(if on_terminal() { Style::Terminal } else { Style::Quiet })
    }

    fn new(style: Style) -> Reporter {
        Reporter { style, state: Mutex::new(State::default()) }
    }
}

fn on_terminal() -> bool {
    let dumb = crate::environment::get("TERM").is_none_or(|t| t == "dumb");
    !dumb && rustix::termios::isatty(std::io::stderr().as_fd())
}

impl Progress for Reporter {
    fn event(&self, event: &Event<'_>) {
        if self.style == Style::Quiet {
            return;
        }
        let Ok(mut state) = self.state.lock() else { return };
        let finished = state.note(event);
        match self.style {
            Style::Terminal => {
                let due = state.last.is_none_or(|t| t.elapsed() >= PAUSE);
                if due || finished.is_some() {
                    show(&state.redraw(crate::terminal::size().map_or(80, |(_, columns)| columns.into())));
                    state.last = Some(Instant::now());
                }
            }
            Style::Plain => {
                if let Some(line) = finished {
                    show(&format!("{line}\n"));
                }
            }
            Style::Quiet => {}
        }
    }
}

impl State {
    /// Records an event; gives a line if an item is finished by it.
    fn note(&mut self, event: &Event<'_>) -> Option<String> {
        match *event {
            Event::Started { item, verb, total } => {
                let fresh = Item { name: item.to_owned(), verb, total, done: 0, outcome: None };
                match self.items.iter_mut().find(|i| i.name == item) {
                    Some(known) => *known = fresh,
                    None => self.items.push(fresh),
                }
                None
            }
            Event::Advanced { item, bytes } => {
                if let Some(known) = self.items.iter_mut().find(|i| i.name == item) {
                    known.done += bytes;
                }
                None
            }
            Event::Finished { item, outcome } => {
                if !self.items.iter().any(|i| i.name == item) {
                    self.items.push(Item { name: item.to_owned(), verb: "", total: None, done: 0, outcome: None });
                }
                let known = self.items.iter_mut().find(|i| i.name == item)?;
                known.outcome = Some(outcome);
                Some(known.line(80))
            }
        }
    }

    /// The text that draws all lines over the earlier ones.
    fn redraw(&mut self, columns: usize) -> String {
        let mut text = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        for item in &self.items {
            text.push_str(&format!("\r\x1b[K{}\n", item.line(columns)));
        }
        self.drawn = self.items.len();
        text
    }
}

impl Item {
    fn line(&self, columns: usize) -> String {
        let name = crate::listing::shorten(&self.name, 24);
        let text = match (self.outcome, self.total) {
            (Some(outcome), _) if self.verb.is_empty() => format!("{name}: {outcome}"),
            (Some(outcome), _) => format!("{name}: {} {outcome}", self.verb),
            (None, Some(total)) if total > 0 => {
                let share = (self.done.min(total) as f64 / total as f64 * 20.0) as usize;
                let bar = format!("{}{}", "=".repeat(share), " ".repeat(20 - share.min(20)));
                format!("{name}: {} [{bar}] {}/{}", self.verb, size::decimal(self.done), size::decimal(total))
            }
            (None, _) => format!("{name}: {} {}", self.verb, size::decimal(self.done)),
        };
        crate::listing::shorten(&text, columns.saturating_sub(1).max(10))
    }
}

fn show(text: &str) {
    // Progress is for a reader; without one nothing is lost.
    drop(std::io::stderr().write_all(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_follow_the_events() {
        let mut s = State::default();
        assert_eq!(s.note(&Event::Started { item: "abc", verb: "download", total: Some(2000) }), None);
        s.note(&Event::Advanced { item: "abc", bytes: 1000 });
        assert_eq!(s.items[0].line(80), "abc: download [==========          ] 1kB/2kB");
        assert_eq!(s.redraw(80), "\r\x1b[Kabc: download [==========          ] 1kB/2kB\n");
        assert_eq!(s.note(&Event::Finished { item: "abc", outcome: "done" }).unwrap(), "abc: download done");
        assert!(s.redraw(80).starts_with("\x1b[1A\r\x1b[Kabc: download done"));
        assert_eq!(s.note(&Event::Finished { item: "new", outcome: "exists" }).unwrap(), "new: exists");
    }
}
