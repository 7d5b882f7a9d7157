//! Recursive attributes of mounts: what is mounted below the source has them, too.

use tare_tests::oci::{Case, case, kernel};

/// Options of a recursive bind mount and of what is mounted below it, which has `first` on the host.
fn bound(c: &mut Case, first: &str, options: &[&str]) -> [kernel::Mount; 2] {
    std::fs::create_dir(c.path("source")).unwrap();
    let source = c.path("source").display().to_string();
    c.before(&format!(
        "mount -t tmpfs tmpfs {source}; mkdir {source}/below; mount -t tmpfs below {source}/below; \
         mount -o remount,bind,{first} {source}; mount -o remount,bind,{first} {source}/below"
    ));
    c.mount("/m", "bind", c.path("source"), &[&["rbind"], options].concat());
    let pid = c.sleeper();
    [kernel::mount(pid, "/m"), kernel::mount(pid, "/m/below")]
}

/// One case for each attribute: options of the source, the attribute, what both mounts have and have not.
macro_rules! attributes {
    ($($case:ident: $first:literal $option:literal, $($has:literal)*, not $($not:literal)*;)*) => {$(
        #[test]
        fn $case() {
            case(|c| {
                for mount in bound(c, $first, &[$option]) {
                    $(assert!(mount.has($has), "{}: {mount:?}", $has);)*
                    $(assert!(!mount.has($not), "not {}: {mount:?}", $not);)*
                }
            });
        }
    )*};
}

attributes! {
    rro: "rw" "rro", "ro", not "rw";
    rrw: "ro" "rrw", "rw", not "ro";
    rnosuid: "rw" "rnosuid", "nosuid", not;
    rsuid: "nosuid" "rsuid", , not "nosuid";
    rnodev: "rw" "rnodev", "nodev", not;
    rdev: "nodev" "rdev", , not "nodev";
    rnoexec: "rw" "rnoexec", "noexec", not;
    rexec: "noexec" "rexec", , not "noexec";
    rnodiratime: "rw" "rnodiratime", "nodiratime", not;
    rdiratime: "nodiratime" "rdiratime", , not "nodiratime";
    rnoatime: "rw" "rnoatime", "noatime", not "relatime";
    rrelatime: "noatime" "rrelatime", "relatime", not "noatime";
    ratime: "noatime" "ratime", , not "noatime";
    rstrictatime: "rw" "rstrictatime", , not "relatime" "noatime";
    rnosymfollow: "rw" "rnosymfollow", "nosymfollow", not;
    rsymfollow: "nosymfollow" "rsymfollow", , not "nosymfollow";
}

#[test]
fn several_attributes_at_once() {
    case(|c| {
        for mount in bound(c, "rw", &["rro", "rnosuid", "rnodev", "rnoexec"]) {
            for option in ["ro", "nosuid", "nodev", "noexec"] {
                assert!(mount.has(option), "{option}: {mount:?}");
            }
        }
    });
}

#[test]
fn what_is_below_takes_nothing_either() {
    case(|c| {
        bound(c, "rw", &["rro"]);
        let out = c.exec_sh("touch /m/x 2>&1; touch /m/below/x 2>&1; true");
        assert_eq!(out.matches("Read-only file system").count(), 2, "{out}");
    });
}
