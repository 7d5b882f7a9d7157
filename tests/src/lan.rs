//! Several hosts of one test, each a network namespace, joined by veth pairs: the machine's own network is left alone.
//!
//! ```text
//!  outside ── eth0 ───────────── up0 ── inside ── lan0 ───────────── eth0 ── neighbour
//!  192.0.2.2, 2001:db8::2     192.0.2.1, 2001:db8::1     198.51.100.10, 2001:db8:1::10
//!  (default route: inside)       tare runs here;         (made by Lan::neighbour;
//!                                default route: outside   lan0 has no address)
//! ```
//!
//! `outside` has a route to everything behind `inside`, so that what it does not reach is kept from it by rules and not
//! by routes. Every host can run the program of `talk.c`, which tells who answered and whom it saw.

use crate::host::Host;
use crate::probe::compile;
use crate::process::{Output, Running, command};
use crate::{eventually, unique};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The outside's addresses.
pub const OUTSIDE: &str = "192.0.2.2";
/// The same of IPv6.
pub const OUTSIDE6: &str = "2001:db8::2";
/// The addresses of the host on which tare runs, towards the outside.
pub const HOST: &str = "192.0.2.1";
/// The same of IPv6.
pub const HOST6: &str = "2001:db8::1";
/// The addresses of the second host, on the other side of `lan0`.
pub const NEIGHBOUR: &str = "198.51.100.10";
/// The same of IPv6.
pub const NEIGHBOUR6: &str = "2001:db8:1::10";
/// The host's device towards [`Lan::neighbour`].
pub const PARENT: &str = "lan0";

const PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";
const TALK: &str = include_str!("talk.c");

/// Runs a program of the machine that must succeed.
///
/// # Panics
/// If it does not.
#[track_caller]
pub fn program(line: &[&str]) -> String {
    let out = Running::start(command(line[0]).args(&line[1..]).env("PATH", PATH), None).wait();
    assert_eq!(out.code, 0, "{line:?}: {}{}", out.stdout, out.stderr);
    out.stdout
}

/// A network namespace with a name, which goes with it.
#[derive(Debug)]
pub struct Namespace(String);

