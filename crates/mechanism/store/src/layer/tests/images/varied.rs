//! Everything that a file can be.

use super::*;
use tare_format::Time;

/// An access list: owner rw, user 77 rwx, group r, mask rwx, others nothing.
const LIST: &[u8] = b"\x02\0\0\0\
    \x01\0\x06\0\xff\xff\xff\xff\x02\0\x07\0\x4d\0\0\0\x04\0\x04\0\xff\xff\xff\xff\x10\0\x07\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";

fn with(mut entry: Entry, change: impl FnOnce(&mut Entry)) -> Entry {
    change(&mut entry);
    entry
}

fn owned(path: &str, mode: u32, uid: u32, gid: u32) -> Entry {
    with(file(path), |e| (e.mode, e.uid, e.gid) = (mode, uid, gid))
}

fn timed(path: &str, secs: i64, nanos: u32) -> Entry {
    with(file(path), |e| e.mtime = Time { secs, nanos })
}

fn device(path: &str, kind: EntryKind, device: (u32, u32)) -> Entry {
    with(Entry::new(path, kind), |e| (e.device, e.mode) = (device, 0o660))
}

fn attributed(entry: Entry, xattrs: &[(&str, &[u8])]) -> Entry {
    with(entry, |e| e.xattrs = xattrs.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect())
}

