//! Hooks at their points, with the state on standard input, and what their failure does.

use crate::place::Place;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A hook that notes its name, what it was told, and which root directory it sees.
fn noting(place: &Place, name: &str, exit: i32) -> Value {
    let script = place.path(&format!("{name}.sh"));
    let log = place.path("log");
    let text = format!(
        "#!/bin/sh\nprintf '{name} %s\\n' \"$(cat | tr -d '\\n')\" >> {}\necho spoken >&2\nexit {exit}\n",
        log.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    json!({"path": script, "env": ["PATH=/usr/bin:/bin"]})
}

/// Name, status and pid, in order.
fn noted(log: &Path) -> Vec<(String, String, Option<i64>)> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines()
        .map(|line| {
            let (name, state) = line.split_once(' ').unwrap();
            let state: Value = serde_json::from_str(state).unwrap();
            (name.to_owned(), state["status"].as_str().unwrap().to_owned(), state["pid"].as_i64())
        })
        .collect()
}

#[test]
fn hooks_of_the_runtime_run_in_order() {
    let mut place = Place::new();
    let hooks: Vec<(&str, Value)> = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
        .into_iter()
        .map(|name| (name, noting(&place, name, 0)))
        .collect();
    place.config["hooks"] = hooks.iter().map(|(name, hook)| ((*name).to_owned(), json!([hook]))).collect();
    place.create();
    let pid = place.state()["pid"].as_i64();
    let log = place.path("log");
    let entry = |name: &str, status: &str, pid| (name.to_owned(), status.to_owned(), pid);
    let mut expected = vec![
        entry("prestart", "creating", pid),
        entry("createRuntime", "creating", pid),
        entry("createContainer", "creating", pid),
    ];
    assert_eq!(noted(&log), expected);
    place.ok(&["start", &place.id]);
    expected.push(entry("poststart", "running", pid));
    assert_eq!(noted(&log), expected);
    place.ok(&["delete", "--force", &place.id]);
    expected.push(entry("poststop", "stopped", None));
    assert_eq!(noted(&log), expected);
}

#[test]
fn a_failing_hook_ends_create_and_leaves_nothing() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let mut place = Place::new();
        place.config["hooks"] = json!({ kind: [noting(&place, kind, 3)], "poststop": [noting(&place, "poststop", 0)] });
        let text = place.fails(&["create", "--bundle", &place.bundle(), &place.id]);
        assert!(text.contains(kind) && text.contains("exit code 3") && text.contains("spoken"), "{text}");
        place.is_gone();
        let names: Vec<String> = noted(&place.path("log")).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names, [kind, "poststop"]);
    }
}

#[test]
fn a_failing_poststart_hook_stops_the_container_and_poststop_only_warns() {
    let mut place = Place::new();
    place.config["hooks"] =
        json!({"poststart": [noting(&place, "poststart", 1)], "poststop": [noting(&place, "poststop", 1)]});
    place.create();
    let text = place.fails(&["start", &place.id]);
    assert!(text.contains("poststart"), "{text}");
    assert_eq!(place.status(), "stopped");
    let out = place.output(&["delete", &place.id]);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && text.contains("level=warning") && text.contains("poststop"), "{text}");
    place.is_gone();
}

#[test]
fn a_hook_has_its_time() {
    let mut place = Place::new();
    place.config["hooks"] = json!({"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]});
    let begun = std::time::Instant::now();
    let text = place.fails(&["create", "--bundle", &place.bundle(), &place.id]);
    assert!(text.contains("createRuntime") && text.contains("1 s"), "{text}");
    assert!(begun.elapsed().as_secs() < 20);
    place.is_gone();
}
