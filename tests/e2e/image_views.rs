//! Looking at images: trees of layers, differences, their files at a path of the host, names taken away.

use serde_json::Value;
use std::path::Path;
use tare_tests::{Host, Tree};

/// `base`, `first` on it, `second` on that: each adds one file.
fn three(host: &Host) {
    let tree = Tree::busybox();
    host.import(&tree, &[], "base");
    for (name, from) in [("first", "base"), ("second", "first")] {
        let script = format!("echo {name} > /{name}");
        host.ok(&["run", "--name", name, "--network", "none", from, "sh", "-c", &script]);
        host.ok(&["commit", name, name]);
        host.ok(&["rm", name]);
    }
}

#[test]
fn a_tree_says_what_each_layer_adds_and_who_shares_it() {
    let host = Host::new();
    three(&host);
    let text = host.ok(&["image", "tree", "second"]);
    assert!(
        text.contains("Image:  second:latest") && text.contains("in 3 layers, 7B of it in no other image"),
        "{text}"
    );
    let rows: Vec<Value> = host
        .ok(&["image", "tree", "--no-trunc", "--format", "json", "second"])
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let layers = host.inspect("second")["RootFS"]["Layers"].clone();
    assert_eq!(rows.iter().map(|r| r["Layer"].clone()).collect::<Vec<_>>(), *layers.as_array().unwrap());
    assert_eq!(rows[0]["Shared"], "base:latest, first:latest");
    assert_eq!((&rows[1]["Shared"], &rows[2]["Shared"]), (&"first:latest".into(), &"".into()));
    assert_eq!((&rows[1]["Size"], &rows[2]["Size"]), (&"6B".into(), &"7B".into()));
    assert_eq!(rows[2]["CreatedBy"], "sh -c echo second > /second");
    // All images, each under the one that it stands on.
    let forest = host.ok(&["images", "--tree"]);
    let beginnings = ["IMAGE ", "base:latest ", "└─ first:latest ", "   └─ second:latest "];
    for (line, beginning) in forest.lines().zip(beginnings) {
        assert!(line.starts_with(beginning), "{forest}");
    }
    assert!(forest.lines().nth(3).unwrap().contains(" 7B "), "{forest}");
    assert!(host.fails(&["image", "tree", "nothing"], 1).contains("tare pull nothing"));
}

#[test]
fn a_tree_keeps_its_steps_where_some_made_no_layer() {
    let host = Host::new();
    host.busybox();
    host.ok(&["create", "--name", "box", "busybox"]);
    host.ok(&["commit", "-c", "ENV A=1", "box", "same"]);
    host.ok(&["run", "--name", "more", "--network", "none", "same", "sh", "-c", "echo x > /x"]);
    host.ok(&["commit", "more", "more"]);
    let by = host.ok(&["image", "tree", "--no-trunc", "--format", "{{.CreatedBy}}", "more"]);
    let by: Vec<&str> = by.lines().collect();
    assert_eq!((by.len(), by[1]), (2, "sh -c echo x > /x"));
}

#[test]
fn images_are_listed_with_digests_and_by_age() {
    let (host, registry) = (Host::new(), tare_tests::Registry::start());
    host.busybox();
    let name = registry.name("team/box:1");
    host.ok(&["tag", "busybox", &name]);
    host.ok(&["push", &name]);
    let table = host.ok(&["images", "--digests", &name]);
    let digest = host.inspect(&name)["Descriptor"]["digest"].as_str().unwrap().to_owned();
    assert!(table.lines().next().unwrap().contains("DIGEST") && table.contains(&digest), "{table}");
    assert_eq!(host.ok(&["images", "-a", "-q"]), host.ok(&["images", "-q"]).lines().next().unwrap());
    assert_eq!(host.ok(&["images", "-q", "--filter", "until=2001-01-01"]), "");
    assert_eq!(host.ok(&["images", "-q", "--filter", "until=0s"]).lines().count(), 1);
    assert!(host.fails(&["images", "--filter", "until=never"], 1).contains("until"));
}

