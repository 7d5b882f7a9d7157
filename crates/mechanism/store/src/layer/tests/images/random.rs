//! Random directories: archived, indexed, mounted, and then the same.

use super::*;
use crate::mutate::{LONG, Random, SHORT, rounds};
use std::time::Duration;

fn name(random: &mut Random) -> Vec<u8> {
    match random.below(12) {
        0 => (0..1 + random.below(255)).map(|_| 1 + random.below(255) as u8).filter(|b| *b != b'/').collect(),
        1 => vec![b'x'; 1 + random.below(255)],
        2 => vec![*random.pick(b"!-.~ "), *random.pick(b"!-.a")],
        _ => format!("{}{}", random.pick(&["a", "lib", "Z", ".", "..", "é"]), random.below(50)).into_bytes(),
    }
}

fn content(random: &mut Random) -> Vec<u8> {
    let length = match random.below(6) {
        0 => 0,
        1 => 512 * random.below(20),
        2 => random.below(300_000),
        _ => random.below(2000),
    };
    let mut state = Random::new(random.next());
    (0..length).map(|_| state.next() as u8).collect()
}

fn fill(random: &mut Random, root: &Path) {
    let mut dirs = vec![root.to_path_buf()];
    let mut files: Vec<PathBuf> = Vec::new();
    for _ in 0..random.below(150) {
        let parent = random.pick(&dirs).clone();
        let name = name(random);
        if name.is_empty() || name == b"." || name == b".." || name.starts_with(b".wh.") {
            continue;
        }
        let path = parent.join(bytes(&name));
        if path.symlink_metadata().is_ok() || path.as_os_str().len() > root.as_os_str().len() + 3000 {
            continue;
        }
        let mode = Mode::from_raw_mode(random.below(0o10000) as u32);
        match random.below(10) {
            0 | 1 => {
                std::fs::create_dir(&path).unwrap();
                dirs.push(path.clone());
            }
            2 if !files.is_empty() => {
                std::fs::hard_link(random.pick(&files), &path).unwrap();
                continue;
            }
            3 => {
                let target = vec![b't'; 1 + random.below(1500)];
                std::os::unix::fs::symlink(bytes(&target), &path).unwrap();
            }
            4 => {
                let kind = *random.pick(&[FileType::Fifo, FileType::CharacterDevice, FileType::BlockDevice]);
                let device = rustix::fs::makedev(1 + random.below(4000) as u32, random.below(1 << 20) as u32);
                rustix::fs::mknodat(CWD, &path, kind, mode, if kind == FileType::Fifo { 0 } else { device }).unwrap();
                files.push(path.clone());
            }
            5 => {
                let file = File::create(&path).unwrap();
                file.set_len(random.below(5_000_000) as u64).unwrap();
                let data = content(random);
                file.write_all_at(&data, random.below(3_000_000) as u64).unwrap();
                files.push(path.clone());
            }
            _ => {
                std::fs::write(&path, content(random)).unwrap();
                files.push(path.clone());
            }
        }
        let owner = |random: &mut Random| Some([0, 1000, 3_000_000, u32::MAX - 1][random.below(4)]);
        std::os::unix::fs::lchown(&path, owner(random), owner(random)).unwrap();
        if !path.is_symlink() {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode.as_raw_mode())).unwrap();
        }
        if random.below(4) == 0 {
            let prefix = if path.is_symlink() || !(path.is_file() || path.is_dir()) { "trusted." } else { "user." };
            let value = vec![7; random.below(2000)];
            let name = format!("{prefix}{}", "n".repeat(1 + random.below(100)));
            rustix::fs::lsetxattr(&path, name, &value, XattrFlags::empty()).unwrap();
        }
    }
    for path in files.iter().chain(&dirs) {
        set_time(path, random.next() as i64 % 2_000_000_000, random.below(1_000_000_000) as i64);
    }
}

fn directories_are_the_same_through_an_image(seed: u64, time: Duration) {
    let count = rounds(seed, time, |random| {
        let both = Both::new();
        fill(random, &both.tree);
        let mut archive = Vec::new();
        tar_tree(open(&both.tree).as_fd(), b"", &TreeOptions::default(), &mut archive).unwrap();
        // The root has no entry in such an archive.
        let root = rustix::fs::fstat(open(&both.tree)).unwrap();
        let root = node::entry_of(b"", &root, None).unwrap();
        let archive = [without_end(super::super::archive(&[(root, b"")])), archive].concat();
        let unpacked = both.index(&archive, Vec::new());
        assert!(unpacked.unwrap().index.is_some());
        assert_alike(open(&both.tree).as_fd(), mounted(&both.image()).as_fd());
    });
    assert!(count > 5, "{count}");
}

#[test]
fn directories_are_the_same_through_an_image_10_s() {
    directories_are_the_same_through_an_image(1, SHORT);
}

#[test]
#[ignore = "long"]
fn long_directories_are_the_same_through_an_image() {
    directories_are_the_same_through_an_image(u64::from(std::process::id()), LONG);
}
