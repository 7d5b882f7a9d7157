//! What `inspect` prints: docker's documents, so that scripts written for it work.

pub(crate) mod network;

use serde_json::{Map, Value, json};
use tare_engine::request::{MountKind, MountRequest, NamespaceMode, RunRequest, Seccomp, UserNamespace};
use tare_engine::view::{Container, State, Volume};
use tare_model::Reference;
use tare_store::Image;

/// Docker's time of something that never happened.
pub(crate) const NEVER: &str = "0001-01-01T00:00:00Z";

/// A container's document.
pub(crate) fn container(c: &Container) -> Value {
    let (path, args) = c.args.split_first().map_or(("", &[][..]), |(p, a)| (p.as_str(), a));
    json!({
        "Id": c.id,
        "Created": c.created_at,
        "Path": path,
        "Args": args,
        "State": state(c),
        "Image": c.image_id.map_or_else(String::new, |d| d.to_string()),
        "ResolvConfPath": "",
        "LogPath": c.log_path,
        "Name": format!("/{}", c.name),
        "RestartCount": 0,
        "Driver": "overlay",
        "Platform": "linux",
        "CgroupPath": c.cgroup,
        "Capabilities": c.capabilities,
        "Warnings": c.warnings,
        "HostConfig": host_config(c),
        "GraphDriver": {
            "Name": "overlay",
            "Data": { "LowerDir": c.lowers.join(":"), "UpperDir": c.upper, "MergedDir": null, "WorkDir": null },
        },
        "Mounts": c.mounts.iter().map(|m| json!({
            "Type": m.kind,
            "Name": m.name.as_deref().unwrap_or_default(),
            "Source": m.source,
            "Destination": m.target,
            "Driver": if m.kind == "volume" { "local" } else { "" },
            "Mode": "",
            "RW": m.writable,
            "Propagation": m.propagation,
        })).collect::<Vec<_>>(),
        "Config": config(c),
        "NetworkSettings": network::settings(c),
    })
}

fn state(c: &Container) -> Value {
    let exit = c.exit.clone().unwrap_or_default();
    let running = matches!(c.state, State::Running | State::Paused);
    json!({
        "Status": c.state.as_str(),
        "Running": running,
        "Paused": c.state == State::Paused,
        "Restarting": false,
        "OOMKilled": exit.oom_killed,
        "Dead": false,
        "Pid": c.pid.unwrap_or(0),
        "SupervisorPid": c.supervisor_pid.unwrap_or(0),
        "ExitCode": if running { 0 } else { exit.code },
        "Signal": exit.signal,
        "Error": exit.reason.unwrap_or_default(),
        "StartedAt": c.started_at.as_deref().unwrap_or(NEVER),
        "FinishedAt": if exit.finished_at.is_empty() { NEVER } else { &exit.finished_at },
    })
}

fn config(c: &Container) -> Value {
    let r = &c.request;
    let exposed: Map<String, Value> = r.expose.iter().map(|p| (p.clone(), json!({}))).collect();
    json!({
        "Hostname": r.hostname.clone().unwrap_or_else(|| c.id.chars().take(12).collect()),
        "Domainname": r.domainname.as_deref().unwrap_or_default(),
        "User": r.user.as_deref().unwrap_or_default(),
        "AttachStdin": r.stdin,
        "AttachStdout": true,
        "AttachStderr": true,
        "ExposedPorts": exposed,
        "Tty": r.tty,
        "OpenStdin": r.stdin,
        "StdinOnce": r.stdin,
        "Env": c.env,
        "Cmd": r.command,
        "Image": c.image,
        "WorkingDir": r.workdir.as_deref().unwrap_or_default(),
        "Entrypoint": r.entrypoint,
        "Labels": r.labels,
        "StopSignal": r.stop_signal.as_deref().unwrap_or("SIGTERM"),
        "StopTimeout": r.stop_timeout,
    })
}

