//! `exec`: a further process, in everything that the container is.

use rustix::process::Signal;
use std::path::Path;
use std::time::Duration;
use tare_tests::{Host, Running, Terminal, eventually};

const SOON: Duration = Duration::from_secs(20);

fn sleeper(host: &Host, flags: &[&str]) {
    host.busybox();
    let run = ["run", "-d", "--name", "box", "--network", "none"];
    host.ok(&[&run, flags, &["busybox", "sleep", "1000"]].concat());
}

/// Host pids of the container's processes with this command line.
fn pids(host: &Host, line: &str) -> Vec<String> {
    let out = host.ok(&["top", "box", "-o", "pid,args"]);
    let rows = out.lines().filter_map(|l| l.trim().split_once(' '));
    rows.filter(|(_, args)| args.trim() == line).map(|(pid, _)| pid.to_owned()).collect()
}

#[test]
fn all_namespaces_groups_and_the_root_are_the_containers() {
    let host = Host::new();
    sleeper(&host, &["--hostname", "inside"]);
    host.ok(&["exec", "-d", "box", "sleep", "77"]);
    assert!(eventually(SOON, || pids(&host, "sleep 77").len() == 1), "{}", host.ok(&["top", "box"]));
    let (first, second) = (host.inspect("box")["State"]["Pid"].to_string(), pids(&host, "sleep 77").remove(0));
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup", "user", "time"] {
        let link = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_eq!(link(&second), link(&first), "{kind}");
        assert_eq!(link(&second) == link("self"), ["user", "time"].contains(&kind), "{kind}");
    }
    let groups = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(groups(&second), groups(&first));
    let field = |pid: &str, name: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        text.lines().find(|l| l.starts_with(name)).unwrap_or_default().to_owned()
    };
    for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "Seccomp:", "NoNewPrivs", "Groups"] {
        assert_eq!(field(&second, name), field(&first, name));
    }
    let limits = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    assert_eq!(limits(&second), limits(&first));
    assert_eq!(
        host.ok(&[
            "exec",
            "box",
            "sh",
            "-c",
            "hostname; ls / | head -n 1; cat /proc/self/cgroup | grep -vc ':/$'; true"
        ]),
        "inside\nbin\n0"
    );
    // It ends with the container.
    host.ok(&["stop", "-t", "0", "box"]);
    assert!(eventually(SOON, || !Path::new("/proc").join(&second).exists()));
}

#[test]
fn codes_say_how_it_ended() {
    let host = Host::new();
    sleeper(&host, &[]);
    let code = |command: &[&str]| host.run(&[&["exec", "box"], command].concat()).code;
    assert_eq!((code(&["true"]), code(&["sh", "-c", "exit 42"]), code(&["sh", "-c", "kill -9 $$"])), (0, 42, 137));
    assert_eq!((code(&["/etc/passwd"]), code(&["no-such-command"]), code(&["/none/such"])), (126, 127, 127));
    let missing = host.run(&["exec", "box", "no-such-command"]).stderr;
    assert!(missing.contains("no-such-command") && missing.contains("PATH"), "{missing}");
    assert!(host.fails(&["exec", "nobody", "true"], 1).contains("nobody"));
    // A command that could not be executed did no harm.
    assert_eq!(host.inspect("box")["State"]["Status"], "running");
    host.ok(&["stop", "-t", "0", "box"]);
    let stopped = host.fails(&["exec", "box", "true"], 1);
    assert!(stopped.contains("not running") && stopped.contains("tare start box"), "{stopped}");
}

#[test]
fn user_directory_and_environment_are_chosen() {
    let host = Host::new();
    sleeper(&host, &["-e", "A=container", "-e", "B=kept", "-w", "/tmp", "--group-add", "staff"]);
    let exec = |flags: &[&str], script: &str| host.ok(&[&["exec"], flags, &["box", "sh", "-c", script]].concat());
    assert_eq!(exec(&[], "id -u; pwd; echo $A $B $HOME"), "0\n/tmp\ncontainer kept /root");
    let out =
        exec(&["-u", "web", "-w", "/etc", "-e", "A=exec", "-e", "C=new"], "id -u; id -g; pwd; echo $A $B $C $HOME");
    assert_eq!(out, "33\n33\n/etc\nexec kept new /var/www");
    assert_eq!(exec(&["-u", "5:6"], "id -u; id -g"), "5\n6");
    let file = host.scratch("env");
    std::fs::write(&file, "# comment\nA=file\nD=four\n").unwrap();
    let out = exec(&["--env-file", &file.display().to_string(), "-e", "D=flag"], "echo $A $D");
    assert_eq!(out, "file flag");
    for (flags, word) in [(["-u", "nobody-such"], "nobody-such"), (["-w", "/no/such"], "/no/such")] {
        let out = host.run(&[&["exec"], &flags[..], &["box", "true"]].concat());
        assert!(out.code != 0 && out.stderr.contains(word), "{out:?}");
    }
}

