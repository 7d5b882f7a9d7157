//! Propagation of mounts and of the root. The runtime is run in a mount namespace whose mounts are shared, as systemd makes
//! them, so that what comes through can be seen.

use tare_tests::oci::{Case, case, kernel};

/// A tmpfs of the runtime's mount namespace that is shared, as the source of a bind mount with this option.
fn bound(c: &mut Case, options: &[&str]) -> kernel::Mount {
    std::fs::create_dir(c.path("source")).unwrap();
    let source = c.path("source").display().to_string();
    c.before(&format!("mount -t tmpfs tmpfs {source}; mount --make-shared {source}; mkdir {source}/below; mount -t tmpfs below {source}/below"));
    // Without it some runtimes cut every tie to the host before anything is mounted.
    c.set("/linux/rootfsPropagation", "rslave");
    c.mount("/m", "bind", c.path("source"), options);
    let pid = c.sleeper();
    kernel::mount(pid, "/m")
}

fn below(c: &Case) -> String {
    c.exec_sh("grep ' /m/below ' /proc/self/mountinfo | grep -oE 'shared|master|unbindable' | tr '\\n' ' '")
        .trim()
        .to_owned()
}

#[test]
fn private() {
    case(|c| assert_eq!(bound(c, &["rbind", "private"]).propagation(), "private"));
}

#[test]
fn shared() {
    // It may be the host's slave at the same time.
    case(|c| assert!(bound(c, &["rbind", "shared"]).propagation().starts_with("shared")));
}

#[test]
fn slave() {
    case(|c| assert_eq!(bound(c, &["rbind", "slave"]).propagation(), "slave"));
}

#[test]
fn unbindable() {
    case(|c| assert_eq!(bound(c, &["bind", "unbindable"]).propagation(), "unbindable"));
}

#[test]
fn rprivate_reaches_what_is_below() {
    case(|c| {
        assert_eq!(bound(c, &["rbind", "rprivate"]).propagation(), "private");
        assert_eq!(below(c), "");
    });
}

#[test]
fn rshared_reaches_what_is_below() {
    case(|c| {
        assert!(bound(c, &["rbind", "rshared"]).propagation().starts_with("shared"));
        assert!(below(c).starts_with("shared"), "{}", below(c));
    });
}

#[test]
fn rslave_reaches_what_is_below() {
    case(|c| {
        assert_eq!(bound(c, &["rbind", "rslave"]).propagation(), "slave");
        assert_eq!(below(c), "master");
    });
}

#[test]
fn runbindable_reaches_what_is_below() {
    case(|c| {
        assert_eq!(bound(c, &["rbind", "runbindable"]).propagation(), "unbindable");
        assert_eq!(below(c), "unbindable");
    });
}

#[test]
fn nothing_comes_through_unless_asked_for() {
    case(|c| {
        let mount = bound(c, &["rbind"]);
        assert!(["private", "slave"].contains(&mount.propagation().as_str()), "{mount:?}");
    });
}

#[test]
fn a_file_system_can_be_shared_with_what_the_container_mounts() {
    case(|c| {
        let pid = c.mount("/m", "tmpfs", "tmpfs", &["shared"]).sleeper();
        assert_eq!(kernel::mount(pid, "/m").propagation(), "shared");
    });
}

/// Propagation of a container's root.
fn root(c: &mut Case, propagation: &str) -> String {
    let bundle = c.bundle();
    c.before(&format!("mount --bind {bundle} {bundle}; mount --make-shared {bundle}"));
    let pid = c.set("/linux/rootfsPropagation", propagation).sleeper();
    kernel::mount(pid, "/").propagation()
}

#[test]
fn the_root_can_be_private() {
    case(|c| assert_eq!(root(c, "private"), "private"));
}

#[test]
fn the_root_can_be_a_slave() {
    // A root that was bound from a private mount has no master.
    case(|c| assert!(["slave", "private"].contains(&root(c, "slave").as_str())));
}

#[test]
fn the_root_can_be_shared() {
    case(|c| assert_eq!(root(c, "shared"), "shared"));
}

#[test]
fn the_root_can_be_unbindable() {
    case(|c| assert_eq!(root(c, "unbindable"), "unbindable"));
}

#[test]
fn the_recursive_names_mean_the_same_root() {
    case(|c| assert_eq!(root(c, "rshared"), "shared"));
}

#[test]
fn an_unknown_propagation_is_refused() {
    case(|c| {
        let said = c.set("/linux/rootfsPropagation", "no-such-thing").refused();
        assert!(said.contains("no-such-thing"), "{said}");
    });
}

#[test]
fn nothing_goes_from_the_container_to_the_host() {
    case(|c| {
        c.set("/process/capabilities/bounding", vec!["CAP_SYS_ADMIN"]);
        c.set("/process/capabilities/permitted", vec!["CAP_SYS_ADMIN"]);
        let bundle = c.bundle();
        c.before(&format!("mount --bind {bundle} {bundle}; mount --make-shared {bundle}"));
        c.set("/linux/rootfsPropagation", "rslave").sleeper();
        assert_eq!(c.exec_sh("mount -t tmpfs tmpfs /mnt && grep -c ' /mnt ' /proc/self/mountinfo"), "1");
        assert_eq!(c.beside(&format!("grep -c {bundle}/rootfs/mnt /proc/self/mountinfo; true")), "0");
    });
}

/// A shared tmpfs of the host as the source of /m, with a directory `late` in it.
fn shared_source(c: &mut Case, option: &str) -> String {
    for set in ["bounding", "permitted", "effective"] {
        c.set(&format!("/process/capabilities/{set}"), vec!["CAP_SYS_ADMIN"]);
    }
    std::fs::create_dir(c.path("source")).unwrap();
    let source = c.path("source").display().to_string();
    c.before(&format!("mount -t tmpfs tmpfs {source}; mount --make-shared {source}; mkdir {source}/late"));
    c.mount("/m", "bind", &source, &["rbind", option]);
    source
}

#[test]
fn what_the_host_mounts_later_comes_to_a_slave() {
    case(|c| {
        let source = shared_source(c, "rslave");
        c.set("/linux/rootfsPropagation", "rslave").sleeper();
        c.beside(&format!("mount -t tmpfs late {source}/late; touch {source}/late/file"));
        assert_eq!(c.exec_sh("ls /m/late"), "file");
        c.exec_sh("mount -t tmpfs tmpfs /m/late; touch /m/late/inside");
        assert_eq!(c.beside(&format!("ls {source}/late")), "file", "nothing goes back");
    });
}

#[test]
fn what_a_container_mounts_in_a_shared_place_comes_to_the_host() {
    case(|c| {
        let source = shared_source(c, "rshared");
        c.set("/linux/rootfsPropagation", "shared").sleeper();
        c.exec_sh("mount -t tmpfs tmpfs /m/late; touch /m/late/inside");
        assert_eq!(c.beside(&format!("ls {source}/late")), "inside");
    });
}

#[test]
fn what_the_host_mounts_later_does_not_come_to_a_private_place() {
    case(|c| {
        let source = shared_source(c, "rprivate");
        c.set("/linux/rootfsPropagation", "rslave").sleeper();
        c.beside(&format!("mount -t tmpfs late {source}/late; touch {source}/late/file"));
        assert_eq!(c.exec_sh("ls /m/late"), "");
    });
}
