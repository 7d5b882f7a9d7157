//! Images in memory: what a tree comes to, written and read back.

use super::*;
use crate::layer::Change;
use crate::{Entry, EntryKind, Time, tar};
use std::io::{Read as _, Write as _};
use tare_model::Result;

/// The image of an archive, as the store makes it; nothing may have to be copied.
fn image_of(archive: &[u8]) -> Result<Vec<u8>> {
    let mut tree = Tree::default();
    let mut reader = tar::Reader::new(archive, tar::Limits::default());
    while let Some(entry) = reader.next()? {
        let Plan::There(data) = Plan::of(&entry, ARCHIVE + reader.position()) else { panic!("to be copied") };
        tree.put(Change::of(entry)?, data)?;
    }
    assert!(tree.unsettled().is_empty());
    let image = Image::plan(&tree, archive.len() as u64, 0)?;
    let mut out = image.head();
    out.extend_from_slice(archive);
    out.resize(usize::try_from(image.index_at()).unwrap(), 0);
    image.write(&mut out).unwrap();
    assert_eq!(out.len() as u64, image.size());
    Ok(out)
}

fn archive(entries: &[(Entry, &[u8])]) -> Vec<u8> {
    let mut writer = tar::Writer::new(Vec::new());
    for (entry, content) in entries {
        let mut entry = entry.clone();
        entry.size = content.len() as u64;
        writer.entry(&entry).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn an_image_is_read_back_as_it_was_meant() {
    let mut noted = Entry::new("d/noted", EntryKind::File);
    (noted.mode, noted.uid, noted.gid, noted.mtime) = (0o4751, 70_000, u32::MAX - 1, Time { secs: -7, nanos: 999 });
    noted.xattrs = vec![(b"trusted.t".to_vec(), b"\0".to_vec()), (b"user.u".to_vec(), vec![5; 700])];
    let mut link = Entry::new("d/link", EntryKind::Symlink);
    link.link = b"l".repeat(600);
    let mut device = Entry::new("d/device", EntryKind::BlockDevice);
    device.device = (259, 1_000_000);
    let mut again = Entry::new("again", EntryKind::Hardlink);
    again.link = b"d/noted".to_vec();
    let names: Vec<String> = (0..500).map(|n| format!("many/{n}")).collect();
    let mut entries =
        vec![(noted.clone(), b"content".as_slice()), (link.clone(), b""), (device.clone(), b""), (again, b"")];
    entries.extend(names.iter().map(|name| (Entry::new(name.as_bytes(), EntryKind::File), b"".as_slice())));
    let image = image_of(&archive(&entries)).unwrap();
    let reader = Reader::new(image.as_slice()).unwrap();
    let find = |path: &str| {
        path.split('/').try_fold(reader.root().unwrap(), |at, name| reader.find(&at, name.as_bytes()).unwrap())
    };
    let there = find("d/noted").unwrap();
    let seen = (there.mode, there.uid, there.gid, there.mtime, there.links, &there.xattrs);
    assert_eq!(seen, (noted.mode, noted.uid, noted.gid, noted.mtime, 2, &noted.xattrs));
    assert_eq!(find("again").unwrap(), there);
    assert_eq!(reader.target(&find("d/link").unwrap()).unwrap(), link.link);
    assert_eq!(find("d/device").unwrap().device, device.device);
    let many = reader.list(&find("many").unwrap()).unwrap();
    assert_eq!(many.len(), 500);
    for name in &many {
        let found = reader.find(&find("many").unwrap(), &name.name).unwrap().unwrap();
        assert_eq!(found.nid, name.nid);
    }
    for missing in ["d/nothing", "many/", "many/500", "many/0!", "many/:", "."] {
        assert_eq!(find(missing), None, "{missing}");
    }
    let mut content = Vec::new();
    Reader::new(image.as_slice()).unwrap().into_content(there).read_to_end(&mut content).unwrap();
    assert_eq!(content, b"content");
}

/// Run by hand, in a release build: memory and time for a million entries.
#[test]
#[ignore = "a measurement"]
fn measure_a_million_entries() {
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    };
    for count in [62_000u64, 1_000_000] {
        let before = resident();
        let begun = std::time::Instant::now();
        let (mut tree, mut names) = (Tree::default(), 0);
        for n in 0..count {
            let mut entry =
                Entry::new(format!("usr/share/pack-{}/dir{}/file-{n}.py", n / 400, n / 20), EntryKind::File);
            names += format!("file-{n}.py").len() as u64;
            entry.size = 7000;
            tree.put(Change::Put(entry), Data::Whole(ARCHIVE + n * 7680)).unwrap();
        }
        let (put, full) = (begun.elapsed(), resident());
        let begun = std::time::Instant::now();
        let image = Image::plan(&tree, count * 7680, 0).unwrap();
        let planned = begun.elapsed();
        image.write(&mut std::io::sink()).unwrap();
        let (written, peak) = (begun.elapsed(), resident());
        println!(
            "{count} entries: put {put:?}, plan {planned:?}, plan and write {written:?}, index {} bytes; {} and at its peak {} bytes an \
             entry, names of {} bytes, weight {}",
            image.size() - image.index_at(),
            (full - before) / count,
            (peak - before) / count,
            names / count,
            tree.weight() / count,
        );
    }
}
