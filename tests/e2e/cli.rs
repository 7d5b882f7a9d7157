//! The command line itself: help, completion, lists of names, errors, life without root.

use std::path::Path;
use tare_tests::{Host, Running, command};

/// The verbs that a help text lists.
fn verbs(help: &str) -> Vec<String> {
    let list = help.split("Verbs:\n").nth(1).unwrap_or_default().split("\n\n").next().unwrap_or_default();
    list.lines()
        .filter(|l| l.starts_with("  ") && !l.starts_with("   "))
        .map(|l| l.split_whitespace().next().unwrap().to_owned())
        .collect()
}

/// A verb, or a group of them: each of them.
#[track_caller]
fn has_help(host: &Host, path: &[&str]) {
    let help = host.ok(&[path, &["--help"]].concat());
    let inner = verbs(&help);
    for inner in inner.iter().filter(|v| *v != "help") {
        has_help(host, &[path, &[inner.as_str()]].concat());
    }
    if inner.is_empty() {
        assert!(help.contains("Usage: ") && help.contains("Examples:\n  tare "), "{path:?}:\n{help}");
        assert_eq!(host.ok(&[&["help"], path].concat()), help);
    }
}

#[test]
fn every_verb_has_help_with_examples() {
    let host = Host::new();
    let top = verbs(&host.ok(&["--help"]));
    assert!(top.len() > 30, "{top:?}");
    let wanted = "run create start stop kill rm ps logs exec attach wait inspect stats top pause unpause update rename diff commit \
                  cp export pull push load save import images rmi tag history volume network port ns version info completion";
    for verb in wanted.split_whitespace() {
        assert!(top.iter().any(|v| v == verb), "{verb} is missing");
    }
    for verb in top.iter().filter(|v| *v != "help") {
        has_help(&host, &[verb]);
    }
    // Help needs no root directory and makes none.
    assert!(!host.root().exists());
}

#[test]
fn mistakes_are_told_apart_from_failures() {
    let host = Host::new();
    for (args, word) in [
        (&["nonsense"][..], "nonsense"),
        (&["rum", "x"], "run"),
        (&["ps", "--nonsense"], "--nonsense"),
        (&["volume", "nonsense"], "nonsense"),
        (&["stop"], "CONTAINER"),
        (&["inspect"], "NAME"),
    ] {
        let out = host.run(args);
        assert_eq!((out.code, out.stdout.as_str()), (125, ""), "{args:?}: {}", out.stderr);
        assert!(out.stderr.starts_with("tare: ") && out.stderr.contains(word), "{args:?}: {}", out.stderr);
    }
    assert_eq!(host.run(&[]).code, 125);
    for verb in [
        "start", "stop", "kill", "rm", "logs", "exec", "attach", "wait", "pause", "unpause", "diff", "export", "top",
        "stats", "update",
    ] {
        let args: &[&str] = match verb {
            "exec" => &["exec", "nobody", "true"],
            "stats" => &["stats", "--no-stream", "nobody"],
            "update" => &["update", "--pids-limit", "5", "nobody"],
            _ => &[verb, "nobody"],
        };
        let refused = host.fails(args, 1);
        assert!(refused.contains("nobody") && refused.contains("no such container"), "{verb}: {refused}");
    }
}

#[test]
fn several_names_are_done_one_by_one() {
    let host = Host::new();
    host.busybox();
    for name in ["one", "two", "three"] {
        host.ok(&["create", "--name", name, "--network", "none", "busybox", "sleep", "1000"]);
    }
    let out = host.run(&["start", "one", "nobody", "two", "three"]);
    assert_eq!((out.code, out.stdout.as_str()), (1, "one\ntwo\nthree\n"), "{}", out.stderr);
    assert_eq!(out.stderr.matches("no such container").count(), 1, "{}", out.stderr);
    assert_eq!(host.ok(&["pause", "one", "two"]), "one\ntwo");
    assert_eq!(host.ok(&["ps", "-q", "--filter", "status=paused"]).lines().count(), 2);
    assert_eq!(host.ok(&["unpause", "one", "two"]), "one\ntwo");
    assert_eq!(host.ok(&["kill", "-s", "KILL", "one"]), "one");
    assert_eq!(host.ok(&["wait", "one"]), "137");
    assert_eq!(host.ok(&["stop", "-t", "0", "two", "three"]), "two\nthree");
    assert_eq!(host.ok(&["wait", "two", "three"]), "137\n137");
    let ids = host.ok(&["ps", "-aq"]);
    let ids: Vec<&str> = ids.lines().collect();
    assert!(ids.len() == 3 && ids.iter().all(|i| i.len() == 12), "{ids:?}");
    let out = host.run(&["rm", ids[0], "nobody", &ids[1][..8]]);
    assert_eq!((out.code, out.stdout.lines().count()), (1, 2), "{}", out.stderr);
    let refused = host.run(&["start", ids[2]]);
    assert_eq!(refused.code, 0);
    let refused = host.fails(&["rm", ids[2]], 1);
    assert!(refused.contains("it is running") && refused.contains(&format!("tare rm -f {}", ids[2])), "{refused}");
    host.ok(&["rm", "-f", ids[2], "nobody-either"]);
    assert_eq!(host.ok(&["ps", "-aq"]), "");
}

