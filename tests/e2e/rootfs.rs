//! What a container stands on: the overlay, and what the image says about the process.

use serde_json::Value;
use std::path::Path;
use tare_tests::{Host, Tree, command};

fn run(host: &Host, flags: &[&str], image_and_command: &[&str]) -> String {
    host.ok(&[&["run", "--rm", "--network", "none"], flags, image_and_command].concat())
}

/// Every file below a directory with its content's digest, owner, mode and time.
fn fingerprint(dir: &Path) -> String {
    let script = "cd \"$0\"; find . -printf '%p %y %m %U:%G %l %T@\\n' | sort; find . -type f -print0 | sort -z | xargs -0 -r sha256sum";
    let out = command("sh").args(["-c", script]).arg(dir).output().unwrap();
    assert!(out.status.success());
    String::from_utf8(out.stdout).unwrap()
}

/// Mechanism: read-only layers below, a read-write layer above, the init layer between them.
#[test]
fn the_root_is_an_overlay_of_upper_init_and_layers() {
    let host = Host::new();
    host.busybox();
    host.ok(&["run", "--name", "first", "--network", "none", "busybox", "sh", "-c", "echo 1 > /one"]);
    host.ok(&["commit", "first", "two-layers"]);
    host.ok(&["run", "-d", "--name", "box", "--network", "none", "two-layers", "sleep", "1000"]);
    let pid = host.inspect("box")["State"]["Pid"].to_string();
    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    let root = mounts.lines().find(|l| l.split(' ').nth(4) == Some("/")).unwrap();
    assert!(root.contains(" - overlay "), "{root}");
    // Newer kernels are told the layers one by one, and show them so.
    let lowers =
        root.matches("lowerdir+=").count().max(root.split("lowerdir=").nth(1).map_or(0, |l| l.split(':').count()));
    assert_eq!(lowers, 3, "init layer and two layers: {root}");
    let data = host.inspect("box")["GraphDriver"]["Data"].clone();
    let lower: Vec<&str> = data["LowerDir"].as_str().unwrap().split(':').collect();
    let layers = host.inspect("two-layers")["RootFS"]["Layers"].as_array().unwrap().clone();
    let name = |v: &Value| v.as_str().unwrap()[7..].to_owned();
    let below: Vec<&&str> = lower.iter().filter(|l| l.contains("/layers/")).collect();
    assert!(below[0].contains(&name(&layers[1])) && below[1].contains(&name(&layers[0])), "top first: {lower:?}");
    host.ok(&["exec", "box", "sh", "-c", "echo 2 > /two; echo more >> /etc/group; rm /one"]);
    let upper = Path::new(data["UpperDir"].as_str().unwrap());
    assert_eq!(std::fs::read_to_string(upper.join("two")).unwrap(), "2\n");
    let is_whiteout = std::os::unix::fs::FileTypeExt::is_char_device(
        &std::fs::symlink_metadata(upper.join("one")).unwrap().file_type(),
    );
    assert!(is_whiteout);
    assert!(!upper.join("etc/hosts").exists(), "the container's own files are not among its changes");
}

#[test]
fn layers_are_unchanged_and_containers_independent() {
    let host = Host::new();
    host.busybox();
    let layers = host.root().join("layers");
    let before = fingerprint(&layers);
    let spoil =
        "rm -rf /var /home; echo spoiled > /etc/group; chmod 777 /etc; chown 33 /bin; touch /new; mv /root /moved";
    for name in ["one", "two"] {
        host.ok(&["run", "-d", "--name", name, "--network", "none", "busybox", "sleep", "1000"]);
    }
    host.ok(&["exec", "one", "sh", "-c", spoil]);
    let seen = host.ok(&[
        "exec",
        "two",
        "sh",
        "-c",
        "ls -d /new /moved 2>/dev/null; ls -d /var /home /root; stat -c %a /etc; head -n 1 /etc/group",
    ]);
    assert_eq!(seen, "/home\n/root\n/var\n755\nroot:x:0:");
    assert_eq!(fingerprint(&layers), before);
    host.ok(&["rm", "-f", "one", "two"]);
    assert_eq!(run(&host, &[], &["busybox", "sh", "-c", "ls -d /var; ls /new 2>&1 | wc -l"]), "/var\n1");
}

#[test]
fn a_read_only_root_takes_nothing_but_where_it_is_told() {
    let host = Host::new();
    host.busybox();
    let script = "touch /x 2>&1; touch /etc/hosts 2>&1; echo t > /tmp/t && cat /tmp/t; echo s > /dev/shm/s && cat /dev/shm/s; echo v > /data/v && cat /data/v";
    let seen = run(&host, &["--read-only", "--tmpfs", "/tmp", "-v", "data:/data"], &["busybox", "sh", "-c", script]);
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines[0].contains("Read-only file system") && lines[1].contains("Read-only file system"), "{seen}");
    assert_eq!(lines[2..], ["t", "s", "v"]);
}

