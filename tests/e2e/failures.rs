//! What goes wrong is said with its cause, and with a hint what to do.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use tare_tests::{Host, Tree, command};

/// Runs a command that fails before it runs: the code, all words in the message, a hint with these words, nothing left.
#[track_caller]
fn fails(host: &Host, args: &[&str], code: i32, words: &[&str], hint: &str) {
    let text = host.fails(&[&["run", "--rm", "--network", "none"], args].concat(), code);
    let message = text.lines().next().unwrap();
    assert!(words.iter().all(|w| message.contains(w)), "{words:?}: {text}");
    let told = text.lines().find_map(|l| l.strip_prefix("hint: ")).unwrap_or_default();
    assert!(told.contains(hint), "{hint:?}: {text}");
    assert_eq!(text.lines().count(), if hint.is_empty() && told.is_empty() { 1 } else { 2 }, "{text}");
    assert_eq!(host.ok(&["ps", "-aq"]), "");
}

#[test]
fn images_that_are_not_here() {
    let host = Host::new();
    fails(&host, &["--pull", "never", "none/such:1", "true"], 125, &["none/such:1"], "tare pull none/such:1");
    // Nobody listens on this port of the loopback address.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let name = format!("127.0.0.1:{port}/some/image");
    let text = host.fails(&["run", "--rm", &name, "true"], 125);
    assert!(
        text.contains(&format!("127.0.0.1:{port}")) && text.contains("refused") && text.contains("hint: "),
        "{text}"
    );
    let text = host.fails(&["pull", "registry.invalid/image"], 1);
    assert!(text.contains("registry.invalid") && text.contains("hint: "), "{text}");
    let text = host.fails(&["run", "--rm", "UPPER/case", "true"], 125);
    assert!(text.contains("UPPER/case"), "{text}");
}

#[test]
fn commands_that_are_not_there() {
    let host = Host::new();
    host.busybox();
    fails(&host, &["busybox", "nothing"], 127, &["\"nothing\"", "PATH", "/usr/local/sbin:"], "");
    fails(&host, &["-e", "PATH=/opt/bin:/opt/x", "busybox", "sh"], 127, &["\"sh\"", "/opt/bin:/opt/x"], "");
    fails(&host, &["busybox", "/bin/nothing"], 127, &["/bin/nothing", "no such file"], "inside the container");
    fails(&host, &["--entrypoint", "", "busybox"], 125, &["command"], "");
}

/// An ELF header of a program for another processor.
fn foreign_program() -> Vec<u8> {
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(64, 0);
    elf[16] = 2;
    elf[18] = 183;
    elf[20] = 1;
    elf[52] = 64;
    elf
}

