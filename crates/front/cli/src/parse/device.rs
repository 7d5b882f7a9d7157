//! `--device HOST[:CONTAINER[:RWM]]`.

use super::{bad, not_yet};
use tare_engine::request::DeviceRequest;
use tare_model::Result;

const FLAG: &str = "--device";

/// Parses one `--device`.
pub(crate) fn parse(text: &str) -> Result<DeviceRequest> {
    if !text.starts_with('/') && text.contains('=') {
        return Err(not_yet(FLAG, text, "CDI device names are not supported yet").hint("name the device node's path"));
    }
    let fields: Vec<&str> = text.split(':').collect();
    let (source, target, access) = match fields[..] {
        [source] => (source, source, "rwm"),
        [source, access] if is_access(access) => (source, source, access),
        [source, target] => (source, target, "rwm"),
        [source, target, access] if is_access(access) => (source, target, access),
        [_, _, access] => return Err(bad(FLAG, text, format!("access {access:?} is not made of r, w and m"))),
        _ => return Err(bad(FLAG, text, "expected HOST[:CONTAINER[:RWM]]")),
    };
    for path in [source, target] {
        if !path.starts_with('/') {
            return Err(bad(FLAG, text, format!("{path:?} is not an absolute path")));
        }
    }
    Ok(DeviceRequest { source: source.into(), target: target.to_owned(), access: access.to_owned() })
}

fn is_access(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b"rwm".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_may_be_left_out() {
        for (text, target, access) in [
            ("/dev/fuse", "/dev/fuse", "rwm"),
            ("/dev/fuse:/dev/x", "/dev/x", "rwm"),
            ("/dev/fuse:r", "/dev/fuse", "r"),
            ("/dev/fuse:/dev/x:rw", "/dev/x", "rw"),
        ] {
            let d = parse(text).unwrap();
            assert_eq!((d.source.to_str(), d.target.as_str(), d.access.as_str()), (Some("/dev/fuse"), target, access));
        }
        for bad in ["", "fuse", "/dev/fuse:x", "/dev/a:/dev/b:rx", "a:b:c:d", "vendor.com/gpu=0"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
