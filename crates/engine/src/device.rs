//! Host devices to be given to a container.

use crate::request::DeviceRequest;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use tare_model::runtime_spec::{LinuxDevice, LinuxDeviceCgroup};
use tare_model::{Context, Error, Kind, Result};

/// What of the host's /dev is not a device to hand on, but the container's own.
const OWN: [&str; 10] = ["pts", "shm", "mqueue", "fd", "console", "hugepages", "ptmx", "stdin", "stdout", "stderr"];

/// The nodes and rules for one request: a device, or all devices below a directory.
pub(crate) fn resolve(request: &DeviceRequest) -> Result<(Vec<LinuxDevice>, Vec<LinuxDeviceCgroup>)> {
    if request.access.is_empty() || !request.access.bytes().all(|b| b"rwm".contains(&b)) {
        return Err(Error::new(Kind::Invalid, "give device", request.source.display())
            .because(format!("access {:?} is not made of r, w and m", request.access)));
    }
    let mut devices = Vec::new();
    collect(&request.source, &request.target, &mut devices)?;
    if devices.is_empty() {
        return Err(Error::new(Kind::Invalid, "give device", request.source.display())
            .because("it is neither a device nor a directory with devices"));
    }
    let rules = devices.iter().map(|d| rule(d, &request.access)).collect();
    Ok((devices, rules))
}

/// All devices of the host, for a privileged container.
pub(crate) fn all_of_host() -> Result<Vec<LinuxDevice>> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir("/dev").during("read", "/dev")?.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|n| !OWN.contains(n)) else { continue };
        // A device that vanishes meanwhile is no reason not to start.
        let _ = collect(&entry.path(), &format!("/dev/{name}"), &mut out);
    }
    Ok(out)
}

fn collect(source: &Path, target: &str, out: &mut Vec<LinuxDevice>) -> Result<()> {
    let meta = std::fs::metadata(source).during("give device", source.display())?;
    if meta.is_dir() {
        for entry in std::fs::read_dir(source).during("read", source.display())?.flatten() {
            if let Some(name) = entry.file_name().to_str().filter(|n| !OWN.contains(n))
                && !entry.file_type().is_ok_and(|t| t.is_symlink())
            {
                collect(&entry.path(), &format!("{target}/{name}"), out)?;
            }
        }
        return Ok(());
    }
    let kind = if meta.file_type().is_char_device() {
        "c"
    } else if meta.file_type().is_block_device() {
        "b"
    } else {
        return Ok(());
    };
    out.push(LinuxDevice {
        kind: kind.to_owned(),
        path: target.to_owned(),
        major: i64::from(rustix::fs::major(meta.rdev())),
        minor: i64::from(rustix::fs::minor(meta.rdev())),
        file_mode: Some(meta.mode() & 0o777),
        uid: Some(meta.uid()),
        gid: Some(meta.gid()),
    });
    Ok(())
}

fn rule(d: &LinuxDevice, access: &str) -> LinuxDeviceCgroup {
    LinuxDeviceCgroup {
        allow: true,
        kind: Some(d.kind.clone()),
        major: Some(d.major),
        minor: Some(d.minor),
        access: Some(access.to_owned()),
    }
}
