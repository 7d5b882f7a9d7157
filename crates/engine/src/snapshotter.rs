//! In which form layers are unpacked: as EROFS images that the kernel mounts from their file, or as trees of files.
//!
//! Whether this host mounts images is found out by mounting one, of an empty layer, from the file system where layers lie: that
//! takes Linux 6.12, EROFS, a file system that can be read by pages (not tmpfs, FUSE's without a cache, or an overlay), and no user
//! namespace. The answer is kept for this boot in `<run>/snapshotter`. What is there already is used in both forms, whatever is
//! asked for.

use crate::record::{self, boot_id, read_or_empty};
use rustix::fd::AsRawFd;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use tare_format::erofs::{ARCHIVE, Image, Tree};
use tare_model::{Context, Error, Kind, Result};
use tare_store::Form;

/// What the user wants new layers to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Snapshotter {
    /// What is best here: images where this host mounts them, trees otherwise.
    #[default]
    Auto,
    /// EROFS images.
    Erofs,
    /// Trees of files, for overlayfs alone.
    Overlay,
}

impl Snapshotter {
    /// Its name: `auto`, `erofs`, `overlay`.
    pub fn as_str(self) -> &'static str {
        match self {
            Snapshotter::Auto => "auto",
            Snapshotter::Erofs => "erofs",
            Snapshotter::Overlay => "overlay",
        }
    }
}

impl std::str::FromStr for Snapshotter {
    type Err = Error;

    fn from_str(text: &str) -> Result<Snapshotter> {
        match text {
            "auto" => Ok(Snapshotter::Auto),
            "erofs" => Ok(Snapshotter::Erofs),
            "overlay" | "overlayfs" => Ok(Snapshotter::Overlay),
            _ => Err(Error::new(Kind::Invalid, "use snapshotter", text)
                .because("it is none of auto, erofs, overlay")
                .hint("auto takes EROFS images where this host mounts them")),
        }
    }
}

/// What new layers are, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) form: Form,
    pub(crate) why: String,
}

/// In which form new layers are unpacked.
///
/// # Errors
/// `Kind::Unsupported` for images that are demanded and that this host does not mount.
pub(crate) fn choose(asked: Snapshotter, root: &Path, run: &Path) -> Result<Choice> {
    if asked == Snapshotter::Overlay {
        return Ok(Choice { form: Form::Tree, why: "asked for".to_owned() });
    }
    match (images_work(root, run), asked) {
        (Ok(()), Snapshotter::Erofs) => Ok(Choice { form: Form::Image, why: "asked for".to_owned() }),
        (Ok(()), _) => Ok(Choice { form: Form::Image, why: "this host mounts images from their file".to_owned() }),
        (Err(why), Snapshotter::Erofs) => Err(Error::new(Kind::Unsupported, "use snapshotter", "erofs")
            .because(why)
            .hint("--snapshotter auto takes trees of files (overlay) on such a host")),
        (Err(why), _) => Ok(Choice { form: Form::Tree, why }),
    }
}

/// Whether this host mounts images, or why not.
fn images_work(root: &Path, run: &Path) -> std::result::Result<(), String> {
    let kept = run.join("snapshotter");
    let question = format!("{} {}", boot_id().unwrap_or_default(), device(root));
    let text = read_or_empty(&kept);
    let mut lines = text.lines();
    if lines.next() == Some(&question) {
        match lines.next() {
            Some("yes") => return Ok(()),
            Some(why) => return Err(why.to_owned()),
            // Being written just now.
            None => {}
        }
    }
    // What the host answers holds for this boot; a full disk on the way to asking does not. Whoever cannot keep it asks again.
    let image = trial_image(root)?;
    let answer = probe(root, &image);
    if record::make_private(run).is_ok() {
        let line = answer.as_ref().map_or_else(|why| why.replace('\n', " "), |()| "yes".to_owned());
        let aside = run.join(format!(".snapshotter.{}", rustix::process::getpid().as_raw_nonzero()));
        if std::fs::write(&aside, format!("{question}\n{line}\n")).is_ok() {
            let _ = std::fs::rename(&aside, &kept);
        }
    }
    answer
}

