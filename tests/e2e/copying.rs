//! `cp`, both ways, of containers that run and of containers at rest.

use std::os::unix::fs::{MetadataExt, symlink};
use tare_tests::{Host, command};

/// A container with a volume, at rest or running.
fn container(host: &Host, verb: &[&str]) {
    let args = [verb, &["--name", "box", "--network", "none", "-v", "vol:/vol", "busybox", "sleep", "1000"]].concat();
    host.ok(&args);
}

/// The same for a container that was never started, one that runs, and one that has ended.
fn in_every_state(check: impl Fn(&Host, &str)) {
    let host = Host::new();
    host.busybox();
    container(&host, &["create"]);
    check(&host, "created");
    host.ok(&["rm", "-f", "box"]);
    host.ok(&["volume", "rm", "vol"]);
    container(&host, &["run", "-d"]);
    check(&host, "running");
    host.ok(&["rm", "-f", "box"]);
    host.ok(&["volume", "rm", "vol"]);
    container(&host, &["run", "-d"]);
    host.ok(&["kill", "box"]);
    host.ok(&["wait", "box"]);
    check(&host, "exited");
}

#[test]
fn files_go_in_and_come_out_again() {
    in_every_state(|host, state| {
        let file = host.scratch("file");
        std::fs::write(&file, state).unwrap();
        let text = file.display().to_string();
        host.ok(&["cp", &text, "box:/tmp"]);
        host.ok(&["cp", &text, "box:/tmp/renamed"]);
        host.ok(&["cp", &text, "box:/vol/kept"]);
        let back = host.scratch(state);
        for inside in ["/tmp/file", "/tmp/renamed", "/vol/kept"] {
            let _ = std::fs::remove_file(&back);
            host.ok(&["cp", &format!("box:{inside}"), &back.display().to_string()]);
            assert_eq!(std::fs::read_to_string(&back).unwrap(), state, "{inside}");
        }
        // What was copied to a volume lies in the volume.
        let kept = host.root().join("volumes/vol/_data/kept");
        assert_eq!(std::fs::read_to_string(&kept).unwrap(), state);
        // A container that was copied to still starts.
        if state != "running" {
            host.ok(&["start", "box"]);
        }
        assert_eq!(host.ok(&["exec", "box", "cat", "/tmp/file", "/vol/kept"]), format!("{state}{state}"));
        assert_eq!(host.ok(&["exec", "box", "stat", "-c", "%u:%g", "/tmp/file"]), "0:0");
    });
}

#[test]
fn directories_follow_dockers_rules() {
    in_every_state(|host, _| {
        let dir = host.scratch("dir");
        std::fs::create_dir_all(dir.join("deep")).unwrap();
        std::fs::write(dir.join("deep/f"), "f").unwrap();
        let text = dir.display().to_string();
        host.ok(&["cp", &text, "box:/tmp"]);
        host.ok(&["cp", &text, "box:/tmp/new"]);
        host.ok(&["cp", &format!("{text}/."), "box:/home"]);
        let list = |path: &str| {
            let out = host.run(&["cp", &format!("box:{path}"), "-"]);
            assert_eq!(out.code, 0, "{path}: {}", out.stderr);
            out
        };
        for path in ["/tmp/dir/deep/f", "/tmp/new/deep/f", "/home/deep/f"] {
            let out = list(path);
            assert!(out.stdout.contains("ustar"), "{path}");
        }
        let to = host.scratch("to");
        std::fs::create_dir_all(&to).unwrap();
        let target = to.display().to_string();
        host.ok(&["cp", "box:/tmp/dir", &target]);
        host.ok(&["cp", "box:/tmp/dir/.", &target]);
        host.ok(&["cp", "box:/tmp/dir", &format!("{target}/fresh")]);
        for path in ["dir/deep/f", "deep/f", "fresh/deep/f"] {
            assert_eq!(std::fs::read_to_string(to.join(path)).unwrap(), "f", "{path}");
        }
        let file = to.join("deep/f").display().to_string();
        assert!(host.fails(&["cp", "box:/tmp/dir", &file], 1).contains("directory cannot be copied onto a file"));
        assert!(host.fails(&["cp", &file, "box:/nowhere/"], 1).contains("no such directory"));
        assert!(host.fails(&["cp", "box:/nowhere", &target], 1).contains("box:/nowhere"));
        std::fs::remove_dir_all(&to).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    });
}

