use super::Build;
use crate::context::Context;
use crate::errors::warn;
use crate::out;
use crate::template::Template;
use clap::Args;
use serde_json::{Value, json};
use tare_engine::Info;
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
    let engine = context.engine_with_settings()?;
    let info = engine.info()?;
    let networks = engine.networks()?.len();
    match args.format.as_deref() {
        None | Some("") => {
            out::print(plain(&info, networks))?;
            info.warnings.iter().for_each(|w| warn(w));
        }
        Some("json") => out::print(document(&info, networks))?,
        Some(format) => out::print(Template::parse(format)?.render(&document(&info, networks))?)?,
    }
    Ok(0)
}

/// Docker's names, where docker has the fact.
fn document(i: &Info, networks: usize) -> Value {
    json!({
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "Containers": i.created + i.running + i.paused + i.exited,
        "ContainersRunning": i.running,
        "ContainersPaused": i.paused,
        "ContainersStopped": i.created + i.exited,
        "Images": i.images,
        "Volumes": i.volumes,
        "Networks": networks,
        "Plugins": { "Network": ["bridge", "host", "ipvlan", "macvlan", "null", "phys"], "Volume": ["local"] },
        "DockerRootDir": i.root,
        "RunDir": i.run,
        "Instance": i.instance,
        "Bridge": i.bridge,
        "Driver": i.storage,
        "Snapshotter": i.snapshotter,
        "SnapshotterReason": i.snapshotter_reason,
        "BackingFilesystem": i.filesystem,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": i.cgroup_mode.trim_start_matches('v'),
        "CgroupControllers": i.controllers,
        "SecurityOptions": i.security,
        "KernelVersion": i.kernel,
        "OperatingSystem": i.os,
        "OSType": "linux",
        "Architecture": i.architecture,
        "NCPU": i.cpus,
        "MemTotal": i.memory,
        "Name": i.hostname,
        "Warnings": i.warnings,
    })
}

fn plain(i: &Info, networks: usize) -> String {
    let all = i.created + i.running + i.paused + i.exited;
    let (running, paused, stopped) = (i.running, i.paused, i.created + i.exited);
    [
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("containers", format!("{all} ({running} running, {paused} paused, {stopped} stopped)")),
        ("images", i.images.to_string()),
        ("volumes", i.volumes.to_string()),
        ("networks", networks.to_string()),
        ("root", i.root.display().to_string()),
        ("run", i.run.display().to_string()),
        ("storage", format!("{} on {}", i.storage, i.filesystem)),
        ("layers", format!("{} ({})", i.snapshotter, i.snapshotter_reason)),
        ("bridge", i.bridge.clone()),
        ("cgroups", format!("{}: {} (below /{})", i.cgroup_mode, i.controllers.join(" "), i.instance)),
        ("security", i.security.join(" ")),
        ("kernel", i.kernel.clone()),
        ("system", i.os.clone()),
        ("processors", format!("{} {}", i.cpus, i.architecture)),
        ("memory", size::binary(i.memory)),
        ("host name", i.hostname.clone()),
    ]
    .map(|(name, value)| format!("{:<12}{value}", format!("{name}:")))
    .join("\n")
}
