//! The disk under a root after a power cut: every flush that was waited for, and every rename, was in the right order.
//!
//! All that changes a store is done on a disk that records its writes and flushes ([`tare_tests::disk`]). Then, for moments of
//! that record, the disk is made as a power cut could have left it, and a new boot looks at it: what had been
//! answered is there, byte for byte; what was under way is done or not, and can be done again; and at the end nothing is left.

use std::collections::BTreeMap;
use std::path::Path;
use tare_tests::Dice;
use tare_tests::disk::{CutDisk, Log, RecordedDisk};
use tare_tests::{Host, Registry, Tree, busybox_tar, variable};

/// Prints a digest of every file of a test's image.
const DIGESTS: &str = "sha256sum /bin/busybox; find /data -type f | sort | xargs sha256sum";

/// What a user sees: `image box:1`, `container c1`, …; of an image also its id.
type State = BTreeMap<String, String>;

fn state(host: &Host) -> State {
    let mut seen = State::new();
    let mut list = |kind: &str, args: &[&str]| {
        for line in host.ok(args).lines().filter(|l| !l.contains("<none>")) {
            let (name, id) = line.split_once(' ').unwrap_or((line, ""));
            seen.insert(format!("{kind} {name}"), id.to_owned());
        }
    };
    list("image", &["images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"]);
    list("container", &["ps", "--all", "--format", "{{.Names}}"]);
    list("volume", &["volume", "ls", "--quiet"]);
    list("network", &["network", "ls", "--format", "{{.Name}}"]);
    seen
}

/// What was done, and what was there when it had been answered.
struct Done {
    step: Vec<String>,
    /// Entries of the record until then.
    recorded: usize,
    state: State,
}

struct Story {
    done: Vec<Done>,
    log: Log,
    /// Of each image by its id: the digests of its files.
    content: BTreeMap<String, String>,
    /// What the steps read from.
    _registry: Registry,
    _sources: Host,
}

fn with_data(name: &str, kilobytes: usize) -> Tree {
    let tree = Tree::busybox();
    tree.dir("data", 0o755);
    for i in 0..4 {
        let line = format!("{name} {i}\n");
        tree.file(&format!("data/{name}{i}"), &line.repeat(kilobytes * 1024 / line.len()));
    }
    tree
}

/// Everything that changes a store, once at least.
fn steps(sources: &Host, registry: &Registry) -> Vec<Vec<String>> {
    sources.import(&with_data("first", 60), &[], "first");
    sources.ok(&["import", &busybox_tar().display().to_string(), "plain"]);
    sources.ok(&[
        "run",
        "--name",
        "changed",
        "--network",
        "none",
        "first",
        "sh",
        "-c",
        "echo more >/data/more; rm /data/first1",
    ]);
    let remote = format!("{}/some/box:3", registry.address());
    sources.ok(&["commit", "changed", &remote]);
    sources.ok(&["push", &remote]);
    let file = |name: &str| sources.scratch(name).display().to_string();
    with_data("second", 30).tar(&sources.scratch("second.tar"));
    sources.ok(&["import", &file("second.tar"), "box:4"]);
    sources.ok(&["save", "-o", &file("box4.tar"), "box:4"]);
    let script =
        "rm -r /data/second0 /data/second1; mkdir /data/new; seq 5000 >/data/new/x; ln /data/new/x /data/new/y";
    let words = |line: &str| -> Vec<String> { line.split(' ').map(str::to_owned).collect() };
    let mut steps = vec![
        vec!["import".into(), file("second.tar"), "box:1".into()],
        words("volume create v1"),
        words("network create n1"),
        words("run --name c1 --network none --volume v1:/v box:1 sh -c"),
        words("commit c1 box:2"),
        words("tag box:2 other:1"),
        vec!["pull".into(), remote],
        words("create --name c2 --network n1 box:2 true"),
        words("rm c1"),
        vec!["load".into(), "--input".into(), file("box4.tar")],
        words("rmi other:1"),
        words("rmi box:4"),
        words("volume rm v1"),
        words("rm c2"),
        words("network rm n1"),
        words("rmi box:2"),
        words("system prune --all --force"),
        vec!["import".into(), file("second.tar"), "box:5".into()],
    ];
    steps[3].push(script.into());
    steps
}

/// Does it all on a recorded disk; new layers take this form.
fn tell(snapshotter: &str) -> Story {
    let (sources, registry) = (Host::new(), Registry::start());
    let steps = steps(&sources, &registry);
    let disk = RecordedDisk::new(192);
    let host = on(disk.mounted(), None, snapshotter);
    let (mut done, mut content) = (Vec::new(), BTreeMap::new());
    for step in steps {
        host.ok(&step.iter().map(String::as_str).collect::<Vec<_>>());
        let recorded = disk.recorded();
        let state = state(&host);
        for (name, id) in &state {
            if let Some(image) = name.strip_prefix("image ").filter(|_| !content.contains_key(id)) {
                let archive = host.run(&["save", image]).bytes;
                assert_eq!(sources.run_with(&["load"], &archive).code, 0, "{image}");
                content.insert(id.clone(), digests(&sources, id));
            }
        }
        done.push(Done { step, recorded, state });
    }
    drop(host);
    Story { done, log: disk.end(), content, _registry: registry, _sources: sources }
}

fn on(disk: &Path, boot: Option<&str>, snapshotter: &str) -> Host {
    let mut host = Host::at(&disk.join("root"), boot);
    host.set("TARE_SNAPSHOTTER", snapshotter);
    host
}

