//! Three hundred containers on one bridge, and sixteen at a time for few addresses.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use tare_tests::lan::Lan;
use tare_tests::{Running, command};

/// Does something for each number, so many at a time.
fn together(count: usize, at_once: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= count {
                        break;
                    }
                    work(i);
                }
            });
        }
    });
}

/// Rows of the store that leases leave.
fn leases(net: &Lan) -> String {
    let query = "select name from sqlite_master where type = 'table'";
    let ask = |query: &str| {
        let mut sqlite = command("sqlite3");
        sqlite.arg("-readonly").arg(net.host.root().join("state.db")).arg(query);
        Running::start(&mut sqlite, None).wait().stdout
    };
    let tables = ask(query);
    let table = tables.lines().find(|t| ["leases", "addresses"].contains(t)).expect("a table of leases").to_owned();
    ask(&format!("select * from {table}"))
}

#[test]
fn addresses_are_given_once_to_sixteen_at_a_time() {
    let net = Lan::new();
    net.ok(&["network", "create", "--subnet", "10.77.0.0/26", "small"]);
    // 62 hosts, one of them the gateway.
    let outcomes = std::sync::Mutex::new(Vec::new());
    together(64, 16, |i| {
        let out = net.run(&["create", "--name", &format!("box{i}"), "--network", "small", "busybox", "true"]);
        outcomes.lock().unwrap().push(out);
    });
    let outcomes = outcomes.into_inner().unwrap();
    let (good, bad): (Vec<_>, Vec<_>) = outcomes.iter().partition(|o| o.code == 0);
    assert_eq!((good.len(), bad.len()), (61, 3), "{bad:?}");
    assert!(bad.iter().all(|o| o.stderr.contains("small") || o.stderr.contains("10.77.0.0/26")), "{bad:?}");
    let addresses: HashSet<String> =
        leases(&net).split(['|', '\n']).filter(|w| w.starts_with("10.77.0.")).map(str::to_owned).collect();
    assert!(addresses.is_empty() || addresses.len() == 61, "{addresses:?}");
    // They come and go, started and killed, and none is lost.
    let all = net.ok(&["ps", "-aq"]);
    let ids: Vec<&str> = all.lines().collect();
    together(ids.len(), 16, |i| {
        net.ok(&["rm", "-f", ids[i]]);
    });
    assert_eq!(leases(&net), "");
    let seen = std::sync::Mutex::new(Vec::new());
    together(48, 16, |i| {
        net.ok(&["run", "-d", "--name", &format!("again{i}"), "--network", "small", "busybox", "sleep", "1000"]);
        seen.lock().unwrap().push(net.addresses(&format!("again{i}"), "small").0);
    });
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 48, "{seen:?}");
}
