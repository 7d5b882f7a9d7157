//! `process.apparmorProfile`, `process.selinuxLabel` and `linux.mountLabel`: where the kernel has none of it, asking for
//! it is an error.

use std::path::Path;
use tare_tests::oci::case;

pub(super) fn has_apparmor() -> bool {
    Path::new("/sys/module/apparmor/parameters/enabled").exists() && Path::new("/proc/self/attr/apparmor").exists()
}

fn has_selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

#[test]
fn a_profile_that_cannot_be_had_is_refused() {
    case(|c| {
        let said = c.set("/process/apparmorProfile", "no-such-profile").refused();
        assert!(said.to_lowercase().contains("apparmor"), "{said}");
        assert!(!has_apparmor() || said.contains("no-such-profile"), "{said}");
    });
}

#[test]
fn a_process_label_that_cannot_be_had_is_refused() {
    case(|c| {
        let said = c.set("/process/selinuxLabel", "no:such:label:s0").refused();
        assert!(said.to_lowercase().contains("selinux") || has_selinux(), "{said}");
    });
}

#[test]
fn a_mount_label_that_cannot_be_had_is_refused() {
    case(|c| {
        let said = c.set("/linux/mountLabel", "no:such:label:s0").refused();
        assert!(said.to_lowercase().contains("selinux") || said.contains("no:such:label:s0"), "{said}");
    });
}
