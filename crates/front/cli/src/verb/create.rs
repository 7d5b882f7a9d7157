use super::Build;
use crate::container_args::ContainerArgs;
use crate::context::Context;
use crate::errors::{code, warn};
use crate::meant::{self, Caller};
use crate::parse::seccomp;
use crate::pulling::{self, Had};
use crate::{environment, out};
use clap::Args;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use tare_engine::request::RunRequest;
use tare_model::image::Platform;
use tare_model::{Context as _, Error, Result};

pub(super) const ARGS: Build = <CreateArgs as Args>::augment_args;

/// Make a container without starting it
///
/// Prints its id. `tare start` starts it.
#[derive(Debug, Args)]
#[command(
    override_usage = "tare create [OPTIONS] IMAGE [COMMAND [ARGUMENT...]]",
    after_help = "Examples:
  tare create --name db -v data:/var/lib/db IMAGE
  tare create -it --name shell debian bash && tare start -ai shell"
)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    container: ContainerArgs,
}

pub(super) fn main(args: CreateArgs, context: &Context) -> Result<u8> {
    let args = args.container;
    let request = request(&args)?;
    let engine = context.engine_with_settings()?;
    if pulling::have_image(&engine, context, &request.source, args.pull, args.quiet)? == Had::Refused {
        return Ok(code::FAILED);
    }
    let cidfile = CidFile::reserve(args.cidfile.as_deref())?;
    let container = engine.create(&request)?;
    cidfile.write(&container.id)?;
    container.warnings.iter().for_each(|w| warn(w));
    out::print(&container.id)?;
    Ok(0)
}

/// What the flags mean on this host, for this caller.
pub(super) fn request(args: &ContainerArgs) -> Result<RunRequest> {
    with_caller(|caller| meant::request(args, caller))
}

/// Calls `f` with the caller's environment, directory and machine.
pub(super) fn with_caller<T>(f: impl FnOnce(&Caller<'_>) -> Result<T>) -> Result<T> {
    let kernel = rustix::system::uname();
    let kernel = seccomp::version(&kernel.release().to_string_lossy()).unwrap_or_default();
    let arch = if Platform::host().architecture == "arm64" { "arm64" } else { "amd64" };
    f(&Caller {
        environment: &environment::get,
        places: environment::places(),
        read: &|path| std::fs::read_to_string(path).during("read", path.display()),
        machine: (arch, kernel),
        selinux: Path::new("/sys/fs/selinux/enforce").exists(),
    })
}

/// The file that receives the container's id: made before the container is, removed again if that fails.
#[derive(Debug)]
pub(super) struct CidFile(Option<(PathBuf, File)>);

impl CidFile {
    /// Makes the file.
    ///
    /// # Errors
    /// `Kind::AlreadyExists`.
    pub(super) fn reserve(path: Option<&Path>) -> Result<CidFile> {
        let Some(path) = path else { return Ok(CidFile(None)) };
        let file = File::options().write(true).create_new(true).open(path).map_err(|e| {
            let hint = "remove the file, or the container that it names";
            Error::io("create", format!("--cidfile {}", path.display()), e).hint(hint)
        })?;
        Ok(CidFile(Some((path.to_owned(), file))))
    }

    /// Writes the id.
    ///
    /// # Errors
    /// The file's.
    pub(super) fn write(mut self, id: &str) -> Result<()> {
        match self.0.take() {
            Some((path, mut file)) => file.write_all(id.as_bytes()).during("write", path.display()),
            None => Ok(()),
        }
    }
}

impl Drop for CidFile {
    fn drop(&mut self) {
        if let Some((path, _)) = self.0.take() {
            // On the way out of another error, which is the one to report.
            drop(std::fs::remove_file(path));
        }
    }
}
