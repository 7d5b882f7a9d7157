//! Archives made by others and by us, and broken ones.

use super::{Limits, Reader, Writer};
use crate::entry::{Entry, EntryKind, Extent, Time};
use crate::layer::Change;
use std::io::{Read, Write};
use tare_model::{Kind, Result};

fn read(archive: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>> {
    let mut reader = Reader::new(archive, Limits::default());
    let mut found = Vec::new();
    while let Some(entry) = reader.next()? {
        let mut content = Vec::new();
        if reader.content().read_to_end(&mut content).is_err() {
            return Err(tare_model::Error::new(Kind::Corrupt, "read", ""));
        }
        found.push((entry, content));
    }
    Ok(found)
}

pub(super) fn write(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, content) in entries {
        writer.entry(entry).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap()
}

fn file(path: &[u8], content: &[u8]) -> (Entry, Vec<u8>) {
    let mut e = Entry::new(path, EntryKind::File);
    e.size = content.len() as u64;
    (e, content.to_vec())
}

/// One entry of each kind and difficulty.
pub(super) fn varied() -> Vec<(Entry, Vec<u8>)> {
    let mut all = vec![file(b"plain", b"content"), file(&b"x/".repeat(120), b""), file(b"\xff\xfe", &[7; 1300])];
    all[1].0.path.extend_from_slice(b"long");
    let with = |path: &[u8], kind, f: &dyn Fn(&mut Entry)| {
        let mut e = Entry::new(path, kind);
        f(&mut e);
        (e, Vec::new())
    };
    all.push(with(&b"n".repeat(250), EntryKind::Symlink, &|e| e.link = b"t/".repeat(200)));
    all.push(with(b"hard", EntryKind::Hardlink, &|e| e.link = b"plain".to_vec()));
    all.push(with(b"null", EntryKind::CharDevice, &|e| e.device = (1, 3)));
    all.push(with(b"disk", EntryKind::BlockDevice, &|e| e.device = (259, 70_000)));
    all.push(with(b"pipe", EntryKind::Fifo, &|e| e.mode = 0o6711));
    all.push(with(b"dir/", EntryKind::Directory, &|e| e.xattrs = vec![(b"user.x".to_vec(), b"a\n\0=".to_vec())]));
    all.push(with(b"far", EntryKind::File, &|e| (e.uid, e.gid) = (u32::MAX - 1, 1 << 21)));
    all.push(with(b"early", EntryKind::File, &|e| e.mtime = Time { secs: -2, nanos: 999_999_999 }));
    all.push(with(b"late", EntryKind::File, &|e| e.mtime = Time { secs: 1 << 40, nanos: 1 }));
    all
}

#[test]
fn what_is_written_is_read_back_and_equal_entries_are_equal_bytes() {
    let entries = varied();
    let archive = write(&entries);
    assert_eq!(read(&archive).unwrap(), entries);
    assert_eq!(archive, write(&entries));
    assert_eq!(archive.len() % 512, 0);
}

#[test]
fn plain_entries_need_no_extended_header() {
    assert_eq!(write(&[file(b"a", b"b")]).len(), 4 * 512);
    assert_eq!(write(&[file(&[b"d".repeat(120), b"n".repeat(90)].join(&b'/'), b"")]).len(), 3 * 512);
}

#[test]
fn gnu_tar_reads_what_we_write() {
    let mut entries = varied();
    entries.truncate(8);
    let dir = std::env::temp_dir().join(format!("tare-format-{}.tar", std::process::id()));
    std::fs::write(&dir, write(&entries)).unwrap();
    let out = tool("tar", &["tvf", dir.to_str().unwrap()]);
    std::fs::remove_file(&dir).unwrap();
    assert_eq!(String::from_utf8_lossy(&out).lines().count(), 8);
}

#[expect(clippy::disallowed_methods, reason = "GNU tar is the other implementation")]
fn tool(name: &str, args: &[&str]) -> Vec<u8> {
    let out = std::process::Command::new(name).args(args).output().unwrap();
    assert!(out.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    out.stdout
}

#[test]
fn sparse_files_of_gnu_tar_in_all_versions() {
    let dir = std::env::temp_dir().join(format!("tare-sparse-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let f = std::fs::File::create(dir.join("s")).unwrap();
    f.set_len(10 << 20).unwrap();
    for i in 0..40u64 {
        std::os::unix::fs::FileExt::write_all_at(&f, &[i as u8 + 1; 4096], i * (200 << 10)).unwrap();
    }
    let want = std::fs::read(dir.join("s")).unwrap();
    let base = ["-C", dir.to_str().unwrap(), "--sparse", "-cf", "-", "s"];
    for how in [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ] {
        let archive = tool("tar", &[how, &base].concat());
        let entries = read(&archive).unwrap();
        assert_eq!(entries.len(), 1, "{how:?}");
        let (entry, stored) = &entries[0];
        assert_eq!((entry.path.as_slice(), entry.size), (b"s".as_slice(), 10 << 20), "{how:?}");
        let extents = entry.sparse.as_ref().unwrap();
        assert!(extents.len() >= 40, "{how:?}");
        let mut whole = vec![0; 10 << 20];
        let mut at = 0;
        for Extent { offset, length } in extents {
            let (offset, length) = (*offset as usize, *length as usize);
            whole[offset..offset + length].copy_from_slice(&stored[at..at + length]);
            at += length;
        }
        assert!(whole == want, "{how:?}");
        // A map cut short, or one that lies, is an error and not a panic or an endless loop.
        assert!(read(&archive[..600]).is_err());
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn pax_archive_of_python() {
    let entries = read(include_bytes!("../../tests/data/python-pax.tar")).unwrap();
    let get = |name: &[u8]| &entries.iter().find(|(e, _)| e.path == name).unwrap().0;
    assert_eq!(entries[0].0.path, [b"d".repeat(60), b"n".repeat(90)].join(&b'/'));
    assert_eq!((entries[1].0.uid, entries[1].0.gid), (4_000_000_000, 3_000_000));
    assert_eq!(get(b"nano").mtime, Time { secs: 1_700_000_000, nanos: 123_456_789 });
    assert_eq!(
        get(b"nano").xattrs,
        [(b"security.capability".to_vec(), b"raw\0value".to_vec()), (b"user.a".to_vec(), b"b".to_vec())]
    );
    assert_eq!(get(b"old").mtime, Time { secs: -2, nanos: 500_000_000 });
    assert_eq!(get(b"sym").link.len(), 300);
    assert_eq!(get(b"dir/").mode, 0o1777);
    assert_eq!(get(b"blk").device, (8, 300));
    assert_eq!(entries.iter().filter(|(e, _)| e.path == b"dup").count(), 2);
    assert!(entries.iter().any(|(e, _)| e.path == b"\xff\xfe-bytes"));
}

#[test]
fn gnu_archive_of_python() {
    let entries = read(include_bytes!("../../tests/data/python-gnu.tar")).unwrap();
    assert_eq!(entries[0].0.path, b"g".repeat(300));
    assert_eq!((entries[0].0.uid, entries[0].0.mtime.secs), (3_000_000, -5));
    assert_eq!(entries[0].1, b"abc");
    assert_eq!(entries[1].0.link, b"k".repeat(200));
}

#[test]
fn global_headers_count_until_a_header_of_its_own() {
    let mut archive = Vec::new();
    let mut entry = file(b"a", b"");
    entry.0.mtime = Time { secs: 5, nanos: 5 };
    let mut global = write(&[entry]);
    global[156] = b'g';
    fix_checksum(&mut global[..512]);
    archive.extend_from_slice(&global[..1024]);
    archive.extend(write(&[file(b"b", b""), file(b"c", b"")]));
    let entries = read(&archive).unwrap();
    assert!(entries.iter().all(|(e, _)| e.mtime == Time { secs: 5, nanos: 5 }));
}

pub(super) fn fix_checksum(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn hostile_headers_are_clear_errors() {
    let whole = write(&[file(b"a", &[1; 2000])]);
    let error = |bytes: &[u8]| read(bytes).unwrap_err();
    assert_eq!(error(&whole[..100]).kind(), Kind::Corrupt);
    assert_eq!(error(&whole[..1000]).kind(), Kind::Corrupt);
    assert_eq!(read(&whole[..512 + 2048]).unwrap().len(), 1, "an archive without its end is complete");
    let broken = |at: usize, with: &[u8]| {
        let mut b = whole.clone();
        b[at..at + with.len()].copy_from_slice(with);
        fix_checksum(&mut b[..512]);
        error(&b)
    };
    assert!(broken(124, b"-1").to_string().contains("octal"));
    assert!(broken(124, &[0xff; 12]).to_string().contains("negative"));
    assert_eq!(broken(156, b"Z").kind(), Kind::Unsupported);
    assert!(broken(108, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).to_string().contains("owner"));
    // An extended header that claims gigabytes.
    let mut huge = whole.clone();
    huge[156] = b'x';
    huge[124..136].copy_from_slice(b"77777777777\0");
    fix_checksum(&mut huge[..512]);
    assert!(error(&huge).to_string().contains("limit"));
    assert_eq!(
        error(b"this is no tar archive but a text of more than 512 bytes".repeat(20).as_slice()).kind(),
        Kind::Invalid
    );
}

#[test]
fn extended_headers_cannot_add_up_to_more_than_the_limit() {
    let mut entry = file(b"a", b"").0;
    entry.xattrs = (0..9000).map(|i| (format!("user.{i:05}").into_bytes(), b"v".to_vec())).collect();
    entry.xattrs.push((b"user.z".to_vec(), vec![1; 600_000]));
    let one = write(&[(entry.clone(), Vec::new())]);
    let headers = &one[..one.len() - 3 * 512];
    assert_eq!(read(&one).unwrap()[0].0.xattrs, entry.xattrs);
    let e = read(&[headers, &one].concat()).unwrap_err();
    assert!(e.to_string().contains("limit"), "{e}");
}

#[test]
fn of_two_attributes_of_one_name_the_last_counts() {
    let mut entry = file(b"a", b"").0;
    entry.xattrs = vec![(b"user.x".to_vec(), b"1".to_vec()), (b"user.x".to_vec(), b"2".to_vec())];
    assert_eq!(read(&write(&[(entry, Vec::new())])).unwrap()[0].0.xattrs, [(b"user.x".to_vec(), b"2".to_vec())]);
}

#[test]
fn content_must_be_as_long_as_announced() {
    let mut w = Writer::new(Vec::new());
    w.entry(&file(b"a", b"123").0).unwrap();
    w.write_all(b"12").unwrap();
    assert_eq!(w.entry(&file(b"b", b"").0).unwrap_err().kind(), Kind::State);
    assert!(w.write_all(b"34").is_err());
}

/// Twenty thousand damaged archives: an answer or an error each time, never a panic, never much memory. Deterministic.
#[test]
fn mutated_archives_never_panic() {
    let mut seeds = vec![
        write(&varied()),
        include_bytes!("../../tests/data/python-pax.tar").to_vec(),
        include_bytes!("../../tests/data/python-gnu.tar").to_vec(),
    ];
    let dir = std::env::temp_dir().join(format!("tare-mutate-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let f = std::fs::File::create(dir.join("s")).unwrap();
    f.set_len(1 << 20).unwrap();
    for i in 0..8u64 {
        std::os::unix::fs::FileExt::write_all_at(&f, b"data", i << 16).unwrap();
    }
    for version in ["gnu", "0.0", "0.1", "1.0"] {
        let format = if version == "gnu" { "--format=gnu".to_owned() } else { "--format=posix".to_owned() };
        let version = if version == "gnu" { "1.0" } else { version };
        let version = format!("--sparse-version={version}");
        seeds.push(tool("tar", &[&format, &version, "-C", dir.to_str().unwrap(), "--sparse", "-cf", "-", "s"]));
    }
    std::fs::remove_dir_all(&dir).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let (mut good, mut bad) = (0, 0);
    for _ in 0..20_000 {
        let mut archive = seeds[random(seeds.len())].clone();
        for _ in 0..=random(4) {
            let at = random(archive.len());
            match random(5) {
                0 => archive[at] = random(256) as u8,
                1 => archive[at] = b"0123456789 \n\0/.=xgLKS"[random(21)],
                2 => archive.truncate(at.max(1)),
                3 => {
                    let block = at / 512 * 512;
                    let copy = archive[block..(block + 512).min(archive.len())].to_vec();
                    archive.splice(block..block, copy);
                }
                _ => archive[at] ^= 1 << random(8),
            }
        }
        // Most damage would end at the checksum.
        for start in (0..archive.len().saturating_sub(511)).step_by(512) {
            if &archive[start + 257..start + 262] == b"ustar" {
                fix_checksum(&mut archive[start..start + 512]);
            }
        }
        match read(&archive) {
            Ok(entries) => {
                good += 1;
                for (entry, _) in entries {
                    let _ = Change::of(entry);
                }
            }
            Err(_) => bad += 1,
        }
    }
    assert!(good > 1000 && bad > 1000, "{good} {bad}");
}
