//! Identities assumed by threads of the test, as the kernel sees them afterwards.

use super::*;
use crate::plan::IdentityPlan;
use crate::security::seccomp::compile;
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::collections::BTreeMap;
use tare_model::runtime_spec::{LinuxSeccomp, LinuxSyscall};

const KILL: u64 = 1 << 5;
const SETUID: u64 = 1 << 7;

fn plan() -> IdentityPlan {
    let capabilities = Capabilities {
        bounding: KILL | SETUID,
        effective: KILL,
        permitted: KILL | SETUID,
        inheritable: KILL,
        ambient: KILL,
    };
    IdentityPlan {
        uid: 4711,
        gid: 4712,
        groups: vec![4713, 4714],
        umask: Some(0o027),
        capabilities,
        no_new_privileges: false,
    }
}

/// Everything but these calls is allowed; these end as `action` says.
fn refusing(names: &[&str], action: &str) -> LinuxSeccomp {
    LinuxSeccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        listener_path: Some("/run/agent".into()),
        syscalls: vec![LinuxSyscall {
            names: names.iter().map(|&n| n.to_owned()).collect(),
            action: action.into(),
            ..LinuxSyscall::default()
        }],
        ..LinuxSeccomp::default()
    }
}

fn pair() -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

/// All that was reported before the other end was dropped.
fn said(ours: &OwnedFd) -> String {
    let (mut all, mut packet) = (Vec::new(), [0; 4096]);
    while let Ok(n @ 1..) = rustix::io::read(ours, &mut packet) {
        all.extend_from_slice(&packet[..n]);
    }
    String::from_utf8(all).unwrap()
}

/// Capabilities and the rest belong to the thread. Its status afterwards, by name, and what it reported.
fn assumed(plan: &IdentityPlan, filter: Option<&LinuxSeccomp>) -> (BTreeMap<String, String>, String) {
    let identity = Identity::new(plan);
    let filter = filter.map(|f| compile(f).unwrap());
    let (ours, theirs) = pair();
    let status = std::thread::spawn(move || {
        identity.assume(filter.as_ref(), Reporter(theirs.as_fd()), || Ok(())).unwrap();
        std::fs::read_to_string("/proc/thread-self/status").unwrap()
    })
    .join()
    .unwrap();
    let said = said(&ours);
    let line = |l: &str| l.split_once(':').map(|(k, v)| (k.to_owned(), v.trim().to_owned()));
    (status.lines().filter_map(line).collect(), said)
}

fn mask(n: u64) -> String {
    format!("{n:016x}")
}

#[test]
fn the_kernel_sees_what_was_planned() {
    let (status, said) = assumed(&plan(), Some(&refusing(&["getpgrp"], "SCMP_ACT_ERRNO")));
    assert_eq!(status["Uid"], "4711\t4711\t4711\t4711");
    assert_eq!(status["Gid"], "4712\t4712\t4712\t4712");
    assert_eq!(status["Groups"], "4713 4714");
    assert_eq!(status["Umask"], "0027");
    // CAP_SYS_ADMIN, which loading the filter took, is gone.
    let sets = ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"].map(|k| status[k].clone());
    assert_eq!(sets, [KILL | SETUID, KILL | SETUID, KILL, KILL, KILL].map(mask));
    assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("0", "2"));
    assert_eq!(said, "");
}

#[test]
fn root_without_capabilities_has_none() {
    let root = IdentityPlan {
        uid: 0,
        gid: 0,
        groups: Vec::new(),
        capabilities: Capabilities::default(),
        umask: None,
        ..plan()
    };
    let (status, _) = assumed(&root, None);
    for set in ["CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb"] {
        assert_eq!(status[set], mask(0), "{set}");
    }
    assert_eq!((status["Umask"].as_str(), status["Groups"].as_str(), status["Seccomp"].as_str()), ("0022", "", "0"));
}

