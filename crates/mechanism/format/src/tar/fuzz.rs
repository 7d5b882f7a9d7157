//! Archives that nobody meant, through everything that reads them: entries, their meaning in a layer, the files of an image.

use super::tests::{fix_checksum, varied, write};
use super::{Limits, Reader};
use crate::erofs::{Data, Image, Tree};
use crate::layer::Change;
use crate::mutate::{LONG, Random, SHORT, rounds, spoil};
use std::io::Read as _;
use std::time::Duration;

/// A bare header.
fn record(name: &[u8], kind: u8, link: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name);
    header[157..157 + link.len()].copy_from_slice(link);
    header[156] = kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    fix_checksum(&mut header);
    header
}

/// Headers of each type, with records that change their meaning.
fn seeds() -> Vec<Vec<u8>> {
    let python = [
        include_bytes!("../../tests/data/python-pax.tar").to_vec(),
        include_bytes!("../../tests/data/python-gnu.tar").to_vec(),
    ];
    let names =
        ["d/../e", "/abs", "../out", ".wh.x", "d/.wh..wh..opq", ".wh..wh.plnk", "l/x", "d", "l", "hard", "plain"];
    let links: Vec<Vec<u8>> = names
        .iter()
        .flat_map(|name| [b'0', b'1', b'2', b'3', b'5', b'6'].map(|kind| record(name.as_bytes(), kind, b"d")))
        .collect();
    [write(&varied())].into_iter().chain(python).chain([links.concat()]).collect()
}

fn check(archive: &[u8]) {
    let limits = Limits { extended: 1 << 16, extents: 64, headers: 8 };
    let mut reader = Reader::new(archive, limits);
    let mut tree = Tree::default();
    while let Ok(Some(entry)) = reader.next() {
        let (at, kind) = (reader.position(), entry.kind);
        assert!(at <= archive.len() as u64 && entry.stored_size() <= entry.size.max(entry.stored_size()));
        if let Some(pieces) = &entry.sparse {
            let ends = pieces.iter().map(|p| p.offset + p.length).collect::<Vec<_>>();
            assert!(ends.is_sorted() && ends.last().is_none_or(|end| *end <= entry.size), "{pieces:?}");
        }
        let mut content = Vec::new();
        let whole = reader.content().read_to_end(&mut content).is_ok();
        assert!(content.len() <= archive.len());
        let Ok(change) = Change::of(entry) else { continue };
        if let Change::Put(entry) = &change {
            let clean = |path: &[u8]| {
                path.is_empty() || path.split(|b| *b == b'/').all(|part| !matches!(part, b"" | b"." | b".."))
            };
            assert!(clean(&entry.path) && !entry.path.contains(&0), "{:?}", entry.path);
            assert!(kind != crate::EntryKind::Hardlink || clean(&entry.link), "{:?}", entry.link);
        }
        if whole {
            let _ = tree.put(change, Data::Whole(4096));
        }
    }
    let _ = tree.unsettled();
    if let Ok(image) = Image::plan(&tree, archive.len() as u64, 0)
        && image.size() < 16 << 20
    {
        let mut index = Vec::new();
        image.write(&mut index).expect("a vector takes everything");
        assert_eq!(image.index_at() + index.len() as u64, image.size());
    }
}

fn fuzz(seed: u64, time: Duration) {
    let seeds = seeds();
    seeds.iter().for_each(|archive| check(archive));
    let count = rounds(seed, time, |random| {
        let mut archive = random.pick(&seeds).clone();
        spoil(random, &mut archive);
        mend(random, &mut archive);
        check(&archive);
    });
    assert!(count > 100, "{count} rounds");
}

/// Most damage would end at the checksum.
fn mend(random: &mut Random, archive: &mut [u8]) {
    if random.below(8) == 0 {
        return;
    }
    for header in archive.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        fix_checksum(header);
    }
}

#[test]
fn hostile_archives_make_no_panic() {
    fuzz(1, SHORT);
}

#[test]
#[ignore = "two minutes"]
fn long_hostile_archives_make_no_panic() {
    fuzz(2, LONG);
}
