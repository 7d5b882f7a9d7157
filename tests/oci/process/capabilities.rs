//! `process.capabilities`: the five sets. Those of root are computed anew by execve(2), so what only shows before or
//! without that is looked at through other users.

use serde_json::json;
use tare_tests::oci::{Case, case, kernel};

const CHOWN: u64 = 1 << 0;
const KILL: u64 = 1 << 5;
const NET_BIND_SERVICE: u64 = 1 << 10;
const NET_RAW: u64 = 1 << 13;

fn set(c: &mut Case, sets: &[&str], capabilities: &[&str]) {
    for set in sets {
        c.set(&format!("/process/capabilities/{set}"), json!(capabilities));
    }
}

#[test]
fn bounding_is_exactly_what_was_asked_for() {
    case(|c| {
        set(c, &["bounding"], &["CAP_CHOWN", "CAP_NET_RAW"]);
        let pid = c.sleeper();
        assert_eq!(kernel::capabilities(pid, "CapBnd"), CHOWN | NET_RAW);
    });
}

#[test]
fn root_has_what_is_in_bounding() {
    case(|c| {
        set(c, &["bounding", "effective", "permitted"], &["CAP_CHOWN", "CAP_KILL"]);
        let pid = c.sleeper();
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(kernel::capabilities(pid, set), CHOWN | KILL, "{set}");
        }
    });
}

#[test]
fn inheritable_is_exactly_what_was_asked_for() {
    case(|c| {
        set(c, &["bounding", "permitted"], &["CAP_CHOWN", "CAP_NET_RAW"]);
        set(c, &["inheritable"], &["CAP_NET_RAW"]);
        let pid = c.sleeper();
        assert_eq!(kernel::capabilities(pid, "CapInh"), NET_RAW);
    });
}

#[test]
fn nothing_is_inheritable_unless_asked_for() {
    case(|c| {
        set(c, &["bounding", "permitted", "effective"], &["CAP_CHOWN", "CAP_NET_RAW"]);
        let pid = c.sleeper();
        assert_eq!(kernel::capabilities(pid, "CapInh"), 0);
        assert_eq!(kernel::capabilities(pid, "CapAmb"), 0);
    });
}

#[test]
fn ambient_ones_are_held_by_another_user() {
    case(|c| {
        set(c, &["bounding", "permitted", "effective", "inheritable"], &["CAP_NET_BIND_SERVICE", "CAP_CHOWN"]);
        set(c, &["ambient"], &["CAP_NET_BIND_SERVICE"]);
        c.set("/process/user/uid", 33);
        let pid = c.sleeper();
        for set in ["CapAmb", "CapPrm", "CapEff"] {
            assert_eq!(kernel::capabilities(pid, set), NET_BIND_SERVICE, "{set}");
        }
    });
}

#[test]
fn ambient_ones_work() {
    case(|c| {
        std::fs::write(c.inside("/etc/mine"), "").unwrap();
        set(c, &["bounding", "permitted", "effective", "inheritable", "ambient"], &["CAP_CHOWN"]);
        c.set("/process/user/uid", 33);
        assert_eq!(c.sh("chown 44:45 /etc/mine; stat -c %u:%g /etc/mine"), "44:45");
    });
}

#[test]
fn another_user_has_none_without_ambient() {
    case(|c| {
        set(c, &["bounding", "permitted", "effective", "inheritable"], &["CAP_CHOWN"]);
        c.set("/process/user/uid", 33);
        let pid = c.sleeper();
        assert_eq!(kernel::capabilities(pid, "CapEff"), 0);
        assert_eq!(kernel::capabilities(pid, "CapPrm"), 0);
        assert_eq!(kernel::capabilities(pid, "CapBnd"), CHOWN);
    });
}

/// A program that only those who may search every directory can reach.
fn program_out_of_reach(c: &mut Case) {
    std::fs::copy(c.inside("/bin/busybox"), c.inside("/root/busybox")).unwrap();
    c.set("/process/user/uid", 33).args(&["/root/busybox", "id", "-u"]);
}

#[test]
fn effective_ones_hold_until_the_program_is_executed() {
    case(|c| {
        program_out_of_reach(c);
        set(c, &["bounding", "permitted", "effective"], &["CAP_DAC_READ_SEARCH"]);
        let out = c.run();
        assert_eq!((out.code, out.stdout.as_str()), (0, "33\n"), "{}", out.stderr);
    });
}

#[test]
fn permitted_without_effective_does_not_help_to_find_the_program() {
    case(|c| {
        program_out_of_reach(c);
        set(c, &["bounding", "permitted"], &["CAP_DAC_READ_SEARCH"]);
        let out = c.run();
        assert!(out.code != 0 && out.stdout.is_empty(), "{out:?}");
        assert!(out.stderr.to_lowercase().contains("permission denied"), "{}", out.stderr);
    });
}

#[test]
fn there_are_none_without_the_field() {
    case(|c| {
        let pid = c.sleeper();
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(kernel::capabilities(pid, set), 0, "{set}");
        }
    });
}

#[test]
fn a_name_that_nobody_knows_is_left_out() {
    case(|c| {
        set(c, &["bounding", "permitted", "effective"], &["CAP_CHOWN", "CAP_NO_SUCH_THING"]);
        let pid = c.sleeper();
        assert_eq!(kernel::capabilities(pid, "CapBnd"), CHOWN);
    });
}

#[test]
fn all_that_this_host_has_can_be_given() {
    case(|c| {
        let last: u32 = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap().trim().parse().unwrap();
        let names = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE \
                     NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT \
                     SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE \
                     AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ \
                     PERFMON BPF CHECKPOINT_RESTORE";
        let own = kernel::capabilities(i32::try_from(std::process::id()).unwrap(), "CapBnd");
        let held = |n: &usize| own & 1 << n != 0;
        let names: Vec<String> = names.split_whitespace().map(|n| format!("CAP_{n}")).collect();
        assert_eq!(names.len(), last as usize + 1, "this kernel has others");
        let list: Vec<&str> = (0..names.len()).filter(held).map(|n| names[n].as_str()).collect();
        set(c, &["bounding", "permitted", "effective", "inheritable"], &list);
        let pid = c.sleeper();
        for set in ["CapBnd", "CapPrm", "CapEff", "CapInh"] {
            assert_eq!(kernel::capabilities(pid, set), own, "{set}");
        }
    });
}

#[test]
fn one_that_the_runtime_lacks_is_left_out() {
    case(|c| {
        let own = kernel::capabilities(i32::try_from(std::process::id()).unwrap(), "CapBnd");
        if own & 1 << 24 != 0 {
            // Nothing is missing here: what root has is given.
            set(c, &["bounding", "permitted", "effective"], &["CAP_CHOWN", "CAP_SYS_RESOURCE"]);
            let pid = c.sleeper();
            assert_eq!(kernel::capabilities(pid, "CapBnd"), CHOWN | 1 << 24);
            return;
        }
        set(c, &["bounding", "permitted", "effective"], &["CAP_CHOWN", "CAP_SYS_RESOURCE"]);
        let pid = c.sleeper();
        assert_eq!(kernel::capabilities(pid, "CapBnd"), CHOWN);
    });
}
