use super::Build;
use crate::context::Context;
use crate::out;
use crate::template::Template;
use clap::Args;
use serde_json::{Value, json};
use std::fs::read_to_string;
use tare_engine::view::State;
use tare_model::image::Platform;
use tare_model::{Result, size};

pub(super) const ARGS: Build = <InfoArgs as Args>::augment_args;

/// Print what this host offers and what tare keeps on it
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare info
  tare info --format '{{.Containers}} {{.CgroupVersion}}'")]
pub(crate) struct InfoArgs {
    /// json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

pub(super) fn main(args: InfoArgs, context: &Context) -> Result<u8> {
    let value = document(context)?;
    match args.format.as_deref() {
        None | Some("") => out::print(plain(&value))?,
        Some("json") => out::print(value)?,
        Some(format) => out::print(Template::parse(format)?.render(&value)?)?,
    }
    Ok(0)
}

fn document(context: &Context) -> Result<Value> {
    let engine = context.engine()?;
    let containers = engine.containers(true)?;
    let count = |state: State| containers.iter().filter(|c| c.state == state).count();
    let uname = rustix::system::uname();
    let mounts = read_to_string("/proc/self/mountinfo").unwrap_or_default();
    Ok(json!({
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "Containers": containers.len(),
        "ContainersRunning": count(State::Running),
        "ContainersPaused": count(State::Paused),
        "ContainersStopped": count(State::Exited) + count(State::Created),
        "Images": engine.store().images()?.len(),
        "DockerRootDir": context.root,
        "RunDir": context.run,
        "Driver": "overlay",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": cgroup_version(&mounts),
        "CgroupControllers": controllers(&mounts),
        "SecurityOptions": security(),
        "KernelVersion": uname.release().to_string_lossy(),
        "OperatingSystem": os_name(),
        "OSType": "linux",
        "Architecture": Platform::host().architecture,
        "NCPU": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "MemTotal": memory(),
        "Name": uname.nodename().to_string_lossy(),
    }))
}

fn plain(value: &Value) -> String {
    let text = |name: &str| match &value[name] {
        Value::String(s) => s.clone(),
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    };
    let states = format!(
        "{} ({} running, {} paused, {} stopped)",
        text("Containers"),
        text("ContainersRunning"),
        text("ContainersPaused"),
        text("ContainersStopped")
    );
    [
        ("version", text("ServerVersion")),
        ("containers", states),
        ("images", text("Images")),
        ("root", text("DockerRootDir")),
        ("run", text("RunDir")),
        ("cgroups", format!("{}: {}", text("CgroupVersion"), text("CgroupControllers"))),
        ("security", text("SecurityOptions")),
        ("kernel", text("KernelVersion")),
        ("system", text("OperatingSystem")),
        ("processors", format!("{} {}", text("NCPU"), text("Architecture"))),
        ("memory", size::binary(value["MemTotal"].as_u64().unwrap_or(0))),
    ]
    .map(|(name, value)| format!("{:<12}{value}", format!("{name}:")))
    .join("\n")
}

/// File system type and super options of each cgroup mount (proc(5), mountinfo).
fn cgroup_mounts(mountinfo: &str) -> impl Iterator<Item = (&str, &str)> {
    mountinfo.lines().filter_map(|line| {
        let (_, after) = line.split_once(" - ")?;
        let mut words = after.split(' ');
        let kind = words.next().filter(|k| k.starts_with("cgroup"))?;
        Some((kind, words.nth(1).unwrap_or_default()))
    })
}

/// 1, 2, or hybrid: the latter is version 1 with a version 2 hierarchy beside it.
fn cgroup_version(mountinfo: &str) -> &'static str {
    let (mut one, mut two) = (false, false);
    for (kind, options) in cgroup_mounts(mountinfo) {
        two |= kind == "cgroup2";
        one |= kind == "cgroup" && !options.split(',').any(|o| o.starts_with("name="));
    }
    match (one, two) {
        (true, true) => "hybrid",
        (true, false) => "1",
        (false, true) => "2",
        (false, false) => "none",
    }
}

fn controllers(mountinfo: &str) -> Vec<String> {
    const NOT: [&str; 5] = ["rw", "ro", "xattr", "clone_children", "none"];
    let mut all: Vec<String> = cgroup_mounts(mountinfo)
        .filter(|(kind, _)| *kind == "cgroup")
        .flat_map(|(_, options)| options.split(','))
        .filter(|o| !o.contains('=') && !NOT.contains(o))
        .map(Into::into)
        .collect();
    let unified = read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    all.extend(unified.split_whitespace().map(Into::into));
    all.sort();
    all.dedup();
    all
}

fn security() -> Vec<String> {
    let lsm = read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let known = lsm.trim().split(',').filter(|l| matches!(*l, "apparmor" | "selinux" | "landlock")).map(str::to_owned);
    ["seccomp".to_owned()].into_iter().chain(known).collect()
}

fn os_name() -> String {
    let text = read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "unknown".into(), |n| n.trim_matches('"').to_owned())
}

fn memory() -> u64 {
    let text = read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_are_read_from_mountinfo() {
        let v1 = "30 25 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                  31 25 0:27 / /sys/fs/cgroup/systemd rw - cgroup systemd rw,xattr,name=systemd\n";
        let v2 = "32 25 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(cgroup_version(v1), "1");
        assert_eq!(cgroup_version(v2), "2");
        assert_eq!(cgroup_version(&format!("{v1}{v2}")), "hybrid");
        let all = controllers(v1);
        assert!(all.contains(&"cpu".into()) && all.contains(&"cpuacct".into()) && !all.contains(&"xattr".into()));
    }
}
