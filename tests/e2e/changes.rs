//! `diff`, `commit`, `export`: what a container has changed, and what is made of it.

use tare_tests::{Host, Registry, Tree, command};

const CHANGES: &str = "echo new > /new; echo more >> /etc/group; rm /etc/passwd; mkdir -p /dir/inner; touch /dir/inner/f; \
                       echo 9.9.9.9 evil >> /etc/hosts; echo nameserver 9.9.9.9 > /etc/resolv.conf; echo x > /etc/hostname; \
                       echo v > /vol/content; echo t > /mem/content; ln -s new /link; chmod 700 /home";

/// A container that has changed a bit of everything and has ended.
fn changed(host: &Host) {
    host.busybox();
    host.ok(&[
        "run",
        "--name",
        "box",
        "--network",
        "none",
        "-v",
        "vol:/vol",
        "--tmpfs",
        "/mem",
        "busybox",
        "sh",
        "-c",
        CHANGES,
    ]);
}

#[test]
fn diff_lists_changes_and_nothing_of_the_init_files() {
    let host = Host::new();
    changed(&host);
    let diff = host.ok(&["diff", "box"]);
    for line in ["A /new", "C /etc", "C /etc/group", "D /etc/passwd", "A /dir", "A /dir/inner/f", "A /link", "C /home"]
    {
        assert!(diff.lines().any(|l| l == line), "{line} is missing:\n{diff}");
    }
    for word in ["hosts", "resolv", "hostname", "content", "/proc", "/sys", "/dev"] {
        assert!(!diff.contains(word), "{word} is in:\n{diff}");
    }
    host.ok(&["create", "--name", "fresh", "busybox"]);
    assert_eq!(host.ok(&["diff", "fresh"]), "");
}

#[test]
fn a_commit_runs_with_the_changes_and_without_the_init_files() {
    let host = Host::new();
    changed(&host);
    let id = host.ok(&[
        "commit",
        "-a",
        "me",
        "-m",
        "why",
        "-c",
        "ENV A=1 PATH=$PATH:/opt",
        "-c",
        "WORKDIR /dir",
        "-c",
        "LABEL a=b",
        "-c",
        "CMD [\"cat\", \"/new\"]",
        "box",
        "changed:1",
    ]);
    assert!(id.starts_with("sha256:"), "{id}");
    assert_eq!(host.ok(&["run", "--rm", "--network", "none", "changed:1"]), "new");
    let seen = host.ok(&["run", "--rm", "--network", "none", "changed:1", "sh", "-c",
        "pwd; echo $A; cat /etc/hosts /etc/resolv.conf; tail -n 1 /etc/group; ls /etc/passwd /vol /mem /dir/inner; stat -c %a /home"]);
    assert!(seen.starts_with("/dir\n1\n") && seen.ends_with("\n700"), "{seen}");
    assert!(seen.contains("\nmore\n") && seen.contains("inner:\nf") && !seen.contains("9.9.9.9"), "{seen}");
    assert!(!seen.contains("content"), "{seen}");
    let image = host.inspect("changed:1");
    assert_eq!((image["Author"].as_str(), image["Config"]["Labels"]["a"].as_str()), (Some("me"), Some("b")));
    let history = host.ok(&["history", "changed:1"]);
    assert!(history.contains("why"), "{history}");
    // The container goes on being one of the old image, and the layers below are shared.
    assert_eq!(host.inspect("box")["Config"]["Image"], "busybox");
    let layers = std::fs::read_dir(host.root().join("layers")).unwrap().count();
    assert_eq!(layers, 2);
}

