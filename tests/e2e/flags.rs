//! Flags of `run` that no other file is about, and the list of which test shows which flag.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use tare_tests::{Host, Running, Tree, eventually};

/// Every flag of `run`, and a test of its effect.
const SHOWN_BY: &[(&str, &str)] = &[
    ("add-host", "network::dns::flags_choose_resolvers_domains_options_and_hosts"),
    ("annotation", "flags::annotations_and_the_plan_are_data"),
    ("blkio-weight", "limits::a_block_weight_is_set_or_its_lack_is_said"),
    ("cap-add", "isolation::capabilities_are_exactly_those_asked_for"),
    ("cap-drop", "isolation::capabilities_are_exactly_those_asked_for"),
    ("cgroupns", "namespaces::each_is_new_unless_the_hosts_is_asked_for"),
    ("cidfile", "flags::the_id_is_written_to_a_file"),
    ("cpu-period", "limits::a_quota_throttles"),
    ("cpu-quota", "limits::a_quota_throttles"),
    ("cpu-shares", "limits::shares_of_one_to_three_give_one_to_three"),
    ("cpus", "limits::a_quota_throttles"),
    ("cpuset-cpus", "limits::processors_are_chosen"),
    ("cpuset-mems", "limits::processors_are_chosen"),
    ("detach", "flags::in_the_background_the_id_is_printed"),
    ("detach-keys", "terminal::detaching_leaves_it_running_and_attaching_goes_on"),
    ("device", "isolation::a_device_is_refused_unless_it_is_given"),
    ("dns", "network::dns::flags_choose_resolvers_domains_options_and_hosts"),
    ("dns-option", "network::dns::flags_choose_resolvers_domains_options_and_hosts"),
    ("dns-search", "network::dns::flags_choose_resolvers_domains_options_and_hosts"),
    ("domainname", "namespaces::host_and_domain_name_change_inside_only"),
    ("entrypoint", "rootfs::the_images_configuration_is_honoured"),
    ("env", "rootfs::environment_comes_from_files_and_from_the_caller"),
    ("env-file", "rootfs::environment_comes_from_files_and_from_the_caller"),
    ("expose", "rootfs::volumes_ports_signals_and_labels_of_the_image_are_honoured"),
    ("group-add", "rootfs::users_and_groups_are_looked_up_in_the_images_own_files"),
    ("help", "cli::every_verb_has_help_with_examples"),
    ("hostname", "namespaces::host_and_domain_name_change_inside_only"),
    ("init", "namespaces::init_forwards_signals_and_passes_the_exit_code_on"),
    ("interactive", "flags::standard_streams_are_connected"),
    ("ip", "network::addresses::addresses_gateways_and_sizes_are_those_asked_for"),
    ("ip6", "network::addresses::addresses_gateways_and_sizes_are_those_asked_for"),
    ("ipc", "namespaces::each_is_new_unless_the_hosts_is_asked_for"),
    ("label", "flags::labels_come_from_flags_and_files"),
    ("label-file", "flags::labels_come_from_flags_and_files"),
    ("link", "network::settings::a_linked_container_is_known_by_its_alias"),
    ("link-local-ip", "network::settings::addresses_of_the_link_come_beside_the_usual_ones"),
    ("mac-address", "network::addresses::addresses_gateways_and_sizes_are_those_asked_for"),
    ("memory", "limits::memory_ends_at_the_limit_and_the_reason_is_kept"),
    ("memory-reservation", "limits::memory_swap_and_reservation_reach_the_kernel"),
    ("memory-swap", "limits::memory_swap_and_reservation_reach_the_kernel"),
    ("memory-swappiness", "flags::settings_of_the_older_memory_controller"),
    ("mount", "mounts::a_read_only_mount_takes_nothing"),
    ("name", "flags::names_are_unique_and_made_up_where_missing"),
    ("net-cls", "network::limits::class_and_priority_are_the_groups"),
    ("net-prio", "network::limits::class_and_priority_are_the_groups"),
    ("net-rate", "network::rates::both_directions_are_limited_and_nobody_inside_lifts_it"),
    ("network", "network::drivers::none_is_loopback_and_host_is_the_hosts_own"),
    ("network-alias", "network::dns::containers_are_known_by_name_alias_and_short_id"),
    ("oom-kill-disable", "flags::settings_of_the_older_memory_controller"),
    ("oom-score-adj", "isolation::small_settings_have_their_effect"),
    ("pid", "namespaces::each_is_new_unless_the_hosts_is_asked_for"),
    ("pids-limit", "limits::a_fork_too_many_is_refused"),
    ("plan", "flags::annotations_and_the_plan_are_data"),
    ("privileged", "isolation::capabilities_are_exactly_those_asked_for"),
    ("publish", "network::publish::published_ports_are_reached_from_everywhere"),
    ("publish-all", "network::publish::ports_are_chosen_from_ranges_at_random_or_all"),
    ("pull", "registry::run_pulls_what_is_missing_and_as_it_is_told"),
    ("quiet", "registry::run_pulls_what_is_missing_and_as_it_is_told"),
    ("read-only", "rootfs::a_read_only_root_takes_nothing_but_where_it_is_told"),
    ("rm", "flags::what_removes_itself_leaves_nothing"),
    ("rootfs", "rootfs::a_directory_of_the_host_can_be_the_root"),
    ("security-opt", "isolation::no_new_privileges_makes_setuid_programs_plain_ones"),
    ("shm-size", "isolation::small_settings_have_their_effect"),
    ("sig-proxy", "flags::signals_are_passed_on_unless_told_otherwise"),
    ("stop-signal", "flags::stopping_is_as_the_flags_say"),
    ("stop-timeout", "flags::stopping_is_as_the_flags_say"),
    ("sysctl", "isolation::sysctls_of_its_own_namespaces_only"),
    ("tmpfs", "mounts::memory_can_be_mounted_with_its_options"),
    ("trace-setup", "tracing::client_launcher_and_child_add_up_to_the_time_of_a_start"),
    ("tty", "flags::standard_streams_are_connected"),
    ("ulimit", "isolation::resource_limits_bind_and_are_lowered_where_they_cannot_be_had"),
    ("user", "rootfs::users_and_groups_are_looked_up_in_the_images_own_files"),
    ("userns", "userns::a_private_one_is_root_inside_and_nobody_outside"),
    ("uts", "namespaces::each_is_new_unless_the_hosts_is_asked_for"),
    ("volume", "mounts::a_directory_of_the_host_is_shared_both_ways"),
    ("workdir", "rootfs::working_directories_are_made_and_links_stay_inside"),
];