#[test]
fn archives_pass_through_standard_streams() {
    in_every_state(|host, state| {
        let dir = host.scratch("tree");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("a"), state).unwrap();
        let mut tar = command("tar");
        tar.args(["-c", "--owner=33", "--group=33", "--numeric-owner", "-C"]).arg(&dir).arg("a");
        let archive = tar.output().unwrap().stdout;
        let put = |flags: &[&str], to: &str| {
            let out = host.run_with(&[&["cp"], flags, &["-", to]].concat(), &archive);
            assert_eq!(out.code, 0, "{}", out.stderr);
        };
        put(&[], "box:/tmp");
        put(&["-a"], "box:/home");
        let owners = |path: &str| {
            let out = host.run(&["cp", path, "-"]);
            let file = host.scratch("out.tar");
            std::fs::write(&file, &out.bytes).unwrap();
            let list = command("tar").args(["tvf"]).arg(&file).arg("--numeric-owner").output().unwrap();
            let list = String::from_utf8(list.stdout).unwrap();
            list.split_whitespace().nth(1).unwrap().to_owned()
        };
        assert_eq!((owners("box:/tmp/a").as_str(), owners("box:/home/a").as_str()), ("0/0", "33/33"));
        assert_ne!(host.run_with(&["cp", "-", "box:/nowhere"], &archive).code, 0);
    });
}

#[test]
fn links_never_lead_out_of_the_container() {
    in_every_state(|host, state| {
        let secret = host.scratch("secret");
        std::fs::write(&secret, "of the host").unwrap();
        let inside = host.scratch("links");
        std::fs::create_dir_all(&inside).unwrap();
        for (name, to) in [
            ("file", secret.display().to_string()),
            ("up", "../../../../../..".to_owned() + &secret.display().to_string()),
        ] {
            let _ = std::fs::remove_file(inside.join(name));
            symlink(to, inside.join(name)).unwrap();
        }
        let _ = std::fs::remove_file(inside.join("dir"));
        symlink(host.root(), inside.join("dir")).unwrap();
        host.ok(&["cp", &inside.display().to_string(), "box:/tmp"]);
        let out = host.scratch("out").display().to_string();
        for name in ["file", "up"] {
            host.fails(&["cp", "-L", &format!("box:/tmp/links/{name}"), &out], 1);
        }
        // Without -L the link itself comes out.
        host.ok(&["cp", "box:/tmp/links/file", &out]);
        assert_eq!(std::fs::read_link(&out).unwrap(), secret);
        std::fs::remove_file(&out).unwrap();
        // Writing through a link lands inside or nowhere.
        let evil = host.scratch("evil");
        std::fs::write(&evil, state).unwrap();
        let _ = host.run(&["cp", &evil.display().to_string(), "box:/tmp/links/file"]);
        let _ = host.run(&["cp", &evil.display().to_string(), "box:/tmp/links/dir/evil"]);
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "of the host");
        assert!(!host.root().join("evil").exists());
    });
}

#[test]
fn owners_modes_and_times_are_kept_as_asked() {
    let host = Host::new();
    host.busybox();
    container(&host, &["run", "-d"]);
    host.ok(&[
        "exec",
        "box",
        "sh",
        "-c",
        "echo x > /tmp/f; chown 33:50 /tmp/f; chmod 640 /tmp/f; touch -d '2001-02-03 04:05:06' /tmp/f",
    ]);
    let out = host.scratch("f");
    host.ok(&["cp", "box:/tmp/f", &out.display().to_string()]);
    let meta = std::fs::metadata(&out).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777, meta.mtime()), (0, 0, 0o640, 981_173_106));
    host.ok(&["cp", "-a", "box:/tmp/f", &out.display().to_string()]);
    let meta = std::fs::metadata(&out).unwrap();
    assert_eq!((meta.uid(), meta.gid()), (33, 50));
}

#[test]
fn a_read_only_root_and_a_read_only_volume_take_nothing() {
    let host = Host::new();
    host.busybox();
    let file = host.scratch("file");
    std::fs::write(&file, "x").unwrap();
    let file = file.display().to_string();
    host.ok(&[
        "create",
        "--name",
        "box",
        "--read-only",
        "-v",
        "vol:/vol",
        "-v",
        "fix:/fix:ro",
        "busybox",
        "sleep",
        "1000",
    ]);
    for _ in 0..2 {
        assert!(host.fails(&["cp", &file, "box:/tmp"], 1).contains("read-only"));
        assert!(host.fails(&["cp", &file, "box:/fix"], 1).contains("read-only"));
        host.ok(&["cp", &file, "box:/vol"]);
        // Once at rest, once running.
        let _ = host.run(&["start", "box"]);
    }
}

#[test]
fn a_container_that_removes_itself_can_be_copied_to_before_it_starts() {
    let host = Host::new();
    host.busybox();
    host.ok(&["create", "--rm", "--name", "box", "--network", "none", "busybox", "cat", "/tmp/file"]);
    let file = host.scratch("file");
    std::fs::write(&file, "there").unwrap();
    host.ok(&["cp", &file.display().to_string(), "box:/tmp"]);
    let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts().contains(&host.root().display().to_string()));
    assert_eq!(host.ok(&["start", "-a", "box"]), "there");
}
