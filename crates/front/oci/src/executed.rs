//! The process that `exec` runs: from a file, or from the container's own process and flags. Pure but for the file.

use crate::arguments::ExecArgs;
use crate::bundle::check_process;
use std::path::Path;
use tare_model::runtime_spec::{Process, Spec};
use tare_model::{Error, Kind, Result};

/// Decides on the process, and checks it.
///
/// # Errors
/// `Kind::Invalid` with the flag or field that is wrong.
pub(crate) fn process(args: &ExecArgs, spec: &Spec) -> Result<Process> {
    let own = spec.process.clone().unwrap_or_default();
    let process = match &args.process {
        Some(path) => completed(read(path)?, own),
        None if args.command.is_empty() => {
            return Err(Error::new(Kind::Invalid, "read the arguments", "")
                .because("process args cannot be empty")
                .hint("name the program behind the container's id, or give a file with --process"));
        }
        None => from_flags(args, own)?,
    };
    check_process("process", &process)?;
    Ok(process)
}

fn read(path: &Path) -> Result<Process> {
    let text = std::fs::read(path).map_err(|e| Error::io("read process", path.display(), e))?;
    serde_json::from_slice(&text).map_err(|e| {
        Error::new(Kind::Invalid, "read process", path.display())
            .because(e)
            .hint("the file holds the object that stands in config.json as process")
    })
}

/// What a process object leaves open is as for the container's first process: what confines it, and how it is scheduled.
/// What it does, and as whom, is its own.
fn completed(mut process: Process, own: Process) -> Process {
    process.capabilities = process.capabilities.or(own.capabilities);
    process.apparmor_profile = process.apparmor_profile.filter(|p| !p.is_empty()).or(own.apparmor_profile);
    process.selinux_label = process.selinux_label.filter(|l| !l.is_empty()).or(own.selinux_label);
    process.oom_score_adj = process.oom_score_adj.or(own.oom_score_adj);
    process.scheduler = process.scheduler.or(own.scheduler);
    process.io_priority = process.io_priority.or(own.io_priority);
    process.exec_cpuaffinity = process.exec_cpuaffinity.or(own.exec_cpuaffinity);
    process.user.umask = process.user.umask.or(own.user.umask);
    if process.rlimits.is_empty() {
        process.rlimits = own.rlimits;
    }
    process
}

fn from_flags(args: &ExecArgs, mut process: Process) -> Result<Process> {
    process.args.clone_from(&args.command);
    process.terminal = args.tty;
    process.env.extend_from_slice(&args.env);
    let given = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    if let Some(cwd) = given(&args.cwd) {
        process.cwd = cwd;
    }
    process.apparmor_profile = given(&args.apparmor).or(process.apparmor_profile);
    process.selinux_label = given(&args.process_label).or(process.selinux_label);
    process.no_new_privileges = args.no_new_privs.unwrap_or(process.no_new_privileges);
    if let Some(user) = given(&args.user) {
        let (uid, gid) = user_and_group(&user)?;
        process.user.uid = uid;
        process.user.gid = gid.unwrap_or(process.user.gid);
    }
    process.user.additional_gids.extend_from_slice(&args.additional_gids);
    if !args.cap.is_empty() {
        let sets = process.capabilities.get_or_insert_default();
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.extend_from_slice(&args.cap);
        }
        // Ambient takes inheritable, which no flag grants.
        if !sets.inheritable.is_empty() {
            sets.ambient.extend_from_slice(&args.cap);
        }
    }
    Ok(process)
}

