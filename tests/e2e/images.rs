//! Images at rest: names, lists, layers, removal.

use std::path::Path;
use tare_tests::{Host, Tree, command};

/// A tiny image with one file; nothing can run in it.
fn tiny(host: &Host, name: &str, changes: &[&str]) -> String {
    let tree = Tree::new();
    tree.file("content", name);
    host.import(&tree, changes, name);
    id(host, name)
}

fn id(host: &Host, name: &str) -> String {
    host.ok(&["image", "inspect", "-f", "{{.Id}}", name])
}

/// `REPOSITORY:TAG` of every row, sorted.
fn names(host: &Host, args: &[&str]) -> Vec<String> {
    let text = host.ok(&[&["images", "--format", "{{.Repository}}:{{.Tag}}"], args].concat());
    let mut names: Vec<_> = text.lines().map(str::to_owned).collect();
    names.sort();
    names
}

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}

/// Bytes below a directory, as du(1) sees them.
fn disk_usage(dir: &Path) -> u64 {
    let out = command("du").args(["-s", "--block-size=1"]).arg(dir).output().unwrap();
    String::from_utf8(out.stdout).unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn names_are_given_and_taken_away() {
    let host = Host::new();
    let first = tiny(&host, "one", &[]);
    host.ok(&["tag", "one", "team.example/one:2"]);
    host.ok(&["tag", &first[7..15], "three"]);
    assert_eq!(names(&host, &[]), ["one:latest", "team.example/one:2", "three:latest"]);
    assert_eq!(host.ok(&["images", "-q"]), first[7..19]);
    assert_eq!(host.ok(&["images", "-q", "--no-trunc"]), first);
    // A name among several is only taken away.
    assert_eq!(host.ok(&["rmi", "three"]), "Untagged: three:latest");
    // A name that is given to another image leaves the first one without.
    let second = tiny(&host, "two", &[]);
    host.ok(&["rmi", "team.example/one:2"]);
    host.ok(&["tag", "two", "one"]);
    assert_eq!(names(&host, &[]), ["<none>:<none>", "one:latest", "two:latest"]);
    assert_eq!(host.ok(&["images", "-q", "--no-trunc", "--filter", "dangling=true"]), first);
    assert_eq!(host.ok(&["images", "-q", "--no-trunc", "--filter", "dangling=false"]), second);
    let gone = host.ok(&["rmi", &first]);
    assert!(gone.contains(&format!("Deleted: {first}")), "{gone}");
    assert_eq!(names(&host, &[]), ["one:latest", "two:latest"]);
    let refused = host.fails(&["tag", "nothing", "x"], 1);
    assert!(refused.contains("no such image here") && refused.contains("hint: tare pull nothing"), "{refused}");
    assert!(host.fails(&["tag", "one", "Upper:Case"], 1).contains("Upper"));
}

#[test]
fn an_image_with_several_names_is_not_removed_by_its_id() {
    let host = Host::new();
    let id = tiny(&host, "one", &[]);
    host.ok(&["tag", "one", "two"]);
    let refused = host.fails(&["rmi", &id[7..]], 1);
    assert!(refused.contains("several names: one:latest, two:latest"), "{refused}");
    assert!(refused.contains("hint: ") && refused.contains("--force"), "{refused}");
    let gone = host.ok(&["rmi", "--force", &id[7..19]]);
    for line in ["Untagged: one:latest", "Untagged: two:latest", &format!("Deleted: {id}")] {
        assert!(gone.lines().any(|l| l == line), "{line}: {gone}");
    }
    assert_eq!(host.ok(&["images", "-q"]), "");
    assert_eq!(entries(&host.root().join("layers")), 0, "the layers go with their last image");
    assert_eq!(entries(&host.root().join("blobs/sha256")), 0);
}

#[test]
fn an_image_in_use_is_not_removed_unless_forced() {
    let host = Host::new();
    host.busybox();
    host.ok(&["create", "--name", "user", "--network", "none", "busybox", "echo", "still here"]);
    let refused = host.fails(&["rmi", "busybox"], 1);
    assert!(refused.contains("container user (") && refused.contains("tare rm user"), "{refused}");
    assert_eq!(names(&host, &[]), ["busybox:latest"]);
    host.ok(&["rmi", "-f", "busybox"]);
    assert_eq!(names(&host, &[]), [""; 0]);
    // The container keeps what it stands on.
    assert_eq!(host.ok(&["start", "-a", "user"]), "still here");
    host.ok(&["rm", "user"]);
    host.busybox();
    host.ok(&["rmi", "busybox"]);
    assert_eq!(entries(&host.root().join("layers")), 0);
}

#[test]
fn several_images_are_removed_past_failures() {
    let host = Host::new();
    tiny(&host, "one", &[]);
    tiny(&host, "two", &[]);
    let out = host.run(&["rmi", "one", "nothing", "two"]);
    assert_eq!(out.code, 1);
    assert!(out.stdout.contains("one:latest") && out.stdout.contains("two:latest"), "{}", out.stdout);
    assert!(out.stderr.contains("nothing: no such image"), "{}", out.stderr);
    assert_eq!(host.ok(&["images", "-q"]), "");
    assert_eq!(host.ok(&["rmi", "--force", "nothing"]), "");
}

#[test]
fn lists_are_narrowed_by_filters() {
    let host = Host::new();
    tiny(&host, "team.example/app:1", &["LABEL tier=front", "LABEL plain="]);
    tiny(&host, "team.example/app:2", &["LABEL tier=back"]);
    tiny(&host, "db", &[]);
    let filtered = |filter: &str| names(&host, &["--filter", filter]);
    assert_eq!(names(&host, &["team.example/app"]), ["team.example/app:1", "team.example/app:2"]);
    assert_eq!(names(&host, &["team.example/app:2"]), ["team.example/app:2"]);
    assert_eq!(filtered("reference=*/app:1"), ["team.example/app:1"]);
    assert_eq!(filtered("label=tier=back"), ["team.example/app:2"]);
    assert_eq!(filtered("label=plain"), ["team.example/app:1"]);
    assert_eq!(filtered("before=db"), ["team.example/app:1", "team.example/app:2"]);
    assert_eq!(filtered("since=team.example/app:1"), ["db:latest", "team.example/app:2"]);
    assert_eq!(names(&host, &["-f", "label=plain", "-f", "label=tier=back"]), [""; 0]);
    let refused = host.fails(&["images", "--filter", "colour=red"], 1);
    assert!(refused.contains("colour=red") && refused.contains("dangling, reference"), "{refused}");
    assert!(host.fails(&["images", "--filter", "dangling=perhaps"], 1).contains("true or false"));
}

#[test]
fn history_lists_the_steps_newest_first() {
    let host = Host::new();
    let tree = Tree::busybox();
    let archive = host.scratch("tree.tar").display().to_string();
    tree.tar(Path::new(&archive));
    host.ok(&["import", "-m", "from a tree", &archive, "base"]);
    for (name, from) in [("first", "base"), ("second", "first")] {
        host.ok(&["run", "--name", name, "--network", "none", from, "sh", "-c", &format!("echo {name} > /{name}")]);
        host.ok(&["commit", "-m", &format!("the {name} step"), name, name]);
    }
    let comments = host.ok(&["history", "--format", "{{.Comment}}", "second"]);
    assert_eq!(comments, "the second step\nthe first step\nfrom a tree");
    let table = host.ok(&["history", "second"]);
    let mut lines = table.lines();
    let heads: Vec<&str> = lines.next().unwrap().split("  ").map(str::trim).filter(|h| !h.is_empty()).collect();
    assert_eq!(heads, ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
    assert!(lines.next().unwrap().starts_with(&id(&host, "second")[7..19]));
    assert!(lines.all(|l| l.starts_with("<missing>")), "{table}");
    let exact = host.ok(&["history", "-q", "--no-trunc", "second"]);
    assert_eq!(exact.lines().next().unwrap(), id(&host, "second"));
    let sizes = host.ok(&["history", "--human=false", "--format", "{{.Size}}", "second"]);
    assert!(sizes.lines().all(|l| l.parse::<u64>().is_ok_and(|n| n > 0)), "{sizes}");
    let row = host.ok(&["history", "--format", "json", "base"]);
    let row: serde_json::Value = serde_json::from_str(&row).unwrap();
    assert_eq!(row["Comment"], "from a tree");
}

#[test]
fn inspect_prints_dockers_document() {
    let host = Host::new();
    let changes = ["ENV A=1 B=2", "EXPOSE 80 53/udp", "VOLUME /data", "USER web", "WORKDIR /srv", "STOPSIGNAL SIGINT"];
    let id = tiny(&host, "app:1", &changes);
    host.ok(&["tag", "app:1", "app:2"]);
    let image = host.inspect("app:1");
    assert_eq!(image["RepoTags"], serde_json::json!(["app:1", "app:2"]));
    let config = &image["Config"];
    assert_eq!(config["Env"], serde_json::json!(["A=1", "B=2"]));
    assert_eq!(config["ExposedPorts"], serde_json::json!({"53/udp": {}, "80/tcp": {}}));
    assert_eq!(config["Volumes"], serde_json::json!({"/data": {}}));
    assert_eq!(
        (&config["User"], &config["WorkingDir"], &config["StopSignal"]),
        (&"web".into(), &"/srv".into(), &"SIGINT".into())
    );
    assert_eq!((&image["Os"], &image["Architecture"]), (&"linux".into(), &"amd64".into()));
    let layers = image["RootFS"]["Layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1);
    assert!(host.root().join("layers").join(&layers[0].as_str().unwrap()[7..]).is_dir());
    let short = |format: &str| host.ok(&["inspect", "-f", format, "app:2"]);
    assert_eq!(short("{{.Id}}"), id);
    assert_eq!(short("{{json .Config.Env}} {{len .RootFS.Layers}}"), "[\"A=1\",\"B=2\"] 1");
    assert_eq!(short("{{range $k, $v := .Config.ExposedPorts}}{{$k}};{{end}}"), "53/udp;80/tcp;");
    // What was found is printed, what was not is reported.
    let out = host.run(&["inspect", "-f", "{{.Id}}", "nothing", "app:1"]);
    assert_eq!((out.code, out.stdout.trim_end()), (1, id.as_str()));
    assert!(out.stderr.contains("nothing"), "{}", out.stderr);
    assert_eq!(host.run(&["inspect", "--type", "container", "app:1"]).code, 1);
    assert_eq!(host.run(&["inspect", "nothing"]).stdout.trim_end(), "[]");
    assert!(host.fails(&["inspect", "-f", "{{.Id", "app:1"], 1).contains("{{.Id"));
    assert!(host.fails(&["inspect", "-f", "{{.Nonsense}}", "app:1"], 1).contains("Nonsense"));
}

/// Mechanism: what images share is stored once, so that all of them take less room than their sizes add up to.
#[test]
fn layers_that_images_share_are_stored_once() {
    let host = Host::new();
    let tree = Tree::busybox();
    let random = command("head").args(["-c", "20000000", "/dev/urandom"]).output().unwrap().stdout;
    std::fs::write(tree.path("random"), random).unwrap();
    host.import(&tree, &[], "base");
    for name in ["one", "two", "three"] {
        host.ok(&["run", "--name", name, "--network", "none", "base", "sh", "-c", &format!("echo {name} > /{name}")]);
        host.ok(&["commit", name, name]);
        host.ok(&["rm", name]);
    }
    assert_eq!(entries(&host.root().join("layers")), 4);
    let size = |name: &str| host.inspect(name)["Size"].as_u64().unwrap();
    let sum: u64 = ["base", "one", "two", "three"].into_iter().map(size).sum();
    assert!(size("one") > 20_000_000 && sum > 80_000_000);
    let taken = disk_usage(host.root());
    assert!(taken < sum * 6 / 10, "{taken} bytes on disk for images of {sum} altogether");
    let layers = |name: &str| host.inspect(name)["RootFS"]["Layers"].clone();
    assert_eq!(layers("one")[0], layers("base")[0]);
    assert_ne!(layers("one")[1], layers("two")[1]);
    // What one image alone had goes with it; what others have stays.
    host.ok(&["rmi", "base", "one"]);
    assert_eq!(entries(&host.root().join("layers")), 3);
    assert_eq!(
        host.ok(&["run", "--rm", "--network", "none", "two", "sh", "-c", "cat /two; wc -c < /random"]),
        "two\n20000000"
    );
}
