//! `--security-opt`.

use super::{bad, boolean, not_yet, seccomp};
use tare_engine::request::{Seccomp, Security};
use tare_model::Result;

const FLAG: &str = "--security-opt";

/// Parses all `--security-opt`. `read` gives a file's content, `host` what a profile may depend on.
pub(crate) fn parse(texts: &[String], host: &seccomp::Host, read: &dyn Fn(&str) -> Result<String>) -> Result<Security> {
    let mut security = Security::default();
    for text in texts {
        let (key, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
        match key {
            "no-new-privileges" => {
                security.no_new_privileges = match value {
                    "" => true,
                    v => boolean(v).ok_or_else(|| bad(FLAG, text, "expected true or false"))?,
                }
            }
            "seccomp" => security.seccomp = filter(text, value, host, read)?,
            "systempaths" if value == "unconfined" => security.systempaths_unconfined = true,
            "systempaths" => return Err(bad(FLAG, text, "there is systempaths=unconfined")),
            "apparmor" if value.is_empty() => return Err(bad(FLAG, text, "the profile's name is missing")),
            "apparmor" => security.apparmor = Some(value.to_owned()),
            // Containers of tare carry no SELinux label, which is what this asks for.
            "label" if value == "disable" => {}
            "label" => return Err(not_yet(FLAG, text, "SELinux labels are not supported yet")),
            "mask" | "unmask" | "proc-opts" | "writable-cgroups" => {
                return Err(not_yet(FLAG, text, format!("{key} is not supported yet")));
            }
            _ => {
                let why = "there are no-new-privileges, seccomp=unconfined|builtin|FILE, apparmor=PROFILE, \
                           systempaths=unconfined and label=disable";
                return Err(bad(FLAG, text, why));
            }
        }
    }
    Ok(security)
}

fn filter(text: &str, value: &str, host: &seccomp::Host, read: &dyn Fn(&str) -> Result<String>) -> Result<Seccomp> {
    match value {
        "" => Err(bad(FLAG, text, "expected unconfined, builtin or a file")),
        "unconfined" => Ok(Seccomp::Unconfined),
        "builtin" | "default" => Ok(Seccomp::Default),
        path => {
            let profile = seccomp::convert(&read(path)?, host).map_err(|why| bad(FLAG, text, why))?;
            Ok(Seccomp::Profile(profile))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Result<Security> {
        let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
        let read = |_: &str| Ok(r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#.to_owned());
        parse(&texts, &seccomp::Host::for_tests(), &read)
    }

    #[test]
    fn each_option_has_its_place() {
        let s = of(&["no-new-privileges", "seccomp=unconfined", "apparmor=x", "systempaths=unconfined"]).unwrap();
        assert!(s.no_new_privileges && s.systempaths_unconfined);
        assert_eq!((s.seccomp, s.apparmor.as_deref()), (Seccomp::Unconfined, Some("x")));
        assert!(!of(&["no-new-privileges:false", "label:disable"]).unwrap().no_new_privileges);
        assert!(of(&["no-new-privileges=true"]).unwrap().no_new_privileges);
        assert!(matches!(of(&["seccomp=/p.json"]).unwrap().seccomp, Seccomp::Profile(_)));
        assert_eq!(of(&["seccomp=builtin"]).unwrap().seccomp, Seccomp::Default);
    }

    #[test]
    fn others_are_refused_by_name() {
        for (text, why) in [
            ("label=type:x", "not supported yet"),
            ("unmask=ALL", "not supported yet"),
            ("seccomp=", "expected unconfined"),
            ("nonsense", "there are no-new-privileges"),
            ("no-new-privileges=2", "expected true or false"),
        ] {
            let e = of(&[text]).unwrap_err().to_string();
            assert!(e.contains(why), "{text}: {e}");
        }
    }
}