impl Namespace {
    /// A new one; its loopback device is up, nothing is forwarded.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn new(prefix: &str) -> Namespace {
        let namespace = Namespace(unique(prefix));
        program(&["ip", "netns", "add", &namespace.0]);
        namespace.ip("link set lo up");
        namespace.sysctl("net.ipv4.ip_forward", "0");
        namespace
    }

    /// Its name, of `ip netns`.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The file that it is known by.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.0)
    }

    /// A command in it, not started.
    pub fn command(&self, line: &[&str]) -> Command {
        let mut enter = command("nsenter");
        enter.env("PATH", PATH).arg(format!("--net={}", self.path().display())).args(line);
        enter
    }

    /// Runs a program in it.
    pub fn on(&self, line: &[&str]) -> Output {
        Running::start(&mut self.command(line), None).wait()
    }

    /// Runs a program in it that must succeed; what it printed.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn ok(&self, line: &[&str]) -> String {
        let out = self.on(line);
        assert_eq!(out.code, 0, "{line:?}: {}{}", out.stdout, out.stderr);
        out.stdout
    }

    /// `ip LINE`, which must succeed.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn ip(&self, line: &str) -> String {
        let mut words = vec!["ip", "-n", &self.0];
        words.extend(line.split(' '));
        program(&words)
    }

    /// Feeds nft(8) a file.
    ///
    /// # Panics
    /// If it refuses it.
    #[track_caller]
    pub fn nft(&self, rules: &str) {
        let out = Running::start(&mut self.command(&["nft", "-f", "-"]), Some(rules.as_bytes())).wait();
        assert_eq!(out.code, 0, "{rules}: {}", out.stderr);
    }

    /// Sets a sysctl of the network.
    ///
    /// # Panics
    /// If there is none of this name.
    #[track_caller]
    pub fn sysctl(&self, key: &str, value: &str) {
        let file = format!("/proc/sys/{}", key.replace('.', "/"));
        let out = self.on(&["sh", "-c", "echo \"$0\" > \"$1\"", value, &file]);
        assert_eq!(out.code, 0, "{key}: {}", out.stderr);
    }

    /// Joins two of them by a veth pair; both ends are up and have the addresses at once.
    pub fn join(&self, device: &str, addresses: &[&str], other: &Namespace, theirs: &str, other_addresses: &[&str]) {
        self.ip(&format!("link add {device} type veth peer name {theirs} netns {}", other.0));
        for (namespace, device, list) in [(self, device, addresses), (other, theirs, other_addresses)] {
            for address in list {
                let nodad = if address.contains(':') { " nodad" } else { "" };
                namespace.ip(&format!("address add {address} dev {device}{nodad}"));
            }
            namespace.ip(&format!("link set {device} up"));
        }
    }

    /// Starts `talk serve` in it, and waits for it.
    ///
    /// # Panics
    /// If it does not serve.
    pub fn serve(&self, name: &str, ports: &[&str]) -> Running {
        let talk = talk().display().to_string();
        let line = [&[talk.as_str(), "serve", name], ports].concat();
        let serving = Running::start(&mut self.command(&line), None);
        let up = eventually(Duration::from_secs(10), || serving.printed().0.contains("ready"));
        assert!(up, "{:?}", serving.printed());
        serving
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = command("ip").env("PATH", PATH).args(["netns", "delete", &self.0]).status();
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub enum From<'a> {
    /// A program of a host.
    On(&'a Namespace),
    /// A program in a container that has `talk`: see [`Lan::peer`].
    Container(&'a str),
}

/// Whom it asks: `tcp` or `udp`, address, port.
pub type Target<'a> = (&'a str, &'a str, u16);

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Who answered.
    pub name: String,
    /// The address that it saw.
    pub peer: String,
    /// The port that it saw.
    pub port: u16,
    /// The address at which it was asked.
    pub local: String,
}

/// The hosts of one test, and a root of tare's on one of them.
#[derive(Debug)]
pub struct Lan {
    /// The root.
    pub host: Host,
    /// Where tare runs.
    pub inside: Namespace,
    /// The rest of the world.
    pub outside: Namespace,
    // After the root: what is left of it goes while its namespace is there.
    server: Running,
    mounts: Option<Running>,
}

impl Lan {
    /// Two hosts; `outside` serves pages (`/page`, port 80) from a directory, and the root has the image `busybox`.
    ///
    /// # Panics
    /// If they cannot be made.
    #[expect(clippy::new_without_default, reason = "it makes namespaces")]
    pub fn new() -> Lan {
        let (inside, outside) = (Namespace::new("tare-in-"), Namespace::new("tare-out-"));
        let ours = [format!("{HOST}/24"), format!("{HOST6}/64")];
        let theirs = [format!("{OUTSIDE}/24"), format!("{OUTSIDE6}/64")];
        inside.join("up0", &[&ours[0], &ours[1]], &outside, "eth0", &[&theirs[0], &theirs[1]]);
        for (namespace, gateway, gateway6) in [(&inside, OUTSIDE, OUTSIDE6), (&outside, HOST, HOST6)] {
            namespace.ip(&format!("route add default via {gateway}"));
            namespace.ip(&format!("-6 route add default via {gateway6}"));
        }
        // A device that has just been made is not in use at once; what tare does shall be the only thing that is new.
        for (namespace, there) in [(&inside, OUTSIDE), (&outside, HOST), (&inside, OUTSIDE6), (&outside, HOST6)] {
            let ping = ["busybox", "ping", "-c", "1", "-W", "1", there];
            assert!(eventually(Duration::from_secs(20), || namespace.on(&ping).code == 0), "{there} is not reached");
        }
        let host = Host::new();
        let site = host.scratch("site");
        std::fs::create_dir_all(&site).unwrap();
        std::fs::write(site.join("page"), "from outside\n").unwrap();
        let mut serve = outside.command(&["busybox", "httpd", "-f", "-vv", "-p", "80", "-h"]);
        let server = Running::start(serve.arg(&site), None);
        host.busybox();
        Lan { host, inside, outside, server, mounts: None }
    }

    /// A second host, joined to [`PARENT`] of the first one.
    pub fn neighbour(&self) -> Namespace {
        let other = Namespace::new("tare-lan-");
        let theirs = [format!("{NEIGHBOUR}/24"), format!("{NEIGHBOUR6}/64")];
        self.inside.join(PARENT, &[], &other, "eth0", &[&theirs[0], &theirs[1]]);
        other
    }

    /// From here on all commands of tare's share a mount namespace, in which this shell script is run at once.
    ///
    /// # Panics
    /// If the script fails.
    #[track_caller]
    pub fn mounts(&mut self, script: &str) {
        if self.mounts.is_none() {
            let mut hold = self.inside.command(&["unshare", "--mount", "sh", "-c", "echo there; exec sleep 1000"]);
            let holder = Running::start(&mut hold, None);
            assert!(eventually(Duration::from_secs(5), || !holder.printed().0.is_empty()), "{:?}", holder.printed());
            self.mounts = Some(holder);
        }
        self.seen(script);
    }

    /// What a shell script prints that sees what tare sees, and must succeed.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn seen(&self, script: &str) -> String {
        let mut words = vec![format!("--net={}", self.inside.path().display())];
        words.extend(self.mounts.as_ref().map(|h| format!("--mount=/proc/{}/ns/mnt", h.pid())));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        program(&[&["nsenter"], &words[..], &["sh", "-e", "-c", script]].concat())
    }

    /// From here on tare's host has this `/etc/resolv.conf`; what is written to the returned file later, too.
    ///
    /// # Panics
    /// If there can be none.
    #[track_caller]
    pub fn resolver(&mut self, content: &str) -> PathBuf {
        let file = self.host.scratch("resolv.conf");
        std::fs::write(&file, content).unwrap();
        self.mounts(&format!("mount --bind {} \"$(readlink -f /etc/resolv.conf)\"", file.display()));
        file
    }

    /// `tare ARGS` on this host, not started.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_for(&self.host, args)
    }

    /// The same for another root.
    pub fn command_for(&self, host: &Host, args: &[&str]) -> Command {
        let plain = host.command(args);
        let mut enter = command("nsenter");
        enter.env_clear().envs(plain.get_envs().filter_map(|(k, v)| Some((k, v?))));
        enter.arg(format!("--net={}", self.inside.path().display()));
        if let Some(holder) = &self.mounts {
            enter.arg(format!("--mount=/proc/{}/ns/mnt", holder.pid()));
        }
        enter.arg(plain.get_program()).args(plain.get_args());
        enter
    }

    /// Runs a verb to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        Running::start(&mut self.command(args), None).wait()
    }

    /// The same for another root.
    pub fn run_for(&self, host: &Host, args: &[&str]) -> Output {
        Running::start(&mut self.command_for(host, args), None).wait()
    }

    /// Runs a verb that must succeed; what it printed, without the last line end.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let out = self.run(args);
        assert_eq!(out.code, 0, "{args:?}: {}{}", out.stdout, out.stderr);
        out.stdout.trim_end().to_owned()
    }

    /// Runs a verb that must fail with this exit code; its standard error.
    ///
    /// # Panics
    /// If its exit code is another one.
    #[track_caller]
    pub fn fails(&self, args: &[&str], code: i32) -> String {
        let out = self.run(args);
        assert_eq!(out.code, code, "{args:?}: {}{}", out.stdout, out.stderr);
        out.stderr
    }

    /// `inspect` of one object.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn inspect(&self, args: &[&str]) -> serde_json::Value {
        let list: serde_json::Value = serde_json::from_str(&self.ok(args)).unwrap();
        list.get(0).cloned().unwrap_or(list)
    }

    /// A detached container that serves a page with its name on port 80; its id.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn web(&self, name: &str, flags: &[&str]) -> String {
        let script = format!("echo {name} > /page; exec httpd -f -p 80 -h /");
        let id = self.ok(&[&["run", "-d", "--name", name], flags, &["busybox", "sh", "-c", &script]].concat());
        let up = || self.run(&["exec", name, "wget", "-qO-", "http://127.0.0.1/page"]).code == 0;
        assert!(eventually(Duration::from_secs(10), up), "{name} does not serve");
        id
    }

    /// A detached container that runs `talk serve NAME PORTS`; its id.
    ///
    /// # Panics
    /// If it cannot be started.
    #[track_caller]
    pub fn peer_on(&self, name: &str, flags: &[&str], ports: &[&str]) -> String {
        let volume = format!("{}:/bin/talk:ro", talk().display());
        let start = ["run", "-d", "--name", name, "-v", &volume];
        let id = self.ok(&[&start, flags, &["busybox", "talk", "serve", name], ports].concat());
        let up = || self.run(&["logs", name]).stdout.contains("ready");
        assert!(eventually(Duration::from_secs(10), up), "{name} does not serve: {:?}", self.run(&["logs", name]));
        id
    }

    /// The same on port 80.
    #[track_caller]
    pub fn peer(&self, name: &str, flags: &[&str]) -> String {
        self.peer_on(name, flags, &["80"])
    }

    /// Asks everybody at once and waits for `patience` at most; what each answered, if anything.
    ///
    /// # Panics
    /// If nobody can ask.
    #[track_caller]
    pub fn ask(&self, from: From<'_>, patience: Duration, targets: &[Target<'_>]) -> Vec<Option<Reply>> {
        let mut words = vec!["ask".to_owned(), patience.as_millis().to_string()];
        for (transport, address, port) in targets {
            words.extend([(*transport).to_owned(), (*address).to_owned(), port.to_string()]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let out = match from {
            From::On(namespace) => namespace.on(&[&[talk().to_str().unwrap()], &words[..]].concat()),
            From::Container(name) => self.run(&[&["exec", name, "talk"], &words[..]].concat()),
        };
        assert_eq!(out.code, 0, "{from:?}: {}{}", out.stdout, out.stderr);
        let replies: Vec<Option<Reply>> = out.stdout.lines().map(reply).collect();
        assert_eq!(replies.len(), targets.len(), "{}", out.stdout);
        replies
    }

    /// Who answers one question, if anybody does within a second.
    #[track_caller]
    pub fn who(&self, from: From<'_>, transport: &str, address: &str, port: u16) -> Option<String> {
        Some(self.whom(from, transport, address, port)?.name)
    }

    /// The whole answer to one question.
    #[track_caller]
    pub fn whom(&self, from: From<'_>, transport: &str, address: &str, port: u16) -> Option<Reply> {
        self.ask(from, Duration::from_secs(1), &[(transport, address, port)]).remove(0)
    }

    /// A container's addresses in a network, without their prefixes: the default network's if `network` is empty.
    ///
    /// # Panics
    /// If it has none.
    #[track_caller]
    pub fn addresses(&self, container: &str, network: &str) -> (String, String) {
        let seen = self.inspect(&["inspect", container]);
        let network = if network.is_empty() { "bridge" } else { network };
        let at = &seen["NetworkSettings"]["Networks"][network];
        let text = |key: &str| at[key].as_str().unwrap_or_else(|| panic!("{container} {network}: {at}")).to_owned();
        (text("IPAddress"), text("GlobalIPv6Address"))
    }

    /// A container's IPv4 address in its first network.
    #[track_caller]
    pub fn address(&self, name: &str) -> String {
        self.ok(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", name])
    }

    /// What the web server of `outside` has logged.
    pub fn visitors(&self) -> String {
        self.server.printed().1
    }

    /// What of this root is in the host's namespace: tables, bridges, ports of theirs.
    pub fn leftovers(&self) -> String {
        self.inside.on(&["nft", "list", "tables"]).stdout
            + &self.inside.on(&["ip", "-o", "link", "show", "type", "bridge"]).stdout
            + &self.inside.on(&["ip", "-o", "link", "show", "type", "ifb"]).stdout
            + &self.inside.on(&["ip", "-o", "link", "show", "type", "macvlan"]).stdout
            + &self.inside.on(&["sh", "-c", "ip -o link show type veth | grep -v -e ' up0@' -e ' lan0@'"]).stdout
    }

    /// Waits until there are none; what is left otherwise. Foreign tables are the test's own affair.
    pub fn settled(&self) -> String {
        eventually(Duration::from_secs(10), || self.leftovers().is_empty());
        self.leftovers()
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        let failures = if self.host.root().exists() { self.clear() } else { String::new() };
        let found = self.settled();
        assert!(found.is_empty() || std::thread::panicking(), "left behind: {found}{failures}");
    }
}

impl Lan {
    /// Removes all containers, from within: what comes back to the host comes back here.
    pub fn clear(&self) -> String {
        let all = self.run(&["ps", "--all", "--quiet", "--no-trunc"]).stdout;
        let mut args = vec!["rm", "--force", "--volumes"];
        args.extend(all.split_whitespace());
        if args.len() > 3 { self.run(&args).stderr } else { String::new() }
    }
}

fn reply(line: &str) -> Option<Reply> {
    let words: Vec<&str> = line.split(' ').collect();
    if words[0] == "!" {
        return None;
    }
    let [name, peer, port, local] = words[..] else { panic!("{line}") };
    Some(Reply { name: name.to_owned(), peer: peer.to_owned(), port: port.parse().unwrap(), local: local.to_owned() })
}

/// Fetches a page with a short patience; what came, or nothing.
pub fn fetch(from: &Namespace, address: &str) -> Option<String> {
    let out = from.on(&["curl", "-s", "-m", "3", &format!("http://{address}/page")]);
    (out.code == 0).then(|| out.stdout.trim().to_owned())
}

/// The program of `talk.c`, compiled once for each version of it.
///
/// # Panics
/// If it cannot be compiled.
pub fn talk() -> PathBuf {
    use std::hash::{Hash, Hasher};
    let mut hasher = std::hash::DefaultHasher::new();
    TALK.hash(&mut hasher);
    let uid = rustix::process::geteuid().as_raw();
    let path = std::env::temp_dir().join(format!("tare-tests-talk-{uid}-{:016x}", hasher.finish()));
    if !path.exists() {
        let aside = std::env::temp_dir().join(unique("tare-tests-talk-aside-"));
        compile(TALK, &aside);
        std::fs::rename(&aside, &path).unwrap();
    }
    path
}
