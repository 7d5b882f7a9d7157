//! A program of classic BPF, written from its last instruction to its first.
//!
//! So every jump's target is known when the jump is made; a target further than 255 instructions away gets a `ja` or a
//! copy of its `ret` in between.

use tare_kernel::seccomp::SockFilter;

pub(super) const LD_ABS: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JA: u16 = 0x05;
pub(super) const JEQ: u16 = 0x15;
pub(super) const JGT: u16 = 0x25;
pub(super) const JGE: u16 = 0x35;
pub(super) const RET: u16 = 0x06;

/// Where a jump goes: an outcome, or an instruction counted from the end of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Return(u32),
    At(usize),
}

#[derive(Default)]
pub(super) struct Emitter {
    /// The program from its last instruction to its first.
    pub(super) reversed: Vec<SockFilter>,
    /// The latest `ret` of each value.
    returns: Vec<(u32, usize)>,
}

impl Emitter {
    pub(super) fn push(&mut self, code: u16, k: u32) -> usize {
        self.reversed.push(SockFilter { code, jt: 0, jf: 0, k });
        self.reversed.len() - 1
    }

    /// An instruction for `target` that a jump can reach even when `slack` more instructions come in between.
    fn reach(&mut self, target: Target, slack: usize) -> usize {
        let near = |at: usize, len: usize| len - at + slack <= 255;
        let len = self.reversed.len();
        match target {
            Target::At(at) if near(at, len) => at,
            Target::At(at) => self.push(JA, (len - at - 1) as u32),
            Target::Return(value) => {
                if let Some(&(_, at)) = self.returns.iter().find(|&&(v, at)| v == value && near(at, len)) {
                    return at;
                }
                let at = self.push(RET, value);
                self.returns.retain(|&(v, _)| v != value);
                self.returns.push((value, at));
                at
            }
        }
    }

    /// A conditional jump; nothing at all when both ways lead to the same place.
    pub(super) fn jump(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        // Reaching the second may add an instruction before the first is used.
        let yes = self.reach(yes, 1);
        let no = self.reach(no, 0);
        let at = self.push(code, k);
        let skipped = |to: usize| u8::try_from(at - to - 1).expect("reach keeps targets within 255");
        (self.reversed[at].jt, self.reversed[at].jf) = (skipped(yes), skipped(no));
        Target::At(at)
    }

    /// Loads the word at `offset` of `struct seccomp_data`, then goes on at `next`.
    pub(super) fn load(&mut self, next: Target, offset: u32) -> Target {
        self.fall_into(next);
        Target::At(self.push(LD_ABS, offset))
    }

    /// Makes `next` the first instruction of the program so far.
    pub(super) fn fall_into(&mut self, next: Target) {
        let at = match next {
            Target::At(at) => at,
            Target::Return(_) => self.reach(next, 0),
        };
        let len = self.reversed.len();
        if at + 1 != len {
            self.push(JA, (len - at - 1) as u32);
        }
    }
}
