//! Several callers at once, and callers that are killed: each change of state is whole, and nothing leaks.

use crate::place::{Place, eventually, is_alive};
use std::process::Stdio;
use std::time::Duration;

#[test]
fn of_two_creates_of_one_name_one_wins() {
    for _ in 0..5 {
        let place = Place::new();
        let bundle = place.bundle();
        let words = ["create", "--bundle", &bundle, &place.id];
        let begin = || place.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut both = [begin(), begin()];
        let good = both.iter_mut().filter_map(|c| c.wait().ok()).filter(|s| s.success()).count();
        assert_eq!(good, 1);
        assert_eq!(place.status(), "created");
        place.ok(&["delete", "-f", &place.id]);
        place.is_gone();
    }
}

#[test]
fn of_two_starts_one_wins() {
    for _ in 0..5 {
        let place = Place::new();
        place.create();
        let begin = || place.command(&["start", &place.id]).stderr(Stdio::null()).spawn().unwrap();
        let mut both = [begin(), begin()];
        let good = both.iter_mut().filter_map(|c| c.wait().ok()).filter(|s| s.success()).count();
        assert_eq!((good, place.status().as_str()), (1, "running"));
    }
}

#[test]
fn delete_waits_for_a_create_that_is_at_work() {
    let place = Place::new();
    let bundle = place.bundle();
    let mut create = place.command(&["create", "--bundle", &bundle, &place.id]).spawn().unwrap();
    eventually("directory", || place.root().join(&place.id).exists());
    place.ok(&["delete", "-f", &place.id]);
    // Either it had not locked its directory yet and made another, or it was whole when it was deleted.
    create.wait().unwrap();
    if place.root().join(&place.id).exists() {
        assert_eq!(place.status(), "created");
        place.ok(&["delete", "-f", &place.id]);
    }
    place.is_gone();
}

/// Processes that run the runtime's own program with this container's root directory: a child left at its gate is one.
fn left(place: &Place) -> Vec<i64> {
    let root = place.root().display().to_string();
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i64>().ok()) else { continue };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&root) && is_alive(pid) {
            pids.push(pid);
        }
    }
    pids
}

#[test]
fn a_create_killed_at_any_moment_leaves_nothing_that_force_does_not_remove() {
    for step in 0..40 {
        let place = Place::new();
        let bundle = place.bundle();
        let words = ["create", "--bundle", &bundle, &place.id];
        let mut create = place.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(step * 500));
        create.kill().unwrap();
        create.wait().unwrap();
        if place.root().join(&place.id).exists() {
            // Whatever is left has a state that can be told, unless not even its first file was written.
            let out = place.output(&["state", &place.id]);
            let text = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(out.status.success() || text.contains("container does not exist"), "{text}");
        }
        place.ok(&["delete", "--force", &place.id]);
        place.is_gone();
        eventually("no process left", || left(&place).is_empty());
    }
}

#[test]
fn a_start_killed_at_any_moment_leaves_created_or_running() {
    for step in 0..20 {
        let place = Place::new();
        place.create();
        let mut start = place.command(&["start", &place.id]).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(step * 400));
        start.kill().unwrap();
        start.wait().unwrap();
        let pid = place.state()["pid"].as_i64().unwrap();
        let runs = || std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default().starts_with(b"sleep\0");
        let status = place.status();
        match status.as_str() {
            "created" => {
                let out = place.output(&["start", &place.id]);
                // The one that was killed had let it go already, and it had not come as far as its program.
                let text = String::from_utf8_lossy(&out.stderr).into_owned();
                let went = ["does not wait to be started", "already running"].iter().any(|said| text.contains(said));
                assert!(out.status.success() || went, "{text}");
                eventually("program", runs);
            }
            "running" => eventually("program", runs),
            other => panic!("{other}"),
        }
        place.ok(&["delete", "-f", &place.id]);
        place.is_gone();
    }
}

#[test]
fn a_create_that_is_refused_for_its_group_does_no_harm_to_who_is_in_it() {
    let first = Place::new();
    first.create();
    first.ok(&["start", &first.id]);
    let mut second = Place::new();
    second.config["linux"]["cgroupsPath"] = first.config["linux"]["cgroupsPath"].clone();
    let text = second.fails(&["create", "--bundle", &second.bundle(), &second.id]);
    assert!(text.contains("not empty"), "{text}");
    assert!(!second.root().join(&second.id).exists());
    // Nor does removing what a create has only begun.
    std::fs::create_dir(second.root().join(&second.id)).unwrap();
    std::fs::write(second.root().join(&second.id).join("config.json"), second.config.to_string()).unwrap();
    second.ok(&["delete", "--force", &second.id]);
    assert!(!second.root().join(&second.id).exists());
    assert_eq!(first.status(), "running");
    assert!(!first.groups().is_empty());
}
