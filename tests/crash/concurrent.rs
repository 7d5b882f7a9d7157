//! Sixteen processes at a time on one root: 2,000 operations of all kinds that get in each other's way.
//!
//! Each of sixteen threads runs one program after another on a few names that all share. What may fail is only what another one
//! has made, taken or removed in between, in the words that say so; the root is sound all the time and at the end.

use crate::points::seed;
use crate::world::{Form, World};
use std::collections::BTreeMap;
use std::sync::Mutex;
use tare_tests::Dice;

const THREADS: usize = 16;
const OPERATIONS: usize = 2_000;

/// Conflicts that are to be expected: the verb, and what it says.
const CONFLICTS: &[(&str, &[&str])] = &[
    // Removed by another one before.
    ("rmi", &["no such image here", "uses it", "it has several names"]),
    ("untag", &["no such image here", "no such"]),
    ("tag", &["no such image here"]),
    (
        "create",
        &[
            "no such image here",
            "has this name",
            "no such volume",
            "removed just now",
            "is not in the store",
            "no such network",
        ],
    ),
    ("commit", &["no such container", "was removed meanwhile", "being made just now", "no such image here"]),
    ("rename", &["no such container", "has this name", "being made just now"]),
    ("rm", &["no such container", "being made just now"]),
    ("volume rm", &["no such volume", "uses it"]),
    ("network create", &["a network of this name exists"]),
    ("network rm", &["no such network", "is on it", "uses it"]),
    ("save", &["no such image here"]),
];

/// Verbs that never fail, whatever the others do.
fn words(dice: &mut Dice, world: &World, thread: usize) -> (&'static str, Vec<String>) {
    let n = dice.below(4);
    let image = format!("i-{n}:1");
    let container = format!("c-{n}");
    let (volume, network) = (format!("v-{n}"), format!("n-{n}"));
    let list = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
    match dice.below(20) {
        0 | 1 => ("import", list(&["import", &world.path("import.tar"), &image])),
        2 => ("load", list(&["load", "--input", &world.path("oci.tar")])),
        3 => ("pull", list(&["pull", &world.remote()])),
        4 => ("tag", list(&["tag", "kept:2", &image])),
        // Of one name: of the image alone it takes all names away, those of others too.
        5 => ("untag", list(&["untag", &image, &image])),
        6 | 7 => ("rmi", list(&["rmi", ["app:1", &image, &world.remote(), "other:1"][dice.below(4)]])),
        8 => ("commit", list(&["commit", &container, &image])),
        9 | 10 => {
            let mount = format!("{volume}:/v");
            (
                "create",
                list(&[
                    "create",
                    "--pull",
                    "never",
                    "--network",
                    "none",
                    "--name",
                    &container,
                    "-v",
                    &mount,
                    "-v",
                    "/b",
                    &image,
                    "/x",
                ]),
            )
        }
        11 => ("rename", list(&["rename", &container, &format!("c-{}", dice.below(4))])),
        12 | 13 => ("rm", list(&["rm", "--volumes", &container])),
        14 => ("volume create", list(&["volume", "create", &volume])),
        15 => ("volume rm", list(&["volume", "rm", &volume])),
        16 => ("network create", list(&["network", "create", &network])),
        17 => ("network rm", list(&["network", "rm", &network])),
        18 => (
            "save",
            list(&["save", "--output", &world.path(&format!("saved-{thread}.tar")), ["kept:2", &image][dice.below(2)]]),
        ),
        _ => match dice.below(3) {
            0 => ("system prune", list(&["system", "prune", "--force", "--filter", "label=of-nothing"])),
            1 => ("volume prune", list(&["volume", "prune", "--force"])),
            _ => ("image prune", list(&["image", "prune", "--force"])),
        },
    }
}

fn concurrently(form: Form) {
    let world = World::new(form, true);
    let kept = world.listing().unwrap();
    let counts = Mutex::new(BTreeMap::<String, usize>::new());
    let problems = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (world, counts, problems) = (&world, &counts, &problems);
            scope.spawn(move || {
                let mut dice = Dice(seed() ^ (thread as u64) << 32);
                for _ in 0..OPERATIONS / THREADS {
                    let (verb, words) = words(&mut dice, world, thread);
                    let (code, _, stderr) = world.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
                    let expected = CONFLICTS.iter().find(|(v, _)| *v == verb).map_or(&[][..], |(_, said)| said);
                    let conflict = expected.iter().find(|said| stderr.contains(*said));
                    let became = match (code, conflict) {
                        (0, _) => format!("{verb}: done"),
                        (_, Some(said)) => format!("{verb}: {said}"),
                        (code, None) => {
                            problems.lock().unwrap().push(format!("{words:?}: {code}: {stderr}"));
                            continue;
                        }
                    };
                    *counts.lock().unwrap().entry(became).or_default() += 1;
                }
            });
        }
    });
    let (counts, problems) = (counts.into_inner().unwrap(), problems.into_inner().unwrap());
    assert!(problems.is_empty(), "{} unexpected failures:\n{}\n{counts:#?}", problems.len(), problems.join("\n"));
    let findings = world.findings().unwrap();
    assert!(findings.is_empty(), "{findings:#?}\n{counts:#?}");
    let now = world.listing().unwrap();
    let lost: Vec<_> = kept.iter().filter(|l| l.contains("kept") && !now.contains(*l)).collect();
    assert!(lost.is_empty(), "{lost:#?}");
    world.usage_is_what_du_says().unwrap();
    assert_eq!(world.left(), Vec::<String>::new());
}

#[test]
fn sixteen_processes_get_in_each_others_way_and_break_nothing_overlay() {
    concurrently(Form::Overlay);
}

#[test]
fn sixteen_processes_get_in_each_others_way_and_break_nothing_erofs() {
    concurrently(Form::Erofs);
}
