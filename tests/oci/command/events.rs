//! `events`.

use serde_json::Value;
use tare_tests::Running;
use tare_tests::oci::{Case, case};

#[track_caller]
fn stats(c: &Case) -> Value {
    let event: Value = serde_json::from_str(&c.ok(&["events", "--stats", c.id()])).unwrap();
    assert_eq!((event["type"].as_str(), event["id"].as_str()), (Some("stats"), Some(c.id())));
    event["data"].clone()
}

#[test]
fn statistics_are_those_of_the_kernel() {
    case(|c| {
        c.set("/linux/resources/memory/limit", 64 << 20).set("/linux/resources/pids/limit", 44);
        c.up("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; sleep 1000");
        c.until("it has counted", || !c.output().0.is_empty());
        let data = stats(c);
        assert!(data["cpu"]["usage"]["total"].as_u64().unwrap() > 1_000_000, "nanoseconds: {data}");
        assert!(data["cpu"]["usage"]["kernel"].is_u64() && data["cpu"]["usage"]["user"].is_u64(), "{data}");
        let usage = data["memory"]["usage"]["usage"].as_u64().unwrap();
        assert!(usage > 0 && usage < 64 << 20, "{data}");
        assert_eq!(data["memory"]["usage"]["limit"], 64 << 20);
        assert!(data["memory"]["raw"].as_object().is_some_and(|raw| !raw.is_empty()), "{data}");
        assert_eq!(data["pids"]["limit"], 44);
        assert!(data["pids"]["current"].as_u64().unwrap() >= 1, "{data}");
        for part in ["blkio", "hugetlb"] {
            assert!(data[part].is_object(), "{part}: {data}");
        }
    });
}

#[test]
fn throttling_is_told() {
    case(|c| {
        c.set("/linux/resources/cpu", serde_json::json!({ "quota": 10_000, "period": 100_000 }));
        c.up("while true; do :; done");
        c.until("it is throttled", || stats(c)["cpu"]["throttling"]["throttledPeriods"].as_u64().unwrap_or(0) > 0);
        let throttling = &stats(c)["cpu"]["throttling"];
        assert!(throttling["periods"].as_u64().unwrap() > 0 && throttling["throttledTime"].as_u64().unwrap() > 0);
    });
}

#[test]
fn statistics_come_at_an_interval_until_the_container_ends() {
    case(|c| {
        let pid = c.sleeper();
        let running = Running::start(&mut c.command(&["events", "--interval", "100ms", c.id()]), None);
        c.until("three have come", || running.printed().0.lines().count() >= 3);
        c.ok(&["kill", c.id(), "KILL"]);
        c.wait(pid);
        let out = running.wait_for(std::time::Duration::from_secs(20));
        assert_eq!(out.code, 0, "{out:?}");
        for line in out.stdout.lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            assert!(event["type"] == "stats" || event["type"] == "oom", "{event}");
        }
    });
}

#[test]
fn want_of_memory_is_told() {
    case(|c| {
        c.set("/linux/resources/memory/limit", 32 << 20).set("/linux/resources/memory/swap", 32 << 20);
        c.up("read x < /tmp/gate; dd if=/dev/zero of=/dev/null bs=200M count=1; sleep 1000");
        let mut running = Running::start(&mut c.command(&["events", "--interval", "100ms", c.id()]), None);
        c.until("events come", || running.printed().0.lines().count() >= 1);
        // The container wants as much at the same time: whom the kernel ends is its choice, even one that is just joining.
        drop(c.oci(&["exec", c.id(), "/bin/sh", "-c", "dd if=/dev/zero of=/dev/null bs=200M count=1"]));
        c.until("it is told", || running.printed().0.lines().any(|l| l.contains("\"type\":\"oom\"")));
        assert!(!running.has_ended());
        let printed = running.printed().0;
        let event: Value = serde_json::from_str(printed.lines().find(|l| l.contains("\"oom\"")).unwrap()).unwrap();
        assert_eq!(event["id"], c.id());
    });
}

#[test]
fn an_interval_of_nothing_is_an_error() {
    case(|c| {
        c.sleeper();
        assert_eq!(c.oci(&["events", "--interval", "0s", c.id()]).code, 1);
        assert_ne!(c.oci(&["events", "--interval", "bogus", c.id()]).code, 0);
    });
}
