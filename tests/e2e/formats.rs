//! What lists print: tables, `--format`, `--filter`, `-q`.

use serde_json::Value;
use tare_tests::Host;

/// One container of each state: `run` runs, `paused` is frozen, `done` has ended with 3, `made` never ran.
fn one_of_each(host: &Host) {
    host.busybox();
    let run = |name: &str, flags: &[&str], command: &[&str]| {
        host.run(&[&["run", "--name", name, "--network", "none"], flags, &["busybox"], command].concat())
    };
    assert_eq!(run("running", &["-d", "-l", "team=a"], &["sleep", "1000"]).code, 0);
    assert_eq!(run("paused", &["-d", "-l", "team=b"], &["sleep", "1000"]).code, 0);
    host.ok(&["pause", "paused"]);
    assert_eq!(run("done", &["-v", "vol:/vol"], &["sh", "-c", "exit 3"]).code, 3);
    host.ok(&["create", "--name", "made", "--expose", "90", "busybox", "a-command-that-is-so-long-that-it-is-cut"]);
}

fn names(host: &Host, args: &[&str]) -> Vec<String> {
    let text = host.ok(&[&["ps", "--format", "{{.Names}}"], args].concat());
    text.lines().map(str::to_owned).collect()
}

#[test]
fn ps_lists_by_state_and_filter() {
    let host = Host::new();
    one_of_each(&host);
    assert_eq!(names(&host, &[]), ["paused", "running"]);
    assert_eq!(names(&host, &["-a"]), ["made", "done", "paused", "running"]);
    assert_eq!(names(&host, &["-l"]), ["made"]);
    assert_eq!(names(&host, &["-n", "2"]), ["made", "done"]);
    for (filters, found) in [
        (&["status=exited"][..], &["done"][..]),
        (&["status=created"], &["made"]),
        (&["status=paused"], &["paused"]),
        (&["status=running", "status=exited"], &["done", "running"]),
        (&["exited=3"], &["done"]),
        (&["exited=0"], &[]),
        (&["label=team"], &["paused", "running"]),
        (&["label=team=a"], &["running"]),
        (&["label=team=a", "label=team=b"], &[]),
        (&["name=un"], &["running"]),
        (&["name=^running$"], &["running"]),
        (&["volume=vol"], &["done"]),
        (&["expose=90"], &["made"]),
        (&["ancestor=busybox"], &["made", "done", "paused", "running"]),
        (&["ancestor=other"], &[]),
        (&["network=none"], &["done", "paused", "running"]),
        (&["before=done"], &["paused", "running"]),
        (&["since=done"], &["made"]),
        (&["name=done", "status=exited"], &["done"]),
    ] {
        let mut args = vec!["-a"];
        filters.iter().for_each(|f| args.extend(["--filter", f]));
        assert_eq!(names(&host, &args), found, "{filters:?}");
    }
    let id = host.inspect("done")["Id"].as_str().unwrap().to_owned();
    assert_eq!(names(&host, &["-a", "--filter", &format!("id={}", &id[..9])]), ["done"]);
    for bad in ["colour=red", "status=sleeping", "exited=three", "name=r.*g", "nothing"] {
        let refused = host.fails(&["ps", "--filter", bad], 1);
        assert!(refused.contains(bad.split('=').next_back().unwrap()), "{bad}: {refused}");
    }
}

