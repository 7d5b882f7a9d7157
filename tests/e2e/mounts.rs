//! Mounts asked for: `-v`, `--mount`, `--tmpfs`.

use serde_json::Value;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;
use tare_tests::{Host, Tree, command, eventually};

fn run(host: &Host, flags: &[&str], script: &str) -> String {
    host.ok(&[&["run", "--rm", "--network", "none"], flags, &["busybox", "sh", "-c", script]].concat())
}

fn source(host: &Host, name: &str) -> String {
    let dir = host.scratch(name);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("file"), "of the host\n").unwrap();
    dir.display().to_string()
}

#[test]
fn a_directory_of_the_host_is_shared_both_ways() {
    let host = Host::new();
    host.busybox();
    let dir = source(&host, "dir");
    let seen = run(&host, &["-v", &format!("{dir}:/data")], "cat /data/file; echo from inside > /data/new");
    assert_eq!(seen, "of the host");
    assert_eq!(std::fs::read_to_string(format!("{dir}/new")).unwrap(), "from inside\n");
    // A single file, over one of the image's.
    let seen = run(&host, &["-v", &format!("{dir}/file:/etc/group")], "cat /etc/group");
    assert_eq!(seen, "of the host");
    // Relative to the caller's directory.
    let mut command =
        host.command(&["run", "--rm", "--network", "none", "-v", "./dir:/data", "busybox", "cat", "/data/file"]);
    let out = tare_tests::Running::start(command.current_dir(host.scratch("")), None).wait();
    assert_eq!(out.stdout, "of the host\n", "{}", out.stderr);
    // A socket is no directory and no file.
    let socket = format!("{dir}/socket");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert_eq!(run(&host, &["-v", &format!("{socket}:/run/socket")], "stat -c %F /run/socket"), "socket");
    drop(listener);
}

#[test]
fn a_read_only_mount_takes_nothing() {
    let host = Host::new();
    host.busybox();
    let dir = source(&host, "dir");
    std::fs::create_dir(format!("{dir}/below")).unwrap();
    let forms = [
        ["-v".to_owned(), format!("{dir}:/data:ro")],
        ["--mount".to_owned(), format!("type=bind,src={dir},dst=/data,ro")],
        ["--mount".to_owned(), format!("type=bind,source={dir},target=/data,readonly=true")],
    ];
    for [flag, value] in &forms {
        let seen = run(
            &host,
            &[flag, value],
            "cat /data/file; touch /data/x 2>&1 | grep -c Read-only; mount -o remount,rw /data 2>&1 | grep -c 'permission denied'",
        );
        assert_eq!(seen, "of the host\n1\n1", "{flag} {value}");
    }
    // What is mounted below it is read-only, too.
    let below = format!("{dir}/below");
    let script = "mount -t tmpfs tmpfs \"$0\" && exec \"$@\"";
    let plain = host.command(&[
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        &format!("{dir}:/data:ro"),
        "busybox",
        "sh",
        "-c",
        "grep -c /data/below /proc/self/mountinfo; touch /data/below/x 2>&1 | grep -c Read-only",
    ]);
    let mut inside = command("unshare");
    inside.args(["--mount", "sh", "-c", script, &below]).arg(plain.get_program()).args(plain.get_args());
    let out = tare_tests::Running::start(&mut inside, None).wait();
    assert_eq!((out.code, out.stdout.as_str()), (0, "1\n1\n"), "{}", out.stderr);
}

#[test]
fn a_missing_source_is_an_error_that_says_how_to_make_it() {
    let host = Host::new();
    host.busybox();
    let missing = host.scratch("missing/deep");
    let text = missing.display().to_string();
    let refused = host.fails(&["run", "--rm", "-v", &format!("{text}:/data"), "busybox", "true"], 125);
    assert!(
        refused.contains(&text) && refused.contains("--mount type=bind") && refused.contains(",create"),
        "{refused}"
    );
    assert!(!missing.exists());
    assert_eq!(host.ok(&["ps", "-aq"]), "");
    let mount = format!("type=bind,src={text},dst=/data,create");
    assert_eq!(run(&host, &["--mount", &mount], "echo made > /data/file; cat /data/file"), "made");
    assert_eq!(std::fs::read_to_string(missing.join("file")).unwrap(), "made\n");
    assert!(
        host.fails(&["run", "--rm", "--mount", &format!("type=bind,src={text}x,dst=/data"), "busybox", "true"], 125)
            .contains("create")
    );
}