fn user_and_group(text: &str) -> Result<(u32, Option<u32>)> {
    let wrong = || {
        Error::new(Kind::Invalid, "use", format!("--user {text}"))
            .because("it is not UID[:GID]")
            .hint("numbers only: the runtime does not look into the container's /etc/passwd")
    };
    let number = |t: &str| t.parse::<u32>().map_err(|_| wrong());
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    fn args(line: &str) -> ExecArgs {
        let command = ExecArgs::augment_args(clap::Command::new("exec"));
        let words = std::iter::once("exec").chain(line.split_whitespace());
        ExecArgs::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap()
    }

    fn spec() -> Spec {
        serde_json::from_str(
            r#"{"ociVersion":"1.2.0","process":{"terminal":true,"args":["init"],"env":["A=1"],"cwd":"/srv",
                "user":{"uid":5,"gid":6,"umask":23,"additionalGids":[7]},"apparmorProfile":"p","noNewPrivileges":true,
                "capabilities":{"bounding":["CAP_KILL"]},"oomScoreAdj":3,"scheduler":{"policy":"SCHED_BATCH"},
                "ioPriority":{"class":"IOPRIO_CLASS_BE"},"execCPUAffinity":{"initial":"0"},
                "rlimits":[{"type":"RLIMIT_CORE","hard":1,"soft":1}]}}"#,
        )
        .unwrap()
    }

    fn of(line: &str) -> Result<Process> {
        process(&args(line), &spec())
    }

    #[test]
    fn flags_change_the_containers_own_process() {
        let p = of("c sh -c true").unwrap();
        assert_eq!(
            (p.args.as_slice(), p.terminal, p.cwd.as_str()),
            (&["sh", "-c", "true"].map(String::from)[..], false, "/srv")
        );
        assert_eq!((p.user.uid, p.user.gid, p.env.as_slice()), (5, 6, &["A=1".to_owned()][..]));
        let p = of("-t --cwd /x -e B=2 -u 8:9 -g 10 --apparmor q --cap CAP_CHOWN c sh").unwrap();
        assert!(p.terminal && p.cwd == "/x" && p.env == ["A=1", "B=2"] && p.apparmor_profile.as_deref() == Some("q"));
        assert_eq!((p.user.uid, p.user.gid, p.user.additional_gids), (8, 9, vec![7, 10]));
        let sets = p.capabilities.unwrap();
        assert_eq!((sets.bounding.len(), sets.effective.len(), sets.ambient.len()), (2, 1, 0));
        assert_eq!(of("-u 8 c sh").unwrap().user.gid, 6);
        for (flags, refused) in [("", true), ("--no-new-privs", true), ("--no-new-privs=false", false)] {
            assert_eq!(of(&format!("{flags} c sh")).unwrap().no_new_privileges, refused, "{flags}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, words) in [
            ("c", "process args cannot be empty"),
            ("-u root c sh", "--user root"),
            ("-u 1:x c sh", "UID[:GID]"),
            ("--cwd x c sh", "Cwd"),
            ("-p /nonexistent c", "/nonexistent"),
        ] {
            let e = of(line).unwrap_err();
            assert!(e.to_string().contains(words), "{line}: {e}");
        }
    }

    #[test]
    fn a_file_is_completed_by_what_confines_the_container() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p");
        let line = format!("-p {} c", file.display());
        std::fs::write(&file, r#"{"args":["x"],"cwd":"/","user":{"uid":1}}"#).unwrap();
        let p = of(&line).unwrap();
        let own = spec().process.unwrap();
        assert_eq!(
            (&p.capabilities, &p.apparmor_profile, &p.rlimits),
            (&own.capabilities, &own.apparmor_profile, &own.rlimits)
        );
        assert_eq!(
            (&p.scheduler, &p.io_priority, &p.exec_cpuaffinity),
            (&own.scheduler, &own.io_priority, &own.exec_cpuaffinity)
        );
        assert_eq!((p.oom_score_adj, p.user.umask), (Some(3), Some(23)));
        assert!(p.env.is_empty() && !p.terminal && !p.no_new_privileges && p.user.uid == 1 && p.user.gid == 0);
        std::fs::write(&file, "[").unwrap();
        assert!(of(&line).unwrap_err().first_hint().unwrap().contains("process"));
    }
}