#[test]
fn tables_have_dockers_columns() {
    let host = Host::new();
    one_of_each(&host);
    let table = host.ok(&["ps", "-a"]);
    let rows: Vec<Vec<&str>> =
        table.lines().map(|l| l.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect()).collect();
    assert_eq!(rows[0], ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
    assert_eq!((rows[1][1], rows[1][2], rows[1][4]), ("busybox", "\"a-command-that-is-s…\"", "Created"));
    assert!(rows[2][4].starts_with("Exited (3) "), "{table}");
    assert!(rows[3][4].starts_with("Up ") && rows[3][4].ends_with("(Paused)"), "{table}");
    assert!(rows[4][4].starts_with("Up ") && rows[4][3].ends_with(" ago"), "{table}");
    // Columns begin below their headings.
    let at = table.lines().next().unwrap().find("STATUS").unwrap();
    let cells = |l: &str| l.chars().skip(at).collect::<String>();
    assert!(table.lines().skip(1).all(|l| cells(l).starts_with(['C', 'E', 'U'])), "{table}");
    let whole = host.ok(&["ps", "-a", "--no-trunc"]);
    assert!(whole.contains("so-long-that-it-is-cut"), "{whole}");
    assert!(whole.lines().skip(1).all(|l| l.split(' ').next().unwrap().len() == 64));
    let sized = host.ok(&["ps", "-as"]);
    assert!(sized.lines().next().unwrap().ends_with("SIZE") && sized.contains("(virtual "), "{sized}");
    assert_eq!(host.ok(&["ps", "-aq"]).lines().count(), 4);
}

#[test]
fn templates_are_gos() {
    let host = Host::new();
    one_of_each(&host);
    let ps = |format: &str| host.ok(&["ps", "-a", "--filter", "name=running", "--format", format]);
    let id = host.inspect("running")["Id"].as_str().unwrap().to_owned();
    assert_eq!(
        ps("{{.ID}} {{.Names}} {{.Image}} {{.Command}} {{.State}}"),
        format!("{} running busybox \"sleep 1000\" running", &id[..12])
    );
    assert_eq!(ps("{{.Label \"team\"}}|{{.Labels}}"), "a|team=a");
    assert_eq!(ps("{{if eq .State \"running\"}}yes{{else}}no{{end}}"), "yes");
    assert_eq!(ps("{{upper .Names}} {{printf \"%-10s|\" .Names}}"), "RUNNING running   |");
    assert_eq!(
        ps("table {{.Names}}\\t{{.State}}")
            .lines()
            .map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>(),
        ["NAMES STATE", "running running"]
    );
    let row: Value = serde_json::from_str(&ps("json")).unwrap();
    for key in [
        "ID",
        "Names",
        "Image",
        "Command",
        "State",
        "Status",
        "Ports",
        "Labels",
        "Mounts",
        "Networks",
        "CreatedAt",
        "RunningFor",
        "Size",
        "LocalVolumes",
    ] {
        assert!(row[key].is_string(), "{key}: {row}");
    }
    assert_eq!(ps("{{json .Names}}"), "\"running\"");
    let all = host.ok(&["ps", "-a", "--format", "json"]);
    assert_eq!(
        all.lines().filter(|l| serde_json::from_str::<Value>(l).is_ok()).count(),
        4,
        "one document a line: {all}"
    );
    for bad in ["{{.Nonsense}}", "{{.ID", "{{nonsense .ID}}", "{{if}}x{{end}}"] {
        let out = host.run(&["ps", "-a", "--format", bad]);
        assert_eq!(out.code, 1, "{bad}: {}", out.stdout);
        assert!(out.stderr.starts_with("tare: ps: "), "{bad}: {}", out.stderr);
    }
}

#[test]
fn inspect_reads_as_dockers() {
    let host = Host::new();
    one_of_each(&host);
    let of = |format: &str, name: &str| host.ok(&["inspect", "--format", format, name]);
    assert_eq!(of("{{.Name}} {{.State.Status}} {{.State.Running}}", "running"), "/running running true");
    assert_eq!(of("{{.State.Status}} {{.State.Paused}}", "paused"), "paused true");
    assert_eq!(of("{{.State.Status}} {{.State.ExitCode}} {{.State.Pid}}", "done"), "exited 3 0");
    assert_eq!(of("{{.State.Status}} {{.State.StartedAt}}", "made"), "created 0001-01-01T00:00:00Z");
    assert_eq!(of("{{.Path}} {{.Args}}", "done"), "sh [-c exit 3]");
    assert_eq!(of("{{.HostConfig.NetworkMode}} {{.Config.Image}}", "done"), "none busybox");
    assert_eq!(of("{{index .Config.Labels \"team\"}}", "running"), "a");
    assert_eq!(of("{{json .Config.Cmd}}", "running"), "[\"sleep\",\"1000\"]");
    assert_eq!(of("{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}}{{end}}", "done"), "volume vol /vol");
    assert_eq!(of("{{len .Mounts}} {{or .Config.User \"nobody said\"}}", "running"), "0 nobody said");
    let pid = of("{{.State.Pid}}", "running");
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(line, b"sleep\x001000\x00");
    let text = host.ok(&["inspect", "running", "done"]);
    let list: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert!(list[0]["LogPath"].is_string() && list[0]["Created"].as_str().unwrap().ends_with('Z'));
    let sized: Value = serde_json::from_str(&host.ok(&["inspect", "--size", "done"])).unwrap();
    assert!(sized[0]["SizeRootFs"].as_u64().unwrap() > 1_000_000, "{}", sized[0]["SizeRootFs"]);
}

#[test]
fn volumes_are_listed_alike() {
    let host = Host::new();
    host.busybox();
    host.ok(&["volume", "create", "--label", "team=a", "one"]);
    host.ok(&["volume", "create", "two"]);
    host.ok(&["create", "--name", "box", "-v", "two:/x", "busybox"]);
    let ls = |args: &[&str]| host.ok(&[&["volume", "ls", "--format", "{{.Name}}"], args].concat());
    assert_eq!(ls(&[]), "one\ntwo");
    assert_eq!(ls(&["--filter", "label=team=a"]), "one");
    assert_eq!(ls(&["--filter", "name=tw"]), "two");
    assert_eq!(ls(&["--filter", "dangling=true"]), "one");
    assert_eq!(ls(&["--filter", "dangling=false"]), "two");
    let table = host.ok(&["volume", "ls"]);
    assert!(table.starts_with("DRIVER    VOLUME NAME\nlocal     one\n"), "{table}");
    let row: Value =
        serde_json::from_str(host.ok(&["volume", "ls", "--format", "json"]).lines().next().unwrap()).unwrap();
    assert_eq!(row["Name"], "one");
    assert!(host.fails(&["volume", "ls", "--filter", "colour=red"], 1).contains("colour=red"));
}

#[test]
fn ports_and_networks_are_shown_as_docker_shows_them() {
    let host = Host::new();
    host.busybox();
    // A free port each, so that nothing of this machine is in the way.
    host.ok(&["run", "-d", "--name", "box", "-p", "127.0.0.1::80", "--expose", "90/udp", "busybox", "sleep", "1000"]);
    let port = host.ok(&["inspect", "-f", "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}", "box"]);
    assert!(port.parse::<u16>().is_ok_and(|p| p > 0), "{port}");
    let ports = host.ok(&["ps", "--format", "{{.Ports}}"]);
    assert_eq!(ports, format!("90/udp, 127.0.0.1:{port}->80/tcp"));
    for filter in
        [format!("publish={port}"), "publish=80".to_owned(), "expose=90/udp".to_owned(), "network=bridge".to_owned()]
    {
        assert_eq!(host.ok(&["ps", "--filter", &filter, "--format", "{{.Names}}"]), "box", "{filter}");
    }
}
