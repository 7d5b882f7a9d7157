//! config.md, "POSIX-platform Hooks": when they run, where, with what, and what becomes of their failures.

use serde_json::{Value, json};
use tare_tests::oci::{Case, case, kernel};

const KINDS: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that runs a shell script. Those of the container's own namespaces find the same shell on their way.
fn hook(c: &mut Case, kind: &str, script: &str) {
    // startContainer is looked up in the container, the others on the host.
    let shell = if kind == "startContainer" { "/bin/sh" } else { "/bin/busybox" };
    let hook = json!({ "path": shell, "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"] });
    c.set(&format!("/hooks/{kind}/-"), hook);
}

/// Has a hook leave its standard input and namespaces in files of the bundle. What startContainer writes goes into the
/// container's own root, since it sees no other.
fn recorded(c: &mut Case, kind: &str) {
    let to = if kind == "startContainer" { "/seen".to_owned() } else { c.path(kind).display().to_string() };
    let script = format!("cat > {to}; for n in mnt pid net uts ipc; do readlink /proc/self/ns/$n; done > {to}.ns");
    hook(c, kind, &script);
}

/// What was recorded of a hook: the state, and the namespaces.
fn seen(c: &Case, kind: &str) -> (Value, Vec<String>) {
    let path = if kind == "startContainer" { c.inside("/seen") } else { c.path(kind) };
    let state = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{kind} has not run: {e}"));
    let namespaces = std::fs::read_to_string(path.with_extension("ns")).unwrap();
    (serde_json::from_str(&state).unwrap(), namespaces.lines().map(str::to_owned).collect())
}

fn namespaces(pid: i32) -> Vec<String> {
    ["mnt", "pid", "net", "uts", "ipc"].map(|n| kernel::namespace(pid, n)).to_vec()
}

fn own_namespaces() -> Vec<String> {
    namespaces(i32::try_from(std::process::id()).unwrap())
}

#[test]
fn they_run_in_the_order_of_the_life_cycle() {
    case(|c| {
        c.set("/process/args", json!(["/bin/sh", "-c", "echo program >> /order; exec sleep 1000"]));
        let order = c.inside("/order").display().to_string();
        for kind in KINDS {
            let to = if kind == "startContainer" { "/order" } else { &order };
            for n in 1..=2 {
                hook(c, kind, &format!("echo {kind} {n} >> {to}"));
            }
        }
        let pid = c.create();
        let now = || std::fs::read_to_string(c.inside("/order")).unwrap_or_default().replace('\n', ", ");
        assert_eq!(
            now(),
            "prestart 1, prestart 2, createRuntime 1, createRuntime 2, createContainer 1, createContainer 2, "
        );
        c.start();
        c.until("the program runs", || now().contains("program"));
        let after = now();
        // poststart and what the container does do not wait for each other.
        let parts = |what: &str| after.split(", ").filter(|p| p.starts_with(what)).collect::<Vec<_>>().join(", ");
        assert_eq!(parts("poststart"), "poststart 1, poststart 2");
        assert_eq!(parts("startContainer"), "startContainer 1, startContainer 2");
        assert!(after.find("startContainer 2") < after.find("program"), "{after}");
        assert!(!after.contains("poststop"), "{after}");
        c.ok(&["kill", c.id(), "KILL"]);
        c.wait(pid);
        c.until_status("stopped");
        assert!(!now().contains("poststop"), "{}", now());
        c.ok(&["delete", c.id()]);
        assert!(now().ends_with("poststop 1, poststop 2, "), "{}", now());
    });
}

macro_rules! places {
    ($($case:ident: $kind:literal $inside:literal;)*) => {$(
        #[test]
        fn $case() {
            case(|c| {
                recorded(c, $kind);
                let pid = c.sleeper();
                let inside = namespaces(pid);
                c.ok(&["kill", c.id(), "KILL"]);
                c.wait(pid);
                c.until_status("stopped");
                c.ok(&["delete", c.id()]);
                assert_eq!(seen(c, $kind).1, if $inside { inside } else { own_namespaces() });
            });
        }
    )*};
}

places! {
    prestart_runs_in_the_runtimes_namespaces: "prestart" false;
    create_runtime_runs_in_the_runtimes_namespaces: "createRuntime" false;
    create_container_runs_in_the_containers_namespaces: "createContainer" true;
    start_container_runs_in_the_containers_namespaces: "startContainer" true;
    poststart_runs_in_the_runtimes_namespaces: "poststart" false;
    poststop_runs_in_the_runtimes_namespaces: "poststop" false;
}