/// The long flags that a help text lists.
fn flags_in(help: &str) -> BTreeSet<String> {
    let line = |l: &str| {
        let l = l.trim_start();
        let rest = l.strip_prefix("--").or_else(|| l.strip_prefix('-')?.get(1..)?.strip_prefix(", --"))?;
        Some(rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next()?.to_owned())
    };
    help.lines().filter(|l| l.starts_with("  ")).filter_map(line).filter(|f| !f.is_empty()).collect()
}

#[test]
fn every_flag_of_run_has_a_test_of_its_effect() {
    let host = Host::new();
    let flags = flags_in(&host.ok(&["run", "--help"]));
    assert!(flags.len() > 50, "{flags:?}");
    let listed: BTreeSet<String> = SHOWN_BY.iter().map(|(flag, _)| (*flag).to_owned()).collect();
    let missing: Vec<_> = flags.difference(&listed).collect();
    assert!(missing.is_empty(), "no test is named for {missing:?}");
    let gone: Vec<_> = listed.difference(&flags).collect();
    assert!(gone.is_empty(), "there are no such flags: {gone:?}");
    for (flag, test) in SHOWN_BY {
        let (module, function) = test.rsplit_once("::").unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("e2e/{}.rs", module.replace("::", "/")));
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let at =
            text.find(&format!("\nfn {function}()")).unwrap_or_else(|| panic!("--{flag}: there is no test {test}"));
        assert!(text[..at].ends_with("#[test]"), "--{flag}: {test} is no test");
        assert!(
            text.contains(&format!("\"--{flag}")) || text.contains(&short(flag)),
            "--{flag}: {module} does not use it"
        );
    }
}

