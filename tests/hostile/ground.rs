//! Where a case is tried: a host between sentinels.

use crate::image::{Image, Layer};
use crate::server::Server;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tare_tests::{Host, Output, Running, command, unique};

/// Memory that a program may take for itself: RLIMIT_DATA counts heap, stacks and anonymous mappings.
const MEMORY: u64 = 512 << 20;
/// Processor time, and time; the machine may be busy.
const SECONDS: u64 = 100;
const PATIENCE: Duration = Duration::from_secs(280);

/// One host in one form of layers.
pub(crate) struct Ground {
    pub(crate) host: Host,
    pub(crate) form: &'static str,
    /// In every name that must not appear outside.
    pub(crate) token: String,
    sentinels: BTreeMap<PathBuf, String>,
}

/// Tries a case in both forms, each on a host of its own.
pub(crate) fn both(case: impl Fn(&Ground)) {
    for form in ["overlay", "erofs"] {
        case(&Ground::new(form));
    }
}

impl Ground {
    pub(crate) fn new(form: &'static str) -> Ground {
        let host = Host::new();
        let mut ground = Ground { host, form, token: unique("tare-escape-"), sentinels: BTreeMap::new() };
        let sentinel = ground.sentinel();
        std::fs::create_dir_all(sentinel.join("dir")).unwrap();
        std::fs::write(sentinel.join("file"), "untouched").unwrap();
        std::fs::write(sentinel.join("passwd"), "victim:x:4242:4242::/:/bin/sh\n").unwrap();
        std::fs::write(sentinel.join("dir/hosts"), "untouched").unwrap();
        // The first question makes the store's directories.
        ground.succeeds(&["images"], None);
        ground.sentinels = ground.outside();
        ground
    }

    /// A directory of the host beside the store: where hostile names lead.
    pub(crate) fn sentinel(&self) -> PathBuf {
        self.host.root().parent().unwrap().join("sentinel")
    }

    /// Everything beside the store, but for what tests themselves write.
    fn outside(&self) -> BTreeMap<PathBuf, String> {
        let top = self.host.root().parent().unwrap();
        let mut found = BTreeMap::new();
        let mut waiting: Vec<PathBuf> = vec![top.to_owned()];
        while let Some(dir) = waiting.pop() {
            for entry in std::fs::read_dir(&dir).unwrap() {
                let path = entry.unwrap().path();
                if [self.host.root(), self.host.run_dir(), &top.join("scratch")].contains(&path.as_path()) {
                    continue;
                }
                let meta = path.symlink_metadata().unwrap();
                let content = if meta.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
                let m = (meta.mode(), meta.uid(), meta.gid(), meta.nlink(), meta.mtime(), meta.mtime_nsec());
                found.insert(path.clone(), format!("{m:?} {}", String::from_utf8_lossy(&content)));
                if meta.is_dir() {
                    waiting.push(path);
                }
            }
        }
        found
    }

    /// What the store holds: names of blobs, layers, containers, and what is being made.
    pub(crate) fn stored(&self) -> BTreeSet<String> {
        let names = |dir: &str| -> Vec<String> {
            let list = std::fs::read_dir(self.host.root().join(dir)).into_iter().flatten().flatten();
            list.map(|e| format!("{dir}/{}", e.file_name().to_string_lossy())).collect()
        };
        ["blobs/sha256", "layers", "tmp", "containers", "volumes"].into_iter().flat_map(names).collect()
    }

