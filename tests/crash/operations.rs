//! The operations that change a root, each with what it needs.

use crate::world::World;
use tare_tests::Tree;

/// One operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// The verb and its arguments; `IMPORT`, `ARCHIVE` and `REMOTE` stand for what the world has.
    pub(crate) words: &'static [&'static str],
    /// What it says, among other words, when it is asked for again after it was done; nothing if it may be done again.
    pub(crate) again: Option<&'static str>,
    /// What else must be there.
    pub(crate) prepare: Option<fn(&World)>,
}

const fn operation(name: &'static str, words: &'static [&'static str], again: Option<&'static str>) -> Operation {
    Operation { name, words, again, prepare: None }
}

/// All of them.
pub(crate) const OPERATIONS: &[Operation] = &[
    operation("pull", &["pull", "REMOTE"], None),
    operation("load", &["load", "--input", "ARCHIVE"], None),
    operation("import", &["import", "IMPORT", "new:1"], None),
    operation("commit", &["commit", "c-kept", "new:1"], None),
    operation("tag", &["tag", "kept:2", "new:1"], None),
    operation("untag", &["rmi", "kept:also"], Some("no such image")),
    operation("rmi", &["rmi", "gone:1"], Some("no such image")),
    operation(
        "create",
        &["create", "--network", "none", "--name", "c-new", "-v", "v-new:/a", "-v", "/b", "kept:2", "/x"],
        Some("has this name"),
    ),
    operation("rename", &["rename", "c-gone", "c-new"], Some("no such container")),
    operation("rm", &["rm", "--volumes", "c-gone"], Some("no such container")),
    operation("volume-create", &["volume", "create", "--label", "a=b", "v-new"], None),
    operation("volume-rm", &["volume", "rm", "v-gone"], Some("no such volume")),
    operation("volume-prune", &["volume", "prune", "--force"], None),
    operation("network-create", &["network", "create", "n-new"], Some("has this name")),
    operation("network-rm", &["network", "rm", "n-gone"], Some("no such network")),
    operation("network-prune", &["network", "prune", "--force"], None),
    Operation {
        name: "run",
        words: &[
            "run",
            "--rm",
            "--network",
            "none",
            "--name",
            "c-run",
            "-v",
            "/b",
            "busybox",
            "sh",
            "-c",
            "echo x > /b/x; echo y > /y",
        ],
        again: None,
        prepare: Some(busybox),
    },
];

impl Operation {
    /// The words of the command line.
    pub(crate) fn arguments(&self, world: &World) -> Vec<String> {
        let word = |w: &&str| match *w {
            "IMPORT" => world.path("import.tar"),
            "ARCHIVE" => world.path("oci.tar"),
            "REMOTE" => world.remote(),
            other => other.to_owned(),
        };
        self.words.iter().map(word).collect()
    }

    pub(crate) fn wants_registry(&self) -> bool {
        self.words.contains(&"REMOTE")
    }
}

fn busybox(world: &World) {
    let tree = Tree::busybox();
    tree.tar(std::path::Path::new(&world.path("busybox.tar")));
    world.ok(&["import", &world.path("busybox.tar"), "busybox"]);
}