#[test]
fn a_directory_of_the_host_can_be_the_root() {
    let host = Host::new();
    let tree = Tree::busybox();
    let dir = tree.path("").display().to_string();
    let seen = host.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--rootfs",
        &dir,
        "sh",
        "-c",
        "echo $$; echo kept > /kept; cat /etc/hostname; id -u",
    ]);
    assert!(seen.starts_with("1\n") && seen.ends_with("\n0"), "{seen}");
    assert_eq!(std::fs::read_to_string(tree.path("kept")).unwrap(), "kept\n");
    // Relative to where the caller is.
    let mut here = host.command(&["run", "--rm", "--network", "none", "--rootfs", ".", "cat", "/kept"]);
    let out = tare_tests::Running::start(here.current_dir(tree.path("")), None).wait();
    assert_eq!((out.code, out.stdout.as_str()), (0, "kept\n"), "{}", out.stderr);
    let seen = host.ok(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--read-only",
        "--rootfs",
        &dir,
        "sh",
        "-c",
        "touch /x 2>&1 | grep -c Read-only",
    ]);
    assert_eq!(seen, "1");
    let refused = host.fails(&["run", "--rm", "--rootfs", "/nowhere", "sh"], 125);
    assert!(refused.contains("/nowhere"), "{refused}");
    let refused = host.fails(&["run", "--rm", "--rootfs", &format!("{dir}/kept"), "sh"], 125);
    assert!(refused.contains("kept"), "{refused}");
}

/// An image with a configuration of everything.
fn configured(host: &Host) {
    let tree = Tree::busybox();
    tree.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\napp:x:1234:33:app:/srv/app:/bin/sh\n");
    tree.dir("data", 0o700).file("data/seed", "seed\n");
    let changes = [
        "ENTRYPOINT [\"sh\", \"-c\", \"echo $0 $@; id -u; id -G; pwd; env | sort\"]",
        "CMD [\"default\", \"arguments\"]",
        "ENV A=image B=image PATH=/opt/bin:/bin",
        "WORKDIR /made/for/it",
        "USER app",
        "VOLUME /data",
        "EXPOSE 80 53/udp",
        "STOPSIGNAL SIGUSR1",
        "LABEL from=image",
    ];
    host.import(&tree, &changes, "app");
}

#[test]
fn the_images_configuration_is_honoured() {
    let host = Host::new();
    configured(&host);
    let seen = run(&host, &["--hostname", "here"], &["app"]);
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[..4], ["default arguments", "1234", "33", "/made/for/it"], "{seen}");
    for line in ["A=image", "B=image", "PATH=/opt/bin:/bin", "HOME=/srv/app", "HOSTNAME=here"] {
        assert!(lines.contains(&line), "{line} is missing in {seen}");
    }
    assert!(!lines.iter().any(|l| l.starts_with("TERM=")), "{seen}");
    // What is said on the command line goes before what the image says.
    let flags = ["-e", "A=flag", "-e", "B", "-e", "HOME=/tmp", "-w", "/also/made", "-u", "0:50", "-t"];
    let seen = run(&host, &flags, &["app", "other", "words"]);
    let seen = seen.replace('\r', "");
    let lines: Vec<&str> = seen.lines().collect();
    assert_eq!(lines[..4], ["other words", "0", "50", "/also/made"], "{seen}");
    assert!(lines.contains(&"A=flag") && lines.contains(&"HOME=/tmp") && lines.contains(&"TERM=xterm"), "{seen}");
    assert!(!lines.iter().any(|l| l.starts_with("B=")), "a name without a value that the caller has not: {seen}");
    assert_eq!(run(&host, &["--entrypoint", "echo"], &["app", "just", "this"]), "just this");
    assert_eq!(run(&host, &["--entrypoint", ""], &["app", "echo", "nothing before"]), "nothing before");
    // With another entrypoint the image's CMD means nothing.
    assert_eq!(run(&host, &["--entrypoint", "pwd"], &["app"]), "/made/for/it");
    assert!(host.fails(&["run", "--rm", "--entrypoint", "", "app"], 125).contains("command"));
}

