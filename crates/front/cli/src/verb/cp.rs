use super::Build;
use super::load::refuse_terminal;
use super::save::Target;
use crate::context::Context;
use crate::out;
use clap::Args;
use std::path::Path;
use tare_engine::CopyOptions;
use tare_model::{Error, Kind, Result};

pub(super) const ARGS: Build = <CpArgs as Args>::augment_args;

/// Copy files between a container and the host
///
/// A target that is a directory receives the source under its own name; one that does not exist becomes it; SOURCE/.
/// means the contents. - is a tar archive on standard input or output.
#[derive(Debug, Args)]
#[command(
    override_usage = "tare cp [OPTIONS] CONTAINER:SOURCE TARGET|-\n       tare cp [OPTIONS] SOURCE|- CONTAINER:TARGET",
    after_help = "Examples:
  tare cp web:/etc/nginx ./nginx
  tare cp index.html web:/var/www/
  tare cp web:/var/log - | tar t
  tar c . | tare cp - web:/srv"
)]
pub(crate) struct CpArgs {
    /// Keep owners
    #[arg(short, long)]
    archive: bool,
    /// Follow a symbolic link that the source is
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Say nothing: nothing is said anyway
    #[arg(short, long, hide = true)]
    quiet: bool,
    /// Path, or CONTAINER:PATH
    #[arg(value_name = "SOURCE", allow_hyphen_values = true)]
    source: String,
    /// Path, or CONTAINER:PATH
    #[arg(value_name = "TARGET", allow_hyphen_values = true)]
    target: String,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Container(&'a str, &'a str),
    Host(&'a str),
    Stream,
}

/// A path of the host that holds a colon begins with `/` or `./`.
fn side(text: &str) -> Side<'_> {
    match text.split_once(':') {
        _ if text == "-" => Side::Stream,
        _ if text.starts_with(['/', '.']) => Side::Host(text),
        Some((container, path)) if !container.is_empty() => Side::Container(container, path),
        _ => Side::Host(text),
    }
}

pub(super) fn main(args: CpArgs, context: &Context) -> Result<u8> {
    let options = CopyOptions { follow_links: args.follow_link, archive: args.archive };
    let refuse = |why: &str| {
        let object = format!("{} to {}", args.source, args.target);
        Err(Error::new(Kind::Invalid, "copy", object).because(why).hint("tare cp CONTAINER:SOURCE TARGET"))
    };
    let engine = context.engine()?;
    match (side(&args.source), side(&args.target)) {
        (Side::Container(name, path), Side::Host(to)) => engine.copy_to_host(name, path, Path::new(to), options)?,
        (Side::Container(name, path), Side::Stream) => {
            let mut target = Target::open(None)?;
            engine.copy_out(name, path, args.follow_link, &mut target).map_err(out::relabel_pipe)?;
            target.commit()?;
        }
        (Side::Host(from), Side::Container(name, path)) => {
            engine.copy_from_host(Path::new(from), name, path, options)?
        }
        (Side::Stream, Side::Container(name, path)) => {
            refuse_terminal("tare cp FILE CONTAINER:PATH")?;
            engine.copy_in(name, path, &mut std::io::stdin().lock(), args.archive)?;
        }
        (Side::Container(..), Side::Container(..)) => {
            return refuse("copying from one container to another is not supported: go by way of the host");
        }
        _ => return refuse("neither side names a container"),
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_known_by_its_form() {
        assert_eq!(side("web:/x"), Side::Container("web", "/x"));
        assert_eq!(side("web:x:y"), Side::Container("web", "x:y"));
        assert_eq!(side("./a:b"), Side::Host("./a:b"));
        assert_eq!(side("/a:b"), Side::Host("/a:b"));
        assert_eq!(side("file"), Side::Host("file"));
        assert_eq!(side("-"), Side::Stream);
    }
}
