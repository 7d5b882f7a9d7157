//! Many containers at once: no failure, no leak.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tare_tests::{Host, Output};

/// Runs `count` containers, eight at a time; what each printed.
fn together(host: &Host, count: usize, args: impl Fn(usize) -> Vec<String> + Sync) -> Vec<Output> {
    let next = AtomicUsize::new(0);
    let outputs = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    if i >= count {
                        break;
                    }
                    let args = args(i);
                    let args: Vec<&str> = args.iter().map(String::as_str).collect();
                    let out = host.run(&args);
                    outputs.lock().unwrap().push(out);
                }
            });
        }
    });
    outputs.into_inner().unwrap()
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[track_caller]
fn nothing_is_left(host: &Host) {
    assert_eq!(host.settled().0, [""; 0]);
    assert_eq!(host.ok(&["ps", "-aq"]), "");
    let left = |dir: &str| std::fs::read_dir(host.root().join(dir)).unwrap().count();
    assert_eq!((left("containers"), left("volumes"), left("tmp")), (0, 0, 0));
}

#[test]
fn two_hundred_without_a_network() {
    let host = Host::new();
    host.busybox();
    let outputs =
        together(&host, 200, |i| words(&format!("run --rm --network none -v /anonymous -m 64m busybox echo {i}")));
    let failed: Vec<&Output> = outputs.iter().filter(|o| o.code != 0).collect();
    assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed[0]);
    let seen: HashSet<usize> = outputs.iter().map(|o| o.stdout.trim().parse().unwrap()).collect();
    assert_eq!(seen.len(), 200);
    nothing_is_left(&host);
}

#[test]
fn sixty_on_the_bridge() {
    let host = Host::new();
    host.busybox();
    let script = "ip route | grep -q '^default' && ping -c 1 -w 5 $(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p') > /dev/null && hostname -i";
    let outputs = together(&host, 60, |_| ["run", "--rm", "busybox", "sh", "-c", script].map(str::to_owned).to_vec());
    let failed: Vec<&Output> = outputs.iter().filter(|o| o.code != 0).collect();
    assert!(failed.is_empty(), "{} failed: {:?}", failed.len(), failed[0]);
    nothing_is_left(&host);
}

#[test]
fn thirty_stay_with_addresses_of_their_own() {
    let host = Host::new();
    host.busybox();
    let outputs = together(&host, 30, |i| words(&format!("run -d --name box-{i} busybox sleep 1000")));
    assert!(outputs.iter().all(|o| o.code == 0), "{outputs:?}");
    let addresses: HashSet<String> =
        (0..30).map(|i| host.ok(&["exec", &format!("box-{i}"), "hostname", "-i"])).collect();
    assert_eq!(addresses.len(), 30, "{addresses:?}");
    assert_eq!(host.ok(&["ps", "-q"]).lines().count(), 30);
    // They come and go side by side, too.
    let outputs = together(&host, 30, |i| words(&format!("rm -f box-{i}")));
    assert!(outputs.iter().all(|o| o.code == 0), "{outputs:?}");
    nothing_is_left(&host);
}

#[test]
fn one_name_is_won_by_one() {
    let host = Host::new();
    host.busybox();
    let outputs = together(&host, 8, |_| words("create --name box --network none busybox true"));
    assert_eq!(outputs.iter().filter(|o| o.code == 0).count(), 1, "{outputs:?}");
    assert!(outputs.iter().filter(|o| o.code != 0).all(|o| o.stderr.contains("has this name")), "{outputs:?}");
    host.ok(&["rm", "box"]);
    nothing_is_left(&host);
}
