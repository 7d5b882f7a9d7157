//! Three hundred containers on one bridge, and sixteen at a time for few addresses.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tare_tests::lan::{From, Lan, Target};
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

/// Lines of all names files.
fn names(net: &Lan) -> Vec<String> {
    let networks = std::fs::read_dir(net.host.run_dir().join("networks")).into_iter().flatten().flatten();
    let files = networks.map(|e| std::fs::read_to_string(e.path().join("names")).unwrap_or_default());
    files.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn three_hundred_on_one_bridge_are_reached_and_leave_nothing() {
    const COUNT: usize = 300;
    let net = Lan::new();
    net.ok(&["network", "create", "--subnet", "10.77.0.0/22", "wide"]);
    let talk = format!("{}:/bin/talk:ro", tare_tests::lan::talk().display());
    let start = |i: usize| {
        let (name, port) = (format!("box{i}"), format!("{}:80", 20_000 + i));
        let flags = ["run", "-d", "--name", &name, "--network", "wide", "-p", &port, "-v", &talk];
        net.ok(&[&flags[..], &["busybox", "talk", "serve", &name, "80"]].concat());
    };
    together(COUNT, 8, start);
    let list =
        net.ok(&["network", "inspect", "-f", "{{range .Containers}}{{.Name}} {{.IPv4Address}}\n{{end}}", "wide"]);
    let members: Vec<(&str, &str)> = list
        .lines()
        .filter_map(|l| l.split_once(' '))
        .map(|(name, address)| (name, address.split('/').next().unwrap()))
        .collect();
    assert_eq!(members.len(), COUNT);
    assert_eq!(members.iter().map(|m| m.1).collect::<HashSet<_>>().len(), COUNT, "an address each");
    assert_eq!(names(&net).len(), COUNT);
    // From the host, from one of them, and from outside by their ports.
    let direct: Vec<Target<'_>> = members.iter().map(|(_, address)| ("tcp", *address, 80)).collect();
    let asks = |from: From<'_>, list: &[Target<'_>]| {
        // Some at a time: each look for a neighbour goes to all three hundred.
        let answers = list.chunks(20).flat_map(|some| net.ask(from, Duration::from_secs(5), some));
        for ((name, address), answer) in members.iter().zip(answers) {
            assert_eq!(answer.as_ref().map(|a| a.name.as_str()), Some(*name), "{from:?} {address}");
        }
    };
    asks(From::On(&net.inside), &direct);
    // The kernel has one table of 1,024 neighbours for all namespaces of a machine: one container asks some of them.
    asks(From::Container("box0"), &direct[..60]);
    let published: Vec<Target<'_>> =
        (0..COUNT).map(|i| ("tcp", tare_tests::lan::HOST, u16::try_from(20_000 + i).unwrap())).collect();
    let answers = net.ask(From::On(&net.outside), Duration::from_secs(10), &published);
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(answer.as_ref().map(|a| a.name.clone()), Some(format!("box{i}")));
    }
    together(COUNT / 20, 8, |i| {
        let some: Vec<String> = (0..20).map(|j| format!("box{}", i * 20 + j)).collect();
        net.ok(&[&["rm", "-f"][..], &some.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    });
    assert_eq!(net.settled(), "");
    assert_eq!(names(&net), [""; 0]);
    assert_eq!(leases(&net), "");
    assert_eq!(net.host.settled().0, [""; 0]);
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