#[test]
fn what_differs_between_images_is_listed() {
    let host = Host::new();
    three(&host);
    let script = "echo changed > /first; rm /etc/group; mkdir /dir; echo x > /dir/file; ln -s a /link";
    host.ok(&["run", "--name", "box", "--network", "none", "second", "sh", "-c", script]);
    host.ok(&["commit", "box", "third"]);
    let all = ["A /dir", "A /dir/file", "A /link", "A /second", "C /etc", "C /first", "D /etc/group"];
    let diff = |args: &[&str]| {
        let text = host.ok(&[&["image", "diff"], args].concat());
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(diff(&["first", "third"]), all);
    // Against the layers below its own topmost one.
    assert_eq!(
        diff(&["third"]),
        all.map(|l| l.replace("A /second", "")).into_iter().filter(|l| !l.is_empty()).collect::<Vec<_>>()
    );
    assert_eq!(diff(&["third", "third"]), [""; 0]);
    let back = diff(&["third", "first"]);
    assert!(back.contains(&"D /dir".to_owned()) && back.contains(&"A /etc/group".to_owned()), "{back:?}");
    // Images without a layer in common are compared as well.
    let (one, two) = (Tree::new(), Tree::new());
    one.file("kept", "same").file("gone", "x");
    two.file("new", "y");
    std::fs::copy(one.path("kept"), two.path("kept")).unwrap();
    let time = std::fs::metadata(one.path("kept")).unwrap().modified().unwrap();
    std::fs::File::options().write(true).open(two.path("kept")).unwrap().set_modified(time).unwrap();
    host.import(&one, &[], "one");
    host.import(&two, &[], "two");
    assert_eq!(diff(&["one", "two"]), ["A /new", "D /gone"]);
    let json: Value = serde_json::from_str(&host.ok(&["image", "diff", "--format", "json", "one", "two"])).unwrap();
    assert_eq!(json[0], serde_json::json!({"path": "/gone", "kind": "D"}));
}

#[test]
fn an_images_files_are_shown_at_a_path_of_the_host() {
    let host = Host::new();
    three(&host);
    let path = host.ok(&["image", "mount", "second"]);
    assert!(Path::new(&path).starts_with(host.run_dir()), "{path}");
    let read = |name: &str| std::fs::read_to_string(Path::new(&path).join(name));
    assert_eq!((read("first").unwrap(), read("second").unwrap()), ("first\n".to_owned(), "second\n".to_owned()));
    assert!(!Path::new(&path).join("proc").join("self").exists(), "only what the image has");
    let written = std::fs::write(Path::new(&path).join("new"), "x").unwrap_err();
    assert_eq!(written.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    // Once, however often it is asked for.
    assert_eq!(host.ok(&["image", "mount", "second"]), path);
    let list = host.ok(&["image", "mount", "--format", "{{.Names}} {{.Path}}"]);
    assert_eq!(list, format!("second:latest {path}"));
    // It keeps the image.
    let refused = host.fails(&["rmi", "second"], 1);
    assert!(refused.contains(&path) && refused.contains("hint: `tare image unmount"), "{refused}");
    host.ok(&["image", "prune", "-af"]);
    assert_eq!(read("second").unwrap(), "second\n");
    let id = host.ok(&["image", "unmount", "second"]);
    assert_eq!(id, host.inspect("second")["Id"]);
    assert!(!Path::new(&path).exists());
    assert!(host.fails(&["image", "unmount", "second"], 1).contains("not mounted"));
    assert!(host.fails(&["image", "unmount"], 1).contains("--all"));
    // Several, and by force with the image.
    host.busybox();
    let both = host.ok(&["image", "mount", "--all"]);
    assert_eq!(both.lines().count(), 2, "{both}");
    host.ok(&["rmi", "-f", "busybox"]);
    assert_eq!(host.ok(&["image", "unmount", "--all"]).lines().count(), 1);
    assert_eq!(host.ok(&["image", "mount", "--format", "{{.Path}}"]), "");
}

#[test]
fn whether_an_image_is_here_is_an_exit_code() {
    let host = Host::new();
    host.busybox();
    assert_eq!(host.run(&["image", "exists", "busybox"]).code, 0);
    let id = host.inspect("busybox")["Id"].as_str().unwrap().to_owned();
    assert_eq!(host.run(&["image", "exists", &id[7..19]]).code, 0);
    let out = host.run(&["image", "exists", "nothing"]);
    assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (1, "", ""));
    assert_eq!(host.run(&["image", "exists", "Upper:Case"]).code, 125);
}

#[test]
fn names_are_taken_away_and_the_image_stays() {
    let host = Host::new();
    host.busybox();
    let id = host.inspect("busybox")["Id"].as_str().unwrap().to_owned();
    for name in ["one", "two:1", "two:2"] {
        host.ok(&["tag", "busybox", name]);
    }
    assert_eq!(host.ok(&["untag", "busybox", "two:1"]), "Untagged: two:1");
    let refused = host.fails(&["untag", "busybox", "other"], 1);
    assert!(refused.contains("has not this name") && refused.contains("hint: its names: busybox:latest"), "{refused}");
    assert_eq!(host.ok(&["untag", &id[7..19]]).lines().count(), 3);
    assert_eq!(host.ok(&["images", "--format", "{{.Repository}} {{.ID}}"]), format!("<none> {}", &id[7..19]));
    host.ok(&["run", "--rm", "--network", "none", &id[7..19], "true"]);
}

/// docker's rules, but that no image needs the one that it was made from: layers are counted one by one.
#[test]
fn images_are_removed_under_those_made_from_them() {
    let host = Host::new();
    three(&host);
    let first = host.inspect("first")["Id"].as_str().unwrap().to_owned();
    let gone = host.ok(&["rmi", &first[7..19]]);
    assert_eq!(gone, format!("Untagged: first:latest\nDeleted: {first}"), "its layer is second's as well");
    host.ok(&["rmi", "--no-prune", "base"]);
    assert_eq!(host.ok(&["images", "--format", "{{.Repository}}"]), "second");
    assert_eq!(host.ok(&["run", "--rm", "--network", "none", "second", "cat", "/first"]), "first");
    let gone = host.ok(&["rmi", "second"]);
    assert_eq!(gone.lines().filter(|l| l.starts_with("Deleted: ")).count(), 4, "the image and three layers: {gone}");
    let refused = host.fails(&["rmi", "--platform", "linux/s390x", "second"], 1);
    assert!(refused.contains("second"), "{refused}");
}