#[test]
fn named_volumes_are_filled_once_and_kept() {
    let host = Host::new();
    let tree = Tree::busybox();
    tree.dir("data/sub", 0o750).file("data/seed", "of the image\n");
    std::os::unix::fs::chown(tree.path("data"), None, None).unwrap();
    symlink("seed", tree.path("data/link")).unwrap();
    host.import(&tree, &[], "seeded");
    let run = |flags: &[&str], script: &str| {
        host.ok(&[&["run", "--rm", "--network", "none"], flags, &["seeded", "sh", "-c", script]].concat())
    };
    assert_eq!(
        run(&["-v", "vol:/data"], "cat /data/link; stat -c %a /data/sub; echo changed > /data/seed"),
        "of the image\n750"
    );
    // Not filled a second time.
    assert_eq!(run(&["-v", "vol:/data"], "cat /data/seed"), "changed");
    assert_eq!(
        run(&["-v", "vol:/elsewhere:ro"], "cat /elsewhere/seed; touch /elsewhere/x 2>&1 | grep -c Read-only"),
        "changed\n1"
    );
    assert_eq!(run(&["-v", "empty:/data:nocopy"], "ls -A /data | wc -l"), "0");
    assert_eq!(run(&["--mount", "type=volume,src=empty2,dst=/data,volume-nocopy"], "ls -A /data | wc -l"), "0");
    assert_eq!(run(&["--mount", "src=vol,dst=/data"], "cat /data/seed"), "changed");
    // Part of one.
    assert_eq!(
        run(&["--mount", "type=volume,src=vol,dst=/part,volume-subpath=sub"], "touch /part/inside; ls /part"),
        "inside"
    );
    assert_eq!(run(&["-v", "vol:/data"], "ls /data/sub"), "inside");
    let refused = host
        .fails(&["run", "--rm", "--mount", "type=volume,src=vol,dst=/part,volume-subpath=none", "seeded", "true"], 125);
    assert!(refused.contains("none"), "{refused}");
    assert!(
        host.fails(
            &["run", "--rm", "--mount", "type=volume,src=vol,dst=/part,volume-subpath=../..", "seeded", "true"],
            125
        )
        .contains("..")
    );
    // A link in a volume leads nowhere out of it.
    run(&["-v", "vol:/data"], "ln -s / /data/out");
    let out = host.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--mount",
        "type=volume,src=vol,dst=/part,volume-subpath=out",
        "seeded",
        "ls",
        "/part",
    ]);
    assert!(!out.stdout.contains("proc") || out.code != 0, "{}", out.stdout);
    // Anonymous ones go with their container.
    run(&["-v", "/data"], "cat /data/seed");
    let names = host.ok(&["volume", "ls", "-q"]);
    let names: Vec<&str> = names.lines().collect();
    assert_eq!(names, ["empty", "empty2", "vol"]);
}

