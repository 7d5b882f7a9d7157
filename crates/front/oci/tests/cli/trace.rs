//! `--trace-setup`: each step of a start, and that they add up to the time it took.

use crate::place::Place;
use serde_json::{Value, json};
use std::time::Instant;

/// A line of a waterfall: microseconds that it adds, who, and the rest.
#[derive(Debug)]
struct Line {
    adds: f64,
    who: String,
    rest: String,
}

/// The lines, what the last one says is their sum, and the wall time.
fn parse(text: &str) -> (Vec<Line>, f64, f64) {
    let mut lines = text.lines().skip_while(|l| !l.trim_start().starts_with("start µs"));
    assert!(lines.next().is_some_and(|l| l.contains("adds") && l.ends_with("why")), "{text}");
    let mut steps = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["sum", sum, "µs", "of", wall, ..] = words.as_slice() {
            return (steps, sum.parse().unwrap(), wall.parse().unwrap());
        }
        let who = words.iter().position(|w| ["parent", "intermediate", "child"].contains(w));
        let who = who.unwrap_or_else(|| panic!("nobody does {line}"));
        steps.push(Line { adds: words[2].parse().unwrap(), who: words[who].into(), rest: words[who + 1..].join(" ") });
    }
    panic!("no sum: {text}");
}

/// Runs a verb with `--trace-setup`: its lines, and whether what they add up to is most of what can be measured outside.
fn traced(place: &Place, words: &[&str]) -> (Vec<Line>, bool) {
    let begun = Instant::now();
    let out = place.output(&[&["--trace-setup"], words].concat());
    let outside = begun.elapsed().as_secs_f64() * 1e6;
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success(), "{words:?}: {text}");
    let (lines, sum, wall) = parse(&text);
    let added: f64 = lines.iter().map(|l| l.adds).sum();
    assert!((sum - wall).abs() <= wall * 0.05 && (added - wall).abs() <= wall * 0.05, "{words:?}: {added}\n{text}");
    assert!(wall <= outside * 1.02, "{words:?}: {outside} µs outside\n{text}");
    (lines, wall >= outside * 0.4)
}

fn has(lines: &[Line], steps: &[(&str, &str)]) {
    for (who, step) in steps {
        assert!(lines.iter().any(|l| l.who == *who && l.rest.starts_with(step)), "{who} {step} in {lines:#?}");
    }
}

const BEGINNING: &[(&str, &str)] = &[("parent", "start"), ("parent", "read-only file"), ("parent", "execute anew")];

#[test]
fn the_steps_of_each_verb_add_up_to_its_time() {
    let place = Place::new();
    let (bundle, id) = (place.bundle(), place.id.clone());
    let mut whole = [false; 3];
    // How much lies outside of the program, in the kernel's loading of it and its end, varies with the machine's load.
    for _ in 0..15 {
        let (lines, most) = traced(&place, &["create", "--bundle", &bundle, &id]);
        whole[0] |= most;
        has(&lines, BEGINNING);
        has(&lines, &[("parent", "gate socket"), ("parent", "clone"), ("child", "born"), ("child", "mount /proc")]);
        let (lines, _) = traced(&place, &["start", &id]);
        has(&lines, &[("parent", "container"), ("parent", "open the gate")]);
        let (lines, most) = traced(&place, &["exec", &id, "true"]);
        whole[1] |= most;
        has(&lines, BEGINNING);
        has(&lines, &[("intermediate", "join container"), ("child", "user, capabilities")]);
        place.ok(&["delete", "--force", &id]);
        let (lines, most) = traced(&place, &["run", "--detach", "--bundle", &bundle, &id]);
        whole[2] |= most;
        has(&lines, BEGINNING);
        has(&lines, &[("child", "wait: go"), ("child", "descriptors"), ("parent", "wait: program runs")]);
        place.ok(&["delete", "--force", &id]);
        if whole == [true; 3] {
            return;
        }
    }
    panic!("most of the time is in no step: {whole:?}");
}

#[test]
fn steps_are_data_too() {
    let mut place = Place::with(&["true"]);
    place.config["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["uname"], "action": "SCMP_ACT_ERRNO"}]});
    let out = place.output(&["--trace-setup=json", "run", "--bundle", &place.bundle(), &place.id]);
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success(), "{text}");
    let trace: Value = serde_json::from_str(text.trim_end()).unwrap();
    let steps = trace["steps"].as_array().unwrap();
    let number = |v: &Value| v.as_f64().unwrap();
    let added: f64 = steps.iter().map(|s| number(&s["addsMicros"])).sum();
    assert!((added - number(&trace["wallMicros"])).abs() < 1.0, "{text}");
    for step in steps {
        assert!(number(&step["startMicros"]) + number(&step["tookMicros"]) <= number(&trace["wallMicros"]) + 1.0);
        assert!(step["why"].as_str().is_some_and(|w| !w.is_empty()), "{step}");
    }
    let filter = steps.iter().find(|s| s["step"] == "seccomp filter").unwrap();
    assert_eq!(filter["who"], "child");
    assert!(steps.iter().any(|s| s["step"] == "mount" && s["object"] == "/proc"));
}

#[test]
fn nothing_is_said_without_the_option() {
    let place = Place::with(&["true"]);
    assert_eq!(place.output(&["run", "--bundle", &place.bundle(), &place.id]).stderr, b"");
    let said = place.fails(&["--trace-setup=xml", "run", "--bundle", &place.bundle(), &place.id]);
    assert!(said.contains("xml") && said.contains("json"), "{said}");
}
