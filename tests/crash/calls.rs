//! The system calls that change something, and where their arguments say what.

/// Where a call names what it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    /// A descriptor in this argument.
    Descriptor(usize),
    /// A path in this argument.
    Path(usize),
    /// A path in the second of these arguments, below the descriptor in the first.
    At(usize, usize),
    /// What is changed is no file below a directory: always counted.
    Always,
}

/// What a call can fail with when the disk is full or broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// Takes space: ENOSPC and EIO.
    Takes,
    /// Gives or moves it: EIO alone.
    Other,
    /// No file system is asked.
    None,
}

/// One call that changes something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mutating {
    pub(crate) number: i32,
    pub(crate) name: &'static str,
    /// The last one is what is changed or made.
    pub(crate) objects: &'static [Object],
    pub(crate) space: Space,
}

use Object::{Always, At, Descriptor, Path};

const fn call(number: i32, name: &'static str, objects: &'static [Object], space: Space) -> Mutating {
    Mutating { number, name, objects, space }
}

pub(crate) const OPEN: i32 = 2;
pub(crate) const IOCTL: i32 = 16;
pub(crate) const CLONE: i32 = 56;
pub(crate) const OPENAT: i32 = 257;
pub(crate) const CLONE3: i32 = 435;
pub(crate) const OPENAT2: i32 = 437;
pub(crate) const UTIMENSAT: i32 = 280;

/// Numbers of x86-64: arch/x86/entry/syscalls/syscall_64.tbl.
pub(crate) const MUTATING: &[Mutating] = &[
    call(1, "write", &[Descriptor(0)], Space::Takes),
    call(OPEN, "open", &[Path(0)], Space::Takes),
    call(IOCTL, "ioctl", &[Descriptor(0)], Space::Takes),
    call(18, "pwrite64", &[Descriptor(0)], Space::Takes),
    call(20, "writev", &[Descriptor(0)], Space::Takes),
    call(40, "sendfile", &[Descriptor(0)], Space::Takes),
    call(CLONE, "clone", &[Always], Space::None),
    call(57, "fork", &[Always], Space::None),
    call(58, "vfork", &[Always], Space::None),
    call(74, "fsync", &[Descriptor(0)], Space::Takes),
    call(75, "fdatasync", &[Descriptor(0)], Space::Takes),
    call(76, "truncate", &[Path(0)], Space::Other),
    call(77, "ftruncate", &[Descriptor(0)], Space::Takes),
    call(82, "rename", &[Path(0), Path(1)], Space::Takes),
    call(83, "mkdir", &[Path(0)], Space::Takes),
    call(84, "rmdir", &[Path(0)], Space::Other),
    call(85, "creat", &[Path(0)], Space::Takes),
    call(86, "link", &[Path(0), Path(1)], Space::Takes),
    call(87, "unlink", &[Path(0)], Space::Other),
    call(88, "symlink", &[Path(1)], Space::Takes),
    call(90, "chmod", &[Path(0)], Space::Other),
    call(91, "fchmod", &[Descriptor(0)], Space::Other),
    call(92, "chown", &[Path(0)], Space::Other),
    call(93, "fchown", &[Descriptor(0)], Space::Other),
    call(94, "lchown", &[Path(0)], Space::Other),
    call(132, "utime", &[Path(0)], Space::Other),
    call(133, "mknod", &[Path(0)], Space::Takes),
    call(155, "pivot_root", &[Always], Space::None),
    call(165, "mount", &[Always], Space::None),
    call(166, "umount2", &[Always], Space::None),
    call(188, "setxattr", &[Path(0)], Space::Takes),
    call(189, "lsetxattr", &[Path(0)], Space::Takes),
    call(190, "fsetxattr", &[Descriptor(0)], Space::Takes),
    call(197, "removexattr", &[Path(0)], Space::Other),
    call(198, "lremovexattr", &[Path(0)], Space::Other),
    call(199, "fremovexattr", &[Descriptor(0)], Space::Other),
    call(235, "utimes", &[Path(0)], Space::Other),
    call(OPENAT, "openat", &[At(0, 1)], Space::Takes),
    call(258, "mkdirat", &[At(0, 1)], Space::Takes),
    call(259, "mknodat", &[At(0, 1)], Space::Takes),
    call(260, "fchownat", &[At(0, 1)], Space::Other),
    call(263, "unlinkat", &[At(0, 1)], Space::Other),
    call(264, "renameat", &[At(0, 1), At(2, 3)], Space::Takes),
    call(265, "linkat", &[At(0, 1), At(2, 3)], Space::Takes),
    call(266, "symlinkat", &[At(1, 2)], Space::Takes),
    call(268, "fchmodat", &[At(0, 1)], Space::Other),
    call(275, "splice", &[Descriptor(2)], Space::Takes),
    call(UTIMENSAT, "utimensat", &[At(0, 1)], Space::Other),
    call(285, "fallocate", &[Descriptor(0)], Space::Takes),
    call(296, "pwritev", &[Descriptor(0)], Space::Takes),
    call(306, "syncfs", &[Descriptor(0)], Space::Takes),
    call(316, "renameat2", &[At(0, 1), At(2, 3)], Space::Takes),
    call(326, "copy_file_range", &[Descriptor(2)], Space::Takes),
    call(328, "pwritev2", &[Descriptor(0)], Space::Takes),
    call(429, "move_mount", &[Always], Space::None),
    call(432, "fsmount", &[Always], Space::None),
    call(CLONE3, "clone3", &[Always], Space::None),
    call(OPENAT2, "openat2", &[At(0, 1)], Space::Takes),
    call(442, "mount_setattr", &[Always], Space::None),
    call(452, "fchmodat2", &[At(0, 1)], Space::Other),
    call(463, "setxattrat", &[At(0, 1)], Space::Takes),
    call(466, "removexattrat", &[At(0, 1)], Space::Other),
];

/// The call with this number.
pub(crate) fn numbered(number: i32) -> Option<&'static Mutating> {
    MUTATING.iter().find(|c| c.number == number)
}

/// The call with this name.
pub(crate) fn named(name: &str) -> &'static Mutating {
    MUTATING.iter().find(|c| c.name == name).expect("points are made of calls of this table")
}

/// O_CREAT, O_TRUNC and O_TMPFILE: an open without any of them changes nothing.
pub(crate) const OPEN_CHANGES: u64 = 0o100 | 0o1000 | 0o20_000_000;

/// CLONE_THREAD: a thread, which ends with its process.
pub(crate) const CLONE_THREAD: u64 = 0x1_0000;

/// FICLONE and FICLONERANGE.
pub(crate) const CLONES_EXTENTS: [u64; 2] = [0x4004_9409, 0x4020_940d];

#[test]
fn the_table_is_in_order() {
    assert!(MUTATING.is_sorted_by(|a, b| a.number < b.number));
}