fn user_namespace(mode: UserNamespace) -> String {
    let word = |name: &str, n: Option<u32>| n.map(|n| format!("{name}={n}"));
    let (mode, options) = match mode {
        // docker's word for it is none at all.
        UserNamespace::Host => return String::new(),
        UserNamespace::Private { size } => ("private", vec![word("size", size)]),
        UserNamespace::KeepId { uid, gid } => ("keep-id", vec![word("uid", uid), word("gid", gid)]),
    };
    let options: Vec<String> = options.into_iter().flatten().collect();
    if options.is_empty() { mode.to_owned() } else { format!("{mode}:{}", options.join(",")) }
}

fn host_config(c: &Container) -> Value {
    let r = &c.request;
    let memory = r.limits.memory.clone().unwrap_or_default();
    let cpu = r.limits.cpu.clone().unwrap_or_default();
    let block = r.limits.block_io.clone().unwrap_or_default();
    let mut config = json!({
        "Binds": r.mounts.iter().filter_map(bind).collect::<Vec<_>>(),
        "AutoRemove": r.remove,
        "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 },
        "CapAdd": r.cap_add,
        "CapDrop": r.cap_drop,
        "CgroupnsMode": namespace(&r.cgroupns),
        "IpcMode": namespace(&r.ipc),
        "PidMode": namespace(&r.pid),
        "UTSMode": namespace(&r.uts),
        "UsernsMode": user_namespace(r.userns),
        "GroupAdd": r.groups,
        "Privileged": r.privileged,
        "ReadonlyRootfs": r.read_only,
        "SecurityOpt": security(r),
        "Sysctls": r.sysctls,
        "Tmpfs": r.mounts.iter().filter_map(tmpfs).collect::<Map<_, _>>(),
        "ShmSize": r.shm_size.unwrap_or(64 << 20),
        "Init": r.init,
        "OomScoreAdj": r.oom_score_adj.unwrap_or(0),
        "OomKillDisable": memory.disable_oomkiller.unwrap_or(false),
        "Memory": memory.limit.unwrap_or(0),
        "MemoryReservation": memory.reservation.unwrap_or(0),
        "MemorySwap": memory.swap.unwrap_or(0),
        "MemorySwappiness": memory.swappiness,
        "NanoCpus": 0,
        "CpuShares": cpu.shares.unwrap_or(0),
        "CpuQuota": cpu.quota.unwrap_or(0),
        "CpuPeriod": cpu.period.unwrap_or(0),
        "CpusetCpus": cpu.cpus.unwrap_or_default(),
        "CpusetMems": cpu.mems.unwrap_or_default(),
        "PidsLimit": r.limits.pids.as_ref().and_then(|p| p.limit),
        "BlkioWeight": block.weight.unwrap_or(0),
        "Ulimits": r.ulimits.iter().map(|u| json!({
            "Name": u.kind.trim_start_matches("RLIMIT_").to_ascii_lowercase(), "Hard": u.hard, "Soft": u.soft,
        })).collect::<Vec<_>>(),
        "Devices": r.devices.iter().map(|d| json!({
            "PathOnHost": d.source, "PathInContainer": d.target, "CgroupPermissions": d.access,
        })).collect::<Vec<_>>(),
    });
    if let Value::Object(all) = &mut config {
        all.extend(network::host_config(r));
    }
    config
}

fn bind(mount: &MountRequest) -> Option<String> {
    let source = match &mount.kind {
        MountKind::Bind { source, .. } => source.display().to_string(),
        MountKind::Volume { name: Some(name), .. } => name.clone(),
        MountKind::Volume { name: None, .. } | MountKind::Tmpfs { .. } => return None,
    };
    Some(format!("{source}:{}{}", mount.target, if mount.read_only { ":ro" } else { "" }))
}

fn tmpfs(mount: &MountRequest) -> Option<(String, Value)> {
    let MountKind::Tmpfs { size, mode, options } = &mount.kind else { return None };
    let mut all = options.clone();
    all.extend(size.map(|s| format!("size={s}")));
    all.extend(mode.map(|m| format!("mode={m:o}")));
    Some((mount.target.clone(), all.join(",").into()))
}

