//! Device programs of cgroup2: a small eBPF assembler, and bpf(2) to load and attach.
//!
//! Only what BPF_PROG_TYPE_CGROUP_DEVICE needs. The kernel runs every attached program of a group and of its ancestors
//! (BPF_F_ALLOW_MULTI) and lets a device be opened or made only if all of them return 1.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One eBPF instruction: `struct bpf_insn` of linux/bpf.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Class, source and operation.
    pub code: u8,
    /// Destination register in the low half, source register in the high half.
    pub registers: u8,
    /// Offset of a jump or of a load.
    pub offset: i16,
    /// Immediate operand.
    pub immediate: i32,
}

/// Access asked for: BPF_DEVCG_ACC_MKNOD.
pub const ACCESS_MKNOD: i32 = 1;
/// Access asked for: BPF_DEVCG_ACC_READ.
pub const ACCESS_READ: i32 = 2;
/// Access asked for: BPF_DEVCG_ACC_WRITE.
pub const ACCESS_WRITE: i32 = 4;
/// Device type: BPF_DEVCG_DEV_BLOCK.
pub const DEVICE_BLOCK: i32 = 1;
/// Device type: BPF_DEVCG_DEV_CHAR.
pub const DEVICE_CHAR: i32 = 2;

/// What a device program looks at, each in a register of its own after [`Assembler::device_prologue`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// [`DEVICE_BLOCK`] or [`DEVICE_CHAR`].
    Type = 2,
    /// Bits of the access asked for.
    Access = 3,
    /// Major number.
    Major = 4,
    /// Minor number.
    Minor = 5,
}

/// A place that jumps can name before it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

/// Appends instructions; forward jumps are filled in by [`Assembler::finish`].
#[derive(Debug, Default)]
pub struct Assembler {
    code: Vec<Instruction>,
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

const SCRATCH: u8 = 1;

impl Assembler {
    fn push(&mut self, code: u8, dst: u8, src: u8, immediate: i32) {
        self.code.push(Instruction { code, registers: dst | src << 4, offset: 0, immediate });
    }

    /// A label to be placed later.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Places `label` at the next instruction.
    pub fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    /// Loads the fields of `struct bpf_cgroup_dev_ctx` (in r1 at entry) into registers, which frees r1.
    pub fn device_prologue(&mut self) {
        // ldxw; access_type holds the access in its upper and the type in its lower half.
        self.push(0x61, Field::Type as u8, 1, 0);
        self.push(0xbc, Field::Access as u8, Field::Type as u8, 0);
        self.push(0x54, Field::Type as u8, 0, 0xffff);
        self.push(0x74, Field::Access as u8, 0, 16);
        self.push(0x61, Field::Major as u8, 1, 0);
        self.code.last_mut().expect("just pushed").offset = 4;
        self.push(0x61, Field::Minor as u8, 1, 0);
        self.code.last_mut().expect("just pushed").offset = 8;
    }

    /// Jumps to `label` unless `field` is `value`.
    pub fn unless_equal(&mut self, field: Field, value: i32, label: Label) {
        self.jumps.push((self.code.len(), label));
        // jne32: the upper halves are zero after 32-bit loads, but a 64-bit jump would extend the sign of `value`.
        self.push(0x56, field as u8, 0, value);
    }

    /// Jumps to `label` when `field` has a bit of `mask`.
    pub fn if_any(&mut self, field: Field, mask: i32, label: Label) {
        self.masked(0x56, field, mask, label);
    }

    /// Jumps to `label` when `field` has no bit of `mask`.
    pub fn if_none(&mut self, field: Field, mask: i32, label: Label) {
        self.masked(0x16, field, mask, label);
    }

    fn masked(&mut self, jump: u8, field: Field, mask: i32, label: Label) {
        self.push(0xbc, SCRATCH, field as u8, 0);
        self.push(0x54, SCRATCH, 0, mask);
        self.jumps.push((self.code.len(), label));
        self.push(jump, SCRATCH, 0, 0);
    }

    /// Ends the program with `value`.
    pub fn exit(&mut self, value: i32) {
        self.push(0xb7, 0, 0, value);
        self.push(0x95, 0, 0, 0);
    }

    /// The program with all jumps filled in.
    ///
    /// # Panics
    /// When a label was used and never placed, or lies further than 32767 instructions: errors of the caller's code.
    pub fn finish(mut self) -> Vec<Instruction> {
        for (at, label) in self.jumps {
            let target = self.labels[label.0].expect("a used label is placed");
            self.code[at].offset = i16::try_from(target - at - 1).expect("device programs are short");
        }
        self.code
    }
}

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 2;

/// `union bpf_attr` for BPF_PROG_LOAD, as far as it is used.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// For BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// For BPF_PROG_QUERY.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// For BPF_PROG_GET_FD_BY_ID.
#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next: u32,
    flags: u32,
}

