//! The operations that change a root, each with what it needs.

use crate::world::World;
use tare_tests::Tree;

/// What it means to ask for an operation again that was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// The same as once.
    Same,
    /// It makes another of its kind.
    Another,
    /// It is refused with these words, among others.
    Refused(&'static str),
}

use Again::{Another, Refused, Same};

/// One operation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// The verb and its arguments; `IMPORT`, `ARCHIVE` and `REMOTE` stand for what the world has.
    pub(crate) words: &'static [&'static str],
    pub(crate) again: Again,
    /// It does several things, one after another, and each of them by itself.
    pub(crate) several: bool,
    /// What else must be there.
    pub(crate) prepare: Option<fn(&World)>,
}

const fn operation(name: &'static str, words: &'static [&'static str], again: Again) -> Operation {
    Operation { name, words, again, several: false, prepare: None }
}

/// All of them.
pub(crate) const OPERATIONS: &[Operation] = &[
    operation("pull", &["pull", "REMOTE"], Same),
    Operation { several: true, ..operation("load", &["load", "--input", "ARCHIVE"], Same) },
    operation("import", &["import", "IMPORT", "new:1"], Another),
    operation("commit", &["commit", "c-kept", "new:1"], Another),
    operation("tag", &["tag", "kept:2", "new:1"], Same),
    operation("untag", &["untag", "kept:also"], Refused("no such image")),
    operation("rmi", &["rmi", "gone:1"], Refused("no such image")),
    operation(
        "create",
        &["create", "--network", "none", "--name", "c-new", "-v", "v-new:/a", "-v", "/b", "kept:2", "/x"],
        Refused("has this name"),
    ),
    operation("rename", &["rename", "c-gone", "c-new"], Refused("no such container")),
    operation("rm", &["rm", "--volumes", "c-gone"], Refused("no such container")),
    operation("volume-create", &["volume", "create", "--label", "a=b", "v-new"], Same),
    operation("volume-rm", &["volume", "rm", "v-gone"], Refused("no such volume")),
    operation("volume-prune", &["volume", "prune", "--force"], Same),
    operation("network-create", &["network", "create", "n-new"], Refused("a network of this name exists")),
    operation("network-rm", &["network", "rm", "n-gone"], Refused("no such network")),
    Operation { several: true, ..operation("network-prune", &["network", "prune", "--force"], Same) },
    Operation { several: true, ..operation("image-prune", &["image", "prune", "--all", "--force"], Same) },
    Operation { several: true, ..operation("container-prune", &["container", "prune", "--force"], Same) },
    Operation {
        several: true,
        ..operation("system-prune", &["system", "prune", "--all", "--volumes", "--force"], Same)
    },
    Operation { several: true, prepare: Some(disorder), ..operation("repair", &["system", "check", "--repair"], Same) },
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
        again: Same,
        several: false,
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

/// Files that no row knows, and permissions that others have changed.
fn disorder(world: &World) {
    use std::os::unix::fs::PermissionsExt;
    let volume = world.root().join("volumes/v-found/_data");
    std::fs::create_dir_all(&volume).unwrap();
    std::fs::write(volume.join("file"), "found").unwrap();
    std::fs::set_permissions(world.root().join("layers"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn busybox(world: &World) {
    let tree = Tree::busybox();
    tree.tar(std::path::Path::new(&world.path("busybox.tar")));
    world.ok(&["import", &world.path("busybox.tar"), "busybox"]);
}
