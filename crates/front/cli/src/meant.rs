//! From what was typed to what is meant: [`ContainerArgs`] becomes a [`RunRequest`]. Pure, but for the files that flags name.

mod networking;

use crate::container_args::ContainerArgs;
use crate::parse::limits::Swap;
use crate::parse::{bad, device, env, mount, name_service, network, seccomp, security, ulimit, userns, volume};
use std::collections::BTreeSet;
use std::path::Path;
use tare_engine::request::{MountRequest, NamespaceMode, RunRequest, Security, Source};
use tare_model::runtime_spec::{LinuxMemory, LinuxResources};
use tare_model::{Error, Kind, Result, size};

/// What flags may refer to outside of the command line.
pub(crate) struct Caller<'a> {
    /// The caller's environment.
    pub(crate) environment: env::Lookup<'a>,
    /// Where relative paths and `~` begin.
    pub(crate) places: volume::Places,
    /// A file's text.
    pub(crate) read: &'a dyn Fn(&Path) -> Result<String>,
    /// Go's GOARCH, and the kernel's major and minor version.
    pub(crate) machine: (&'static str, (u32, u32)),
    /// SELinux is on: `z` and `Z` would mean something.
    pub(crate) selinux: bool,
}

/// What the flags mean.
///
/// # Errors
/// `Kind::Invalid` or `Kind::Unsupported`, naming the flag and its value.
pub(crate) fn request(args: &ContainerArgs, caller: &Caller<'_>) -> Result<RunRequest> {
    let (source, command) = source(args, caller)?;
    let isolation = &args.isolation;
    let mode = |flag: &str, value: &Option<String>| {
        value.as_deref().map_or(Ok(NamespaceMode::Private), |text| network::namespace(flag, text))
    };
    let mut request = RunRequest {
        name: args.name.clone(),
        source,
        command,
        entrypoint: args.entrypoint.as_ref().map(|e| if e.is_empty() { vec![] } else { vec![e.clone()] }),
        env: environment(&args.env_file, &args.env, caller)?,
        user: args.user.clone(),
        groups: args.group_add.clone(),
        workdir: args.workdir.clone(),
        hostname: args.hostname.as_deref().map(name_service::hostname).transpose()?,
        domainname: args.domainname.clone(),
        labels: labels(args, caller)?,
        annotations: env::labels("--annotation", args.annotation.iter().cloned())?,
        tty: args.tty,
        stdin: args.interactive,
        mounts: mounts(args, caller)?,
        read_only: args.files.read_only,
        init: args.init,
        limits: limits(args)?,
        ulimits: args.more_limits.ulimit.iter().map(|t| ulimit::parse(t)).collect::<Result<_>>()?,
        oom_score_adj: args.more_limits.oom_score_adj,
        shm_size: args.files.shm_size.as_deref().map(size::parse).transpose()?,
        cap_add: isolation.cap_add.clone(),
        cap_drop: isolation.cap_drop.clone(),
        privileged: isolation.privileged,
        security: protection(args, caller)?,
        devices: args.files.device.iter().map(|t| device::parse(t)).collect::<Result<_>>()?,
        sysctls: sysctls(&isolation.sysctl)?,
        pid: mode("--pid", &isolation.pid)?,
        ipc: mode("--ipc", &isolation.ipc)?,
        uts: mode("--uts", &isolation.uts)?,
        cgroupns: mode("--cgroupns", &isolation.cgroupns)?,
        userns: isolation.userns.as_deref().map(userns::parse).transpose()?.unwrap_or_default(),
        stop_signal: args.stop_signal.clone(),
        stop_timeout: args.stop_timeout,
        remove: args.rm,
        ..RunRequest::default()
    };
    networking::fill(&args.network, &mut request)?;
    networking::host_name(&request)?;
    Ok(request)
}

fn source(args: &ContainerArgs, caller: &Caller<'_>) -> Result<(Source, Vec<String>)> {
    if let Some(rootfs) = &args.rootfs {
        let text = rootfs.to_string_lossy();
        return Ok((Source::Rootfs(volume::absolute(&text, &caller.places)), args.words.clone()));
    }
    match args.words.split_first() {
        Some((image, command)) if !image.is_empty() => Ok((Source::Image(image.clone()), command.to_vec())),
        _ => Err(Error::new(Kind::Invalid, "the image is missing", "")
            .because("expected IMAGE [COMMAND [ARGUMENT...]]")
            .hint("`tare images` lists what is here; `tare run hello` works everywhere")),
    }
}