/// The short form as a test would write it.
fn short(flag: &str) -> String {
    let letter = match flag {
        "detach" => "-d",
        "env" => "-e",
        "hostname" => "-h",
        "workdir" => "-w",
        "user" => "-u",
        "volume" => "-v",
        "publish" => "-p",
        "publish-all" => "-P",
        "memory" => "-m",
        "interactive" => "-i",
        "tty" => "-t",
        "cpu-shares" => "-c",
        "quiet" => "-q",
        _ => return format!("\"--{flag}"),
    };
    format!("\"{letter}\"")
}

#[test]
fn in_the_background_the_id_is_printed() {
    let host = Host::new();
    host.busybox();
    let out = host.run(&["run", "-d", "--network", "none", "busybox", "sh", "-c", "echo said; sleep 1000"]);
    let id = out.stdout.trim().to_owned();
    assert_eq!((out.code, id.len(), out.stderr.as_str()), (0, 64, ""));
    assert_eq!(host.ok(&["ps", "-q", "--no-trunc"]), id);
    assert!(eventually(Duration::from_secs(5), || host.ok(&["logs", &id]) == "said"));
    // A command that cannot be executed is told about, although nobody waits.
    let out = host.run(&["run", "-d", "--network", "none", "busybox", "/nowhere"]);
    assert_eq!((out.code, out.stdout.as_str()), (127, ""), "{}", out.stderr);
}

#[test]
fn what_removes_itself_leaves_nothing() {
    let host = Host::new();
    host.busybox();
    let out = host.run(&[
        "run",
        "--rm",
        "--name",
        "box",
        "-v",
        "/anonymous",
        "-v",
        "named:/named",
        "busybox",
        "sh",
        "-c",
        "exit 7",
    ]);
    assert_eq!(out.code, 7);
    assert_eq!(host.ok(&["ps", "-aq"]), "");
    assert_eq!(host.ok(&["volume", "ls", "-q"]), "named");
    let settled = host.settled();
    assert!(settled.is_empty(), "{settled:?}");
    // Without it the container stays, and can be looked at and removed at once.
    assert_eq!(host.run(&["run", "--name", "box", "busybox", "sh", "-c", "echo last words; exit 3"]).code, 3);
    assert_eq!(host.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "box"]), "exited 3");
    assert_eq!(host.ok(&["logs", "box"]), "last words");
    assert_eq!(host.run(&["start", "-a", "box"]).code, 3);
    assert_eq!(host.ok(&["rm", "box"]), "box");
}

#[test]
fn names_are_unique_and_made_up_where_missing() {
    let host = Host::new();
    host.busybox();
    let id = host.ok(&["create", "--name", "box", "busybox"]);
    let refused = host.fails(&["run", "--rm", "--name", "box", "busybox", "true"], 125);
    assert!(refused.contains(&id[..12]) && refused.contains("hint: remove it with `tare rm box`"), "{refused}");
    host.ok(&["create", "busybox"]);
    host.ok(&["create", "busybox"]);
    let names = host.ok(&["ps", "-a", "--format", "{{.Names}}"]);
    let mut names: Vec<&str> = names.lines().collect();
    assert!(names.iter().all(|n| n.len() >= 3), "{names:?}");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 3);
    for bad in ["-x", "a/b", "ü", "x", "a b", ""] {
        let refused = host.fails(&["create", &format!("--name={bad}"), "busybox"], 1);
        assert!(refused.contains("letters, digits"), "{bad:?}: {refused}");
    }
    // A name that begins like an id is a name; an id is found by a prefix that only it has.
    host.ok(&["rename", "box", &id[..6]]);
    assert_eq!(host.inspect(&id[..6])["Id"], id.as_str());
    assert_eq!(host.inspect(&id[..10])["Id"], id.as_str());
    host.ok(&["rename", &id[..6], "other"]);
    assert_eq!(host.ok(&["inspect", "-f", "{{.Name}}", &id[..12]]), "/other");
    assert!(
        host.fails(&["rename", "other", names.iter().find(|n| **n != "box").unwrap()], 1).contains("has this name")
    );
    host.ok(&["create", "--name", "box", "busybox"]);
}

