//! A disk that remembers in which order it was written and flushed, and the disks that a power cut could have left.
//!
//! ```text
//! ext4 ── loop device ── file of FUSE ── qemu-storage-daemon: blklogwrites ──► live image
//!                                                                        └──► log of all writes and flushes
//! ```
//!
//! A disk promises of a write no more than this: it is there after the next flush. So a power cut may leave all that came
//! before the last flush, and of what came after it any part; [`Log::disk_at`] makes such a disk, from the
//! log, for any moment. The file system is ext4 with its journal; mounting what was made replays that.

use crate::Dice;
use crate::process::{Running, command};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const SECTOR: u64 = 512;
/// What the disk writes as a whole or not at all (an ext4 block).
const BLOCK: usize = 4096;
const IS_FLUSH: u64 = 1;
const IS_DISCARD: u64 = 4;

/// The file system, mounted, with all that is written to it recorded.
#[derive(Debug)]
pub struct RecordedDisk {
    dir: TempDir,
    daemon: Child,
    device: Device,
    mount: Mount,
}

/// What was recorded.
#[derive(Debug)]
pub struct Log {
    dir: TempDir,
    entries: Vec<LogEntry>,
}

#[derive(Debug, Clone, Copy)]
struct LogEntry {
    /// Where on the disk, and how much, in bytes.
    offset: u64,
    length: u64,
    /// Where the data stands in the log; `None` for what is discarded.
    data: Option<u64>,
    flush: bool,
}

fn done(line: &[&str]) -> String {
    let out = Running::start(command(line[0]).args(&line[1..]), None).wait();
    assert_eq!(out.code, 0, "{line:?}: {}", out.stderr);
    out.stdout.trim().to_owned()
}

/// A loop device; goes with the value.
#[derive(Debug)]
struct Device(String);

impl Device {
    fn of(file: &Path) -> Device {
        Device(done(&["losetup", "--find", "--show", &file.display().to_string()]))
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        Running::start(command("losetup").args(["--detach", &self.0]), None).wait();
    }
}

/// A mounted file system; goes with the value.
#[derive(Debug)]
struct Mount(PathBuf);

impl Mount {
    fn of(device: &Device, at: PathBuf) -> Mount {
        std::fs::create_dir_all(&at).unwrap();
        done(&["mount", "-t", "ext4", &device.0, &at.display().to_string()]);
        Mount(at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let at = self.0.display().to_string();
        if Running::start(command("umount").arg(&at), None).wait().code != 0 {
            Running::start(command("umount").args(["--lazy", &at]), None).wait();
        }
    }
}

fn directory() -> TempDir {
    let base = crate::process::environment("TARE_TEST_DIR").map_or_else(|| "/var/tmp".into(), PathBuf::from);
    tempfile::Builder::new().prefix("tare-disk-").tempdir_in(base).unwrap()
}

impl RecordedDisk {
    /// A new disk of this many MiB with an empty file system.
    ///
    /// # Panics
    /// If one of the programs that make it fails.
    pub fn new(megabytes: u64) -> RecordedDisk {
        let dir = directory();
        let path = |name: &str| dir.path().join(name);
        let base = path("base").display().to_string();
        File::create(&base).unwrap().set_len(megabytes << 20).unwrap();
        // Nothing is left to be written lazily; the journal is as small as it may be.
        let options = "lazy_itable_init=0,lazy_journal_init=0";
        done(&["mkfs.ext4", "-q", "-F", "-m", "0", "-J", "size=8", "-E", options, &base]);
        done(&["cp", "--sparse=always", &base, &path("live").display().to_string()]);
        File::create(path("log")).unwrap().set_len(16 << 30).unwrap();
        let exported = path("disk");
        File::create(&exported).unwrap();
        let daemon = serve(&path("live"), &path("log"), &exported);
        let size = megabytes << 20;
        let is_there = || std::fs::metadata(&exported).is_ok_and(|m| m.len() == size);
        assert!(crate::eventually(Duration::from_secs(30), is_there), "qemu-storage-daemon exports nothing");
        let device = Device::of(&exported);
        let mount = Mount::of(&device, path("mnt"));
        RecordedDisk { dir, daemon, device, mount }
    }

    /// Where it is mounted.
    pub fn mounted(&self) -> &Path {
        &self.mount.0
    }

    /// How many writes and flushes were recorded so far: all that was acknowledged before this is called is among them.
    pub fn recorded(&self) -> usize {
        entries(&self.dir.path().join("log")).len()
    }

