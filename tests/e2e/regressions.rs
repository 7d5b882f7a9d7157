//! One test for each mistake that was found by reading or by using, so that it is made once.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tare_tests::{Host, Running, Tree, command, eventually, unique};

const SOON: Duration = Duration::from_secs(20);

/// CVE-2024-21626 for others: a directory of the host, open in the process that becomes the container's, as the working
/// directory, or as a way to the command.
#[test]
fn no_descriptor_of_tares_leads_out_of_a_container() {
    let host = Host::new();
    host.busybox();
    for number in 3..32 {
        let dir = format!("/proc/self/fd/{number}");
        let args = ["run", "--rm", "--network", "none", "-w", &dir, "busybox", "ls", "-a", "."];
        let out = host.run(&args);
        assert!(out.code != 0 && out.stdout.is_empty(), "{dir}: {out:?}");
        for way in ["../../../../../bin/true", "bin/true"] {
            let program = format!("{dir}/{way}");
            let out = host.run(&["run", "--rm", "--network", "none", "busybox", &program]);
            assert!(matches!(out.code, 126 | 127), "{program}: {out:?}");
        }
    }
    host.ok(&["run", "-d", "--name", "box", "--network", "none", "-w", "/work", "busybox", "sleep", "1000"]);
    for number in 3..32 {
        let link = format!("rm -rf /work; ln -s /proc/self/fd/{number} /work");
        host.ok(&["exec", "-w", "/", "box", "sh", "-c", &link]);
        let out = host.run(&["exec", "box", "ls", "-a", "."]);
        assert!(out.code != 0 && out.stdout.is_empty(), "{number}: {out:?}");
    }
}

#[test]
fn the_hosts_null_device_cannot_be_changed_from_inside() {
    let host = Host::new();
    host.busybox();
    let mode = || std::fs::metadata("/dev/null").unwrap().mode();
    let before = mode();
    // Something else than it has, but nothing that would hurt if this test failed.
    let script = "chmod 1666 /proc/self/fd/0 || echo refused; chown 0:5 /proc/self/fd/0 || echo refused; cat <&0";
    host.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000"]);
    for verb in [&["run", "--rm", "--network", "none", "busybox"][..], &["exec", "box"]] {
        let out = host.ok(&[verb, &["sh", "-c", script]].concat());
        assert_eq!((out.as_str(), mode()), ("refused\nrefused", before), "{verb:?}");
    }
}

#[test]
fn a_callers_umask_is_not_the_containers() {
    let host = Host::new();
    host.busybox();
    let tare = |args: &[&str]| {
        let mut line = command("sh");
        let inner = host.command(args);
        line.args(["-c", "umask 077; exec \"$@\"", "sh"]).arg(inner.get_program()).args(inner.get_args());
        let out = Running::start(&mut line, None).wait();
        assert_eq!(out.code, 0, "{out:?}");
        out.stdout
    };
    let script = "cat /etc/hosts /etc/resolv.conf /etc/hostname > /dev/null && cd /made && umask";
    let args = ["run", "--rm", "--network", "none", "-u", "web", "-w", "/made/by/tare", "busybox", "sh", "-c", script];
    assert_eq!(tare(&args), "0022\n");
    let mut paths = vec![host.run_dir().to_owned(), host.run_dir().join("containers")];
    tare(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000"]);
    paths.push(host.run_dir().join("containers").join(host.inspect("box")["Id"].as_str().unwrap()));
    for path in paths {
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{path:?} is root's alone");
    }
}

#[test]
fn what_was_killed_can_be_removed() {
    let host = Host::new();
    host.busybox();
    for _ in 0..5 {
        host.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000"]);
        host.ok(&["kill", "box"]);
        host.ok(&["rm", "box"]);
    }
}

/// Neither an attached client that takes nothing nor a process that outlives the first one keeps a container's end from
/// being seen; and the client misses nothing.
#[test]
fn a_containers_end_waits_for_nobody() {
    let host = Host::new();
    host.busybox();
    let script = "head -c 300000 /dev/zero; exit 3";
    let mut line = host.command(&["run", "--name", "box", "--network", "none", "busybox", "sh", "-c", script]);
    let mut child = line.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    assert!(eventually(SOON, || host.run(&["inspect", "box"]).code == 0));
    // The pipes between them take some of it; the rest stays in the container's until somebody reads.
    let mut got = vec![0; 200_000];
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut got).unwrap();
    let begin = Instant::now();
    assert_eq!(host.ok(&["wait", "box"]), "3");
    host.ok(&["rm", "box"]);
    assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", begin.elapsed());
    assert_eq!(out.read_to_end(&mut Vec::new()).unwrap(), 100_000);
    assert_eq!(child.wait().unwrap().code(), Some(3));

    let forever = "while :; do echo yes; done & sleep 0.1; exit 4";
    let args = ["run", "--rm", "--network", "none", "--pid", "host", "busybox", "sh", "-c", forever];
    let out = host.start(&args).wait_for(SOON);
    assert!(out.code == 4 && out.stdout.contains("yes"), "{}", out.code);
}

