//! Images that nobody meant.

use super::*;
use crate::layer::Change;
use crate::mutate::{LONG, Random, SHORT, rounds, spoil};
use crate::{Entry, EntryKind, Extent};
use std::io::Read as _;
use std::time::Duration;

/// An image with one of everything; its archive is empty, and so is all data.
fn honest() -> Vec<u8> {
    let mut tree = Tree::default();
    let mut put = |path: &str, kind, change: &dyn Fn(&mut Entry)| {
        let mut entry = Entry::new(path, kind);
        change(&mut entry);
        let Plan::There(data) = Plan::of(&entry, ARCHIVE) else { panic!("{path} to be copied") };
        tree.put(Change::of(entry).unwrap(), data).unwrap();
    };
    put("file", EntryKind::File, &|e| e.size = 3000);
    put("empty", EntryKind::File, &|_| {});
    put("noted", EntryKind::File, &|e| {
        e.xattrs = vec![(b"user.a".to_vec(), vec![1; 40]), (b"user.b".to_vec(), vec![])]
    });
    put("again", EntryKind::Hardlink, &|e| e.link = b"noted".to_vec());
    put("short", EntryKind::Symlink, &|e| e.link = b"dir/deep".to_vec());
    put("long", EntryKind::Symlink, &|e| e.link = vec![b't'; 700]);
    put("device", EntryKind::CharDevice, &|e| e.device = (1, 3));
    put("dir/deep/er", EntryKind::Directory, &|_| {});
    put("dir/.wh..wh..opq", EntryKind::File, &|_| {});
    put("sparse", EntryKind::File, &|e| {
        e.size = 20_000;
        e.sparse = Some(vec![Extent { offset: 0, length: 512 }, Extent { offset: 8192, length: 1024 }]);
    });
    for n in 0..60 {
        put(&format!("many/name-{n}"), EntryKind::File, &|_| {});
    }
    let image = Image::plan(&tree, 4096, 0).unwrap();
    let mut out = image.head();
    out.resize(usize::try_from(image.index_at()).unwrap(), 0);
    image.write(&mut out).unwrap();
    out
}

/// Looks at all of it; the number of names, or `None` if it was refused.
fn look(image: &[u8]) -> Option<usize> {
    let reader = Reader::new(image).ok()?;
    let mut names = 0;
    let mut last = None;
    let walked = reader.walk(|path, inode| {
        names += 1;
        match inode.kind {
            EntryKind::Symlink => drop(reader.target(inode)),
            EntryKind::File => {
                let mut content = Vec::new();
                let file = Reader::new(image)?.into_content(inode.clone());
                // An error is an answer.
                let _ = file.take(1 << 16).read_to_end(&mut content);
                assert!(content.len() as u64 <= inode.size);
            }
            EntryKind::Directory => {
                for name in [b"name-7".as_slice(), b"deep", b"", b"..", &[b'z'; 300]] {
                    let _ = reader.find(inode, name);
                }
                last = Some(path.to_vec());
            }
            _ => {}
        }
        Ok(())
    });
    // A name takes 13 bytes at least, and no directory is seen twice.
    assert!(names <= 1 + image.len() / 13, "{names} names");
    walked.ok().map(|()| names)
}

/// Numbers where the index has them: a sense of the format finds more than bits do.
fn misplace(random: &mut Random, image: &mut [u8]) {
    for _ in 0..=random.below(3) {
        let index = 8192 + 2 * random.below((image.len() - 8192) / 2);
        let at = match random.below(3) {
            0 => index,
            1 => 1024 + 4 * random.below(32),
            _ => index / 32 * 32 + 2 * random.below(24),
        };
        let value = match random.below(5) {
            0 => u64::MAX,
            1 => 0,
            2 => random.next() >> random.below(64),
            3 => random.below(image.len() / 32) as u64,
            _ => 1 << random.below(64),
        };
        let width = *random.pick(&[1, 2, 4, 8]);
        if let Some(place) = image.get_mut(at..at + width) {
            place.copy_from_slice(&value.to_le_bytes()[..width]);
        }
    }
}

fn fuzz(seed: u64, time: Duration) {
    let honest = honest();
    assert_eq!(look(&honest), Some(73));
    let (mut whole, mut refused) = (0, 0);
    rounds(seed, time, |random| {
        let mut image = honest.clone();
        if random.below(3) == 0 {
            // Only the index: the rest means nothing.
            let mut index = image.split_off(if random.below(4) == 0 { 1024 } else { 8192 });
            spoil(random, &mut index);
            image.extend(index);
        } else {
            misplace(random, &mut image);
        }
        match look(&image) {
            Some(_) => whole += 1,
            None => refused += 1,
        }
    });
    assert!(whole > 10 && refused > 10, "{whole} looked well, {refused} did not");
}

#[test]
fn a_directory_that_is_its_own_parent_s_child_ends() {
    let mut image = honest();
    let reader = Reader::new(image.as_slice()).unwrap();
    let dir = reader.find(&reader.root().unwrap(), b"dir").unwrap().unwrap();
    let deep = reader.find(&dir, b"deep").unwrap().unwrap();
    let (from, to) = (deep.nid.to_le_bytes(), dir.nid.to_le_bytes());
    let entries: Vec<usize> = (8192..image.len() - 8).filter(|at| image[*at..at + 8] == from).collect();
    for at in entries {
        image[at..at + 8].copy_from_slice(&to);
    }
    let error = Reader::new(image.as_slice()).unwrap().walk(|_, _| Ok(())).unwrap_err();
    assert!(error.to_string().contains("a directory that has two names"), "{error}");
}

#[test]
fn spoilt_images_make_no_panic_and_no_endless_work() {
    fuzz(1, SHORT);
}

#[test]
#[ignore = "long"]
fn long_spoilt_images_make_no_panic_and_no_endless_work() {
    fuzz(u64::from(std::process::id()), LONG);
}
