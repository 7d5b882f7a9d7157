//! Proves that the conformance suite for OCI runtimes notices each field of the runtime specification.
//!
//! ```text
//! cargo xtask drop-field SUITE RECORDED [FIELD…]
//!
//! SUITE      the suite's test binary
//! RECORDED   what a run of it has left under TARE_OCI_RECORD: CASE.N.json
//! FIELD      JSON pointers; all of fields.rs without any
//! ```
//!
//! For each field the cases whose configurations hold it are run with that field taken out just before the runtime sees it
//! (`TARE_OCI_DROP`), the likeliest first, until one fails. A field that no case misses is a finding: nobody would notice
//! if the runtime ignored it.

mod fields;

use fields::{FIELDS, Field};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// As many at once as the smallest machine that runs the tests has processors.
const AT_ONCE: usize = 2;

/// Configurations by the name of their case.
type Recorded = BTreeMap<String, Vec<Value>>;

/// What became of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Verdict {
    field: &'static str,
    /// Cases that hold it, and how many of them were run.
    held: usize,
    run: usize,
    /// The one that failed.
    missed_by: Option<String>,
}

/// Runs what is asked for and prints a table; how many fields no case misses.
pub(crate) fn main(suite: &Path, recorded: &Path, only: &[&str]) -> Result<usize, String> {
    let recorded = read(recorded)?;
    if recorded.is_empty() {
        return Err("nothing was recorded: run the suite with TARE_OCI_RECORD".to_owned());
    }
    let wanted: Vec<&Field> = FIELDS.iter().filter(|(f, _)| only.is_empty() || only.contains(f)).collect();
    if let Some(unknown) = only.iter().find(|o| !FIELDS.iter().any(|(f, _)| f == *o)) {
        return Err(format!("{unknown} is no field of xtask/src/drop_field/fields.rs"));
    }
    let (queue, verdicts) = (Mutex::new(wanted.iter()), Mutex::new(Vec::new()));
    let next = || queue.lock().ok().and_then(|mut q| q.next());
    let work = || {
        while let Some(field) = next() {
            let verdict = try_field(field, &recorded, |case, field| fails_without(suite, case, field));
            if let Ok(mut all) = verdicts.lock() {
                all.push(verdict);
            }
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(work))));
    let verdicts = verdicts.into_inner().map_err(|_| "a worker has failed".to_owned())?;
    Ok(report(verdicts))
}

/// The cases that hold a field, tried one after another.
fn try_field(field: &Field, recorded: &Recorded, fails: impl Fn(&str, &str) -> bool) -> Verdict {
    let cases = cases_of(field, recorded);
    let found = cases.iter().position(|case| fails(case, field.0));
    let run = found.map_or(cases.len(), |n| n + 1);
    Verdict { field: field.0, held: cases.len(), run, missed_by: found.map(|n| cases[n].to_owned()) }
}

/// The cases that hold a field, the likeliest to miss it first: those that the table names, then those that give it a
/// value that few others give it, then those with a small configuration.
fn cases_of<'a>(field: &Field, recorded: &'a Recorded) -> Vec<&'a str> {
    let mut often: BTreeMap<String, usize> = BTreeMap::new();
    let mut cases = Vec::new();
    for (case, configurations) in recorded {
        let words: Vec<&str> = field.0.split('/').skip(1).collect();
        let values: Vec<String> = configurations
            .iter()
            .map(|c| members(c, &words))
            .filter(|m| !m.is_empty())
            .map(|m| format!("{m:?}"))
            .collect();
        if let Some(value) = values.first() {
            *often.entry(value.clone()).or_default() += 1;
            let size = configurations[0].to_string().len();
            cases.push((case.as_str(), value.clone(), size));
        }
    }
    let named = |case: &str| !field.1.is_empty() && case.starts_with(field.1);
    cases.sort_by_key(|(case, value, size)| (!named(case), often[value], *size));
    cases.into_iter().map(|(case, _, _)| case).collect()
}

