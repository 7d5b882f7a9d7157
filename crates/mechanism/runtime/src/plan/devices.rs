//! Which devices are made in /dev.

use super::mounts::{MountPlan, Source};
use tare_model::runtime_spec::LinuxDevice;
use tare_model::{Error, Kind, Result};

/// Whether nodes and links are made: not in a /dev that is bound from the host, where they would be the host's.
pub(super) fn are_made(mounts: &[MountPlan]) -> bool {
    let is_dev = |m: &MountPlan| m.target.split('/').filter(|p| !matches!(*p, "" | ".")).eq(["dev"]);
    !mounts.iter().any(|m| is_dev(m) && matches!(m.source, Source::Bind(_)))
}

/// The devices that every container has (config-linux.md#default-devices), then those asked for.
pub(super) fn with_standard(asked: &[LinuxDevice]) -> Result<Vec<LinuxDevice>> {
    for device in asked {
        let bad = |why: &str| Err(Error::new(Kind::Invalid, "plan device", &device.path).because(why));
        if !matches!(device.kind.as_str(), "c" | "b" | "u" | "p") {
            return bad(&format!("type {:?} is none of c, b, u, p", device.kind));
        }
        if !device.path.starts_with('/') || device.path.contains('\0') || device.path.ends_with("/..") {
            return bad("its path is not an absolute path of a file");
        }
    }
    let standard = [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    let mut out: Vec<LinuxDevice> = standard
        .iter()
        .map(|(name, major, minor)| LinuxDevice {
            kind: "c".into(),
            path: format!("/dev/{name}"),
            major: *major,
            minor: *minor,
            file_mode: Some(0o666),
            uid: None,
            gid: None,
        })
        .filter(|d| !asked.iter().any(|a| a.path == d.path))
        .collect();
    out.extend_from_slice(asked);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::mounts::{Around, plan};
    use tare_model::runtime_spec::Mount;

    fn dev(kind: &str, destination: &str) -> MountPlan {
        let mount = Mount {
            destination: destination.into(),
            kind: Some(kind.into()),
            source: Some("/dev".into()),
            ..Default::default()
        };
        plan(&mount, &Around::default()).unwrap()
    }

    #[test]
    fn nothing_is_made_in_a_dev_of_the_hosts() {
        assert!(!are_made(&[dev("tmpfs", "/run"), dev("bind", "/dev/")]));
        assert!(are_made(&[dev("tmpfs", "/dev"), dev("bind", "/dev/shm")]));
        assert!(are_made(&[]));
    }

    #[test]
    fn a_device_asked_for_takes_the_place_of_a_standard_one() {
        let mut zero =
            LinuxDevice { kind: "c".into(), path: "/dev/zero".into(), major: 1, minor: 3, ..Default::default() };
        let all = with_standard(std::slice::from_ref(&zero)).unwrap();
        assert_eq!(all.iter().filter(|d| d.path == "/dev/zero").count(), 1);
        assert_eq!((all.len(), all.last()), (6, Some(&zero)));
        zero.kind = "x".into();
        assert!(with_standard(&[zero]).is_err());
    }
}
