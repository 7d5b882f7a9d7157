//! What the order of entries comes to, and what cannot be.

use super::*;

type Entries<'a> = &'a [(Entry, &'a [u8])];

fn symlink(path: &str, target: &str) -> Entry {
    link(path, EntryKind::Symlink, target)
}

fn hard(path: &str, target: &str) -> Entry {
    link(path, EntryKind::Hardlink, target)
}

#[test]
fn later_entries_count() {
    let other = |mut entry: Entry| {
        (entry.mode, entry.uid) = (0o700, 5);
        entry
    };
    let cases: [Entries<'_>; 18] = [
        &[(file("a"), b"first"), (other(file("a")), b"second, longer")],
        &[(file("a/b"), b"1"), (other(dir("a")), b"")],
        &[(other(dir("a")), b""), (file("a/b"), b"1"), (dir("a"), b"")],
        &[(file("a"), b"1"), (dir("a"), b""), (file("a/b"), b"2")],
        &[(dir("a"), b""), (file("a/b/c"), b"2"), (file("a"), b"1")],
        &[(file("a/b"), b"1"), (symlink("a", "c"), b""), (file("c"), b"")],
        &[(symlink("a", "b"), b""), (dir("a"), b""), (file("a/x"), b"")],
        &[(dir("usr/lib"), b""), (symlink("lib", "usr/lib"), b""), (file("lib/x"), b"1"), (file("lib/y/z"), b"2")],
        &[(dir("usr"), b""), (symlink("a", "b"), b""), (symlink("b", "./usr"), b""), (file("a/../a/x"), b"")],
        &[(file("a"), b"1"), (hard("b", "a"), b""), (file("a"), b"2")],
        &[(file("a"), b"1"), (hard("b", "a"), b""), (file("b"), b"2")],
        &[(file("a"), b"1"), (hard("a", "a"), b"")],
        &[(file("a"), b"1"), (hard("b", "a"), b""), (hard("b", "a"), b""), (hard("c", "b"), b"")],
        &[(hard("early", "late"), b""), (file("late"), b"1")],
        &[(hard("early", "late"), b""), (hard("earlier", "early"), b""), (file("late"), b"1")],
        &[(hard("early", "late"), b""), (file("late"), b"1"), (file("early"), b"own")],
        &[(hard("early", "late"), b""), (dir("early"), b""), (file("late"), b"1")],
        &[
            (file(".wh.a"), b""),
            (file("a"), b"1"),
            (file(".wh.b"), b""),
            (dir("b"), b""),
            (file(".wh.c"), b""),
            (file("c/d"), b""),
        ],
    ];
    for (n, entries) in cases.iter().enumerate() {
        println!("case {n}");
        Both::new().check(&archive(entries));
    }
}

#[test]
fn what_cannot_be_is_refused_by_both() {
    let mut list = dir("listed");
    list.xattrs.push((b"system.posix_acl_access".to_vec(), b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff".to_vec()));
    let cases: [Entries<'_>; 7] = [
        &[(file("a"), b""), (file("a/b"), b"")],
        &[(symlink("a", "/etc"), b""), (file("a/b"), b"")],
        &[(symlink("a", "../x"), b""), (file("a/b"), b"")],
        &[(symlink("a", "a"), b""), (file("a/b"), b"")],
        &[(dir("a"), b""), (hard("b", "a"), b"")],
        &[(hard("b", "nowhere"), b"")],
        &[(list, b"")],
    ];
    for (n, entries) in cases.iter().enumerate() {
        let (tree, image) = Both::new().unpack(&archive(entries), &[]);
        assert!(tree.is_err(), "case {n}");
        assert_eq!(image.unwrap_err().kind(), Kind::Invalid, "case {n}");
    }
}

#[test]
fn too_much_metadata_is_a_clear_error() {
    let mut both = Both::new();
    both.limits.metadata = 30_000;
    let names: Vec<String> = (0..100).map(|n| format!("{n}")).collect();
    let entries: Vec<(Entry, &[u8])> = names.iter().map(|name| (file(name), b"".as_slice())).collect();
    both.check(&archive(&entries));
    let refuses = |archive: &[u8]| {
        let (_, image) = both.unpack(archive, &[]);
        let error = image.unwrap_err();
        assert_eq!(error.kind(), Kind::Exhausted);
        assert!(error.to_string().contains("more than 30000 bytes of names and attributes"), "{error}");
    };
    // Directories that are only implied count, pieces of sparse files, attributes, and what was replaced.
    refuses(&archive(&[(file(&format!("{}f", "d/".repeat(300))), b"")]));
    let pieces: Vec<(u64, u64)> = (0..1500).map(|n| (n << 20, 1)).collect();
    refuses(&ended(sparse("s", 2 << 30, &pieces)));
    let mut large = file("a");
    large.xattrs.push((b"user.large".to_vec(), vec![1; 31_000]));
    refuses(&archive(&[(large, b"")]));
    let again: Vec<(Entry, &[u8])> = (0..400).map(|_| (file("a"), b"".as_slice())).collect();
    refuses(&archive(&again));
}
