//! Changes to documents and packets, for the tests that feed the readers of foreign bytes with what nobody meant.
//!
//! Deterministic: a seed and a count of rounds tell what was fed. A test runs for as long as it is given and says, when it
//! fails, in which round of which seed.

use serde_json::{Map, Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Time in `make test`, and in `make test-long`.
pub(crate) const SHORT: Duration = Duration::from_secs(10);
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// xorshift64*.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`; 0 if that is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// Runs rounds until the time is over, each with a generator of its own; returns how many.
pub(crate) fn rounds(seed: u64, time: Duration, mut round: impl FnMut(&mut Random)) -> u64 {
    let end = Instant::now() + time;
    let mut count = 0;
    while Instant::now() < end {
        let mut random = Random::new(seed ^ (count << 20));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| round(&mut random))) {
            eprintln!("seed {seed}, round {count}");
            std::panic::resume_unwind(panic);
        }
        count += 1;
    }
    count
}

const TEXTS: [&str; 24] = [
    "",
    "/",
    ".",
    "..",
    "/../../etc",
    "/a/../../b",
    "a\0b",
    "/proc/self/fd/7",
    "/proc/1/root",
    "-1",
    "0",
    "0-99999999",
    "18446744073709551616",
    "\u{202e}\u{fffd}",
    "%s%n",
    "CAP_SYS_ADMIN",
    "SCMP_ACT_NOTIFY",
    "rbind",
    "tmpcopyup",
    "idmap",
    "proc",
    "cgroup",
    "user",
    "bind",
];

fn scalar(random: &mut Random) -> Value {
    match random.below(9) {
        0 => Value::Null,
        1 => json!(random.below(2) == 0),
        2 => json!(i64::MIN),
        3 => json!(u64::MAX),
        4 => json!(1.5e300),
        5 => json!(random.next() as u32),
        6 => json!(random.next() as i16),
        7 => json!("/x".repeat(random.below(5000))),
        _ => json!(random.pick(&TEXTS)),
    }
}

fn text(random: &mut Random, text: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let at = random.below(chars.len() + 1);
    match random.below(5) {
        0 => chars.truncate(at),
        1 => drop(chars.splice(at..at, random.pick(&TEXTS).chars()).collect::<Vec<_>>()),
        2 if !chars.is_empty() => drop(chars.remove(at.min(chars.len() - 1))),
        3 => chars.extend(text.chars()),
        _ => chars.insert(at, *random.pick(&['\0', '/', '.', ',', '-', '=', '\n', '9', '\u{1f4a5}'])),
    }
    chars.into_iter().collect()
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}

/// The n-th value, counted as [`count`] counts.
fn nth<'a>(value: &'a mut Value, n: &mut usize) -> Option<&'a mut Value> {
    if *n == 0 {
        return Some(value);
    }
    *n -= 1;
    match value {
        Value::Array(list) => list.iter_mut().find_map(|v| nth(v, n)),
        Value::Object(map) => map.values_mut().find_map(|v| nth(v, n)),
        _ => None,
    }
}

fn at_random<'a>(random: &mut Random, document: &'a mut Value) -> Option<&'a mut Value> {
    let mut n = random.below(count(document));
    nth(document, &mut n)
}

/// One change somewhere in a document.
pub(crate) fn change(random: &mut Random, document: &mut Value) {
    let other = at_random(random, document).map_or(Value::Null, |v| v.clone());
    let Some(place) = at_random(random, document) else { return };
    match (random.below(8), place) {
        (0, place) => *place = scalar(random),
        (1, place) => *place = other,
        (_, Value::String(s)) => *s = text(random, s),
        (_, Value::Number(n)) => {
            let near = n.as_i64().unwrap_or(0).wrapping_add(random.below(3) as i64 - 1);
            *n = near.into();
        }
        (_, Value::Array(list)) => change_list(random, list, other),
        (_, Value::Object(map)) => change_map(random, map, other),
        (_, place) => *place = scalar(random),
    }
}

fn change_list(random: &mut Random, list: &mut Vec<Value>, other: Value) {
    let at = random.below(list.len());
    match random.below(4) {
        0 => list.insert(at, other),
        1 if !list.is_empty() => drop(list.remove(at)),
        2 if !list.is_empty() => list.push(list[at].clone()),
        _ => list.reverse(),
    }
}

fn change_map(random: &mut Random, map: &mut Map<String, Value>, other: Value) {
    let key = map.keys().nth(random.below(map.len())).cloned();
    match (random.below(3), key) {
        (0, Some(key)) => drop(map.remove(&key)),
        (1, Some(key)) => drop(map.insert(key, other)),
        (_, Some(key)) => drop(map.insert(text(random, &key), other)),
        (_, None) => {}
    }
}

/// Changes to bytes: flips, cuts, repeats.
pub(crate) fn spoil(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(4) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 => bytes.truncate(at),
            2 => bytes.insert(at, random.next() as u8),
            _ => bytes.extend_from_within(at..),
        }
        bytes.truncate(1 << 16);
    }
}