pub(super) fn everything() -> Vec<u8> {
    let long = "n".repeat(255);
    let target = "t/".repeat(2047);
    let large: Vec<u8> = (0..3_000_001u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let entries: Vec<(Entry, &[u8])> = vec![
        (with(dir(""), |e| (e.mode, e.uid, e.mtime.secs) = (0o751, 3, 12_345)), b""),
        (owned("setuid", 0o4755, 0, 0), b"s"),
        (owned("all-bits", 0o7777, 1, 2), b""),
        (owned("no-bits", 0, 5_000_000, 2_097_153), b"unreadable by most"),
        (owned("far", 0o640, u32::MAX - 1, u32::MAX - 1), b"owner"),
        (with(dir("sticky"), |e| (e.mode, e.gid) = (0o1777, 4_000_000_000)), b""),
        (with(dir("setgid"), |e| e.mode = 0o2775), b""),
        (file("setgid/inside"), b"not of that group"),
        (timed("before-1970", -1_000_000_000, 1), b""),
        (timed("just-before", -1, 999_999_999), b""),
        (timed("after-2038", 4_102_444_800, 123_456_789), b""),
        (with(dir("timed"), |e| e.mtime = Time { secs: 5_000_000_000, nanos: 7 }), b""),
        (file("timed/later"), b"x"),
        (attributed(file("capable"), &[("security.capability", &CAPABILITY)]), b"\x7fELF"),
        (attributed(file("noted"), &[("user.note", b"a\0b"), ("user.empty", b""), ("trusted.x.y", b"1")]), b"n"),
        (attributed(file("noted-too"), &[("user.large", &[7; 3000]), ("security.label", b"l\0")]), b"n"),
        (attributed(file("false"), &[("trusted.overlay.opaque", b"y"), ("trusted.overlay.redirect", b"/etc")]), b""),
        (attributed(dir("dir-noted"), &[("user.dir", b"x"), ("trusted.overlay.opaque", b"y")]), b""),
        (attributed(with(file("listed"), |e| e.mode = 0o670), &[("system.posix_acl_access", LIST)]), b""),
        (
            attributed(
                with(dir("listed-dir"), |e| e.mode = 0o670),
                &[("system.posix_acl_access", LIST), ("system.posix_acl_default", LIST)],
            ),
            b"",
        ),
        (file("listed-dir/inherits-nothing"), b""),
        (
            attributed(link("link", EntryKind::Symlink, "/etc/passwd"), &[("trusted.on-link", b"1"), ("user.no", b"")]),
            b"",
        ),
        (with(link("long-link", EntryKind::Symlink, &target), |e| (e.uid, e.mtime.nanos) = (9, 5)), b""),
        (link("link-of-480", EntryKind::Symlink, &"4".repeat(480)), b""),
        (link("link-of-481", EntryKind::Symlink, &"4".repeat(481)), b""),
        (file("one"), b"of three"),
        (link("dir-noted/two", EntryKind::Hardlink, "one"), b""),
        (link("three", EntryKind::Hardlink, "/dir-noted/../dir-noted/two"), b""),
        (link("linked-link", EntryKind::Hardlink, "link"), b""),
        (device("null", EntryKind::CharDevice, (1, 3)), b""),
        (device("disk", EntryKind::BlockDevice, (259, 1_048_575)), b""),
        (device("large", EntryKind::CharDevice, (4095, 256)), b""),
        (link("linked-device", EntryKind::Hardlink, "disk"), b""),
        (attributed(device("pipe", EntryKind::Fifo, (0, 0)), &[("trusted.pipe", b"p")]), b""),
        (file("empty"), b""),
        (file("511"), &large[..511]),
        (file("512"), &large[..512]),
        (file("513"), &large[..513]),
        (file("4096"), &large[..4096]),
        (file("4097"), &large[..4097]),
        (file("large"), &large),
        (file(&long), b"long name"),
        (file(&format!("{long}/../{long}2").replace(&format!("{long}2"), "up-and-down")), b"cleaned"),
        (file("deep/down/in/directories/that/nobody/described"), b"x"),
        (with(Entry::new(b"not \xff\xfe utf-8".as_slice(), EntryKind::File), |_| ()), b"raw"),
        (with(Entry::new(b"new\nline\x01".as_slice(), EntryKind::Directory), |_| ()), b""),
    ];
    let mut out = without_end(archive(&entries));
    out.extend(sparse("sparse/aligned", 3 << 20, &[(0, 4096), (1 << 20, 65_536), (2 << 20, 512)]));
    out.extend(sparse("sparse/to-its-end", (1 << 20) + 100, &[(1 << 20, 100)]));
    out.extend(sparse("sparse/unaligned", 1 << 20, &[(100, 7), (5000, 3000), (8100, 1), (600_001, 99_999)]));
    out.extend(sparse("sparse/neighbours", 10_000, &[(0, 512), (512, 512), (1024, 3), (1027, 4000)]));
    out.extend(sparse("sparse/all-hole", 123_457, &[]));
    out.extend(sparse("sparse/no-hole", 5000, &[(0, 5000)]));
    out.extend(sparse("sparse/last-byte-of-9-GiB", 9 << 30, &[((9 << 30) - 1, 1)]));
    out.extend(sparse("sparse/first-block-of-40-GiB", 40 << 30, &[(0, 512)]));
    out.extend(sparse("sparse/both-of-100-GiB", 100 << 30, &[(777, 3), (50 << 30, 4096), ((99 << 30) + 5, 100_000)]));
    ended(out)
}

#[test]
fn everything_that_a_file_can_be_is_shown_alike() {
    let both = Both::new();
    let unpacked = both.check(&everything());
    assert!(unpacked.size > 149 << 30 && unpacked.index.is_some(), "{unpacked:?}");
    // The archive is there as it came.
    let image = std::fs::read(both.image()).unwrap();
    let archive = everything();
    assert!(image[4096..4096 + archive.len()] == archive[..]);
    assert_eq!(Digest::of(&archive), unpacked.diff_id);
}

#[test]
fn an_empty_layer_is_an_empty_directory() {
    for archive in [b"".as_slice(), &[0; 1024], &[0; 10240]] {
        let both = Both::new();
        assert_eq!(both.check(archive).entries, 0);
    }
}

#[test]
fn directories_of_all_sizes_are_shown_alike() {
    let mut entries = vec![(dir("none"), b"".as_slice()), (file("one/x"), b""), (dir("dots"), b"")];
    // Names before, between and after the dot and the two.
    for name in ["!", "-", ".-", ".a", "..a", "...", "..!", ".!", "/a", " "] {
        entries.push((file(&format!("dots/{}", name.trim_start_matches('/'))), b""));
    }
    // Just as many as fit behind the inode and into a block, one less, one more.
    for bytes in [440, 441, 442, 443, 444, 445, 470, 471, 472, 473, 474, 475, 476, 500] {
        let size = bytes / 2 - 12;
        entries.push((file(&format!("exact-{bytes}/{}", "a".repeat(size.min(255)))), b""));
        entries.push((file(&format!("exact-{bytes}/{}", "b".repeat((size + bytes % 2).min(255)))), b""));
    }
    for n in 0..3000 {
        entries.push((file(&format!("3000/{}{n}", "x".repeat(n % 200))), b""));
    }
    let deep = "d/".repeat(600);
    entries.push((file(&format!("{deep}f")), b"deep"));
    Both::new().check(&archive(&entries));
}

#[test]
fn a_hundred_thousand_names_are_found() {
    let mut out = tar::Writer::new(Vec::new());
    let name = |n: u32| format!("{:06}", n * 7001 % 100_000);
    for n in 0..100_000 {
        // Not in order.
        let mut entry = file(&format!("many/{}", name(n)));
        entry.uid = n;
        out.entry(&entry).unwrap();
    }
    let both = Both::new();
    both.index(&out.finish().unwrap(), Vec::new()).unwrap();
    let mount = mounted(&both.image());
    let many = rustix::fs::openat(&mount, "many", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let names = listing::sorted_names(many.as_fd(), b"many").unwrap();
    assert!(names.iter().enumerate().all(|(n, name)| *name == format!("{n:06}").into_bytes()));
    assert_eq!(names.len(), 100_000);
    let reader = Reader::new(File::open(both.image()).unwrap()).unwrap();
    let dir = reader.find(&reader.root().unwrap(), b"many").unwrap().unwrap();
    assert_eq!(reader.list(&dir).unwrap().len(), 100_000);
    for n in (0..100_000).step_by(997) {
        assert_eq!(node::stat_at(many.as_fd(), name(n).as_bytes()).unwrap().st_uid, n);
        assert_eq!(reader.find(&dir, name(n).as_bytes()).unwrap().unwrap().uid, n);
        let missing = format!("{n:06}x");
        assert!(node::stat_at(many.as_fd(), missing.as_bytes()).is_err());
        assert_eq!(reader.find(&dir, missing.as_bytes()).unwrap(), None);
    }
}

#[test]
fn gnu_long_names_are_shown_alike() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(255));
    let gnu = |kind: u8, text: &str, mut entry: Vec<u8>| {
        let mut name = without_end(archive(&[(file("././@LongLink"), format!("{text}\0").as_bytes())]));
        name[156] = kind;
        name[148..156].fill(b' ');
        let sum: u32 = name[..512].iter().map(|&b| u32::from(b)).sum();
        name[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        name.append(&mut entry);
        name
    };
    let mut out = gnu(b'L', &long, without_end(archive(&[(file("short"), b"long name")])));
    let link = without_end(archive(&[(link("to-long", EntryKind::Symlink, "x"), b"")]));
    out.extend(gnu(b'K', &"../".repeat(600), link));
    Both::new().check(&ended(out));
}
