//! Options of a mount that have an effect on it alone.

use tare_tests::oci::{case, kernel};

/// One case for each option: what mountinfo must show at a tmpfs with it.
macro_rules! shown {
    ($($case:ident: [$($option:literal),+] $($has:literal)*, not $($not:literal)*;)*) => {$(
        #[test]
        fn $case() {
            case(|c| {
                c.mount("/m", "tmpfs", "tmpfs", &[$($option),+]);
                let pid = c.sleeper();
                let mount = kernel::mount(pid, "/m");
                let has = |option: &str| mount.has(option) || mount.has_data(option);
                $(assert!(has($has), "{} is missing: {mount:?}", $has);)*
                $(assert!(!has($not), "{} is there: {mount:?}", $not);)*
            });
        }
    )*};
}

shown! {
    ro: ["ro"] "ro", not;
    rw: ["rw"] "rw", not "ro";
    nosuid: ["nosuid"] "nosuid", not "nodev";
    suid_takes_nosuid_back: ["nosuid", "suid"], not "nosuid";
    nodev: ["nodev"] "nodev", not "nosuid";
    dev_takes_nodev_back: ["nodev", "dev"], not "nodev";
    noexec: ["noexec"] "noexec", not;
    exec_takes_noexec_back: ["noexec", "exec"], not "noexec";
    noatime: ["noatime"] "noatime", not "relatime";
    atime_takes_noatime_back: ["noatime", "atime"], not "noatime";
    nodiratime: ["nodiratime"] "nodiratime", not;
    diratime_takes_nodiratime_back: ["nodiratime", "diratime"], not "nodiratime";
    relatime: ["relatime"] "relatime", not "noatime";
    strictatime: ["strictatime"], not "relatime" "noatime";
    sync: ["sync"] "sync", not;
    async_takes_sync_back: ["sync", "async"], not "sync";
    dirsync: ["dirsync"] "dirsync", not;
    nosymfollow: ["nosymfollow"] "nosymfollow", not;
    lazytime: ["lazytime"] "lazytime", not;
    defaults_are_no_option: ["defaults"] "rw", not "nosuid" "nodev" "noexec";
    several_at_once: ["nosuid", "nodev", "noexec", "ro"] "nosuid" "nodev" "noexec" "ro", not;
    the_last_of_two_holds: ["ro", "rw"], not "ro";
    size_is_the_file_systems: ["size=128k"] "size=128k", not;
    mode_is_the_file_systems: ["mode=711"] "mode=711", not;
    owner_is_the_file_systems: ["uid=33", "gid=34"] "uid=33" "gid=34", not;
    inodes_are_the_file_systems: ["nr_inodes=99"] "nr_inodes=99", not;
}

#[test]
fn what_is_read_only_takes_nothing() {
    case(|c| {
        c.mount("/m", "tmpfs", "tmpfs", &["ro"]);
        let out = c.sh("echo x 2>&1 > /m/f; echo $?");
        assert!(out.contains("Read-only file system"), "{out}");
    });
}

#[test]
fn what_is_noexec_runs_nothing() {
    case(|c| {
        c.mount("/m", "tmpfs", "tmpfs", &["noexec"]);
        let out = c.sh("cp /bin/busybox /m/busybox; /m/busybox true 2>&1; echo $?");
        assert!(out.contains("Permission denied") && out.ends_with("126"), "{out}");
    });
}

#[test]
fn what_is_nodev_opens_no_devices() {
    case(|c| {
        c.set("/process/capabilities/bounding", vec!["CAP_MKNOD"]);
        c.set("/process/capabilities/permitted", vec!["CAP_MKNOD"]);
        c.mount("/m", "tmpfs", "tmpfs", &["nodev"]).mount("/n", "tmpfs", "tmpfs", &[]);
        let out = c.sh("mknod /n/null c 1 3; mknod /m/null c 1 3; cat /n/null && echo opened; cat /m/null 2>&1; true");
        assert!(out.starts_with("opened\n") && out.contains("Permission denied"), "{out}");
    });
}

#[test]
fn what_is_nosuid_changes_no_user() {
    case(|c| {
        std::fs::create_dir(c.path("source")).unwrap();
        std::fs::copy(c.inside("/bin/busybox"), c.path("source/su")).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
        std::fs::set_permissions(c.path("source/su"), mode).unwrap();
        let source = c.path("source");
        c.bind("/m", &source, &["nosuid"]).bind("/n", &source, &[]).set("/process/user/uid", 33);
        // This applet refuses to work where it is not root by then.
        let script = "for d in m n; do /$d/su < /dev/null 2>&1 | grep -c 'must be suid'; done; true";
        assert_eq!(c.sh(script), "1\n0");
    });
}

#[test]
fn what_is_nosymfollow_follows_no_links() {
    case(|c| {
        c.mount("/m", "tmpfs", "tmpfs", &["nosymfollow"]);
        let out = c.sh("ln -s /etc/passwd /m/link; readlink /m/link; cat /m/link 2>&1; true");
        assert!(out.starts_with("/etc/passwd\n") && out.contains("Too many levels"), "{out}");
    });
}

#[test]
fn what_has_a_size_is_full_beyond_it() {
    case(|c| {
        c.mount("/m", "tmpfs", "tmpfs", &["size=64k"]);
        let out = c.sh("dd if=/dev/zero of=/m/f bs=1k count=100 2>/dev/null; stat -c %s /m/f");
        assert_eq!(out, "65536");
    });
}

#[test]
fn an_option_that_the_file_system_does_not_know_is_refused() {
    case(|c| {
        let said = c.mount("/m", "tmpfs", "tmpfs", &["no_such_option"]).refused();
        assert!(said.contains("no_such_option") || said.contains("/m"), "{said}");
    });
}

#[test]
fn a_type_that_the_kernel_does_not_know_is_refused() {
    case(|c| {
        let said = c.mount("/m", "nosuchfs", "none", &[]).refused();
        assert!(said.contains("nosuchfs") || said.contains("/m"), "{said}");
    });
}

#[test]
fn source_is_what_the_kernel_shows() {
    case(|c| {
        let pid = c.mount("/m", "tmpfs", "some-source", &[]).sleeper();
        assert_eq!(kernel::mount(pid, "/m").source, "some-source");
    });
}

#[test]
fn a_remount_changes_what_is_there() {
    case(|c| {
        c.mount("/m", "tmpfs", "tmpfs", &["mode=700"]).mount("/m", "tmpfs", "tmpfs", &["remount", "ro", "nosuid"]);
        let pid = c.sleeper();
        let all = kernel::mounts(pid);
        let there: Vec<_> = all.iter().filter(|m| m.at == "/m").collect();
        assert_eq!(there.len(), 1, "{there:#?}");
        assert!(there[0].has("nosuid"), "{there:#?}");
        assert!(c.exec_sh("touch /m/x 2>&1; true").contains("Read-only"), "{there:#?}");
    });
}