#[test]
fn volumes_ports_signals_and_labels_of_the_image_are_honoured() {
    let host = Host::new();
    configured(&host);
    let trap = "trap 'echo asked; exit 7' USR1; echo ready; while true; do sleep 0.1; done";
    host.ok(&[
        "run",
        "-d",
        "--name",
        "box",
        "--user",
        "0",
        "--label",
        "mine=1",
        "--expose",
        "99",
        "--entrypoint",
        "sh",
        "app",
        "-c",
        trap,
    ]);
    let seen = host.ok(&[
        "exec",
        "box",
        "sh",
        "-c",
        "cat /data/seed; stat -c %a /data; grep -c ' /data ' /proc/self/mountinfo",
    ]);
    assert_eq!(seen, "seed\n700\n1");
    let document = host.inspect("box");
    let mount = &document["Mounts"][0];
    assert_eq!((&mount["Type"], &mount["Destination"]), (&"volume".into(), &"/data".into()));
    assert_eq!(mount["Name"].as_str().unwrap().len(), 64);
    let ports = document["Config"]["ExposedPorts"].as_object().unwrap();
    assert_eq!(ports.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp", "99/tcp"]);
    assert_eq!(
        (&document["Config"]["Labels"]["from"], &document["Config"]["Labels"]["mine"]),
        (&"image".into(), &"1".into())
    );
    assert!(tare_tests::eventually(std::time::Duration::from_secs(5), || host.ok(&["logs", "box"]).contains("ready")));
    host.ok(&["stop", "box"]);
    assert_eq!(host.inspect("box")["State"]["ExitCode"], 7);
    assert_eq!(host.ok(&["volume", "ls", "-q"]).lines().count(), 1);
    host.ok(&["rm", "-v", "box"]);
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "");
}

#[test]
fn users_and_groups_are_looked_up_in_the_images_own_files() {
    let host = Host::new();
    let tree = Tree::busybox();
    tree.file("etc/passwd", "root:x:0:0::/root:/bin/sh\nwww-data:x:777:888::/here:/bin/sh\n");
    tree.file("etc/group", "root:x:0:\nown:x:888:\nextra:x:999:www-data\nnamed:x:555:\n");
    host.import(&tree, &[], "box");
    let of = |flags: &[&str]| run(&host, flags, &["box", "sh", "-c", "echo $(id -u) $(id -g) $(id -G) $HOME"]);
    // On the host www-data is 33.
    assert_eq!(of(&["-u", "www-data"]), "777 888 888 999 /here");
    assert_eq!(of(&["-u", "www-data:named"]), "777 555 555 /here");
    assert_eq!(of(&["-u", "777"]), "777 888 888 999 /here");
    assert_eq!(of(&["-u", "4321"]), "4321 0 0 /");
    assert_eq!(of(&["-u", "4321:555"]), "4321 555 555 /");
    assert_eq!(of(&["-u", "www-data", "--group-add", "named", "--group-add", "31"]), "777 888 888 31 555 999 /here");
    for (user, word) in
        [("nobody", "nobody"), ("www-data:nogroup", "nogroup"), ("-1", "-1"), ("4294967295", "4294967295")]
    {
        let refused = host.fails(&["run", "--rm", &format!("--user={user}"), "box", "true"], 125);
        assert!(refused.contains(word), "{user}: {refused}");
    }
    assert!(host.fails(&["run", "--rm", "--group-add", "staff", "box", "true"], 125).contains("staff"));
}

#[test]
fn working_directories_are_made_and_links_stay_inside() {
    let host = Host::new();
    let tree = Tree::busybox();
    let outside = host.scratch("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, tree.path("link")).unwrap();
    std::os::unix::fs::symlink("../../../../..", tree.path("up")).unwrap();
    host.import(&tree, &[], "box");
    assert_eq!(
        run(&host, &["-w", "/a/b/c"], &["box", "sh", "-c", "pwd; stat -c %a:%u /a /a/b/c"]),
        "/a/b/c\n755:0\n755:0"
    );
    assert_eq!(run(&host, &["-w", "/up/tmp"], &["box", "sh", "-c", "pwd -P"]), "/tmp");
    // A directory below a link that leads out of the image is made inside, or refused.
    let _ = host.run(&["run", "--rm", "--network", "none", "-w", "/link/escaped", "box", "pwd"]);
    let _ = host.run(&["run", "--rm", "--network", "none", "-v", "vol:/link/volume", "box", "pwd"]);
    let _ = host.run(&["run", "--rm", "--network", "none", "--tmpfs", "/link/memory", "box", "pwd"]);
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "made outside of the container");
    let refused = host.fails(&["run", "--rm", "-w", "/etc/passwd", "box", "true"], 125);
    assert!(refused.contains("/etc/passwd"), "{refused}");
    let refused = host.fails(&["run", "--rm", "-w", "relative", "box", "true"], 125);
    assert!(refused.contains("relative"), "{refused}");
}