#[test]
fn memory_can_be_mounted_with_its_options() {
    let host = Host::new();
    host.busybox();
    let show = "grep ' /m ' /proc/self/mountinfo; stat -c %a:%u /m";
    let seen = run(&host, &["--tmpfs", "/m"], show);
    assert!(
        seen.contains(" - tmpfs ") && seen.contains("nosuid") && seen.contains("nodev") && seen.contains("noexec"),
        "{seen}"
    );
    assert!(seen.ends_with("1777:0"), "{seen}");
    let seen = run(
        &host,
        &["--tmpfs", "/m:size=1m,mode=750,exec,uid=33"],
        &format!(
            "{show}; dd if=/dev/zero of=/m/f bs=1M count=2 2>&1 | grep -c 'No space'; cp /bin/busybox /m/x 2>/dev/null; wc -c < /m/f"
        ),
    );
    assert!(seen.contains("size=1024k") && !seen.contains("noexec") && seen.contains("750:33"), "{seen}");
    assert!(seen.ends_with("\n1\n1048576"), "{seen}");
    let seen = run(&host, &["--mount", "type=tmpfs,dst=/m,tmpfs-size=2m,tmpfs-mode=0700"], show);
    assert!(seen.contains("size=2048k") && seen.ends_with("700:0"), "{seen}");
    let seen = run(&host, &["--tmpfs", "/m:ro"], "touch /m/x 2>&1 | grep -c Read-only");
    assert_eq!(seen, "1");
    assert!(host.fails(&["run", "--rm", "--tmpfs", "/m:size=lots", "busybox", "true"], 125).contains("lots"));
    assert!(host.fails(&["run", "--rm", "--tmpfs", "/m:nonsense", "busybox", "true"], 125).contains("nonsense"));
}

/// A mount on the host below the source, before and after the container's start, as each propagation shows it.
#[test]
fn propagation_is_as_asked() {
    let host = Host::new();
    host.busybox();
    // In a mount namespace of its own, so that the host sees nothing of it: a shared directory, and tare in it.
    let dir = source(&host, "dir");
    let script = r#"
        set -e
        mount --bind "$0" "$0"; mount --make-shared "$0"; mkdir -p "$0/host" "$0/inside"
        "$@" run -d --name box --network none --cap-add SYS_ADMIN --security-opt seccomp=unconfined -v "$0:/data$OPTION" busybox sleep 1000 >/dev/null
        mount -t tmpfs of-the-host "$0/host"
        "$@" exec box mount -t tmpfs of-the-container /data/inside
        echo "host's seen inside: $("$@" exec box grep -c of-the-host /proc/self/mountinfo || true)"
        echo "container's seen outside: $(grep -c of-the-container /proc/self/mountinfo || true)"
        "$@" inspect -f '{{(index .Mounts 0).Propagation}}' box
        "$@" rm -f box >/dev/null
    "#;
    for (option, word, inside, outside) in [
        ("", "rprivate", 0, 0),
        (":rslave", "rslave", 1, 0),
        (":rshared", "rshared", 1, 1),
        (":private", "private", 0, 0),
        (":slave", "slave", 1, 0),
        (":shared", "shared", 1, 1),
    ] {
        let plain = host.command(&[]);
        let mut unshared = command("unshare");
        unshared.args(["--mount", "--propagation", "private", "sh", "-c", script, &dir]).env("OPTION", option);
        let out = tare_tests::Running::start(unshared.arg(plain.get_program()).args(plain.get_args()), None).wait();
        assert_eq!(
            out.stdout,
            format!("host's seen inside: {inside}\ncontainer's seen outside: {outside}\n{word}\n"),
            "{option}: {}",
            out.stderr
        );
    }
    // A source that is not shared cannot share.
    let refused = "mount --bind \"$0\" \"$0\"; mount --make-private \"$0\"; exec \"$@\"";
    for option in ["rshared", "rslave"] {
        let plain = host.command(&[
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            &format!("{dir}:/data:{option}"),
            "busybox",
            "true",
        ]);
        let mut unshared = command("unshare");
        unshared.args(["--mount", "--propagation", "private", "sh", "-c", refused, &dir]);
        let out = tare_tests::Running::start(unshared.arg(plain.get_program()).args(plain.get_args()), None).wait();
        assert_eq!(out.code, 125, "{}", out.stderr);
        assert!(out.stderr.contains("shared") && out.stderr.contains(&dir), "{}", out.stderr);
    }
}

