//! Points in time, as steps that add up to the wall time.
//!
//! Processes work beside each other, so that the durations of their steps add up to more than the wall time. Each moment
//! belongs to one step, which it is *added* to: to that of the process that was called; while that waits, to that of the
//! one it waits for, and so on down to the child; where all wait (a message is on its way, a processor is taken), to
//! the first one's waiting. So what the steps add is the wall time, and a step beside another adds nothing.

use super::mark::Way;
use super::{Actor, Mark, Point};
use std::fmt::Write;

/// Characters of a bar.
const BAR: usize = 24;

/// How a waterfall is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As lines, for people.
    Text,
    /// As one JSON object in one line.
    Json,
}

impl Form {
    /// By its name: `text` or `json`.
    pub fn named(name: &str) -> Option<Form> {
        match name {
            "text" => Some(Form::Text),
            "json" => Some(Form::Json),
            _ => None,
        }
    }
}

/// A step of a start. Times are nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Who did it.
    pub actor: Actor,
    /// What it is.
    pub mark: Mark,
    /// To what it was done; empty where there is no choice.
    pub object: String,
    /// When it began, since the first point.
    pub start: u64,
    /// How long it took.
    pub took: u64,
    /// How much of the wall time is its.
    pub adds: u64,
}

impl Span {
    fn end(&self) -> u64 {
        self.start + self.took
    }

    fn what(&self) -> String {
        [self.mark.name(), &self.object].join(" ").trim_end().to_owned()
    }
}

/// The steps of a start, by the time at which they began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waterfall {
    /// Each step.
    pub spans: Vec<Span>,
    /// From the first point to the last one of the process that was called, nanoseconds.
    pub wall: u64,
}

impl Waterfall {
    /// From all points, in the order of their times.
    pub fn of(points: &[Point]) -> Self {
        let first = points.first().map_or(0, |p| p.at);
        let wall = points.iter().rfind(|p| p.actor == Actor::Parent).map_or(0, |p| p.at - first);
        let mut spans: Vec<Span> = Vec::new();
        for (i, point) in points.iter().enumerate() {
            let at = point.at - first;
            // A clone begins with what was last done before it, by another.
            let before = points[..i].iter().rfind(|p| (p.actor == point.actor) != (point.mark == Mark::Born));
            let start = before.map_or(at, |p| p.at - first);
            if start >= wall && point.mark != Mark::Start {
                continue;
            }
            let took = at.min(wall) - start;
            let object = point.object.clone();
            spans.push(Span { actor: point.actor, mark: point.mark, object, start, took, adds: 0 });
        }
        add(&mut spans, wall);
        spans.sort_by_key(|s| (s.start, s.end()));
        Waterfall { spans, wall }
    }

    /// In words or as data; without the last line's end.
    pub fn written(&self, form: Form) -> String {
        match form {
            Form::Text => self.text(),
            Form::Json => self.json(),
        }
    }

    /// One line for each step, and one for their sum. Times are microseconds.
    fn text(&self) -> String {
        let mut out =
            format!("{:>9} {:>9} {:>9}  {:BAR$}  {:12} {:32} why\n", "start µs", "took", "adds", "", "who", "step");
        for s in &self.spans {
            let (start, took, adds) = (micros(s.start), micros(s.took), micros(s.adds));
            let (bar, who, what, why) = (self.bar(s), s.actor.name(), s.what(), s.mark.why());
            let _ = writeln!(out, "{start:9.1} {took:9.1} {adds:9.1}  {bar:BAR$}  {who:12} {what:32} {why}");
        }
        let _ = write!(out, "sum {:.1} µs of {:.1} µs of wall time", micros(self.sum()), micros(self.wall));
        out
    }

    fn json(&self) -> String {
        let step = |s: &Span| {
            serde_json::json!({
                "who": s.actor.name(), "step": s.mark.name(), "object": s.object, "why": s.mark.why(),
                "startMicros": micros(s.start), "tookMicros": micros(s.took), "addsMicros": micros(s.adds),
            })
        };
        let steps: Vec<_> = self.spans.iter().map(step).collect();
        serde_json::json!({"steps": steps, "sumMicros": micros(self.sum()), "wallMicros": micros(self.wall)})
            .to_string()
    }

    fn sum(&self) -> u64 {
        self.spans.iter().map(|s| s.adds).sum()
    }

