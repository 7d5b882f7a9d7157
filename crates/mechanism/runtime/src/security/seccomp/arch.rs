//! The architectures whose system calls are known.

use tare_model::{Error, Kind, Result};

/// An architecture with a column in the table of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86, also on a 64-bit kernel (`int 0x80`).
    X86,
    /// 32-bit pointers on 64-bit x86; shares the audit number of x86_64 and sets bit 30 of the call's number.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM (EABI).
    Arm,
}

/// Bit 30 of a call's number: it is an x32 call.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Architectures of the specification that have no column: a filter for the machines above never meets them.
const FOREIGN: &[&str] = &[
    "MIPS",
    "MIPS64",
    "MIPS64N32",
    "MIPSEL",
    "MIPSEL64",
    "MIPSEL64N32",
    "PPC",
    "PPC64",
    "PPC64LE",
    "S390",
    "S390X",
    "PARISC",
    "PARISC64",
    "RISCV64",
    "LOONGARCH64",
    "M68K",
    "SH",
    "SHEB",
];

const KNOWN: &[Arch] = &[Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm];

/// The names of all architectures that a profile may name, ascending.
pub fn archs() -> Vec<String> {
    let foreign = FOREIGN.iter().map(|name| format!("SCMP_ARCH_{name}"));
    let mut names: Vec<String> = KNOWN.iter().map(|a| a.name().to_owned()).chain(foreign).collect();
    names.sort_unstable();
    names
}

impl Arch {
    /// The one that this program was compiled for.
    pub const NATIVE: Arch = if cfg!(target_arch = "aarch64") { Arch::Aarch64 } else { Arch::X86_64 };

    /// Those whose programs a kernel of [`Arch::NATIVE`] can run, native first.
    pub const RUNNABLE: &[Arch] =
        if cfg!(target_arch = "aarch64") { &[Arch::Aarch64, Arch::Arm] } else { &[Arch::X86_64, Arch::X86, Arch::X32] };

    /// Its OCI name.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "SCMP_ARCH_X86_64",
            Arch::X86 => "SCMP_ARCH_X86",
            Arch::X32 => "SCMP_ARCH_X32",
            Arch::Aarch64 => "SCMP_ARCH_AARCH64",
            Arch::Arm => "SCMP_ARCH_ARM",
        }
    }

    /// The architecture of an OCI name; none for one that this machine never meets.
    ///
    /// # Errors
    /// Invalid for a name that the specification does not have.
    pub(super) fn parse(name: &str) -> Result<Option<Arch>> {
        if let Some(a) = KNOWN.iter().find(|a| a.name() == name) {
            return Ok(Some(*a));
        }
        match name.strip_prefix("SCMP_ARCH_") {
            Some("NATIVE") => Ok(Some(Arch::NATIVE)),
            Some(rest) if FOREIGN.contains(&rest) => Ok(None),
            _ => Err(Error::new(Kind::Invalid, "compile seccomp profile", "")
                .because(format!("unknown architecture {name:?}"))),
        }
    }

    /// AUDIT_ARCH_… of linux/audit.h, as it stands in `seccomp_data.arch`.
    pub(super) fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
        }
    }

    /// Its column in the table of numbers.
    pub(super) fn column(self) -> usize {
        match self {
            Arch::X86_64 => 0,
            Arch::X86 => 1,
            Arch::X32 => 2,
            Arch::Aarch64 => 3,
            Arch::Arm => 4,
        }
    }

    /// Whether the registers that carry arguments are 32 bits wide.
    pub(super) fn is_32_bit(self) -> bool {
        matches!(self, Arch::X86 | Arch::Arm)
    }
}