/// The directory of the layers, or the one in which it will be made.
fn existing(root: &Path) -> PathBuf {
    root.ancestors().find(|dir| dir.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn device(root: &Path) -> u64 {
    rustix::fs::stat(existing(root)).map_or(0, |stat| stat.st_dev)
}

/// An image to try with, or why there is none.
fn trial_image(root: &Path) -> std::result::Result<File, String> {
    let dir = existing(root);
    empty_image(&dir).map_err(|e| format!("no image to try with can be made in {} ({e})", dir.display()))
}

fn probe(root: &Path, image: &File) -> std::result::Result<(), String> {
    let initial = read_or_empty(Path::new("/proc/self/uid_map")).split_whitespace().eq(["0", "0", "4294967295"]);
    if !initial {
        return Err("no user namespace can mount EROFS".to_owned());
    }
    // Without a name in the file system, there is nothing to be left behind.
    let path = PathBuf::from(format!("/proc/self/fd/{}", image.as_raw_fd()));
    crate::layer_image::mount(&path).map(drop).map_err(|e| {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let errno = e.errno().map_or_else(|| e.to_string(), |n| rustix::io::Errno::from_raw_os_error(n).to_string());
        format!("Linux {release} mounts no image from a file in {} ({errno})", existing(root).display())
    })
}

/// A file without a name, with the image of a layer that has nothing in it.
fn empty_image(dir: &Path) -> Result<File> {
    let failed = |e| Error::io("make a file in", dir.display(), e);
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(dir, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?);
    let tree = Tree::default();
    let image = Image::plan(&tree, 0, 0)?;
    debug_assert_eq!(image.index_at(), ARCHIVE);
    let mut bytes = image.head();
    image.write(&mut bytes).and_then(|()| file.write_all(&bytes)).during("write", dir.display())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_taken_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (root, run) = (dir.path().join("root"), dir.path().join("run"));
        let overlay = choose(Snapshotter::Overlay, &root, &run).unwrap();
        assert_eq!((overlay.form, overlay.why.as_str()), (Form::Tree, "asked for"));
        let auto = choose(Snapshotter::Auto, &root, &run).unwrap();
        let forced = choose(Snapshotter::Erofs, &root, &run);
        assert_eq!(auto.form == Form::Image, forced.is_ok(), "{auto:?} {forced:?}");
        // Nothing but the answer, which holds for this boot.
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let kept = std::fs::read_to_string(run.join("snapshotter")).unwrap();
        assert!(kept.starts_with(&boot_id().unwrap()), "{kept}");
        std::fs::write(run.join("snapshotter"), format!("{}\nbecause of a test\n", kept.lines().next().unwrap()))
            .unwrap();
        assert_eq!(choose(Snapshotter::Auto, &root, &run).unwrap().why, "because of a test");
        let refused = choose(Snapshotter::Erofs, &root, &run).unwrap_err();
        assert!(refused.to_string().contains("because of a test") && refused.kind() == Kind::Unsupported);
        // Another boot asks again.
        std::fs::write(run.join("snapshotter"), "another-boot 5\nbecause of a test\n").unwrap();
        assert_eq!(choose(Snapshotter::Auto, &root, &run).unwrap(), auto);
    }

    #[test]
    fn a_file_system_without_pages_takes_trees() {
        // /dev/shm is a tmpfs wherever there is one; its files cannot be mounted.
        let shm = Path::new("/dev/shm");
        if rustix::fs::statfs(shm).is_ok_and(|on| on.f_type == 0x0102_1994) {
            let why = trial_image(shm).and_then(|image| probe(shm, &image)).unwrap_err();
            assert!(why.contains("/dev/shm"), "{why}");
        }
    }

    #[test]
    fn what_kept_it_from_asking_is_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        // Nobody can make a file there; a disk that is full for a moment is as little an answer of the kernel.
        let why = images_work(Path::new("/proc"), dir.path()).unwrap_err();
        assert!(why.contains("no image to try with can be made in /proc"), "{why}");
        assert!(!dir.path().join("snapshotter").exists());
    }

    #[test]
    fn words_are_understood() {
        assert_eq!("erofs".parse::<Snapshotter>().unwrap(), Snapshotter::Erofs);
        let e = "zfs".parse::<Snapshotter>().unwrap_err().to_string();
        assert!(e.contains("zfs") && e.contains("auto, erofs, overlay"), "{e}");
    }
}
