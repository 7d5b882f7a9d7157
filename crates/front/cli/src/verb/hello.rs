use super::Build;
use crate::context::Context;
use crate::out::Out;
use clap::Args;
use std::fmt::Write;
use std::fs::read_to_string;
use tare_model::{Result, size};

pub(super) const ARGS: Build = <HelloArgs as Args>::augment_args;

/// Say, from inside, what isolates this process
///
/// What the starter image runs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare run hello
  tare run --rm -m 64m --network none hello")]
pub(crate) struct HelloArgs {}

pub(super) fn main(_: HelloArgs, _: &Context) -> Result<u8> {
    let mut out = Out::new();
    out.text(report())?;
    out.finish()?;
    Ok(0)
}

fn report() -> String {
    let status = read("/proc/self/status");
    let mountinfo = read("/proc/self/mountinfo");
    let uname = rustix::system::uname();
    let mut text =
        String::from("Hello from a tare container. Everything below was read from the kernel, from inside.\n");
    section(&mut text, "process", &process(&status, &uname));
    section(&mut text, "namespaces", &namespaces());
    section(&mut text, "limits", &limits(&mountinfo));
    section(&mut text, "privileges", &privileges(&status));
    section(&mut text, "root", &root(&mountinfo));
    section(&mut text, "mounts", &mounts(&mountinfo));
    section(&mut text, "network", &network());
    text.push_str("\nNext: tare run -it --rm debian bash, or tare --help\n");
    text
}

fn section(text: &mut String, title: &str, lines: &[String]) {
    text.push('\n');
    for (i, line) in lines.iter().enumerate() {
        let name = if i == 0 { title } else { "" };
        writeln!(text, "{name:<12}{line}").expect("writing to a string cannot fail");
    }
}

fn read(path: &str) -> String {
    read_to_string(path).unwrap_or_default()
}

fn process(status: &str, uname: &rustix::system::Uname) -> Vec<String> {
    let ids = |name: &str| field(status, name).split_whitespace().next().unwrap_or("?").to_owned();
    vec![
        format!("PID {}, user {}, group {}", std::process::id(), ids("Uid"), ids("Gid")),
        format!("host name {}, kernel {}", uname.nodename().to_string_lossy(), uname.release().to_string_lossy()),
    ]
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim()
}

/// `pid:[4026531836]` of each link.
fn namespaces() -> Vec<String> {
    const KINDS: [&str; 8] = ["pid", "mnt", "net", "ipc", "uts", "cgroup", "user", "time"];
    let link = |kind: &&str| std::fs::read_link(format!("/proc/self/ns/{kind}")).ok();
    let all: Vec<String> = KINDS.iter().filter_map(link).map(|l| l.to_string_lossy().into_owned()).collect();
    let mut lines: Vec<String> = all.chunks(4).map(|four| four.join("  ")).collect();
    lines.push("compare: ls -l /proc/self/ns on the host".into());
    lines
}

/// Limits of this process's cgroups, from whichever version has them.
fn limits(mountinfo: &str) -> Vec<String> {
    let file = |v1: &str, controller: &str, v2: &str| {
        let path = cgroup_mount(mountinfo, controller).map(|at| format!("{at}/{v1}"));
        let text = path.map(|p| read(&p)).filter(|t| !t.is_empty()).unwrap_or_else(|| unified(mountinfo, v2));
        text.trim().to_owned()
    };
    let memory = file("memory.limit_in_bytes", "memory", "memory.max");
    let pids = file("pids.max", "pids", "pids.max");
    let quota = file("cpu.cfs_quota_us", "cpu", "cpu.max");
    let period = file("cpu.cfs_period_us", "cpu", "cpu.max");
    let cpus = file("cpuset.effective_cpus", "cpuset", "cpuset.cpus.effective");
    vec![
        format!("memory {}, tasks {}", bytes(&memory), unlimited(&pids)),
        format!("processor time {}, processors {}", share(&quota, &period), unlimited(&cpus)),
    ]
}

fn cgroup_mount<'a>(mountinfo: &'a str, controller: &str) -> Option<&'a str> {
    lines(mountinfo).find(|m| m.kind == "cgroup" && m.options.split(',').any(|o| o == controller)).map(|m| m.target)
}

fn unified(mountinfo: &str, file: &str) -> String {
    lines(mountinfo).find(|m| m.kind == "cgroup2").map(|m| read(&format!("{}/{file}", m.target))).unwrap_or_default()
}

fn bytes(text: &str) -> String {
    // Version 1 says "no limit" with the largest number of pages.
    text.parse::<u64>().ok().filter(|n| *n < 1 << 60).map_or_else(|| "without limit".into(), size::binary)
}

fn unlimited(text: &str) -> String {
    if text.is_empty() || text == "max" { "without limit".into() } else { text.to_owned() }
}

/// Version 1 has quota and period in two files, version 2 in one.
fn share(quota: &str, period: &str) -> String {
    let words: Vec<&str> = quota.split_whitespace().collect();
    let (quota, period) = match words[..] {
        [quota, period] => (quota, period),
        _ => (quota, period),
    };
    match (quota.parse::<f64>(), period.parse::<f64>()) {
        (Ok(q), Ok(p)) if q > 0.0 && p > 0.0 => format!("of {} processors", q / p),
        _ => "without limit".into(),
    }
}