#[test]
fn a_filter_meets_no_calls_of_ours_but_the_last() {
    let ours =
        ["setgroups", "setresuid", "setresgid", "prctl", "umask", "openat2", "fchdir", "chdir", "setrlimit", "keyctl"];
    let (status, _) = assumed(&plan(), Some(&refusing(&ours, "SCMP_ACT_KILL_PROCESS")));
    assert_eq!(status["Uid"], "4711\t4711\t4711\t4711");
    let mut strict = plan();
    strict.no_new_privileges = true;
    let all = [&ours[..], &["capset", "capget", "sendmsg", "sendto"]].concat();
    let (status, _) = assumed(&strict, Some(&refusing(&all, "SCMP_ACT_KILL_PROCESS")));
    assert_eq!((status["NoNewPrivs"].as_str(), status["Seccomp"].as_str()), ("1", "2"));
}

#[test]
fn what_root_lacks_is_left_out_with_a_warning() {
    let (ours, theirs) = pair();
    let identity = Identity::new(&plan());
    std::thread::spawn(move || {
        let less = capability::get().unwrap().permitted.without(Set(KILL));
        capability::set(less, less, Set::EMPTY).unwrap();
        identity.assume(None, Reporter(theirs.as_fd()), || Ok(())).unwrap();
        let sets = capability::get().unwrap();
        assert_eq!((sets.permitted, sets.effective, capability::ambient()), (Set(SETUID), Set::EMPTY, Set::EMPTY));
    })
    .join()
    .unwrap();
    assert!(said(&ours).contains("CAP_KILL was left out"));
}

#[test]
fn a_limit_that_may_not_be_raised_stays_with_a_warning() {
    let (ours, theirs) = pair();
    let limit = |soft, hard| Limit::all(&[PosixRlimit { kind: "RLIMIT_NOFILE".into(), soft, hard }]).unwrap().remove(0);
    let has = || rustix::process::getrlimit(Resource::Nofile);
    limit(64, 128).set(Reporter(theirs.as_fd())).unwrap();
    assert_eq!((has().current, has().maximum), (Some(64), Some(128)));
    // Whoever may raise limits does not get here.
    let without = capability::get().unwrap().permitted.without(Set::of(&[24]));
    capability::set(without, without, Set::EMPTY).unwrap();
    limit(256, 512).set(Reporter(theirs.as_fd())).unwrap();
    assert_eq!((has().current, has().maximum), (Some(128), Some(128)));
    drop(theirs);
    let said = said(&ours);
    assert!(said.contains("RLIMIT_NOFILE was lowered to 128"), "{said}");
}

#[test]
fn the_listener_gets_the_descriptor_and_the_state() {
    use crate::launch::listener::{self, Listener};
    let path = std::env::temp_dir().join(format!("tare-listener-{}", std::process::id()));
    let agent = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let state = serde_json::json!({ "id": "c1", "status": "created" });
    let connection = Listener::connect(path.to_str().unwrap(), Some("meta"), 42, state).unwrap();
    std::fs::remove_file(&path).unwrap();
    let (ours, theirs) = pair();
    let identity = Identity::new(&plan());
    let filter = compile(&refusing(&["getpgrp"], "SCMP_ACT_NOTIFY")).unwrap();
    std::thread::spawn(move || identity.assume(Some(&filter), Reporter(theirs.as_fd()), || Ok(())).unwrap())
        .join()
        .unwrap();
    let mut buffer = [0; 64];
    let (n, notify) = listener::receive(&ours, &mut buffer).unwrap();
    assert_eq!(&buffer[..n], listener::PACKET);
    listener::deliver(Some(connection), notify.unwrap()).unwrap();

    let accepted = OwnedFd::from(agent.accept().unwrap().0);
    let mut text = [0; 1024];
    let (n, notify) = listener::receive(&accepted, &mut text).unwrap();
    let got: serde_json::Value = serde_json::from_slice(&text[..n]).unwrap();
    assert_eq!((got["pid"].as_i64(), got["metadata"].as_str()), (Some(42), Some("meta")));
    assert_eq!((&got["fds"][0], &got["state"]["id"]), (&"seccompFd".into(), &"c1".into()));
    let notify = notify.unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&notify);
    let kind = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
    assert!(kind.to_string_lossy().contains("seccomp"), "{kind:?}");
    assert_eq!(listener::receive(&accepted, &mut text).unwrap().0, 0, "one state for each connection");
}