    /// Where a step lies in the whole: `#` works, `.` waits.
    fn bar(&self, span: &Span) -> String {
        let place = |at: u64| (at as usize * BAR).checked_div(self.wall as usize).unwrap_or(0);
        let from = place(span.start).min(BAR - 1);
        let length = place(span.end()).saturating_sub(from).max(1);
        let fill = if span.mark.way() == Way::Works { "#" } else { "." };
        format!("{}{}", " ".repeat(from), fill.repeat(length))
    }
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

/// Gives each moment to its step.
fn add(spans: &mut [Span], wall: u64) {
    let mut edges: Vec<u64> = spans.iter().flat_map(|s| [s.start, s.end()]).chain([0, wall]).collect();
    edges.sort_unstable();
    edges.dedup();
    for edge in edges.windows(2) {
        let (from, to) = (edge[0], edge[1]);
        let at_work = |actor: &Actor| spans.iter().position(|s| s.actor == *actor && s.start <= from && to <= s.end());
        let mut there = Actor::ALL.iter().filter_map(at_work);
        let first = there.next();
        let is_work = |i: &usize| spans[*i].mark.way() == Way::Works;
        if let Some(owner) = first.filter(is_work).or_else(|| there.find(is_work)).or(first) {
            spans[owner].adds += to - from;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waterfall(points: &[(u64, Actor, Mark)]) -> Waterfall {
        let point = |(at, actor, mark): &(u64, Actor, Mark)| Point {
            at: *at + 5_000_000,
            actor: *actor,
            mark: *mark,
            object: String::new(),
        };
        Waterfall::of(&points.iter().map(point).collect::<Vec<_>>())
    }

    fn adds(waterfall: &Waterfall) -> Vec<(Mark, u64, u64, u64)> {
        waterfall.spans.iter().map(|s| (s.mark, s.start, s.took, s.adds)).collect()
    }

    #[test]
    fn each_moment_is_added_to_one_step() {
        use Actor::{Child, Launcher, Parent};
        let w = waterfall(&[
            (0, Parent, Mark::Start),
            (100, Parent, Mark::PrepareClone),
            (130, Launcher, Mark::Born),
            (160, Launcher, Mark::Clone),
            (180, Child, Mark::Born),
            (250, Child, Mark::Mount),
            (260, Launcher, Mark::Network),
            (400, Child, Mark::Devices),
            (410, Launcher, Mark::Ready),
            (430, Child, Mark::GateHeard),
            (490, Child, Mark::Filter),
            (500, Launcher, Mark::Running),
            (520, Parent, Mark::Launcher),
            (600, Child, Mark::StartHooks),
        ]);
        assert_eq!(
            adds(&w),
            [
                (Mark::Start, 0, 0, 0),
                (Mark::PrepareClone, 0, 100, 100),
                (Mark::Born, 100, 30, 30),
                (Mark::Launcher, 100, 420, 10 + 20),
                (Mark::Clone, 130, 30, 30),
                (Mark::Born, 160, 20, 0),
                (Mark::Network, 160, 100, 100),
                (Mark::Mount, 180, 70, 0),
                (Mark::Devices, 250, 150, 140),
                (Mark::Ready, 260, 150, 0),
                (Mark::GateHeard, 400, 30, 0),
                (Mark::Running, 410, 90, 0),
                (Mark::Filter, 430, 60, 60),
                (Mark::StartHooks, 490, 30, 30),
            ]
        );
        assert_eq!((w.wall, w.sum()), (520, 520));
    }

    #[test]
    fn a_waterfall_is_text_and_data() {
        let w = waterfall(&[(0, Actor::Parent, Mark::Start), (1500, Actor::Parent, Mark::Bundle)]);
        let text = w.text();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[2].contains("1.5") && lines[2].contains("parent") && lines[2].contains("config.json"), "{text}");
        assert!(lines[2].contains(&"#".repeat(BAR)), "{text}");
        assert_eq!(lines[3], "sum 1.5 µs of 1.5 µs of wall time");
        let json: serde_json::Value = serde_json::from_str(&w.json()).unwrap();
        assert_eq!((&json["steps"][1]["step"], &json["wallMicros"]), (&"bundle".into(), &1.5.into()));
        assert_eq!(Waterfall::of(&[]).text().lines().count(), 2);
    }

    #[test]
    fn every_kind_says_why_it_exists() {
        for mark in Mark::ALL {
            assert!(mark.why().len() > 15 && mark.name().len() <= 20, "{mark:?}");
        }
    }
}