#[test]
fn a_prefix_of_several_ids_is_refused() {
    let host = Host::new();
    host.busybox();
    let mut ids: Vec<String> = Vec::new();
    // Among seventeen ids two begin with the same digit.
    for _ in 0..17 {
        ids.push(host.ok(&["create", "busybox"]));
    }
    let twin = ids.iter().find(|a| ids.iter().filter(|b| a[..1] == b[..1]).count() > 1).unwrap();
    let refused = host.fails(&["inspect", "--type", "container", &twin[..1]], 1);
    assert!(refused.contains("several") || refused.contains("more than one"), "{refused}");
}

#[test]
fn the_id_is_written_to_a_file() {
    let host = Host::new();
    host.busybox();
    let file = host.scratch("id").display().to_string();
    let id = host.ok(&["run", "-d", "--network", "none", "--cidfile", &file, "busybox", "sleep", "1000"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), id);
    let refused = host.fails(&["run", "--rm", "--cidfile", &file, "busybox", "true"], 125);
    assert!(refused.contains(&file), "{refused}");
    assert_eq!(host.ok(&["ps", "-aq"]).lines().count(), 1);
    // Nothing is left of one that did not come to be.
    let file = host.scratch("other").display().to_string();
    host.fails(&["run", "--rm", "--cidfile", &file, "--pull", "never", "nothing", "true"], 125);
    assert!(!Path::new(&file).exists());
    host.ok(&["create", "--cidfile", &file, "busybox"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap().len(), 64);
}

#[test]
fn labels_come_from_flags_and_files() {
    let host = Host::new();
    let tree = Tree::busybox();
    host.import(&tree, &["LABEL image=1 both=image"], "labelled");
    let file = host.scratch("labels");
    std::fs::write(&file, "# a comment\nfile=1\nboth=file\nbare\n").unwrap();
    let file = file.display().to_string();
    host.ok(&[
        "create",
        "--name",
        "box",
        "--label-file",
        &file,
        "-l",
        "both=flag",
        "--label",
        "empty",
        "labelled",
        "true",
    ]);
    let labels = host.inspect("box")["Config"]["Labels"].clone();
    assert_eq!(labels, serde_json::json!({"image": "1", "both": "flag", "file": "1", "bare": "", "empty": ""}));
    for (filter, found) in [("label=both=flag", "box"), ("label=image", "box"), ("label=both=file", "")] {
        assert_eq!(host.ok(&["ps", "-a", "--filter", filter, "--format", "{{.Names}}"]), found, "{filter}");
    }
    assert_eq!(host.ok(&["ps", "-a", "--format", "{{.Label \"both\"}}"]), "flag");
}

#[test]
fn annotations_and_the_plan_are_data() {
    let host = Host::new();
    host.busybox();
    let args = [
        "run",
        "--plan",
        "--annotation",
        "org.example=1",
        "-m",
        "64m",
        "-p",
        "8080:80",
        "--name",
        "box",
        "busybox",
        "echo",
        "x",
    ];
    let plan: Value = serde_json::from_str(&host.ok(&args)).unwrap();
    let spec = &plan["spec"];
    assert_eq!(spec["annotations"]["org.example"], "1");
    assert_eq!(spec["process"]["args"], serde_json::json!(["echo", "x"]));
    assert_eq!(spec["linux"]["resources"]["memory"]["limit"], 64 << 20);
    assert!(spec["linux"]["seccomp"].is_object() && spec["mounts"].as_array().unwrap().len() > 6);
    for part in ["cgroup", "launch"] {
        assert!(plan[part].is_object(), "{part}");
    }
    assert_eq!(plan["networks"][0]["name"], "bridge");
    // Nothing was done.
    assert_eq!(host.ok(&["ps", "-aq"]), "");
    let census = host.settled();
    assert!(census.is_empty(), "{census:?}");
}

#[test]
fn standard_streams_are_connected() {
    let host = Host::new();
    host.busybox();
    let run = |flags: &[&str], script: &str, input: &[u8]| {
        let args = [&["run", "--rm", "--network", "none"], flags, &["busybox", "sh", "-c", script]].concat();
        host.run_with(&args, input)
    };
    let out = run(&["-i"], "tr a-z A-Z; echo done >&2", b"through\nthe\ncontainer");
    assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("THROUGH\nTHE\nCONTAINER", "done\n"));
    // Without -i there is no input.
    let out = run(&[], "cat; echo end", b"unread");
    assert_eq!(out.stdout, "end\n");
    // A megabyte and a half of everything, both ways.
    let bytes: Vec<u8> = (0..1_500_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert!(run(&["-i"], "cat", &bytes).bytes == bytes);
    let out = run(&["-t"], "[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && tty && echo $TERM", b"");
    assert_eq!(out.stdout, "/dev/pts/0\r\nxterm\r\n", "{}", out.stderr);
    let out = run(&["-i"], "[ -t 0 ] || [ -t 1 ] || echo none", b"");
    assert_eq!(out.stdout, "none\n");
    let refused = run(&["-it"], "true", b"");
    assert!(refused.code == 125 && refused.stderr.contains("not a terminal"), "{}", refused.stderr);
}

#[test]
fn signals_are_passed_on_unless_told_otherwise() {
    use rustix::process::Signal;
    let host = Host::new();
    host.busybox();
    let script = "trap 'echo asked; exit 9' TERM; trap 'echo noted' USR1; echo ready; while true; do sleep 0.05; done";
    let start = |flags: &[&str], name: &str| {
        let args = [&["run", "--name", name, "--network", "none"], flags, &["busybox", "sh", "-c", script]].concat();
        let client = host.start(&args);
        assert!(eventually(Duration::from_secs(10), || client.printed().0.contains("ready")));
        client
    };
    let says = |client: &Running, word: &str| eventually(Duration::from_secs(5), || client.printed().0.contains(word));
    let client = start(&[], "proxied");
    client.signal(Signal::USR1);
    assert!(says(&client, "noted"), "{:?}", client.printed());
    client.signal(Signal::TERM);
    let out = client.wait();
    assert_eq!((out.code, out.stdout.as_str()), (9, "ready\nnoted\nasked\n"));
    let client = start(&["--sig-proxy=false"], "alone");
    client.signal(Signal::TERM);
    let out = client.wait();
    assert_eq!((out.code, out.stdout.as_str()), (143, "ready\n"), "{}", out.stderr);
    assert_eq!(host.inspect("alone")["State"]["Status"], "running");
}

#[test]
fn stopping_is_as_the_flags_say() {
    let host = Host::new();
    host.busybox();
    let script = "trap 'exit 5' USR2; trap '' TERM; echo ready; while true; do sleep 0.05; done";
    let start = |name: &str, flags: &[&str]| {
        let args =
            [&["run", "-d", "--name", name, "--network", "none"], flags, &["busybox", "sh", "-c", script]].concat();
        host.ok(&args);
        assert!(eventually(Duration::from_secs(10), || host.ok(&["logs", name]).contains("ready")));
    };
    start("signal", &["--stop-signal", "USR2"]);
    host.ok(&["stop", "signal"]);
    assert_eq!(host.inspect("signal")["State"]["ExitCode"], 5);
    start("number", &["--stop-signal", "12"]);
    host.ok(&["stop", "number"]);
    assert_eq!(host.inspect("number")["State"]["ExitCode"], 5);
    start("timeout", &["--stop-timeout", "1"]);
    let begin = std::time::Instant::now();
    host.ok(&["stop", "timeout"]);
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(5), "{took:?}");
    assert_eq!(host.inspect("timeout")["State"]["ExitCode"], 137);
    assert!(host.fails(&["run", "--rm", "--stop-signal", "NONSENSE", "busybox", "true"], 125).contains("NONSENSE"));
}