/// Calls bpf(2).
///
/// # Safety
/// Every address in `attr` must stay valid for the call, for as many bytes as its counts say.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<i64> {
    // SAFETY: `attr` is a live repr(C) struct of the stated size; its addresses are the caller's promise.
    match unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) } {
        -1 => Err(io::Error::last_os_error()),
        r => Ok(r),
    }
}

/// Loads a device program. When the verifier refuses it, the error's text is the verifier's log.
///
/// # Errors
/// EPERM without CAP_BPF and CAP_NET_ADMIN; EINVAL or EACCES, with the log, from the verifier.
pub fn load_device(program: &[Instruction]) -> io::Result<OwnedFd> {
    let mut name = [0; 16];
    name[..12].copy_from_slice(b"tare_devices");
    let mut attr = LoadAttr {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        prog_name: name,
        ..LoadAttr::default()
    };
    // SAFETY: `insns` is the address of `insn_cnt` instructions borrowed for the whole function, `license` of a static
    // string; no log buffer is given.
    let refused = match unsafe { bpf(PROG_LOAD, &mut attr) } {
        // SAFETY: a new descriptor that nobody else owns.
        Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
        Err(e) => e,
    };
    if refused.raw_os_error() == Some(libc::EPERM) {
        return Err(refused);
    }
    // Once more, now with a log: keeping one always would cost the good case its time.
    let mut log = vec![0_u8; 64 << 10];
    attr.log_level = 1;
    attr.log_size = log.len() as u32;
    attr.log_buf = log.as_mut_ptr() as u64;
    // SAFETY: as above, and `log_buf` is `log_size` bytes of a live vector.
    match unsafe { bpf(PROG_LOAD, &mut attr) } {
        // SAFETY: a new descriptor that nobody else owns.
        Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
        Err(e) => {
            let end = log.iter().position(|&b| b == 0).unwrap_or(log.len());
            Err(io::Error::new(e.kind(), format!("{e}: {}", String::from_utf8_lossy(&log[..end]).trim())))
        }
    }
}

/// Adds `program` to those of the cgroup2 directory `group`.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN, or where an ancestor forbids it; EBADF for a directory that is not of cgroup2.
pub fn attach_device(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    attach(PROG_ATTACH, group, program, F_ALLOW_MULTI)
}

/// Takes `program` away from `group`.
///
/// # Errors
/// ENOENT when it is not attached there.
pub fn detach_device(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    attach(PROG_DETACH, group, program, 0)
}

fn attach(command: libc::c_int, group: BorrowedFd<'_>, program: BorrowedFd<'_>, flags: u32) -> io::Result<()> {
    let mut attr = AttachAttr {
        target_fd: group.as_raw_fd() as u32,
        attach_bpf_fd: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: flags,
    };
    // SAFETY: the struct holds no addresses.
    unsafe { bpf(command, &mut attr) }.map(|_| ())
}

/// The device programs attached to `group` itself (not to its ancestors).
///
/// # Errors
/// EPERM without CAP_NET_ADMIN or CAP_SYS_ADMIN; ENOSPC with more than 64 programs.
pub fn device_programs(group: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0_u32; 64];
    let mut query = QueryAttr {
        target_fd: group.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        ..QueryAttr::default()
    };
    // SAFETY: `prog_ids` is `prog_cnt` numbers of a live array.
    unsafe { bpf(PROG_QUERY, &mut query) }?;
    let by_id = |&id: &u32| {
        let mut attr = IdAttr { id, ..IdAttr::default() };
        // SAFETY: the struct holds no addresses; the result is a new descriptor that nobody else owns.
        unsafe { bpf(PROG_GET_FD_BY_ID, &mut attr).map(|fd| OwnedFd::from_raw_fd(fd as i32)) }
    };
    ids[..(query.prog_cnt as usize).min(ids.len())].iter().map(by_id).collect()
}

/// Makes `program` the only device program of `group`. At no moment is there none: the new one comes before the old go,
/// and while there are several the strictest wins.
///
/// # Errors
/// As [`attach_device`] and [`device_programs`].
pub fn replace_device(group: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let old = device_programs(group)?;
    attach_device(group, program)?;
    for p in &old {
        detach_device(group, p.as_fd())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifier_accepts_the_assembler() {
        let mut a = Assembler::default();
        a.device_prologue();
        let next = a.label();
        a.unless_equal(Field::Type, DEVICE_CHAR, next);
        a.if_any(Field::Access, ACCESS_MKNOD, next);
        a.if_none(Field::Access, ACCESS_READ | ACCESS_WRITE, next);
        a.unless_equal(Field::Major, 1, next);
        a.unless_equal(Field::Minor, i32::MAX, next);
        a.exit(1);
        a.place(next);
        a.exit(0);
        load_device(&a.finish()).unwrap();
    }

    #[test]
    fn a_refused_program_brings_the_log() {
        let bad = [Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 }];
        let text = load_device(&bad).unwrap_err().to_string();
        assert!(text.contains("R0"), "{text}");
    }
}
