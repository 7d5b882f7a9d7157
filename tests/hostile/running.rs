//! Images that lie in wait for whoever runs them.

use crate::configs::load;
use crate::ground::{Ground, both};
use crate::image::Layer;
use crate::tar::{Header, Tar};
use serde_json::json;

fn run(g: &Ground, what: &str, tar: Tar, config: &serde_json::Value, args: &[&str]) -> tare_tests::Output {
    let id = load(g, &[Layer::plain(tar.end())], config);
    let all = [
        &["run", "--rm", "--network", "none"],
        args,
        &[id.as_str()],
        &["sh", "-c", "timeout 5 cat /v/* /etc/hosts /etc/hostname 2>/dev/null; true"],
    ]
    .concat();
    let out = g.endures(what, &all, None);
    g.succeeds(&["rmi", &id], None);
    out
}

#[test]
fn a_volume_of_the_image_shows_nothing_of_the_host() {
    both(|g| {
        let sentinel = g.sentinel().display().to_string();
        let up = "../".repeat(40);
        // CVE-2022-23648: what is copied into the volume would be the host's.
        for path in [format!("/{up}{sentinel}"), format!("/x/../../{sentinel}"), sentinel.clone()] {
            let id = load(g, &[], &json!({"Cmd": ["true"], "Volumes": {path.as_str(): {}}}));
            let script = format!("ls -A {sentinel}; cat {sentinel}/file 2>/dev/null; true");
            let out = g.endures(&path, &["run", "--rm", "--network", "none", &id, "sh", "-c", &script], None);
            assert!(!out.stdout.contains("untouched"), "{path}: {}", out.stdout);
            g.succeeds(&["rmi", &id], None);
        }
        // Through a link of the image.
        let tar = Tar::new().symlink("v", &sentinel).symlink("w", &format!("{up}{sentinel}"));
        let out = run(g, "linked volume", tar, &json!({"Cmd": ["true"], "Volumes": {"/v": {}, "/w/dir": {}}}), &[]);
        assert!(!out.stdout.contains("untouched"), "{}", out.stdout);
    });
}

#[test]
fn a_working_directory_is_the_containers() {
    both(|g| {
        let sentinel = g.sentinel().display().to_string();
        let up = format!("{}{sentinel}", "../".repeat(40));
        for target in [sentinel.as_str(), &up, "/proc/1/root", "loop"] {
            let tar = Tar::new().symlink("wd", target).symlink("loop", "wd");
            let path = format!("/wd/{}", g.token);
            run(g, target, tar, &json!({"Cmd": ["true"], "WorkingDir": path}), &[]);
        }
    });
}

#[test]
fn files_of_etc_that_are_none_harm_nobody() {
    both(|g| {
        let sentinel = g.sentinel().display().to_string();
        let up = format!("{}{sentinel}", "../".repeat(40));
        let config = json!({"Cmd": ["true"]});
        for base in [&sentinel, &up] {
            let tar = Tar::new()
                .symlink("etc/passwd", &format!("{base}/passwd"))
                .symlink("etc/group", &format!("{base}/passwd"));
            let out = run(g, "linked passwd", tar, &config, &["--user", "victim"]);
            assert!(out.code != 0 && out.stderr.contains("no such user"), "{}", out.stderr);
        }
        let mut huge = Header::new(b"etc/passwd", b'S', 1);
        huge.put(386, b"00000000000\0").put(398, b"00000000001\0").put(483, &[0x80, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0]);
        for (what, tar) in [
            ("a pipe", Tar::new().fifo("etc/passwd").fifo("etc/group")),
            ("zeros", Tar::new().device("etc/passwd", b'3', 1, 5).device("etc/group", b'3', 1, 5)),
            ("a terminal", Tar::new().device("etc/passwd", b'3', 5, 0)),
            ("a directory", Tar::new().dir("etc/passwd").dir("etc/group")),
            ("32 GiB", Tar::new().raw(&mut huge, b"x")),
            ("a circle", Tar::new().symlink("etc/passwd", "group").symlink("etc/group", "passwd")),
        ] {
            let out = run(g, what, tar.clone(), &config, &["--user", "victim"]);
            assert!(out.code != 0 && out.stderr.contains("no such user"), "{what}: {}", out.stderr);
            run(g, what, tar, &config, &[]);
        }
    });
}

#[test]
fn what_stands_where_mounts_come_harms_nobody() {
    both(|g| {
        let sentinel = g.sentinel().display().to_string();
        let up = format!("{}{sentinel}", "../".repeat(40));
        let config = json!({"Cmd": ["true"]});
        for name in ["etc/hosts", "etc/hostname", "etc/resolv.conf"] {
            for (what, tar) in [
                ("a link", Tar::new().symlink(name, &format!("{sentinel}/dir/hosts"))),
                ("a link that climbs", Tar::new().symlink(name, &format!("{up}/dir/hosts"))),
                ("a link to what could be made", Tar::new().symlink(name, &format!("{sentinel}/{}", g.token))),
                ("a pipe", Tar::new().fifo(name)),
                ("a device", Tar::new().device(name, b'3', 1, 5)),
                ("a directory", Tar::new().dir(name)),
                ("itself", Tar::new().symlink(name, "/etc/hosts")),
            ] {
                let out = run(g, &format!("{name} is {what}"), tar, &config, &[]);
                assert!(!out.stdout.contains("untouched"), "{}", out.stdout);
            }
        }
        for name in ["etc", "proc", "sys", "dev", "dev/pts", "dev/shm", "sys/fs/cgroup"] {
            for target in [sentinel.as_str(), &up, "/proc/1/root", "."] {
                let out =
                    run(g, &format!("{name} is a link to {target}"), Tar::new().symlink(name, target), &config, &[]);
                assert!(!out.stdout.contains("untouched"), "{}", out.stdout);
            }
            run(g, &format!("{name} is a file"), Tar::new().file(name, "x"), &config, &[]);
        }
    });
}

#[test]
fn a_device_that_hides_like_overlayfs_hides_in_the_image_only() {
    both(|g| {
        let tar =
            Tar::new().device("etc/passwd", b'3', 0, 0).device("etc/hosts", b'3', 0, 0).device("bin/ls", b'3', 0, 0);
        run(g, "whiteouts", tar, &json!({"Cmd": ["true"]}), &[]);
    });
}
