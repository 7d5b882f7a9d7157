//! `--userns`.

use super::bad;
use tare_engine::request::UserNamespace;
use tare_model::Result;

const FLAG: &str = "--userns";

/// Parses `--userns`, in podman's words and docker's.
pub(crate) fn parse(text: &str) -> Result<UserNamespace> {
    let (mode, options) = text.split_once(':').unwrap_or((text, ""));
    let options = || {
        options.split(',').filter(|o| !o.is_empty()).map(|option| {
            let number = |(key, value): (&str, &str)| value.parse::<u32>().ok().map(|n| (key.to_owned(), n));
            option
                .split_once('=')
                .and_then(number)
                .ok_or_else(|| bad(FLAG, text, format!("expected NAME=NUMBER instead of {option:?}")))
        })
    };
    match mode {
        "" | "host" if options().next().is_none() => Ok(UserNamespace::Host),
        "private" | "auto" => {
            let mut size = None;
            for option in options() {
                match option? {
                    (key, n) if key == "size" && n > 0 => size = Some(n),
                    _ => return Err(bad(FLAG, text, "there is size=N, at least 1")),
                }
            }
            Ok(UserNamespace::Private { size })
        }
        "keep-id" => {
            let (mut uid, mut gid) = (None, None);
            for option in options() {
                match option? {
                    (key, n) if key == "uid" => uid = Some(n),
                    (key, n) if key == "gid" => gid = Some(n),
                    _ => return Err(bad(FLAG, text, "there are uid=N and gid=N")),
                }
            }
            Ok(UserNamespace::KeepId { uid, gid })
        }
        _ => Err(bad(FLAG, text, "expected host, private[:size=N] or keep-id[:uid=N,gid=N]")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!(parse("host").unwrap(), UserNamespace::Host);
        assert_eq!(parse("auto").unwrap(), UserNamespace::Private { size: None });
        assert_eq!(parse("private:size=1000").unwrap(), UserNamespace::Private { size: Some(1000) });
        assert_eq!(parse("keep-id").unwrap(), UserNamespace::KeepId { uid: None, gid: None });
        let both = UserNamespace::KeepId { uid: Some(5), gid: Some(6) };
        assert_eq!(parse("keep-id:uid=5,gid=6").unwrap(), both);
        for wrong in ["host:size=1", "private:size=0", "private:uid=1", "keep-id:uid", "container:x", "nomap"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