    /// Unmounts it; what was written is there to be replayed.
    ///
    /// # Panics
    /// If the recorder did not write a whole log.
    pub fn end(self) -> Log {
        let RecordedDisk { dir, mut daemon, device, mount } = self;
        drop(mount);
        drop(device);
        done(&["kill", &daemon.id().to_string()]);
        daemon.wait().unwrap();
        let entries = entries(&dir.path().join("log"));
        std::fs::remove_file(dir.path().join("live")).unwrap();
        Log { dir, entries }
    }
}

fn serve(live: &Path, log: &Path, exported: &Path) -> Child {
    let node = |path: &Path, name: &str| {
        // The log and the live image need not outlive a power cut of this machine.
        format!("driver=file,filename={},node-name={name},cache.no-flush=on", path.display())
    };
    let mut daemon = command("qemu-storage-daemon");
    daemon.args(["--blockdev", &node(live, "live"), "--blockdev", &node(log, "log")]);
    daemon.args(["--blockdev", "driver=blklogwrites,node-name=recorded,file=live,log=log,log-sector-size=512"]);
    let export = format!("type=fuse,id=disk,node-name=recorded,mountpoint={},writable=on", exported.display());
    daemon.args(["--export", &export]);
    daemon.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

/// Reads a log: a head, then for each entry one sector that says where and how much (little endian, in
/// sectors) and what of, and the data behind it. The format is dm-log-writes's.
fn entries(log: &Path) -> Vec<LogEntry> {
    let log = File::open(log).unwrap();
    let word = |at: u64| {
        let mut bytes = [0; 8];
        log.read_exact_at(&mut bytes, at).unwrap();
        u64::from_le_bytes(bytes)
    };
    assert_eq!(word(0), 0x006a_7366_7773_6872, "no log");
    let mut found = Vec::new();
    let mut at = SECTOR;
    loop {
        let (sector, sectors, flags) = (word(at), word(at + 8), word(at + 16));
        if sectors == 0 && flags == 0 {
            return found;
        }
        let flush = flags & IS_FLUSH != 0;
        at += SECTOR;
        let discards = flags & IS_DISCARD != 0;
        let (offset, length) = (sector * SECTOR, sectors * SECTOR);
        found.push(LogEntry { offset, length, data: (!discards).then_some(at), flush });
        if !discards {
            at += length;
        }
    }
}

impl Log {
    /// How many writes and flushes there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The moments right after a flush, as numbers of entries before the cut.
    pub fn flushes(&self) -> Vec<usize> {
        (1..=self.entries.len()).filter(|&n| self.entries[n - 1].flush).collect()
    }

    /// The disk of a power cut after `moment` entries. All up to the last flush before it is there; of what was
    /// written since, every block is there or not, as the dice fall.
    ///
    /// # Panics
    /// If the disk cannot be made or mounted.
    pub fn disk_at(&self, moment: usize, dice: &mut Dice) -> CutDisk {
        let dir = directory();
        let path = dir.path().join("disk");
        let base = self.dir.path().join("base");
        done(&["cp", "--sparse=always", &base.display().to_string(), &path.display().to_string()]);
        let disk = File::options().write(true).open(&path).unwrap();
        let log = File::open(self.dir.path().join("log")).unwrap();
        let durable = (0..moment).rev().find(|&n| self.entries[n].flush).unwrap_or(0);
        for (n, entry) in self.entries[..moment].iter().enumerate() {
            let mut data = vec![0; usize::try_from(entry.length).unwrap()];
            if let Some(at) = entry.data {
                log.read_exact_at(&mut data, at).unwrap();
            }
            for (i, block) in data.chunks(BLOCK).enumerate() {
                if n < durable || dice.roll() & 1 == 0 {
                    disk.write_all_at(block, entry.offset + (i * BLOCK) as u64).unwrap();
                }
            }
        }
        let device = Device::of(&path);
        let mount = Mount::of(&device, dir.path().join("mnt"));
        CutDisk { mount, _device: device, _dir: dir }
    }
}

/// A disk as a power cut left it, mounted.
#[derive(Debug)]
pub struct CutDisk {
    // In this order they go.
    mount: Mount,
    _device: Device,
    _dir: TempDir,
}

impl CutDisk {
    /// Where it is mounted.
    pub fn mounted(&self) -> &Path {
        &self.mount.0
    }
}