#[test]
fn settings_of_the_older_memory_controller() {
    let host = Host::new();
    host.busybox();
    let read = |file: &str| format!("cat /sys/fs/cgroup/memory/{file}");
    let run = |flags: &[&str], script: &str| {
        host.run(&[&["run", "--rm", "--network", "none"], flags, &["busybox", "sh", "-c", script]].concat())
    };
    let flags = ["-m", "32m", "--memory-swappiness", "17", "--oom-kill-disable"];
    let script = format!("{}; {}", read("memory.swappiness"), read("memory.oom_control"));
    let out = run(&flags, &script);
    if Path::new("/sys/fs/cgroup/memory/memory.swappiness").exists() {
        assert!(out.stdout.starts_with("17\noom_kill_disable 1\n"), "{}{}", out.stdout, out.stderr);
    } else {
        assert!(out.code == 125 && out.stderr.contains("swappiness"), "{}", out.stderr);
    }
    let refused = run(&["--oom-kill-disable"], "true");
    assert!(refused.code == 125 && refused.stderr.contains("without --memory"), "{}", refused.stderr);
    assert_eq!(run(&["--memory-swappiness", "101"], "true").code, 125);
}

#[test]
fn flags_that_are_unknown_or_not_there_yet_are_errors() {
    let host = Host::new();
    host.busybox();
    for (args, words) in [
        (&["run", "--nonsense", "busybox"][..], "--nonsense"),
        (&["run", "--gpus", "all", "busybox"], "--gpus is not supported yet"),
        (&["run", "--restart=always", "busybox"], "--restart is not supported yet"),
        (&["run", "--health-cmd", "true", "busybox"], "--health-cmd is not supported yet"),
        (&["run", "-a", "stdin", "busybox"], "-a is not supported yet"),
        (&["create", "--uidmap", "0:1:1", "busybox"], "--uidmap is not supported yet"),
        (&["run", "--isolation", "hyperv", "busybox"], "Windows"),
        (&["run", "-p", "53:53/quic", "busybox"], "quic"),
        (&["run", "--network", "my-net", "busybox"], "my-net"),
        (&["run", "--memory", "lots", "busybox"], "lots"),
        (&["run", "--cpus", "-1", "busybox"], "-1"),
        (&["run", "--pull", "sometimes", "busybox"], "sometimes"),
        (&["run", "--rm"], "the image is missing"),
        (&["run", "--cap-add", "SYS_NONSENSE", "busybox", "true"], "SYS_NONSENSE"),
        (&["run", "--security-opt", "nonsense", "busybox", "true"], "nonsense"),
        (&["run", "--ulimit", "nonsense=1", "busybox", "true"], "nonsense"),
        (&["run", "--pid", "nonsense", "busybox", "true"], "nonsense"),
    ] {
        let out = host.run(args);
        assert_eq!(
            out.code,
            if args[0] == "run" || out.stderr.contains("not supported yet") { 125 } else { 1 },
            "{args:?}: {}",
            out.stderr
        );
        assert!(out.stderr.starts_with("tare: ") && out.stderr.contains(words), "{args:?}: {}", out.stderr);
        assert_eq!(out.stdout, "", "{args:?}");
    }
    assert_eq!(host.ok(&["ps", "-aq"]), "");
    // What follows the image is the container's.
    assert_eq!(
        host.ok(&["run", "--rm", "--network", "none", "busybox", "echo", "--rm", "--gpus", "-P"]),
        "--rm --gpus -P"
    );
    assert_eq!(host.ok(&["run", "--rm=true", "--network=none", "busybox", "echo", "x"]), "x");
}