/// Environment files first, then single variables: later ones win.
pub(crate) fn environment(
    files: &[std::path::PathBuf],
    variables: &[String],
    caller: &Caller<'_>,
) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for path in files {
        all.extend(env::file(&(caller.read)(path)?, &path.display().to_string(), caller.environment)?);
    }
    for text in variables {
        all.push(env::variable(text, caller.environment)?);
    }
    Ok(all)
}

fn labels(args: &ContainerArgs, caller: &Caller<'_>) -> Result<std::collections::BTreeMap<String, String>> {
    let mut all = Vec::new();
    for path in &args.label_file {
        all.extend(env::label_file(&(caller.read)(path)?, &path.display().to_string())?);
    }
    env::labels("--label", all.into_iter().chain(args.label.iter().cloned()))
}

fn mounts(args: &ContainerArgs, caller: &Caller<'_>) -> Result<Vec<MountRequest>> {
    let mut all = Vec::new();
    for text in &args.files.volume {
        let volume = volume::parse(text, &caller.places)?;
        // Without SELinux there is nothing to relabel, and docker ignores these options just so.
        if volume.relabel && caller.selinux {
            return Err(Error::new(Kind::Unsupported, "unsupported", format!("--volume {text:?}"))
                .because("relabelling for SELinux is not supported yet")
                .hint("label the directory yourself: chcon -R -t container_file_t DIRECTORY"));
        }
        all.push(volume.mount);
    }
    all.extend(args.files.mount.iter().map(|t| mount::parse(t, &caller.places)).collect::<Result<Vec<_>>>()?);
    all.extend(args.files.tmpfs.iter().map(|t| mount::tmpfs(t)).collect::<Result<Vec<_>>>()?);
    let mut seen = BTreeSet::new();
    for mount in &all {
        if !seen.insert(mount.target.as_str()) {
            return Err(Error::new(Kind::Invalid, "invalid", "mounts")
                .because(format!("two of them have the target {:?}", mount.target)));
        }
    }
    Ok(all)
}

fn limits(args: &ContainerArgs) -> Result<LinuxResources> {
    let mut limits = args.limits.meant(Swap::AsMuch)?;
    let swappiness = args.more_limits.memory_swappiness.and_then(|n| u64::try_from(n).ok());
    let disable = args.more_limits.oom_kill_disable;
    if disable && args.limits.memory.is_none() {
        return Err(bad("--oom-kill-disable", "true", "without --memory the whole host would wait"));
    }
    if swappiness.is_some() || disable {
        let memory = limits.memory.get_or_insert_with(LinuxMemory::default);
        memory.swappiness = swappiness;
        memory.disable_oomkiller = disable.then_some(true);
    }
    Ok(limits)
}

fn protection(args: &ContainerArgs, caller: &Caller<'_>) -> Result<Security> {
    let isolation = &args.isolation;
    let (arch, kernel) = caller.machine;
    let capabilities = seccomp::capabilities(&isolation.cap_add, &isolation.cap_drop, isolation.privileged);
    let host = seccomp::Host { arch, kernel, capabilities };
    security::parse(&isolation.security_opt, &host, &|path| (caller.read)(Path::new(path)))
}

fn sysctls(texts: &[String]) -> Result<std::collections::BTreeMap<String, String>> {
    texts
        .iter()
        .map(|text| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.replace('/', "."), value.to_owned())),
            _ => Err(bad("--sysctl", text, "expected NAME=VALUE")),
        })
        .collect()
}