#[test]
fn programs_that_cannot_be_executed() {
    let host = Host::new();
    let tree = Tree::busybox();
    tree.program("crlf", "#!/bin/sh\r\necho hi\r\n").program("interpreter", "#!/opt/python -u\n").program("empty", "");
    tree.program("text", "echo hi\n").file("plain", "#!/bin/sh\n").program("foreign", "");
    std::fs::write(tree.path("foreign"), foreign_program()).unwrap();
    tree.dir("private", 0o700).program("private/program", "#!/bin/sh\n").program("mine", "#!/bin/sh\n");
    std::fs::set_permissions(tree.path("mine"), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::fs::copy("/bin/ls", tree.path("dynamic")).unwrap();
    host.import(&tree, &[], "busybox");
    let loader = ["ld-linux", "\"/dynamic\"", "loader"];
    fails(&host, &["busybox", "/dynamic"], 127, &loader, "static");
    fails(&host, &["busybox", "/crlf"], 127, &["/crlf", "CRLF"], "sed -i");
    fails(
        &host,
        &["busybox", "/interpreter"],
        127,
        &["/interpreter", "\"/opt/python\"", "not in the image"],
        "install",
    );
    fails(&host, &["busybox", "/foreign"], 126, &["/foreign", "aarch64", "x86_64"], "platform");
    fails(&host, &["busybox", "/empty"], 126, &["/empty", "empty"], "");
    fails(&host, &["busybox", "/text"], 126, &["/text", "#!"], "#!/bin/sh");
    fails(&host, &["busybox", "/plain"], 126, &["/plain", "execute bit"], "chmod +x");
    fails(&host, &["busybox", "/etc"], 126, &["/etc", "directory"], "");
    fails(
        &host,
        &["-u", "web", "busybox", "/private/program"],
        126,
        &["/private/program", "search \"/private\""],
        "chmod o+x /private",
    );
    fails(&host, &["-u", "web", "busybox", "/mine"], 126, &["/mine", "may not execute"], "owner");
    fails(&host, &["--tmpfs", "/mem", "busybox", "/mem"], 126, &["/mem", "directory"], "");
}

#[test]
fn names_and_ports_in_use() {
    let host = Host::new();
    host.busybox();
    host.ok(&["create", "--name", "box", "busybox", "true"]);
    for verb in [&["create", "--name", "box", "busybox"][..], &["run", "--rm", "--name", "box", "busybox"]] {
        let text = host.run(verb).stderr;
        assert!(
            text.contains("\"box\"")
                && text.contains("has this name")
                && text.contains("hint: remove it with `tare rm box`"),
            "{text}"
        );
    }
    host.ok(&["rm", "box"]);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let publish = format!("127.0.0.1:{port}:80");
    let text = host.fails(&["run", "--rm", "-p", &publish, "busybox", "true"], 125);
    assert!(text.contains(&port.to_string()) && text.contains("in use") && text.contains("hint: "), "{text}");
    drop(taken);
    host.ok(&["run", "-d", "--name", "first", "-p", &publish, "busybox", "sleep", "1000"]);
    let text = host.fails(&["run", "--rm", "-p", &publish, "busybox", "true"], 125);
    assert!(text.contains(&port.to_string()) && text.contains("container first") && text.contains("hint: "), "{text}");
    host.ok(&["rm", "-f", "first"]);
    assert_eq!(host.settled().0, [""; 0]);
}

#[test]
fn users_directories_and_sources() {
    let host = Host::new();
    host.busybox();
    fails(&host, &["-u", "ghost", "busybox", "true"], 125, &["ghost", "/etc/passwd"], "");
    fails(&host, &["-u", "web:ghosts", "busybox", "true"], 125, &["ghosts", "/etc/group"], "");
    fails(&host, &["--group-add", "ghosts", "busybox", "true"], 125, &["ghosts"], "");
    fails(&host, &["-w", "relative", "busybox", "true"], 125, &["relative", "absolute"], "");
    fails(&host, &["-w", "/etc/passwd", "busybox", "true"], 125, &["/etc/passwd"], "");
    fails(&host, &["-v", "/no/such/source:/x", "busybox", "true"], 125, &["/no/such/source"], "create");
    fails(&host, &["-v", "/etc:relative", "busybox", "true"], 125, &["relative"], "");
    fails(&host, &["--env-file", "/no/such/file", "busybox", "true"], 125, &["/no/such/file"], "");
    fails(&host, &["--security-opt", "seccomp=/no/such/profile", "busybox", "true"], 125, &["/no/such/profile"], "");
    fails(&host, &["--rootfs", "/no/such/root", "true"], 125, &["/no/such/root"], "");
}

#[test]
fn what_makes_no_sense_is_refused_and_not_ignored() {
    let host = Host::new();
    host.busybox();
    for (args, word) in [
        (&["--restart", "always"][..], "restart"),
        (&["--gpus", "all"], "gpus"),
        (&["--link", "nobody"], "nobody"),
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--pid", "nonsense"], "nonsense"),
        (&["--network", "container:"], "container"),
        (&["--cpus", "none"], "none"),
        (&["-p", "80:70000"], "70000"),
        (&["-e", "=x"], "=x"),
        (&["--stop-signal", "SIGNONE"], "SIGNONE"),
        (&["--oom-score-adj", "2000"], "2000"),
    ] {
        let text = host.fails(&[&["run", "--rm"], args, &["busybox", "true"]].concat(), 125);
        assert!(text.contains(word), "{args:?}: {text}");
        assert_eq!(host.ok(&["ps", "-aq"]), "");
    }
}

#[test]
fn without_root_one_sentence() {
    let host = Host::new();
    let dir = host.scratch("bin");
    std::fs::create_dir(&dir).unwrap();
    // Where another user may reach it.
    let tare = dir.join("tare");
    std::fs::copy(tare_tests::binary(), &tare).unwrap();
    for path in [tare.as_path(), &dir, dir.parent().unwrap(), host.root().parent().unwrap()] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    for verb in [&["run", "hello"][..], &["ps"], &["images"]] {
        let out = command("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&tare)
            .args(verb)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && text.contains("root") && text.lines().count() <= 2, "{verb:?}: {text}");
        assert!(!text.contains("EPERM") && !text.contains("os error"), "{text}");
    }
}