/// Everything that a pointer names.
fn members<'a>(at: &'a Value, words: &[&str]) -> Vec<&'a Value> {
    let Some((word, rest)) = words.split_first() else { return vec![at] };
    let below: Vec<&Value> = match at {
        Value::Object(map) if *word == "*" => map.values().collect(),
        Value::Array(list) if *word == "*" => list.iter().collect(),
        Value::Object(map) => map.get(*word).into_iter().collect(),
        _ => Vec::new(),
    };
    below.into_iter().flat_map(|value| members(value, rest)).collect()
}

/// Whether a case fails when this field is taken out of its configurations.
#[expect(clippy::disallowed_methods, reason = "the suite is a program")]
fn fails_without(suite: &Path, case: &str, field: &str) -> bool {
    let mut command = Command::new(suite);
    command.args(["--exact", case]).env("TARE_OCI_DROP", field).env_remove("TARE_OCI_RECORD");
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|s| !s.success())
}

fn read(directory: &Path) -> Result<Recorded, String> {
    let fail = |e: std::io::Error| format!("read {}: {e}", directory.display());
    let mut recorded = Recorded::new();
    for entry in std::fs::read_dir(directory).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some((case, _)) = name.strip_suffix(".json").and_then(|n| n.rsplit_once('.')) else { continue };
        let text = std::fs::read_to_string(&path).map_err(fail)?;
        let value = serde_json::from_str(&text).map_err(|e| format!("read {}: {e}", path.display()))?;
        recorded.entry(case.to_owned()).or_default().push(value);
    }
    Ok(recorded)
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]
fn report(mut verdicts: Vec<Verdict>) -> usize {
    let order = |v: &Verdict| FIELDS.iter().position(|(f, _)| *f == v.field);
    verdicts.sort_by_key(order);
    println!("{:<52} {:>5} {:>4}  missed by", "field", "cases", "run");
    for verdict in &verdicts {
        let by = verdict.missed_by.as_deref().unwrap_or("NOBODY");
        println!("{:<52} {:>5} {:>4}  {by}", verdict.field, verdict.held, verdict.run);
    }
    let unmissed = verdicts.iter().filter(|v| v.missed_by.is_none()).count();
    if unmissed > 0 {
        eprintln!("drop-field: {unmissed} of {} fields are missed by no case", verdicts.len());
    }
    unmissed
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn recorded() -> Recorded {
        let configuration =
            |n: u32, more: Value| json!({ "process": { "user": { "uid": n } }, "list": [{ "x": n }], "more": more });
        BTreeMap::from([
            ("a::usual".to_owned(), vec![configuration(0, json!(1))]),
            ("b::usual".to_owned(), vec![configuration(0, json!(1))]),
            ("c::special".to_owned(), vec![configuration(33, json!({ "much": "text" }))]),
        ])
    }

    #[test]
    fn what_few_cases_say_comes_first() {
        assert_eq!(cases_of(&("/process/user/uid", ""), &recorded()), ["c::special", "a::usual", "b::usual"]);
        assert_eq!(cases_of(&("/list/*/x", "b::"), &recorded()), ["b::usual", "c::special", "a::usual"]);
        assert_eq!(cases_of(&("/more/much", ""), &recorded()), ["c::special"]);
        assert!(cases_of(&("/none", ""), &recorded()).is_empty());
    }

    #[test]
    fn the_first_case_that_fails_ends_the_search() {
        let verdict = try_field(&("/process/user/uid", ""), &recorded(), |case, _| case == "a::usual");
        let expected = Verdict { field: "/process/user/uid", held: 3, run: 2, missed_by: Some("a::usual".to_owned()) };
        assert_eq!(verdict, expected);
        assert_eq!(try_field(&("/list/*/x", ""), &recorded(), |_, _| false).missed_by, None);
    }

    #[test]
    fn no_field_is_listed_twice() {
        let mut all: Vec<&str> = FIELDS.iter().map(|(f, _)| *f).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), FIELDS.len());
    }
}