fn each<T>(texts: &[String], parse: impl Fn(&str) -> Result<Vec<T>>) -> Result<Vec<T>> {
    let all = texts.iter().map(|t| parse(t)).collect::<Result<Vec<_>>>()?;
    Ok(all.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use tare_engine::request::{MountKind, Seccomp};

    #[derive(Parser)]
    #[command(disable_help_flag = true)]
    struct Line {
        #[command(flatten)]
        container: ContainerArgs,
    }

    fn of(line: &str) -> Result<RunRequest> {
        let line = Line::try_parse_from(format!("run {line}").split(' ')).expect("the line parses");
        let caller = Caller {
            environment: &|name| (name == "HOME").then(|| "/root".to_owned()),
            places: volume::Places { cwd: "/w".into(), home: None },
            read: &|path| match path.to_str() {
                Some("vars") => Ok("A=file\nHOME\n".into()),
                Some("labels") => Ok("x=file\n".into()),
                _ => Err(Error::new(Kind::NotFound, "read", path.display())),
            },
            machine: ("amd64", (6, 1)),
            selinux: false,
        };
        request(&line.container, &caller)
    }

    #[test]
    fn flags_end_at_the_image() {
        let r = of("-it --rm --name x debian:12 ls --rm -l").unwrap();
        assert_eq!(r.source, Source::Image("debian:12".into()));
        assert_eq!(r.command, ["ls", "--rm", "-l"]);
        assert!(r.remove && r.tty && r.stdin);
        assert_eq!(r.name.as_deref(), Some("x"));
        assert!(of("--rm").unwrap_err().to_string().contains("the image is missing"));
        assert_eq!(of("debian -- x").unwrap().command, ["--", "x"]);
    }

    #[test]
    fn a_rootfs_takes_the_place_of_the_image() {
        let r = of("--rootfs ./r sh -c x").unwrap();
        assert_eq!((r.source, r.command.len()), (Source::Rootfs("/w/r".into()), 3));
    }

    #[test]
    fn entrypoint_may_be_emptied() {
        assert_eq!(of("--entrypoint sh x").unwrap().entrypoint, Some(vec!["sh".into()]));
        assert_eq!(of("--entrypoint= x").unwrap().entrypoint, Some(vec![]));
        assert_eq!(of("x").unwrap().entrypoint, None);
    }

    #[test]
    fn single_variables_win_over_files() {
        let r = of("--env-file vars -e A=flag -e HOME -e NOPE -l x=flag --label-file labels -l y x").unwrap();
        assert_eq!(r.env, ["A=file", "HOME=/root", "A=flag", "HOME=/root", "NOPE"]);
        assert_eq!((r.labels["x"].as_str(), r.labels["y"].as_str()), ("flag", ""));
        assert!(of("--env-file none x").is_err());
    }

    #[test]
    fn mounts_keep_their_order_and_do_not_collide() {
        let r = of("-v /a:/b:ro -v c2:/d --mount type=tmpfs,dst=/e --tmpfs /f:size=1m x").unwrap();
        let targets: Vec<&str> = r.mounts.iter().map(|m| m.target.as_str()).collect();
        assert_eq!(targets, ["/b", "/d", "/e", "/f"]);
        assert!(matches!(r.mounts[1].kind, MountKind::Volume { name: Some(ref n), .. } if n == "c2"));
        assert!(of("-v /a:/b --tmpfs /b/ x").unwrap_err().to_string().contains("the target \"/b\""));
        assert!(of("-v /a:/b:Z x").is_ok());
    }

    #[test]
    fn limits_and_isolation() {
        let r = of("-m 64m --cpus=0.5 --pids-limit -1 --memory-swappiness 0 --ulimit nofile=5 --oom-score-adj -5 \
                    --shm-size 1m --cap-add NET_ADMIN --cap-drop ALL --security-opt seccomp=unconfined \
                    --sysctl net/ipv4/ip_forward=1 --pid host --ipc container:y --device /dev/fuse --init x")
        .unwrap();
        let memory = r.limits.memory.unwrap();
        assert_eq!((memory.limit, memory.swap, memory.swappiness), (Some(64 << 20), Some(128 << 20), Some(0)));
        assert_eq!(r.limits.cpu.unwrap().quota, Some(50_000));
        assert_eq!(r.limits.pids.unwrap().limit, Some(-1));
        assert_eq!((r.oom_score_adj, r.shm_size, r.init), (Some(-5), Some(1 << 20), true));
        assert_eq!(r.security.seccomp, Seccomp::Unconfined);
        assert_eq!(r.sysctls["net.ipv4.ip_forward"], "1");
        assert_eq!((r.pid, r.ipc), (NamespaceMode::Host, NamespaceMode::Container("y".into())));
        assert_eq!(of("x").unwrap().limits, LinuxResources::default());
    }

    #[test]
    fn what_cannot_both_be_is_refused() {
        for (line, why) in [
            ("--uts host -h y x", "shared"),
            ("--network container:y -h y x", "shared"),
            ("--oom-kill-disable x", "without --memory"),
            ("--sysctl x y", "expected NAME=VALUE"),
        ] {
            let e = of(line).unwrap_err().to_string();
            assert!(e.contains(why), "{line}: {e}");
        }
    }
}