    /// `tare ARGS`, bounded.
    pub(crate) fn tare(&self, args: &[&str], input: Option<&[u8]>) -> Output {
        let inner = self.host.command(args);
        let mut outer = command("prlimit");
        outer.env_clear().arg(format!("--data={MEMORY}")).arg(format!("--cpu={SECONDS}")).arg("--nofile=1024");
        outer.arg("--").arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            outer.env(name, value.unwrap_or_default());
        }
        outer.env("TARE_SNAPSHOTTER", self.form);
        let config = self.host.scratch("config.toml");
        if config.exists() {
            outer.env("TARE_CONFIG", config);
        }
        Running::start(&mut outer, input).wait_for(PATIENCE)
    }

    /// Sets `[limits]`.
    pub(crate) fn limits(&self, lines: &str) {
        std::fs::write(self.host.scratch("config.toml"), format!("[limits]\n{lines}\n")).unwrap();
    }

    #[track_caller]
    pub(crate) fn succeeds(&self, args: &[&str], input: Option<&[u8]>) -> String {
        let out = self.tare(args, input);
        assert_eq!(out.code, 0, "{} tare {args:?}\nstdout: {}\nstderr: {}", self.form, out.stdout, out.stderr);
        assert!(!out.stderr.contains("panicked"), "{}", out.stderr);
        out.stdout
    }

    /// It must fail with one error that says one of `words`, and leave nothing.
    #[track_caller]
    pub(crate) fn refuses(&self, what: &str, args: &[&str], input: Option<&[u8]>, words: &str) {
        let before = self.stored();
        let out = self.tare(args, input);
        let what = format!("{what} ({}, {})", self.form, args[0]);
        assert!(out.code != 0, "{what}: not refused\nstdout: {}\nstderr: {}", out.stdout, out.stderr);
        self.is_one_error(&what, &out, words);
        let after = self.stored();
        assert_eq!(after, before, "{what}: left in the store");
        self.untouched(&what);
    }

    /// It fails with one error, or does not; either way it harms nobody.
    #[track_caller]
    pub(crate) fn endures(&self, what: &str, args: &[&str], input: Option<&[u8]>) -> Output {
        let out = self.tare(args, input);
        let what = format!("{what} ({}, {})", self.form, args[0]);
        if out.code != 0 {
            self.is_one_error(&what, &out, "");
        }
        self.untouched(&what);
        out
    }

    #[track_caller]
    #[expect(clippy::unused_self, reason = "it reads as a sentence")]
    fn is_one_error(&self, what: &str, out: &Output, words: &str) {
        let told = format!("{what}: exit code {}\nstdout: {}\nstderr: {}", out.code, out.stdout, out.stderr);
        assert!([1, 125, 126, 127].contains(&out.code), "{told}");
        let lines: Vec<&str> = out.stderr.split_terminator('\n').collect();
        assert!(!lines.is_empty() && lines.len() <= 2, "not one line and a hint: {told}");
        assert!(lines[0].starts_with("tare: "), "{told}");
        assert!(lines.get(1).is_none_or(|l| l.starts_with("hint: ")), "{told}");
        assert!(out.stderr.len() < 3000, "{told}");
        assert!(!out.stderr.chars().any(|c| c.is_control() && c != '\n'), "control characters: {told}");
        for debug in ["panicked", "Kind::", "Some(", "Err(", "Os {", "errno "] {
            assert!(!out.stderr.contains(debug), "{debug}: {told}");
        }
        assert!(words.split('|').any(|w| out.stderr.contains(w)), "{words:?} is not said: {told}");
    }

    /// Nothing outside of the store has changed.
    #[track_caller]
    pub(crate) fn untouched(&self, what: &str) {
        let now = self.outside();
        let mut difference = String::new();
        for (path, state) in &now {
            if self.sentinels.get(path) != Some(state) {
                writeln!(difference, "{}: {state}", path.display()).unwrap();
            }
        }
        assert!(difference.is_empty() && now.len() == self.sentinels.len(), "{what}: outside\n{difference}");
        let above = self.host.root().ancestors().skip(1).map(Path::to_owned);
        for dir in above.chain(["/etc", "/root", "/tmp", "/usr", "/var"].map(PathBuf::from)) {
            for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                let name = entry.file_name();
                assert!(!name.to_string_lossy().contains(&self.token), "{what}: {}", entry.path().display());
            }
        }
    }

    /// A layer that must be refused, whichever way it comes.
    #[track_caller]
    pub(crate) fn refuses_layer(&self, what: &str, tar: Vec<u8>, words: &str) {
        self.refuses(what, &["import", "-", "hostile"], Some(&tar), words);
        self.refuses_image(what, &Image::of(&[Layer::plain(tar)]), words);
    }

    /// An image that must be refused, from an archive and from a registry.
    #[track_caller]
    pub(crate) fn refuses_image(&self, what: &str, image: &Image, words: &str) {
        self.refuses(what, &["load", "--quiet"], Some(&image.archive()), words);
        let server = Server::of(image);
        self.refuses(what, &["pull", "--quiet", &server.name("hostile:1")], None, words);
    }

    /// A layer that is taken: the paths that a container of it shows, without the directories of every container.
    #[track_caller]
    pub(crate) fn shows(&self, what: &str, tars: Vec<Vec<u8>>) -> Vec<String> {
        let layers: Vec<Layer> = tars.into_iter().map(Layer::plain).collect();
        let out = self.succeeds(&["load", "--quiet"], Some(&Image::of(&layers).archive()));
        let id = out.trim().rsplit(' ').next().unwrap().to_owned();
        self.untouched(what);
        let file = if self.form == "erofs" { "layer.erofs" } else { "fs" };
        let unpacked = std::fs::read_dir(self.host.root().join("layers")).unwrap();
        let other = unpacked.flatten().map(|e| e.path()).find(|dir| !dir.join(file).exists());
        assert!(other.is_none(), "{what}: not in the form {}: {other:?}", self.form);
        let container = self.succeeds(&["create", "--network", "none", &id], None);
        let exported = self.tare(&["export", container.trim()], None);
        assert_eq!(exported.code, 0, "{what}: {}", exported.stderr);
        let mut list = command("tar");
        list.args(["--list", "--absolute-names", "--quoting-style=literal"]);
        let listed = Running::start(&mut list, Some(&exported.bytes)).wait();
        assert_eq!(listed.code, 0, "{what}: {}", listed.stderr);
        self.succeeds(&["rm", container.trim()], None);
        self.succeeds(&["rmi", &id], None);
        self.untouched(what);
        let own = ["dev", "etc", "proc", "sys", ".", ""];
        let mut names: Vec<String> =
            listed.stdout.lines().map(|l| l.trim_start_matches("./").trim_end_matches('/').to_owned()).collect();
        names.retain(|n| !own.contains(&n.split('/').next().unwrap()));
        names.sort();
        names
    }
}
