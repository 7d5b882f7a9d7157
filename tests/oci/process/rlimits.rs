//! `process.rlimits`: every kind, and what is wrong.

use serde_json::json;
use tare_tests::oci::{Case, case, kernel};

fn limit(c: &mut Case, kind: &str, soft: u64, hard: u64) {
    c.set("/process/rlimits/-", json!({ "type": kind, "soft": soft, "hard": hard }));
}

/// One case for each kind: its name in the specification, in /proc/PID/limits, a soft and a hard limit.
macro_rules! kinds {
    ($($case:ident: $kind:literal $shown:literal $soft:literal $hard:literal;)*) => {$(
        #[test]
        fn $case() {
            case(|c| {
                limit(c, $kind, $soft, $hard);
                let pid = c.sleeper();
                let expected = (u64::to_string(&$soft), u64::to_string(&$hard));
                assert_eq!(kernel::limit(pid, $shown), expected);
            });
        }
    )*};
}

kinds! {
    address_space: "RLIMIT_AS" "Max address space" 1073741824 2147483648;
    core: "RLIMIT_CORE" "Max core file size" 1024 2048;
    cpu: "RLIMIT_CPU" "Max cpu time" 100 200;
    data: "RLIMIT_DATA" "Max data size" 1073741824 2147483648;
    file_size: "RLIMIT_FSIZE" "Max file size" 1048576 2097152;
    locks: "RLIMIT_LOCKS" "Max file locks" 11 12;
    locked_memory: "RLIMIT_MEMLOCK" "Max locked memory" 4096 8192;
    message_queues: "RLIMIT_MSGQUEUE" "Max msgqueue size" 1000 2000;
    nice: "RLIMIT_NICE" "Max nice priority" 0 0;
    open_files: "RLIMIT_NOFILE" "Max open files" 100 200;
    processes: "RLIMIT_NPROC" "Max processes" 1000 2000;
    resident_set: "RLIMIT_RSS" "Max resident set" 4096 8192;
    realtime_priority: "RLIMIT_RTPRIO" "Max realtime priority" 0 0;
    realtime_time: "RLIMIT_RTTIME" "Max realtime timeout" 1000 2000;
    pending_signals: "RLIMIT_SIGPENDING" "Max pending signals" 50 60;
    stack: "RLIMIT_STACK" "Max stack size" 1048576 2097152;
}

#[test]
fn several_kinds_are_set_together() {
    case(|c| {
        limit(c, "RLIMIT_NOFILE", 64, 128);
        limit(c, "RLIMIT_CORE", 0, 0);
        let pid = c.sleeper();
        assert_eq!(kernel::limit(pid, "Max open files"), ("64".to_owned(), "128".to_owned()));
        assert_eq!(kernel::limit(pid, "Max core file size"), ("0".to_owned(), "0".to_owned()));
    });
}

#[test]
fn all_bits_stand_for_no_limit() {
    case(|c| {
        limit(c, "RLIMIT_CPU", 77, u64::MAX);
        let pid = c.sleeper();
        assert_eq!(kernel::limit(pid, "Max cpu time"), ("77".to_owned(), "unlimited".to_owned()));
    });
}

#[test]
fn a_limit_is_felt() {
    case(|c| {
        limit(c, "RLIMIT_FSIZE", 1000, 1000);
        assert_eq!(
            c.sh("trap '' XFSZ; dd if=/dev/zero of=/tmp/f bs=100 count=50 2>/dev/null; stat -c %s /tmp/f"),
            "1000"
        );
    });
}

#[test]
fn what_is_not_named_stays_the_runtimes() {
    case(|c| {
        limit(c, "RLIMIT_CORE", 0, 0);
        let own = kernel::limit(i32::try_from(std::process::id()).unwrap(), "Max pending signals");
        let pid = c.sleeper();
        assert_eq!(kernel::limit(pid, "Max pending signals"), own);
    });
}

#[test]
fn an_unknown_kind_is_refused() {
    case(|c| {
        limit(c, "RLIMIT_NO_SUCH_THING", 1, 1);
        let said = c.refused();
        assert!(said.contains("RLIMIT_NO_SUCH_THING"), "{said}");
    });
}

#[test]
fn the_same_kind_twice_is_refused() {
    case(|c| {
        limit(c, "RLIMIT_NOFILE", 100, 200);
        limit(c, "RLIMIT_NOFILE", 100, 300);
        let said = c.refused();
        assert!(said.contains("RLIMIT_NOFILE"), "{said}");
    });
}

#[test]
fn a_soft_limit_above_the_hard_one_is_refused() {
    case(|c| {
        limit(c, "RLIMIT_NOFILE", 300, 200);
        let said = c.refused();
        assert!(said.to_lowercase().contains("rlimit"), "{said}");
    });
}

#[test]
fn a_limit_that_may_not_be_raised_leaves_the_container_with_what_there_is() {
    case(|c| {
        let me = i32::try_from(std::process::id()).unwrap();
        let may = kernel::capabilities(me, "CapEff") & 1 << 24 != 0;
        let (_, own) = kernel::limit(me, "Max open files");
        let wanted = own.parse::<u64>().unwrap() + 1;
        // Nobody gets more than this.
        let most = std::fs::read_to_string("/proc/sys/fs/nr_open").unwrap();
        let may = may && wanted <= most.trim().parse().unwrap();
        limit(c, "RLIMIT_NOFILE", wanted, wanted);
        let pid = c.args(&["/bin/sleep", "1000"]).create();
        let started = c.oci(&["start", c.id()]);
        assert_eq!(started.code, 0, "{}", started.stderr);
        c.until("the program runs", || kernel::proc(pid, "cmdline").contains("1000"));
        let expected = if may { wanted.to_string() } else { own };
        assert_eq!(kernel::limit(pid, "Max open files"), (expected.clone(), expected));
        let said = c.output().1 + &started.stderr;
        assert!(may || said.contains("RLIMIT_NOFILE"), "it is said: {said}");
    });
}