#[test]
fn a_running_container_is_frozen_only_while_it_is_read() {
    let host = Host::new();
    host.busybox();
    let script = "i=0; while true; do i=$((i + 1)); echo $i > /next; mv /next /count; done";
    host.ok(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", script]);
    let count = || host.run(&["exec", "box", "cat", "/count"]).stdout;
    assert!(tare_tests::eventually(std::time::Duration::from_secs(5), || !count().is_empty()));
    host.ok(&["commit", "box", "counted"]);
    assert_eq!(host.inspect("box")["State"]["Status"], "running");
    let before = count();
    assert!(tare_tests::eventually(std::time::Duration::from_secs(5), || count() != before));
    let kept = host.ok(&["run", "--rm", "--network", "none", "counted", "cat", "/count"]);
    assert!(kept.parse::<u64>().is_ok(), "{kept}");
}

#[test]
fn nothing_changed_makes_no_layer() {
    let host = Host::new();
    host.busybox();
    host.ok(&[
        "create",
        "--name",
        "box",
        "-e",
        "A=1",
        "-e",
        "B",
        "--label",
        "x=y",
        "--entrypoint",
        "echo",
        "busybox",
        "hi",
    ]);
    host.ok(&["commit", "box", "same"]);
    assert_eq!(std::fs::read_dir(host.root().join("layers")).unwrap().count(), 1);
    let config = host.inspect("same")["Config"].clone();
    assert_eq!((&config["Entrypoint"], &config["Cmd"]), (&serde_json::json!(["echo"]), &serde_json::json!(["hi"])));
    assert_eq!(config["Labels"]["x"], "y");
    assert!(config["Env"].as_array().unwrap().contains(&"A=1".into()), "{config}");
    assert_eq!(host.ok(&["run", "--rm", "--network", "none", "same"]), "hi");
}

#[test]
fn malformed_changes_are_refused_before_anything_is_made() {
    let host = Host::new();
    host.busybox();
    host.ok(&["create", "--name", "box", "busybox"]);
    let refused = host.fails(&["commit", "-c", "RUN make", "box", "x"], 1);
    assert!(refused.contains("RUN") && refused.contains("ENTRYPOINT"), "{refused}");
    assert!(!host.ok(&["images"]).contains('x') || host.fails(&["inspect", "x"], 1).contains('x'));
}

#[test]
fn a_directory_instead_of_an_image_cannot_be_committed() {
    let host = Host::new();
    let tree = Tree::busybox();
    let dir = tree.path("").display().to_string();
    host.ok(&["create", "--name", "box", "--rootfs", &dir, "sh"]);
    for verb in [&["diff", "box"][..], &["commit", "box"]] {
        assert!(host.fails(verb, 1).contains("--rootfs"));
    }
    host.ok(&["rm", "box"]);
}

#[test]
fn a_commit_travels_through_a_registry_to_an_empty_root() {
    let (host, registry) = (Host::new(), Registry::start());
    changed(&host);
    let name = registry.name("team/changed:1");
    host.ok(&["commit", "box", &name]);
    host.ok(&["push", &name]);
    let other = Host::new();
    other.ok(&["pull", &name]);
    let seen = other.ok(&["run", "--rm", "--network", "none", &name, "sh", "-c", "cat /new /etc/hosts; ls /etc"]);
    assert!(seen.starts_with("new\n") && !seen.contains("9.9.9.9") && !seen.contains("passwd"), "{seen}");
}

#[test]
fn an_export_is_the_whole_tree_without_what_is_mounted() {
    let host = Host::new();
    host.busybox();
    let script =
        "echo new > /new; echo v > /vol/content; rm /etc/passwd; echo 9.9.9.9 evil >> /etc/hosts; exec sleep 1000";
    host.ok(&["run", "-d", "--name", "box", "--network", "none", "-v", "vol:/vol", "busybox", "sh", "-c", script]);
    assert!(tare_tests::eventually(std::time::Duration::from_secs(5), || host
        .ok(&["diff", "box"])
        .contains("D /etc/passwd")));
    let archive = host.scratch("export.tar").display().to_string();
    let list = |when: &str| {
        host.ok(&["export", "-o", &archive, "box"]);
        let out = command("tar").args(["tvf", &archive]).output().unwrap();
        assert!(out.status.success(), "{when}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let running = list("running");
    host.ok(&["stop", "-t", "0", "box"]);
    let stopped = list("stopped");
    for (when, listing) in [("running", &running), ("stopped", &stopped)] {
        let names: Vec<&str> = listing.lines().map(|l| l.split_whitespace().nth(5).unwrap()).collect();
        for name in ["new", "bin/busybox", "bin/sh", "etc/group", "etc/hosts", "proc/", "dev/", "vol/"] {
            assert!(names.contains(&name), "{when}: {name} is missing in {names:?}");
        }
        for name in ["etc/passwd", "vol/content", "proc/1", "dev/null", "proc/cpuinfo", "dev/.tare-init"] {
            assert!(!names.contains(&name), "{when}: {name} is in {names:?}");
        }
        let hosts = listing.lines().find(|l| l.ends_with(" etc/hosts")).unwrap();
        assert_eq!(hosts.split_whitespace().nth(2), Some("0"), "{when}: {hosts}");
    }
    // What an export holds can be run again.
    host.ok(&["import", &archive, "again"]);
    assert_eq!(host.ok(&["run", "--rm", "--network", "none", "again", "cat", "/new"]), "new");
}
