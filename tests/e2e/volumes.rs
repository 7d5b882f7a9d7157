//! Volumes: made, used, kept, removed.

use tare_tests::Host;

#[test]
fn a_volume_outlives_its_containers() {
    let host = Host::new();
    host.busybox();
    assert_eq!(host.ok(&["volume", "create", "--label", "team=a", "data"]), "data");
    assert_eq!(host.ok(&["volume", "create", "data"]), "data");
    let run = |script: &str| {
        host.ok(&["run", "--rm", "--network", "none", "-v", "data:/data", "busybox", "sh", "-c", script])
    };
    run("echo kept > /data/file");
    assert_eq!(run("cat /data/file"), "kept");
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "data");
    let document = host.inspect("data");
    let mountpoint = document["Mountpoint"].as_str().unwrap();
    assert_eq!(std::fs::read_to_string(format!("{mountpoint}/file")).unwrap(), "kept\n");
    assert_eq!(document["Labels"]["team"], "a");
    assert_eq!(host.ok(&["volume", "rm", "data"]), "data");
    assert!(!std::path::Path::new(mountpoint).exists());
    assert!(host.fails(&["volume", "rm", "data"], 1).contains("no such volume"));
    host.ok(&["volume", "rm", "-f", "data"]);
}

#[test]
fn a_volume_in_use_is_not_removed() {
    let host = Host::new();
    host.busybox();
    host.ok(&["create", "--name", "box", "-v", "data:/data", "busybox"]);
    let refused = host.fails(&["volume", "rm", "data"], 1);
    assert!(refused.contains("container box ") && refused.contains("tare rm box"), "{refused}");
    host.ok(&["rm", "box"]);
    host.ok(&["volume", "rm", "data"]);
}

#[test]
fn anonymous_volumes_go_with_prune_named_ones_only_with_all() {
    let host = Host::new();
    host.busybox();
    host.ok(&["volume", "create", "named"]);
    let anonymous = host.ok(&["volume", "create"]);
    assert_eq!(anonymous.len(), 64);
    host.ok(&["create", "--name", "box", "-v", "/used", "busybox"]);
    let gone = host.ok(&["volume", "prune", "-f"]);
    assert!(gone.starts_with(&format!("Deleted Volumes:\n{anonymous}\n\nTotal reclaimed space: ")), "{gone}");
    assert!(host.ok(&["volume", "prune", "-af"]).starts_with("Deleted Volumes:\nnamed\n\n"));
    assert_eq!(host.ok(&["volume", "prune", "-af"]), "Total reclaimed space: 0B");
    assert_eq!(host.ok(&["volume", "ls", "-q"]).lines().count(), 1);
    host.ok(&["rm", "-v", "box"]);
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "");
}
