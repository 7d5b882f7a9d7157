use super::Build;
use crate::context::Context;
use crate::out;
use crate::template::Template;
use clap::Args;
use serde_json::json;
use tare_model::Result;
use tare_model::image::Platform;

pub(super) const ARGS: Build = <VersionArgs as Args>::augment_args;

/// Print the version of tare and of the kernel
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare version
  tare version --format '{{.Version}}'")]
pub(crate) struct VersionArgs {
    /// json, or a Go template
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
}

pub(super) fn main(args: VersionArgs, _: &Context) -> Result<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let platform = Platform::host();
    let spec = tare_model::runtime_spec::VERSION;
    // Client and Server are there for scripts that were written for docker; tare has neither.
    let part = json!({
        "Version": version, "Os": platform.os, "Arch": platform.architecture, "KernelVersion": kernel,
    });
    let value = json!({
        "Version": version, "Os": platform.os, "Arch": platform.architecture, "KernelVersion": kernel,
        "RuntimeSpec": spec, "Client": part, "Server": part,
    });
    match args.format.as_deref() {
        None | Some("") => {
            let (os, arch) = (&platform.os, &platform.architecture);
            out::print(format_args!("tare {version}\nplatform {os}/{arch}\nkernel {kernel}\nruntime-spec {spec}"))?;
        }
        Some("json") => out::print(value)?,
        Some(format) => out::print(Template::parse(format)?.render(&value)?)?,
    }
    Ok(0)
}