fn privileges(status: &str) -> Vec<String> {
    let set = u64::from_str_radix(field(status, "CapEff"), 16).unwrap_or(0);
    let bounding = u64::from_str_radix(field(status, "CapBnd"), 16).unwrap_or(0);
    let seccomp = match field(status, "Seccomp") {
        "0" => "no filter",
        "1" => "strict",
        "2" => "filtered",
        _ => "unknown",
    };
    let nnp = if field(status, "NoNewPrivs") == "1" { "yes" } else { "no" };
    let mut lines = vec![format!("{} capabilities of {} possible here", set.count_ones(), bounding.count_ones())];
    lines.extend(wrap(&capability_names(set), 90));
    lines.push(format!("system calls: {seccomp}; no new privileges: {nnp}"));
    lines
}

fn capability_names(set: u64) -> Vec<&'static str> {
    CAPABILITIES.iter().enumerate().filter(|(bit, _)| set & (1 << bit) != 0).map(|(_, name)| *name).collect()
}

fn wrap(words: &[&str], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push((*word).to_owned()),
        }
    }
    lines
}

/// A line of mountinfo (proc_pid_mountinfo(5)).
struct Mount<'a> {
    target: &'a str,
    kind: &'a str,
    source: &'a str,
    flags: &'a str,
    options: &'a str,
}

fn lines(mountinfo: &str) -> impl Iterator<Item = Mount<'_>> {
    mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(4);
        let mut after = after.split(' ');
        Some(Mount {
            target: before.next()?,
            flags: before.next()?,
            kind: after.next()?,
            source: after.next()?,
            options: after.next().unwrap_or_default(),
        })
    })
}

/// What `/` is made of.
fn root(mountinfo: &str) -> Vec<String> {
    let Some(root) = lines(mountinfo).filter(|m| m.target == "/").last() else { return vec!["unknown".into()] };
    if root.kind != "overlay" {
        return vec![format!("{} from {}", root.kind, root.source)];
    }
    // `lowerdir=a:b`, or one `lowerdir+=a` for each.
    let lower = |o: &str| o.strip_prefix("lowerdir")?.split_once('=').map(|(_, v)| v.to_owned());
    let lowers: usize =
        root.options.split(',').filter_map(lower).map(|v| v.split(':').filter(|path| !path.is_empty()).count()).sum();
    let writable = if root.flags.split(',').any(|f| f == "ro") { "read-only" } else { "a writable layer of its own" };
    vec![format!("overlay of {lowers} read-only layers (shared with every container of this image) and {writable}")]
}

fn mounts(mountinfo: &str) -> Vec<String> {
    // A line for each hierarchy of control groups would hide the rest.
    let all: Vec<Mount<'_>> = lines(mountinfo).filter(|m| m.target != "/" && !m.kind.starts_with("cgroup")).collect();
    let mut shown: Vec<String> =
        all.iter().map(|m| format!("{:<24} {:<8} {}", m.target, m.kind, m.flags)).take(16).collect();
    if all.len() > shown.len() {
        shown.push(format!("and {} more", all.len() - shown.len()));
    }
    if shown.is_empty() { vec!["none".into()] } else { shown }
}

/// Devices of /proc/net/dev; the first two lines are headings.
fn network() -> Vec<String> {
    let text = read("/proc/net/dev");
    let names: Vec<&str> =
        text.lines().skip(2).filter_map(|l| l.split_once(':')).map(|(name, _)| name.trim()).collect();
    vec![if names.is_empty() { "no devices".into() } else { format!("devices {}", names.join(" ")) }]
}

const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "1 0 0:1 / / rw,relatime - overlay overlay rw,lowerdir+=/a,lowerdir+=/b,upperdir=/u\n\
        2 1 0:2 / /proc rw,nosuid - proc proc rw\n\
        3 1 0:3 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";

    #[test]
    fn what_the_kernel_says_is_put_in_words() {
        assert!(root(MOUNTS)[0].starts_with("overlay of 2 read-only layers"));
        assert_eq!(cgroup_mount(MOUNTS, "memory"), Some("/sys/fs/cgroup/memory"));
        assert_eq!(mounts(MOUNTS).len(), 1);
        assert_eq!((bytes("67108864"), bytes("9223372036854771712")), ("64MiB".into(), "without limit".into()));
        assert_eq!(
            (share("50000", "100000"), share("max 100000", "max 100000")),
            ("of 0.5 processors".into(), "without limit".into())
        );
        assert_eq!(share("150000 100000", ""), "of 1.5 processors");
        let status = "Uid:\t0\t0\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nSeccomp:\t2\nNoNewPrivs:\t1\n";
        let lines = privileges(status);
        assert_eq!(lines[0], "14 capabilities of 14 possible here");
        assert!(lines[1].starts_with("chown dac_override fowner"));
        assert_eq!(lines.last().unwrap(), "system calls: filtered; no new privileges: yes");
    }

    #[test]
    fn it_works_anywhere() {
        let text = report();
        assert!(text.contains("\nprocess     PID ") && text.contains("pid:["), "{text}");
    }
}