#[test]
fn completion_scripts_parse_and_complete() {
    let host = Host::new();
    host.busybox();
    host.ok(&["create", "--name", "boxed", "busybox"]);
    for (shell, check) in [("bash", Some("bash")), ("zsh", None), ("fish", None)] {
        let script = host.ok(&["completion", shell]);
        assert!(script.contains("tare"), "{shell}");
        if let Some(program) = check {
            let file = host.scratch(shell);
            std::fs::write(&file, &script).unwrap();
            let out = Running::start(command(program).arg("-n").arg(&file), None).wait();
            assert_eq!((out.code, out.stderr.as_str()), (0, ""), "{shell}");
        }
    }
    assert_eq!(host.run(&["completion", "tcsh"]).code, 125);
    let complete = |words: &[&str]| host.ok(&[&["__complete"], words].concat());
    let names = |text: &str| text.lines().map(|l| l.split('\t').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert!(names(&complete(&["ru"])).contains(&"run".to_owned()));
    assert!(names(&complete(&["volume", ""])).contains(&"prune".to_owned()));
    let mut verbs = names(&complete(&["oci", ""]));
    let help = Running::start(command(tare_tests::binary()).args(["oci", "--help"]), None).wait();
    let told = help.stdout.split("Verbs:").nth(1).unwrap().lines().skip(1).map_while(|l| l.split_whitespace().next());
    let mut told = told.map(str::to_owned).collect::<Vec<_>>();
    verbs.sort();
    told.sort();
    assert_eq!(verbs, told);
    assert!(host.ok(&["--help"]).lines().any(|l| l.trim_start().starts_with("oci ")));
    assert!(names(&complete(&["run", "--mem"])).contains(&"--memory-swap".to_owned()));
    assert_eq!(names(&complete(&["rm", "bo"])), ["boxed"]);
    assert!(names(&complete(&["run", "bu"])).iter().any(|n| n.starts_with("busybox")));
    assert!(names(&complete(&["run", "--pull", ""])).contains(&"never".to_owned()));
    // In bash itself.
    let tare = tare_tests::binary().display().to_string();
    let script = "source <(\"$0\" completion bash); COMP_WORDS=(tare ru); COMP_CWORD=1; COMP_LINE='tare ru'; COMP_POINT=7; \
                  f=$(complete -p tare | sed 's/.*-F \\([^ ]*\\).*/\\1/'); PATH=${0%/*}:$PATH; $f tare ru tare; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let out = Running::start(command("bash").args(["-c", script, &tare]), None).wait();
    assert!(out.stdout.lines().any(|l| l.trim() == "run"), "{} {}", out.stdout, out.stderr);
}

/// Without root: one clear sentence, before anything is touched.
#[test]
fn without_root_one_sentence_says_what_is_missing() {
    let host = Host::new();
    host.busybox();
    // The user must reach the binary.
    let binary = host.scratch("tare");
    std::fs::copy(tare_tests::binary(), &binary).unwrap();
    for dir in binary.ancestors().skip(1).take(2) {
        std::os::unix::fs::PermissionsExt::set_mode(&mut std::fs::metadata(dir).unwrap().permissions(), 0o755);
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let run = |args: &[&str]| {
        let mut setpriv = command("setpriv");
        setpriv.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&binary);
        setpriv.arg("--root").arg(host.root()).arg("--run").arg(host.run_dir()).args(args);
        Running::start(&mut setpriv, None).wait()
    };
    for (args, code) in [
        (&["run", "--rm", "busybox", "true"][..], 125),
        (&["ps"], 1),
        (&["images"], 1),
        (&["pull", "x"], 1),
        (&["exec", "x", "true"], 1),
        (&["rm", "x"], 1),
        (&["volume", "ls"], 1),
        (&["run", "hello"], 125),
    ] {
        let out = run(args);
        assert_eq!(out.code, code, "{args:?}: {}", out.stderr);
        let verb = if args[0] == "volume" { "volume ls" } else { args[0] };
        assert_eq!(out.stderr, format!("tare needs root for now: try sudo tare {verb}\n"), "{args:?}");
    }
    // What needs nothing works.
    for args in [&["--help"][..], &["run", "--help"], &["version"], &["completion", "bash"], &["--version"]] {
        assert_eq!(run(args).code, 0, "{args:?}");
    }
}

#[test]
fn a_root_is_chosen_by_flag_or_by_environment() {
    let host = Host::new();
    host.busybox();
    let plain = |envs: &[(&str, &Path)], args: &[&str]| {
        let mut c = command(tare_tests::binary());
        c.env_clear().envs(envs.iter().copied()).args(args);
        Running::start(&mut c, None).wait()
    };
    let both = [("TARE_ROOT", host.root()), ("TARE_RUN", host.run_dir())];
    assert_eq!(plain(&both, &["images", "--format", "{{.Repository}}"]).stdout, "busybox\n");
    assert_eq!(plain(&both, &["run", "--rm", "--network", "none", "busybox", "echo", "x"]).stdout, "x\n");
    // The flag wins.
    let other = Host::new();
    let (root, run) = (other.root().display().to_string(), other.run_dir().display().to_string());
    assert_eq!(plain(&both, &["--root", &root, "--run", &run, "images", "-q"]).stdout, "");
}

#[test]
fn a_closed_standard_output_is_no_crash() {
    let host = Host::new();
    host.busybox();
    for verb in ["images", "ps -a", "inspect busybox", "run --help", "info"] {
        let plain = host.command(&verb.split(' ').collect::<Vec<_>>());
        let mut sh = command("sh");
        sh.args(["-c", "\"$@\" 2>&1 >&-; \"$@\" | true", "-"]).arg(plain.get_program()).args(plain.get_args());
        let out = Running::start(&mut sh, None).wait();
        assert!(
            !out.stdout.contains("panicked") && !out.stderr.contains("panicked"),
            "{verb}: {}{}",
            out.stdout,
            out.stderr
        );
    }
}

#[test]
fn version_and_info_say_what_this_is() {
    let host = Host::new();
    let version = host.ok(&["version"]);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(version.contains("tare ") && version.contains(kernel.trim()), "{version}");
    let json: serde_json::Value = serde_json::from_str(&host.ok(&["version", "--format", "json"])).unwrap();
    assert!(json.to_string().contains(kernel.trim()), "{json}");
    assert!(host.ok(&["--version"]).starts_with("tare "));
    let info = host.ok(&["info"]);
    for word in [host.root().to_str().unwrap(), host.names().bridge.as_str(), kernel.trim(), "cgroups:"] {
        assert!(info.contains(word), "{word}: {info}");
    }
    assert_eq!(host.ok(&["info", "--format", "{{.Containers}} {{.Images}}"]), "0 0");
}

/// The starter image: from the running binary alone, on a machine with nothing else.
#[test]
fn hello_runs_without_anything_else() {
    let host = Host::new();
    let out = host.run(&["run", "--rm", "hello"]);
    // On a machine that has not forwarded yet, that is said.
    let said: Vec<&str> = out.stderr.lines().filter(|l| !l.contains("forwarding was 0")).collect();
    assert_eq!((out.code, said.as_slice()), (0, &[""; 0][..]));
    for word in [
        "PID 1",
        "host name",
        "namespaces",
        "limits",
        "privileges",
        "read-only layers",
        "mounts",
        "/etc/hosts",
        "lo eth0",
    ] {
        assert!(out.stdout.contains(word), "{word}: {}", out.stdout);
    }
    let out =
        host.ok(&["run", "--rm", "-m", "64m", "--pids-limit", "9", "--hostname", "here", "--network", "none", "hello"]);
    assert!(
        out.contains("host name here") && out.contains("64 MiB") | out.contains("64MiB") && out.contains(" 9"),
        "{out}"
    );
    let images = host.ok(&["images", "--format", "{{.Repository}}"]);
    assert!(images.contains("hello"), "{images}");
    // A name of the same kind that is there is the one meant.
    host.busybox();
    host.ok(&["tag", "busybox", "hello"]);
    assert_eq!(host.ok(&["run", "--rm", "--network", "none", "hello", "echo", "mine"]), "mine");
}
