use super::Build;
use crate::context::Context;
use crate::out;
use crate::progress::Reporter;
use crate::verb::rmi::is_for;
use clap::{Args, ValueEnum};
use std::fs::File;
use std::io::{BufWriter, Stdout, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use tare_engine::Engine;
use tare_model::image::Platform;
use tare_model::{Context as _, Error, Kind, Reference, Result};
use tare_store::Image;
use tare_store::archive::{Format, Saved};

pub(super) const ARGS: Build = <SaveArgs as Args>::augment_args;

/// Write images as an archive
///
/// An OCI archive, which docker and podman load as well; --format asks for one form alone. A name without a tag saves all tags of the
/// repository, an id the image without a name.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  tare save -o debian.tar debian:12
  tare save app:1 app:2 | gzip > app.tar.gz
  tare save --format oci-dir -o layout debian:12")]
pub(crate) struct SaveArgs {
    /// docker-archive, oci-archive, or oci-dir: a directory
    #[arg(long, value_enum, value_name = "FORMAT", hide_possible_values = true)]
    format: Option<Form>,
    /// File to write; standard output if missing
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only if the images are for this platform
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,
    /// Names or ids
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(super) fn main(args: SaveArgs, context: &Context) -> Result<u8> {
    let platform = args.platform.as_deref().map(str::parse::<Platform>).transpose()?;
    let engine = context.engine()?;
    let mut saved: Vec<Saved> = Vec::new();
    for name in &args.images {
        for (image, names) in meant(&engine, name)? {
            if let Some(platform) = &platform {
                is_for(&image, platform)?;
            }
            match saved.iter_mut().find(|s| s.image.id == image.id) {
                Some(earlier) => earlier.names.extend(names),
                None => saved.push(Saved { image, names }),
            }
        }
    }
    let (store, reporter) = (engine.store(), Reporter::for_archives());
    let format = match args.format {
        None => Format::Both,
        Some(Form::OciArchive) => Format::Oci,
        Some(Form::DockerArchive) => Format::Docker,
        Some(Form::OciDir) => {
            let dir = args.output.as_deref().ok_or_else(|| {
                let e = Error::new(Kind::Invalid, "write the layout", "").because("a directory is no stream");
                e.hint("name it with -o")
            })?;
            return store.save_layout(&saved, dir, &reporter).map(|()| 0);
        }
    };
    let mut target = Target::open(args.output.as_deref())?;
    store.save(&saved, format, &mut target, &reporter).map_err(out::relabel_pipe)?;
    target.commit()?;
    Ok(0)
}

/// In which form images are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    DockerArchive,
    OciArchive,
    OciDir,
}

/// The images that a word names, each with the names under which it is saved: a whole name saves itself, a repository all of its tags, an
/// id no name.
fn meant(engine: &Engine, word: &str) -> Result<Vec<(Image, Vec<Reference>)>> {
    if let Ok(repository) = word.parse::<Reference>()
        && is_bare(word)
    {
        let of = |image: Image| {
            let names: Vec<_> = image.names.iter().filter(|n| n.name() == repository.name()).cloned().collect();
            (!names.is_empty()).then_some((image, names))
        };
        let mut found: Vec<_> = engine.store().images()?.into_iter().filter_map(of).collect();
        found.sort_by_cached_key(|(_, names)| names.iter().map(Reference::familiar).min());
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let image = engine.image(word)?;
    let names = word.parse::<Reference>().ok().filter(|n| image.names.contains(n)).into_iter().collect();
    Ok(vec![(image, names)])
}

/// Whether a name has neither tag nor digest.
fn is_bare(word: &str) -> bool {
    !word.rsplit('/').next().unwrap_or(word).contains([':', '@'])
}

/// Where an archive is written: a file that appears when it is whole, or standard output.
#[derive(Debug)]
pub(super) enum Target {
    /// `FILE`, by way of a file beside it.
    File {
        /// What is written.
        file: BufWriter<File>,
        /// Its name meanwhile.
        draft: PathBuf,
        /// Its name when it is whole.
        path: PathBuf,
    },
    /// Standard output.
    Stdout(BufWriter<Stdout>),
}

impl Target {
    /// Opens the target.
    ///
    /// # Errors
    /// The file cannot be made; standard output is a terminal.
    pub(super) fn open(path: Option<&Path>) -> Result<Target> {
        const BUFFER: usize = 256 << 10;
        let Some(path) = path else {
            if rustix::termios::isatty(std::io::stdout().as_fd()) {
                return Err(Error::new(Kind::Invalid, "write the archive", "")
                    .because("standard output is a terminal")
                    .hint("name a file with -o, or pipe it"));
            }
            return Ok(Target::Stdout(BufWriter::with_capacity(BUFFER, std::io::stdout())));
        };
        // A device or a pipe is written as it is: renaming over it would replace it.
        if path.exists() && !path.is_file() {
            let file = File::options().write(true).open(path).during("open", path.display())?;
            let file = BufWriter::with_capacity(BUFFER, file);
            return Ok(Target::File { file, draft: path.to_owned(), path: path.to_owned() });
        }
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".part-{}", std::process::id()));
        let draft = PathBuf::from(name);
        let file = File::create(&draft).during("create", draft.display())?;
        Ok(Target::File { file: BufWriter::with_capacity(BUFFER, file), draft, path: path.to_owned() })
    }

    /// Everything has been written: gives the file its name.
    ///
    /// # Errors
    /// What was buffered cannot be written.
    pub(super) fn commit(mut self) -> Result<()> {
        match &mut self {
            Target::Stdout(out) => out.flush().map_err(out::broken),
            Target::File { file, draft, path } => {
                file.flush().during("write", draft.display())?;
                if draft != path {
                    std::fs::rename(&*draft, &*path).during("rename", path.display())?;
                    path.clone_into(draft);
                }
                Ok(())
            }
        }
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Target::File { file, .. } => file.write(bytes),
            Target::Stdout(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Target::File { file, .. } => file.flush(),
            Target::Stdout(out) => out.flush(),
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Target::File { draft, path, .. } = self
            && draft != path
        {
            // Half an archive helps nobody; the error that led here is reported.
            drop(std::fs::remove_file(&*draft));
        }
    }
}