#[test]
fn environment_comes_from_files_and_from_the_caller() {
    let host = Host::new();
    host.busybox();
    let file = host.scratch("env");
    std::fs::write(&file, "# a comment\n\nFILE=from file\nBOTH=file\nQUOTED=\"as it is\"\nCALLER\nMISSING\n").unwrap();
    let file = file.display().to_string();
    let args = [
        "run",
        "--rm",
        "--network",
        "none",
        "--env-file",
        &file,
        "-e",
        "BOTH=flag",
        "-e",
        "CALLER2",
        "-e",
        "EMPTY=",
        "busybox",
        "env",
    ];
    let mut command = host.command(&args);
    let out = tare_tests::Running::start(command.env("CALLER", "c").env("CALLER2", "c2"), None).wait();
    assert_eq!(out.code, 0, "{}", out.stderr);
    let lines: Vec<&str> = out.stdout.lines().collect();
    for line in ["FILE=from file", "BOTH=flag", "QUOTED=\"as it is\"", "CALLER=c", "CALLER2=c2", "EMPTY=", "HOME=/root"]
    {
        assert!(lines.contains(&line), "{line} is missing in {}", out.stdout);
    }
    assert!(!out.stdout.contains("MISSING") && out.stdout.matches("BOTH").count() == 1, "{}", out.stdout);
    assert!(lines.contains(&"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), "{}", out.stdout);
    assert!(host.fails(&["run", "--rm", "--env-file", "/nowhere", "busybox", "true"], 125).contains("/nowhere"));
    assert!(host.fails(&["run", "--rm", "-e", "=x", "busybox", "true"], 125).contains("=x"));
    std::fs::write(&file, "two words=x\n").unwrap();
    assert!(host.fails(&["run", "--rm", "--env-file", &file, "busybox", "true"], 125).contains("two words"));
}

/// Mechanism: /etc/hosts, /etc/hostname and /etc/resolv.conf belong to the container, never to a commit.
#[test]
fn init_files_behave_as_in_docker_and_never_enter_a_commit() {
    let host = Host::new();
    let tree = Tree::busybox();
    tree.file("etc/hosts", "1.2.3.4 of-the-image\n")
        .file("etc/resolv.conf", "nameserver 1.2.3.4\n")
        .file("etc/hostname", "image\n");
    host.import(&tree, &[], "box");
    let script = "cat /etc/hostname; grep -c of-the-image /etc/hosts; echo '5.6.7.8 added' >> /etc/hosts && tail -n 1 /etc/hosts; \
                  sed -i s/localhost/other/ /etc/hosts 2>&1 | grep -c busy; rm /etc/resolv.conf 2>&1 | grep -c busy; \
                  mv /etc/hostname /etc/x 2>&1 | grep -c busy; echo changed > /etc/hostname; cat /etc/hostname; \
                  cp /etc/hosts /etc/hosts.new; chown 33 /etc/hosts; chmod 600 /etc/resolv.conf; touch /etc/other";
    let seen = host.ok(&["run", "--name", "box", "--hostname", "me", "--network", "none", "box", "sh", "-c", script]);
    assert_eq!(seen, "me\n0\n5.6.7.8 added\n1\n1\n1\nchanged");
    let diff = host.ok(&["diff", "box"]);
    assert_eq!(diff, "C /etc\nA /etc/hosts.new\nA /etc/other");
    host.ok(&["commit", "box", "committed"]);
    // The image's own files are below, as they were.
    let layers = host.inspect("committed")["RootFS"]["Layers"].as_array().unwrap().clone();
    let has = |i: usize, name: &str| {
        let paths = host.layer_paths(layers[i].as_str().unwrap());
        paths.iter().any(|path| path.rsplit('/').next() == Some(name))
    };
    assert!(has(0, "hosts") && has(1, "hosts.new"));
    for name in ["hosts", "hostname", "resolv.conf", "dev", "proc", "sys"] {
        assert!(!has(1, name), "{name}");
    }
    // The next start has fresh ones.
    host.ok(&["start", "-a", "box"]);
    let hosts = run(&host, &[], &["committed", "cat", "/etc/hosts"]);
    assert!(!hosts.contains("added") && !hosts.contains("of-the-image") && hosts.contains("localhost"), "{hosts}");
}

#[test]
fn an_image_without_any_directory_still_runs() {
    let host = Host::new();
    let tree = Tree::new();
    std::fs::copy("/bin/busybox", tree.path("sh"))
        .or_else(|_| std::fs::copy("/usr/bin/busybox", tree.path("sh")))
        .unwrap();
    host.import(&tree, &[], "bare");
    let seen = run(
        &host,
        &[],
        &[
            "bare",
            "/sh",
            "-c",
            "/sh --list >/dev/null; echo $$; read a </etc/hostname; echo $a; [ -c /dev/null ] && echo dev; [ -d /proc/1 ] && echo proc",
        ],
    );
    assert!(seen.starts_with("1\n") && seen.ends_with("\ndev\nproc"), "{seen}");
    let layer = host.inspect("bare")["RootFS"]["Layers"][0].as_str().unwrap().to_owned();
    assert_eq!(host.layer_paths(&layer), ["sh"], "the layer has stayed as it was");
}