#[test]
fn links_in_an_image_lead_no_mount_out_of_it() {
    let host = Host::new();
    let tree = Tree::busybox();
    let outside = host.scratch("outside");
    std::fs::create_dir_all(outside.join("deep")).unwrap();
    std::fs::write(outside.join("file"), "of the host").unwrap();
    symlink(&outside, tree.path("away")).unwrap();
    symlink(outside.join("file"), tree.path("away-file")).unwrap();
    symlink("/var", tree.path("near")).unwrap();
    symlink("loop", tree.path("loop")).unwrap();
    host.import(&tree, &[], "linked");
    let dir = source(&host, "dir");
    let run = |mount: &str, script: &str| {
        host.run(&["run", "--rm", "--network", "none", "-v", mount, "linked", "sh", "-c", script])
    };
    // Within the image a link is followed.
    let out = run(&format!("{dir}:/near/data"), "cat /var/data/file");
    assert_eq!(out.stdout, "of the host\n", "{}", out.stderr);
    for target in ["/away", "/away/deep", "/away/made", "/away-file", "/loop/x"] {
        let out = run(&format!("{dir}:{target}"), "true");
        assert!(out.code == 0 || out.code == 125, "{target}: {} {}", out.code, out.stderr);
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 2);
    assert_eq!(std::fs::read_dir(outside.join("deep")).unwrap().count(), 0);
    assert_eq!(std::fs::read_to_string(outside.join("file")).unwrap(), "of the host");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&outside.display().to_string()));
}

#[test]
fn mounts_that_make_no_sense_are_refused() {
    let host = Host::new();
    host.busybox();
    for (flag, value, word) in [
        ("-v", "relative", "absolute"),
        ("-v", "a:b:c:d", "[SOURCE:]TARGET[:OPTIONS]"),
        ("-v", "/tmp:/", "cannot be /"),
        ("-v", "/tmp:/x:nonsense", "nonsense"),
        ("-v", "x:/data", "no name of a volume"),
        ("-v", "/tmp:/x:nocopy", "nocopy"),
        ("-v", "vol:/x:rshared", "propagation"),
        ("--mount", "type=bind,dst=/x", "src=PATH"),
        ("--mount", "type=volume,src=vol", "dst="),
        ("--mount", "type=image,src=x,dst=/x", "not supported yet"),
        ("--mount", "type=bind,src=/tmp,dst=/x,tmpfs-size=1m", "tmpfs-size is for type=tmpfs"),
        ("--mount", "type=tmpfs,dst=/x,colour=red", "colour"),
        ("--tmpfs", "relative", "absolute"),
    ] {
        let refused = host.fails(&["run", "--rm", flag, value, "busybox", "true"], 125);
        assert!(refused.contains(word), "{flag} {value}: {refused}");
    }
    let refused = host.fails(&["run", "--rm", "-v", "/tmp:/x", "--tmpfs", "/x", "busybox", "true"], 125);
    assert!(refused.contains("/x") && refused.contains("target"), "{refused}");
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn mounts_are_listed_by_inspect_and_found_by_ps() {
    let host = Host::new();
    host.busybox();
    let dir = source(&host, "dir");
    host.ok(&[
        "create",
        "--name",
        "box",
        "-v",
        &format!("{dir}:/bind:ro"),
        "-v",
        "vol:/volume",
        "--tmpfs",
        "/memory",
        "busybox",
    ]);
    let mounts = host.inspect("box")["Mounts"].as_array().unwrap().clone();
    let find = |target: &str| mounts.iter().find(|m| m["Destination"] == target).unwrap().clone();
    let bind = find("/bind");
    assert_eq!(
        (&bind["Type"], &bind["Source"], &bind["RW"]),
        (&"bind".into(), &Value::from(dir.as_str()), &false.into())
    );
    let volume = find("/volume");
    assert_eq!((&volume["Type"], &volume["Name"], &volume["RW"]), (&"volume".into(), &"vol".into(), &true.into()));
    assert_eq!(PathBuf::from(volume["Source"].as_str().unwrap()), host.root().join("volumes/vol/_data"));
    for filter in ["volume=vol", "volume=/bind"] {
        assert_eq!(host.ok(&["ps", "-a", "--filter", filter, "--format", "{{.Names}}"]), "box", "{filter}");
    }
    assert_eq!(host.ok(&["ps", "-aq", "--filter", "volume=other"]), "");
    assert!(eventually(Duration::from_secs(1), || host.ok(&["volume", "ls", "-q"]) == "vol"));
}