fn digests(host: &Host, image: &str) -> String {
    host.ok(&["run", "--rm", "--network", "none", image, "sh", "-c", DIGESTS])
}

impl Story {
    /// A new boot on the disk of a power cut.
    fn check(&self, disk: &CutDisk, moment: usize, snapshotter: &str) {
        let boot = "11111111-2222-4333-8444-555555555555";
        let host = on(disk.mounted(), Some(boot), snapshotter);
        let answered = self.done.iter().rposition(|d| d.recorded <= moment);
        let nothing = State::from([("network bridge".into(), String::new())]);
        let before = answered.map_or(&nothing, |n| &self.done[n].state);
        let under_way = self.done.get(answered.map_or(0, |n| n + 1));
        let after = under_way.map_or(before, |d| &d.state);
        let what = under_way.map_or("after all".into(), |d| d.step.join(" "));

        sound(&host, &what);
        let seen = state(&host);
        for name in before.keys().chain(after.keys()).chain(seen.keys()) {
            let (seen, before, after) = (seen.get(name), before.get(name), after.get(name));
            assert!(seen == before || seen == after, "{what}: {name}: {before:?} became {seen:?}, not {after:?}");
        }
        self.compare(&host, &seen, &what);

        if let Some(under_way) = under_way {
            // It may say that it is done already; what counts is that it is.
            let again = host.run(&under_way.step.iter().map(String::as_str).collect::<Vec<_>>());
            let now = state(&host);
            assert!(now.keys().eq(after.keys()), "{what}: {} {now:?} instead of {after:?}", again.stderr);
        }
        sound(&host, &format!("{what}, repeated"));
        remove_all(&host, &what);
    }

    /// Every image that is there is what it was.
    fn compare(&self, host: &Host, seen: &State, what: &str) {
        for (name, id) in seen.iter().filter(|(name, _)| name.starts_with("image ")) {
            // One that was made, but not answered yet, may be another than that which was recorded.
            if let Some(content) = self.content.get(id) {
                assert_eq!(&digests(host, id), content, "{what}: {name}");
            }
        }
    }
}

/// Nothing is lost.
#[track_caller]
fn sound(host: &Host, what: &str) {
    let checked = host.run(&["system", "check"]);
    assert!(
        checked.code == 0 || checked.stderr.contains("unrecognized"),
        "{what}: {}{}",
        checked.stdout,
        checked.stderr
    );
}

/// Nothing is left of anything when all is removed.
fn remove_all(host: &Host, what: &str) {
    host.clear();
    host.ok(&["volume", "prune", "--all", "--force"]);
    host.ok(&["system", "prune", "--all", "--volumes", "--force"]);
    let left: Vec<String> = ["blobs/sha256", "layers", "containers", "volumes", "tmp"]
        .into_iter()
        .flat_map(|dir| std::fs::read_dir(host.root().join(dir)).into_iter().flatten().flatten())
        .map(|entry| entry.path().display().to_string())
        .collect();
    assert_eq!(left, [""; 0], "{what}");
    sound(host, &format!("{what}, all removed"));
}

/// The seed of this run: `TARE_TEST_SEED`, or another one each time.
fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    variable("TARE_TEST_SEED").map_or(now.as_secs(), |s| s.parse().unwrap())
}

/// As many moments of the story as asked for: flushes, and moments between two of them.
fn cut(snapshotter: &str, moments: usize) {
    let seed = seed();
    tare_tests::say(&format!("TARE_TEST_SEED={seed}"));
    let mut dice = Dice(seed);
    let story = tell(snapshotter);
    let flushes = story.log.flushes();
    tare_tests::say(&format!("{} entries, {} flushes", story.log.len(), flushes.len()));
    for n in 0..moments {
        // The moments are spread over the whole, each somewhere in its part.
        let part = flushes.len() as u64;
        let at = (n as u64 * part + dice.roll() % part) / moments as u64;
        let at = usize::try_from(at).unwrap();
        let next = flushes.get(at + 1).copied().unwrap_or(story.log.len());
        let between = next.saturating_sub(flushes[at]).max(1) as u64;
        // Right after the flush, or with a part of what was written since.
        let moment =
            if n % 2 == 0 { flushes[at] } else { flushes[at] + usize::try_from(dice.roll() % between).unwrap() };
        tare_tests::say(&format!("cut after {moment} of {} entries", story.log.len()));
        let disk = story.log.disk_at(moment, &mut dice);
        story.check(&disk, moment, snapshotter);
    }
}

/// The proof of the proof: a disk that has lost what was flushed for the last answers does not pass.
#[test]
fn a_disk_that_lost_a_flush_is_noticed() {
    let story = tell("auto");
    let [.., before, _, last] = story.done.as_slice() else { panic!("too short a story") };
    let disk = story.log.disk_at(before.recorded, &mut Dice(1));
    let passed = std::panic::catch_unwind(|| story.check(&disk, last.recorded, "auto"));
    assert!(passed.is_err());
}

#[test]
fn a_power_cut_at_a_flush_takes_nothing_that_was_answered_images() {
    cut("erofs", 12);
}

#[test]
fn a_power_cut_at_a_flush_takes_nothing_that_was_answered_trees() {
    cut("overlay", 12);
}

#[test]
#[ignore = "many minutes: make test-long"]
fn long_a_power_cut_at_any_flush_takes_nothing_that_was_answered() {
    cut("erofs", 400);
    cut("overlay", 400);
}