#[test]
fn privileged_ones_have_all_capabilities_and_no_filter() {
    let host = Host::new();
    sleeper(&host, &["--cap-drop", "ALL"]);
    let status = "grep -e ^CapEff -e ^Seccomp: /proc/self/status";
    assert_eq!(host.ok(&["exec", "box", "sh", "-c", status]), "CapEff:\t0000000000000000\nSeccomp:\t2");
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let all = own.lines().find_map(|l| l.strip_prefix("CapBnd:\t")).unwrap();
    let privileged = host.ok(&["exec", "--privileged", "box", "sh", "-c", status]);
    assert_eq!(privileged, format!("CapEff:\t{all}\nSeccomp:\t0"));
    host.ok(&["exec", "--privileged", "box", "mount", "-t", "tmpfs", "none", "/mnt-not-there"]
        .map(|a| if a == "/mnt-not-there" { "/tmp" } else { a }));
    assert_eq!(host.run(&["exec", "box", "umount", "/tmp"]).code, 1);
    assert_eq!(host.ok(&["exec", "box", "sh", "-c", status]), "CapEff:\t0000000000000000\nSeccomp:\t2");
}

#[test]
fn a_terminal_of_its_own_within_the_container() {
    let host = Host::new();
    sleeper(&host, &[]);
    let mut t = Terminal::start(&host.command(&["exec", "-it", "box", "sh"]));
    t.expect("# ");
    t.keys("tty; stty size; echo $TERM; ps | grep -c '[s]leep 1000'\n");
    t.expect("/dev/pts/0\r\n24 80\r\nxterm\r\n1\r\n");
    t.resize(33, 99);
    t.keys("stty size\n");
    t.expect("33 99");
    t.keys("sleep 1000\n");
    std::thread::sleep(Duration::from_millis(300));
    t.keys("\x03");
    t.expect("# ");
    t.keys("exit 3\n");
    assert_eq!(t.wait(), 3);
    assert!(t.is_cooked());
    // Detached from, it goes on; a second one has a terminal of its own.
    let mut t = Terminal::start(&host.command(&["exec", "-it", "box", "sh", "-c", "tty; sleep 300"]));
    t.expect("/dev/pts/0");
    let mut other = Terminal::start(&host.command(&["exec", "-it", "box", "tty"]));
    other.expect("/dev/pts/1");
    assert_eq!(other.wait(), 0);
    t.keys("\x10\x11");
    assert_eq!((t.wait(), t.is_cooked()), (0, true));
}

#[test]
fn input_output_and_the_background() {
    let host = Host::new();
    sleeper(&host, &[]);
    let out = host.run_with(&["exec", "-i", "box", "sh", "-c", "cat; echo err >&2"], b"in\n");
    assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (0, "in\n", "err\n"));
    assert_eq!(host.run_with(&["exec", "box", "cat"], b"in\n").stdout, "");
    // Not part of the container's own output.
    assert_eq!(host.ok(&["logs", "box"]), "");
    assert_eq!(host.ok(&["exec", "-d", "box", "sh", "-c", "echo background; sleep 0.3; echo done > /done"]), "");
    assert!(eventually(SOON, || host.run(&["exec", "box", "cat", "/done"]).stdout == "done\n"));
    assert_eq!(host.run(&["exec", "-d", "box", "no-such-command"]).code, 127);
}

#[test]
fn it_outlives_its_client_and_signals_end_the_client_only() {
    let host = Host::new();
    sleeper(&host, &[]);
    let client = host.start(&["exec", "box", "sh", "-c", "echo up; exec sleep 55"]);
    assert!(eventually(SOON, || client.printed().0 == "up\n"));
    client.signal(Signal::KILL);
    client.wait();
    assert_eq!(pids(&host, "sleep 55").len(), 1);
    let mut child = Running::interactive(&mut host.command(&["exec", "-i", "box", "sh"]));
    child.write(b"echo up\n");
    assert!(eventually(SOON, || child.printed().0 == "up\n"));
    host.ok(&["kill", "box"]);
    assert_eq!(child.wait().code, 137);
}

#[test]
fn many_at_once() {
    let host = Host::new();
    sleeper(&host, &["--pids-limit", "200"]);
    let clients: Vec<Running> = (0..30).map(|i| host.start(&["exec", "box", "echo", &i.to_string()])).collect();
    for (i, client) in clients.into_iter().enumerate() {
        let out = client.wait();
        assert_eq!((out.code, out.stdout), (0, format!("{i}\n")), "{}", out.stderr);
    }
    assert_eq!(host.ok(&["top", "box", "-o", "pid"]).lines().count(), 2);
}