fn security(r: &RunRequest) -> Vec<String> {
    let s = &r.security;
    let seccomp = match &s.seccomp {
        Seccomp::Default => None,
        Seccomp::Unconfined => Some("seccomp=unconfined".to_owned()),
        Seccomp::Profile(_) => Some("seccomp=custom".to_owned()),
    };
    let mut all: Vec<String> = seccomp.into_iter().collect();
    all.extend(s.no_new_privileges.then(|| "no-new-privileges".into()));
    all.extend(s.systempaths_unconfined.then(|| "systempaths=unconfined".into()));
    all.extend(s.apparmor.as_ref().map(|p| format!("apparmor={p}")));
    all
}

fn namespace(mode: &NamespaceMode) -> String {
    match mode {
        NamespaceMode::Private => "private".into(),
        NamespaceMode::Host => "host".into(),
        NamespaceMode::Container(name) => format!("container:{name}"),
    }
}

/// An image's document.
pub(crate) fn image(i: &Image) -> Value {
    let names = |list: &[Reference]| list.iter().map(Reference::familiar).collect::<Vec<_>>();
    let run = &i.config.config;
    json!({
        "Id": i.id.to_string(),
        "RepoTags": names(&i.names),
        "RepoDigests": names(&i.digests),
        "Comment": i.config.history.last().and_then(|h| h.comment.clone()).unwrap_or_default(),
        "Created": i.config.created.clone().unwrap_or_else(|| crate::time::from_nanos(i.created)),
        "Author": i.config.author.as_deref().unwrap_or_default(),
        "Config": {
            "User": run.user,
            "ExposedPorts": run.exposed_ports,
            "Env": run.env,
            "Entrypoint": run.entrypoint,
            "Cmd": run.cmd,
            "Volumes": run.volumes,
            "WorkingDir": run.working_dir,
            "Labels": run.labels,
            "StopSignal": run.stop_signal.as_deref().unwrap_or_default(),
            "Healthcheck": run.healthcheck,
            "Shell": run.shell,
            "OnBuild": run.on_build,
        },
        "Architecture": i.config.architecture,
        "Variant": i.config.variant.as_deref().unwrap_or_default(),
        "Os": i.config.os,
        "Size": i.size,
        "RootFS": { "Type": "layers", "Layers": i.diff_ids().iter().map(ToString::to_string).collect::<Vec<_>>() },
        "Descriptor": i.manifest,
    })
}

/// A volume's document.
pub(crate) fn volume(v: &Volume) -> Value {
    json!({
        "Name": v.name,
        "CreatedAt": v.created_at,
        "Driver": "local",
        "Labels": v.labels,
        "Mountpoint": v.mountpoint,
        "Options": null,
        "Scope": "local",
        "Anonymous": v.anonymous,
        "UsedBy": v.used_by,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::Template;

    #[test]
    fn what_scripts_ask_for_is_where_docker_has_it() {
        let doc = container(&crate::container_row::example());
        for (template, expected) in [
            ("{{.State.Status}} {{.State.Running}} {{.State.Pid}} {{.State.ExitCode}}", "running true 42 0"),
            ("{{.Name}}", "/web"),
            ("{{.NetworkSettings.IPAddress}}", "10.88.0.2"),
            ("{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "10.88.0.2"),
            ("{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}", "8080"),
            ("{{range $p, $c := .NetworkSettings.Ports}}{{$p}} {{end}}", "80/tcp 90/tcp "),
            ("{{range .NetworkSettings.Networks.bridge.DNSNames}}{{.}} {{end}}", "web 0123456789ab "),
            ("{{.NetworkSettings.SandboxKey}} {{.NetworkSettings.Nsenter}}", "/proc/42/ns/net nsenter -t 42 -n"),
            ("{{.GraphDriver.Data.LowerDir}} {{.GraphDriver.Data.UpperDir}}", "/l/2:/l/1 /u"),
            ("{{range .Mounts}}{{.Source}}:{{.Destination}}{{end}}", "/var/lib/tare/volumes/data/_data:/data"),
            ("{{index .Config.Labels \"a\"}} {{.Config.Image}} {{.Path}} {{len .Args}}", "1 debian:12 sh 2"),
            ("{{.HostConfig.NetworkMode}} {{.HostConfig.ShmSize}}", "bridge 67108864"),
        ] {
            assert_eq!(Template::parse(template).unwrap().render(&doc).unwrap(), expected, "{template}");
        }
    }
}