#[test]
fn they_are_given_the_state() {
    case(|c| {
        for kind in KINDS {
            recorded(c, kind);
        }
        c.set("/annotations/key", "value");
        let pid = c.sleeper();
        c.ok(&["kill", c.id(), "KILL"]);
        c.wait(pid);
        c.until_status("stopped");
        c.ok(&["delete", c.id()]);
        for (kind, status) in KINDS.iter().zip(["creating", "creating", "creating", "created", "running", "stopped"]) {
            let (state, _) = seen(c, kind);
            assert_eq!(state["id"], c.id(), "{kind}");
            assert_eq!(state["bundle"], c.bundle(), "{kind}");
            assert_eq!(state["annotations"]["key"], "value", "{kind}");
            assert!(state["ociVersion"].is_string(), "{kind}");
            assert_eq!(state["status"], *status, "{kind}");
            if ["prestart", "createRuntime", "poststart"].contains(kind) {
                assert_eq!(state["pid"], pid, "{kind}");
            }
        }
    });
}

#[test]
fn create_container_sees_the_bundle_and_the_mounts_of_the_container() {
    case(|c| {
        // The root is not changed yet: paths are those of the runtime, the mounts are the container's.
        let out = c.path("out").display().to_string();
        let root = c.inside("/").display().to_string();
        let root = root.trim_end_matches('/');
        hook(c, "createContainer", &format!("grep -c ' {root}/proc ' /proc/self/mountinfo > {out}"));
        c.create();
        assert_eq!(std::fs::read_to_string(c.path("out")).unwrap(), "1\n");
    });
}

#[test]
fn what_create_runtime_mounts_in_the_container_is_there() {
    case(|c| {
        let root = c.inside("/mnt").display().to_string();
        let script = format!(
            "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' | tr -dc 0-9); \
             /usr/bin/nsenter --mount=/proc/$pid/ns/mnt mount -t tmpfs from-hook {root}"
        );
        // The state may be on one line or several: make it one.
        let script = script.replace("sed '", "tr '\\n' ' ' | sed '");
        hook(c, "createRuntime", &script);
        assert_eq!(c.sh("grep -c '^from-hook /mnt ' /proc/mounts"), "1");
    });
}

#[test]
fn start_container_is_the_containers_own_program() {
    case(|c| {
        std::fs::copy(c.inside("/bin/busybox"), c.inside("/only-inside")).unwrap();
        std::fs::rename(c.inside("/only-inside"), c.inside("/touch")).unwrap();
        c.set("/hooks/startContainer/-", json!({ "path": "/touch", "args": ["touch", "/by-hook"] }));
        assert_eq!(c.sh("ls /by-hook"), "/by-hook");
    });
}

#[test]
fn args_arrive_as_they_are() {
    case(|c| {
        let out = c.path("out").display().to_string();
        let args = json!(["name", "sh", "-c", format!("printf '%s|' \"$@\" > {out}"), "zero", "", "two words", "*"]);
        c.set("/hooks/createRuntime/-", json!({ "path": "/bin/busybox", "args": args }));
        // busybox looks at its own name first, which is no applet here.
        c.set("/hooks/createRuntime/0/args/0", "busybox");
        c.create();
        assert_eq!(std::fs::read_to_string(c.path("out")).unwrap(), "|two words|*|");
    });
}

#[test]
fn env_is_what_was_given() {
    case(|c| {
        for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
            let out = c.path(kind).display().to_string();
            let args = json!(["busybox", "sh", "-c", format!("env | grep -vE '^(PATH|PWD|SHLVL)=' | sort > {out}")]);
            c.set(&format!("/hooks/{kind}/-"), json!({ "path": "/bin/busybox", "args": args, "env": ["A=b=c", "D="] }));
        }
        let pid = c.sleeper();
        c.ok(&["kill", c.id(), "KILL"]);
        c.wait(pid);
        c.until_status("stopped");
        c.ok(&["delete", c.id()]);
        for kind in ["prestart", "createRuntime", "createContainer", "poststart", "poststop"] {
            assert_eq!(std::fs::read_to_string(c.path(kind)).unwrap(), "A=b=c\nD=\n", "of {kind}");
        }
    });
}

