//! In which form layers are unpacked: as images that the kernel mounts, or as trees of files.

use crate::config::read_or_empty;
use std::path::Path;
use tare_store::Form;

/// In which form this host wants layers: images where it mounts them straight from their file (Linux 6.12 and later, not in a user
/// namespace).
pub(crate) fn form_for_this_host() -> Form {
    let release = rustix::system::uname();
    let version = release.release().to_string_lossy();
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let known = read_or_empty(Path::new("/proc/filesystems")).lines().any(|l| l.ends_with("\terofs"));
    let initial = read_or_empty(Path::new("/proc/self/uid_map")).split_whitespace().eq(["0", "0", "4294967295"]);
    if version >= (6, 12) && known && initial { Form::Image } else { Form::Tree }
}