#[test]
fn another_container_is_remembered_by_what_it_is_not_by_its_name() {
    let host = Host::new();
    host.busybox();
    host.ok(&["run", "-d", "--name", "first", "--network", "none", "busybox", "sleep", "1000"]);
    let script = "readlink /proc/self/ns/net";
    let net = host.ok(&["exec", "first", "sh", "-c", script]);
    host.ok(&["create", "--name", "joined", "--network", "container:first", "busybox", "sh", "-c", script]);
    host.ok(&["rename", "first", "second"]);
    host.ok(&["run", "-d", "--name", "first", "--network", "none", "busybox", "sleep", "1000"]);
    assert_eq!(host.ok(&["start", "-a", "joined"]), net);
    host.ok(&["rm", "-f", "second"]);
    assert!(!host.fails(&["start", "joined"], 1).is_empty());
}

/// The way of CVE-2017-1002101 and CVE-2021-25741: what was a directory when the container was made is a link at its start.
#[test]
fn a_part_of_a_volume_cannot_become_a_part_of_the_host() {
    let host = Host::new();
    host.busybox();
    let secret = host.scratch("secret");
    std::fs::create_dir(&secret).unwrap();
    std::fs::write(secret.join("file"), "secret").unwrap();
    let volume = unique("vol-");
    let mount = format!("{volume}:/vol");
    let inside = |script: &str| {
        host.ok(&["run", "--rm", "--network", "none", "-v", &mount, "busybox", "sh", "-c", script]);
    };
    inside("mkdir /vol/part && echo own > /vol/part/file");
    let part = format!("type=volume,src={volume},dst=/part,volume-subpath=part");
    host.ok(&["create", "--name", "box", "--network", "none", "--mount", &part, "busybox", "cat", "/part/file"]);
    assert_eq!(host.ok(&["start", "-a", "box"]), "own");
    inside(&format!("mv /vol/part /vol/old && ln -s {} /vol/part", secret.display()));
    let out = host.run(&["start", "-a", "box"]);
    assert!(out.code != 0 && !out.stdout.contains("secret"), "{out:?}");
    inside("rm /vol/part && ln -s old /vol/part");
    assert_eq!(host.ok(&["start", "-a", "box"]), "own");
    host.ok(&["rm", "box"]);
    host.ok(&["volume", "rm", &volume]);
}

#[test]
fn an_image_cannot_put_its_own_files_in_the_place_of_proc() {
    let host = Host::new();
    let tree = Tree::busybox();
    std::os::unix::fs::symlink("/proc/self", tree.path("link")).unwrap();
    host.import(&tree, &["VOLUME /proc/self/attr"], "plain");
    let refused = host.fails(&["run", "--rm", "--network", "none", "plain", "true"], 125);
    assert!(refused.contains("/proc/self/attr") && refused.contains("the image declares a volume"), "{refused}");
    host.import(&tree, &["VOLUME /link/attr"], "through");
    let refused = host.fails(&["run", "--rm", "--network", "none", "through", "true"], 125);
    assert!(refused.contains("/link/attr"), "{refused}");
}

#[test]
fn the_working_directory_is_made_on_what_is_mounted() {
    let host = Host::new();
    host.busybox();
    let run = |flags: &[&str]| host.ok(&[&["run", "--rm", "--network", "none"], flags, &["busybox", "pwd"]].concat());
    assert_eq!(run(&["-v", "/data", "-w", "/data/a/b"]), "/data/a/b");
    assert_eq!(run(&["--tmpfs", "/t", "-w", "/t/a", "-u", "web"]), "/t/a");
    assert_eq!(run(&["--read-only", "-w", "/a/b"]), "/a/b");
}

#[test]
fn two_containers_may_fill_one_volume_at_once() {
    let host = Host::new();
    let tree = Tree::busybox();
    tree.dir("data", 0o755);
    for n in 0..300 {
        tree.file(&format!("data/{n}"), "x");
    }
    host.import(&tree, &[], "full");
    let volume = unique("vol-");
    let mount = format!("{volume}:/data");
    let args = ["run", "--rm", "--network", "none", "-v", &mount, "full", "sh", "-c", "ls /data | wc -l"];
    let both = [host.start(&args), host.start(&args), host.start(&args)];
    for one in both {
        let out = one.wait();
        assert_eq!((out.code, out.stdout.trim()), (0, "300"), "{}", out.stderr);
    }
    host.ok(&["volume", "rm", &volume]);
}