/// One case for each kind that stops a container in the making.
macro_rules! fatal {
    ($($case:ident: $kind:literal;)*) => {$(
        #[test]
        fn $case() {
            case(|c| {
                hook(c, $kind, "echo said by the hook >&2; exit 3");
                let said = c.refused();
                assert!(said.contains("hook") && said.contains('3'), "{said}");
                let state = c.oci(&["state", c.id()]);
                assert!(state.code != 0 || state.stdout.contains("stopped"), "{state:?}");
            });
        }
    )*};
}

fatal! {
    a_failing_prestart_ends_it: "prestart";
    a_failing_create_runtime_ends_it: "createRuntime";
    a_failing_create_container_ends_it: "createContainer";
    a_failing_start_container_ends_it: "startContainer";
}

#[test]
fn after_a_failing_hook_the_next_one_does_not_run() {
    case(|c| {
        let out = c.path("second").display().to_string();
        hook(c, "createRuntime", "exit 1");
        hook(c, "createRuntime", &format!("touch {out}"));
        c.refused();
        assert!(!c.path("second").exists());
    });
}

#[test]
fn what_a_failing_hook_said_is_told() {
    case(|c| {
        hook(c, "createRuntime", "echo the reason of the hook >&2; exit 1");
        let said = c.refused();
        assert!(said.contains("the reason of the hook"), "{said}");
    });
}

#[test]
fn a_failing_poststop_does_not_keep_the_container() {
    case(|c| {
        let out = c.path("second").display().to_string();
        hook(c, "poststop", "exit 1");
        hook(c, "poststop", &format!("touch {out}"));
        let pid = c.sleeper();
        c.ok(&["kill", c.id(), "KILL"]);
        c.wait(pid);
        c.until_status("stopped");
        c.oci(&["delete", c.id()]);
        assert_ne!(c.oci(&["state", c.id()]).code, 0, "it is deleted");
        assert!(c.path("second").exists(), "the next hook has run");
    });
}

#[test]
fn a_program_that_is_missing_is_named() {
    case(|c| {
        c.set("/hooks/createRuntime/-", json!({ "path": "/no/such/hook" }));
        let said = c.refused();
        assert!(said.contains("/no/such/hook"), "{said}");
    });
}

#[test]
fn a_relative_path_is_refused() {
    case(|c| {
        c.set("/hooks/createRuntime/-", json!({ "path": "bin/true" }));
        let said = c.refused();
        assert!(said.contains("bin/true"), "{said}");
    });
}

/// One case for each kind: a hook that takes longer than it may is killed, and that is a failure.
macro_rules! late {
    ($($case:ident: $kind:literal;)*) => {$(
        #[test]
        fn $case() {
            case(|c| {
                hook(c, $kind, "exec sleep 60");
                c.set(&format!("/hooks/{}/0/timeout", $kind), 1);
                let began = std::time::Instant::now();
                c.refused();
                let took = began.elapsed().as_secs();
                assert!((1..30).contains(&took), "{took} s");
            });
        }
    )*};
}

late! {
    a_prestart_that_takes_too_long_is_killed: "prestart";
    a_create_runtime_that_takes_too_long_is_killed: "createRuntime";
    a_create_container_that_takes_too_long_is_killed: "createContainer";
    a_start_container_that_takes_too_long_is_killed: "startContainer";
}

#[test]
fn a_poststart_that_takes_too_long_is_killed() {
    case(|c| {
        hook(c, "poststart", "exec sleep 60");
        c.set("/hooks/poststart/0/timeout", 1).args(&["/bin/true"]);
        c.create();
        let began = std::time::Instant::now();
        c.oci(&["start", c.id()]);
        let took = began.elapsed().as_secs();
        assert!((1..30).contains(&took), "{took} s");
    });
}

#[test]
fn a_poststop_that_takes_too_long_is_killed() {
    case(|c| {
        hook(c, "poststop", "exec sleep 60");
        c.set("/hooks/poststop/0/timeout", 1).args(&["/bin/true"]);
        let pid = c.create();
        c.start();
        c.wait(pid);
        c.until_status("stopped");
        let began = std::time::Instant::now();
        c.oci(&["delete", c.id()]);
        let took = began.elapsed().as_secs();
        assert!((1..30).contains(&took), "{took} s");
    });
}

#[test]
fn one_in_time_is_left_alone() {
    case(|c| {
        let out = c.path("done").display().to_string();
        hook(c, "createRuntime", &format!("sleep 0.1; touch {out}"));
        c.set("/hooks/createRuntime/0/timeout", 20).create();
        assert!(c.path("done").exists());
    });
}
