//! `--trace-setup`: what a start consists of, step by step, in all who take part.

use serde_json::Value;
use std::time::Instant;
use tare_tests::Host;

/// The last line that is JSON, of whatever was said on standard error.
fn traced(host: &Host, args: &[&str]) -> (Value, f64) {
    let begun = Instant::now();
    let out = host.run(args);
    let outside = begun.elapsed().as_secs_f64() * 1e6;
    assert_eq!(out.code, 0, "{args:?}: {}", out.stderr);
    let line = out.stderr.lines().rfind(|l| l.starts_with("{\"")).unwrap_or_else(|| panic!("{}", out.stderr));
    (serde_json::from_str(line).unwrap(), outside)
}

/// The time that the steps add, and the wall time; who did what.
fn steps(trace: &Value) -> (f64, f64, Vec<(&str, &str)>) {
    let steps = trace["steps"].as_array().unwrap();
    let added = steps.iter().map(|s| s["addsMicros"].as_f64().unwrap()).sum();
    let who = steps.iter().map(|s| (s["who"].as_str().unwrap(), s["step"].as_str().unwrap())).collect();
    (added, trace["wallMicros"].as_f64().unwrap(), who)
}

#[test]
fn client_launcher_and_child_add_up_to_the_time_of_a_start() {
    let host = Host::new();
    host.busybox();
    for _ in 0..10 {
        let run = ["run", "-d", "--name", "box", "--trace-setup=json", "busybox", "sleep", "1000"];
        let (trace, outside) = traced(&host, &run);
        let (added, wall, who) = steps(&trace);
        assert!((added - wall).abs() <= wall * 0.05 && wall <= outside * 1.02, "{added} {wall} {outside}");
        let most = wall >= outside * 0.4;
        for step in [
            ("parent", "execute anew"),
            ("parent", "create"),
            ("parent", "wait: launcher"),
            ("launcher", "network"),
            ("launcher", "wait: program runs"),
            ("child", "mount"),
            ("child", "seccomp filter"),
        ] {
            assert!(who.contains(&step), "{step:?} in {who:?}");
        }
        let (trace, _) = traced(&host, &["exec", "--trace-setup=json", "box", "true"]);
        let (added, wall, who) = steps(&trace);
        assert!((added - wall).abs() <= wall * 0.05, "{added} {wall}");
        for step in [("parent", "container"), ("intermediate", "join container"), ("child", "wait: go")] {
            assert!(who.contains(&step), "{step:?} in {who:?}");
        }
        host.ok(&["stop", "-t", "0", "box"]);
        let (trace, _) = traced(&host, &["start", "--trace-setup=json", "box"]);
        let (added, wall, who) = steps(&trace);
        assert!((added - wall).abs() <= wall * 0.05, "{added} {wall}");
        assert!(who.contains(&("launcher", "born")) && who.contains(&("parent", "lock")), "{who:?}");
        host.ok(&["rm", "-f", "box"]);
        // How much lies outside of the program, in the kernel's loading of it and its end, varies with the load.
        if most {
            return;
        }
    }
    panic!("most of the time is in no step");
}

#[test]
fn a_waterfall_is_for_people_first() {
    let host = Host::new();
    host.busybox();
    let out = host.run(&["run", "--rm", "--network", "none", "--trace-setup", "busybox", "echo", "ran"]);
    assert_eq!((out.code, out.stdout.trim()), (0, "ran"));
    let (first, last) = (out.stderr.lines().next().unwrap(), out.stderr.lines().last().unwrap());
    assert!(first.contains("start µs") && last.starts_with("sum "), "{}", out.stderr);
    assert!(out.stderr.lines().any(|l| l.contains("enter root") && l.contains("pivot_root")), "{}", out.stderr);
    assert_eq!(host.run(&["run", "--rm", "--network", "none", "busybox", "true"]).stderr, "");
    host.fails(&["run", "--trace-setup=xml", "busybox", "true"], 125);
    host.fails(&["create", "--trace-setup", "busybox", "true"], 125);
}
