//! How far a pull, push, load or save is: a line for each layer on a terminal, plain lines or JSON elsewhere.

use clap::{Args, ValueEnum};
use serde::Serialize;
use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tare_model::size;
use tare_store::{Event, Progress};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shown {
    /// Bars on a terminal; plain lines elsewhere, for archives nothing
    Auto,
    /// Bars
    Tty,
    /// One line when a layer is finished
    Plain,
    /// A line of JSON for each event
    Json,
    /// Nothing
    Quiet,
}

/// The flags of verbs that move layers.
#[derive(Debug, Args)]
pub(crate) struct ProgressArgs {
    /// How to show progress, on standard error
    #[arg(long, value_name = "HOW", value_enum, default_value = "auto", hide_possible_values = true)]
    #[arg(help = "Show progress on standard error as auto, tty, plain, json or quiet")]
    progress: Shown,
    /// Say nothing on the way
    #[arg(short, long)]
    quiet: bool,
}

impl ProgressArgs {
    /// Whether the user wants to be told nothing.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet || self.progress == Shown::Quiet
    }

    /// For what `auto` is elsewhere than on a terminal.
    fn reporter(&self, elsewhere: Style) -> Reporter {
        Reporter::new(match self.progress {
            _ if self.is_quiet() => Style::Quiet,
            Shown::Auto if on_terminal() => Style::Terminal,
            Shown::Auto => elsewhere,
            Shown::Tty => Style::Terminal,
            Shown::Plain => Style::Plain,
            Shown::Json => Style::Json,
            Shown::Quiet => Style::Quiet,
        })
    }

    /// For pull and push.
    pub(crate) fn for_transfers(&self) -> Reporter {
        self.reporter(Style::Plain)
    }

    /// For load: only a terminal is told unasked.
    pub(crate) fn for_archives(&self) -> Reporter {
        self.reporter(Style::Quiet)
    }
}

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
    /// One object for each event, those of one item's bytes not more often than lines are drawn.
    Json,
    /// Nothing.
    Quiet,
}

/// An event as JSON: where an item is.
#[derive(Debug, Serialize)]
struct Line<'a> {
    item: &'a str,
    /// What is done with it.
    status: &'a str,
    /// Bytes moved.
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u64>,
    /// How it ended; absent before.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'a str>,
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
    begun: Instant,
    told: Option<Instant>,
}

/// Often enough to look alive, seldom enough to cost nothing.
const PAUSE: Duration = Duration::from_millis(100);

impl Reporter {
    /// For what has no flag for it: only a terminal is told.
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
            Style::Json => {
                if let Some(line) = state.json(event) {
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
                let fresh = Item::new(item, verb, total);
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
                    self.items.push(Item::new(item, "", None));
                }
                let known = self.items.iter_mut().find(|i| i.name == item)?;
                known.outcome = Some(outcome);
                Some(known.line(80))
            }
        }
    }

    /// The line for an event that was noted.
    fn json(&mut self, event: &Event<'_>) -> Option<String> {
        let (Event::Started { item, .. } | Event::Advanced { item, .. } | Event::Finished { item, .. }) = *event;
        let item = self.items.iter_mut().find(|i| i.name == item)?;
        let early = item.told.is_some_and(|t| t.elapsed() < PAUSE);
        if matches!(event, Event::Advanced { .. }) && early {
            return None;
        }
        item.told = Some(Instant::now());
        let Item { name, verb: status, done: bytes, total, outcome, .. } = &*item;
        serde_json::to_string(&Line { item: name, status, bytes: *bytes, total: *total, outcome: *outcome }).ok()
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
    fn new(name: &str, verb: &'static str, total: Option<u64>) -> Item {
        Item { name: name.to_owned(), verb, total, done: 0, outcome: None, begun: Instant::now(), told: None }
    }

    /// Bytes per second, and the seconds that the rest takes at that rate; nothing before there is anything to go by.
    fn pace(&self, total: u64) -> String {
        let seconds = self.begun.elapsed().as_secs_f64();
        if self.done == 0 || seconds < 0.5 {
            return String::new();
        }
        let rate = self.done as f64 / seconds;
        let left = (total.saturating_sub(self.done) as f64 / rate).ceil();
        format!(" {}/s {left:.0}s left", size::decimal(rate as u64))
    }

    fn line(&self, columns: usize) -> String {
        let name = crate::listing::shorten(&self.name, 24);
        let text = match (self.outcome, self.total) {
            (Some(outcome), _) if self.verb.is_empty() => format!("{name}: {outcome}"),
            (Some(outcome), _) => format!("{name}: {} {outcome}", self.verb),
            (None, _) if self.verb == "waiting" => format!("{name}: waiting for another pull of it"),
            (None, Some(total)) if total > 0 => {
                let share = (self.done.min(total) as f64 / total as f64 * 20.0) as usize;
                let bar = format!("{}{}", "=".repeat(share), " ".repeat(20 - share.min(20)));
                let (done, all) = (size::decimal(self.done), size::decimal(total));
                format!("{name}: {} [{bar}] {done}/{all}{}", self.verb, self.pace(total))
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

    #[test]
    fn lines_of_json_say_where_an_item_is() {
        let mut s = State::default();
        let mut tell = |event: Event<'_>| {
            s.note(&event);
            s.json(&event)
        };
        let started = tell(Event::Started { item: "abc", verb: "download", total: Some(2000) });
        assert_eq!(started.unwrap(), r#"{"item":"abc","status":"download","bytes":0,"total":2000}"#);
        // Bytes are told now and then only, the end always.
        tell(Event::Advanced { item: "abc", bytes: 2000 });
        let ended = tell(Event::Finished { item: "abc", outcome: "done" });
        assert_eq!(ended.unwrap(), r#"{"item":"abc","status":"download","bytes":2000,"total":2000,"outcome":"done"}"#);
    }

    #[test]
    fn a_rate_is_told_with_the_time_that_is_left() {
        let mut item = Item::new("abc", "download", Some(10_000));
        assert_eq!(item.pace(10_000), "");
        item.done = 4000;
        item.begun = Instant::now() - Duration::from_secs(4000);
        let pace = item.pace(10_000);
        assert!(pace.starts_with(" ") && pace.contains("/s 6") && pace.ends_with("s left"), "{pace}");
    }
}
