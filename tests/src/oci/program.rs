//! Programs of a few instructions that make system calls exactly as told: what a filter does with a number, an argument
//! or an architecture is seen in their exit code. No compiler is needed, and no C library calls anything of its own.

/// How a program calls the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abi {
    /// 64 bits, `syscall`: numbers of x86_64.
    Amd64,
    /// 32 bits, `int 0x80`: numbers of i386.
    I386,
}

/// An argument of a system call.
#[derive(Debug, Clone, Copy)]
pub enum Arg<'a> {
    /// As it is.
    Number(u64),
    /// Address of this text, which ends with a zero byte.
    Text(&'a str),
}

/// Where the one segment of a program is loaded: beyond `vm.mmap_min_addr`, in reach of both ABIs.
const BASE: u64 = 0x0040_0000;
/// Memory behind the file's end, of which a second thread takes its stack.
const STACK: u64 = 0x1_0000;

/// A program that makes one call and exits with the lowest byte of its result, or of the error number if it fails.
pub fn one_call(abi: Abi, number: u64, arguments: &[Arg<'_>]) -> Vec<u8> {
    let texts = Texts::of(arguments);
    let code = |texts: u64| {
        let mut code = call(abi, number, arguments, texts);
        // The absolute value of eax: cdq; xor eax, edx; sub eax, edx.
        code.extend([0x99, 0x31, 0xd0, 0x29, 0xd0]);
        code.extend(match abi {
            // mov edi, eax; mov eax, exit_group; syscall
            Abi::Amd64 => &[0x89, 0xc7, 0xb8, 231, 0, 0, 0, 0x0f, 0x05][..],
            // mov ebx, eax; mov eax, exit_group; int 0x80
            Abi::I386 => &[0x89, 0xc3, 0xb8, 252, 0, 0, 0, 0xcd, 0x80],
        });
        code
    };
    link(abi, code, &texts)
}

/// A program of x86_64 with a second thread that makes a call, while the first waits 0.3 s and exits with `code`; the
/// second exits with 99 if it comes to that.
pub fn call_in_thread(number: u64, arguments: &[Arg<'_>], code: u8) -> Vec<u8> {
    const CLONE: u64 = 56;
    const NANOSLEEP: u64 = 35;
    const EXIT_GROUP: u64 = 231;
    // CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM
    const THREAD: u64 = 0x0005_0f00;
    let mut texts = Texts::of(arguments);
    let pause = texts.0.len() as u64;
    texts.0.extend(0u64.to_le_bytes());
    texts.0.extend(300_000_000u64.to_le_bytes());
    let text = |at: u64| {
        let exit = |code: u64| call(Abi::Amd64, EXIT_GROUP, &[Arg::Number(code)], at);
        let stack = Arg::Number(BASE + 0x1000 + STACK);
        let mut first = call(Abi::Amd64, NANOSLEEP, &[Arg::Number(at + pause), Arg::Number(0)], at);
        first.extend(exit(code.into()));
        let mut second = call(Abi::Amd64, number, arguments, at);
        second.extend(exit(99));
        let mut all = call(Abi::Amd64, CLONE, &[Arg::Number(THREAD), stack], at);
        // test eax, eax; jz over the first thread's part
        all.extend([0x85, 0xc0, 0x0f, 0x84]);
        all.extend(u32::try_from(first.len()).unwrap().to_le_bytes());
        all.extend(first);
        all.extend(second);
        all
    };
    link(Abi::Amd64, text, &texts)
}

/// The bytes that stand behind the code.
struct Texts(Vec<u8>);

impl Texts {
    fn of(arguments: &[Arg<'_>]) -> Texts {
        let mut bytes = Vec::new();
        for argument in arguments {
            if let Arg::Text(text) = argument {
                bytes.extend(text.bytes().chain([0]));
            }
        }
        Texts(bytes)
    }
}

/// Loads the registers and calls; `texts` is where the texts lie, one behind the other.
fn call(abi: Abi, number: u64, arguments: &[Arg<'_>], mut texts: u64) -> Vec<u8> {
    let mut values = Vec::new();
    for argument in arguments {
        values.push(match argument {
            Arg::Number(n) => *n,
            Arg::Text(text) => {
                let at = texts;
                texts += text.len() as u64 + 1;
                at
            }
        });
    }
    let mut code = Vec::new();
    match abi {
        Abi::Amd64 => {
            // mov REGISTER, imm64: rdi, rsi, rdx, r10, r8, r9; then rax.
            let registers = [[0x48, 0xbf], [0x48, 0xbe], [0x48, 0xba], [0x49, 0xba], [0x49, 0xb8], [0x49, 0xb9]];
            let loads = registers.into_iter().zip(&values).chain([([0x48, 0xb8], &number)]);
            for (register, value) in loads {
                code.extend(register);
                code.extend(value.to_le_bytes());
            }
            code.extend([0x0f, 0x05]);
        }
        Abi::I386 => {
            // mov REGISTER, imm32: ebx, ecx, edx, esi, edi, ebp; then eax.
            let loads = [0xbb, 0xb9, 0xba, 0xbe, 0xbf, 0xbd].into_iter().zip(&values).chain([(0xb8, &number)]);
            for (register, value) in loads {
                code.push(register);
                code.extend(&value.to_le_bytes()[..4]);
            }
            code.extend([0xcd, 0x80]);
        }
    }
    code
}

/// An ELF file of one segment that may be read, written and executed; `code` is told where the texts will lie.
fn link(abi: Abi, code: impl Fn(u64) -> Vec<u8>, texts: &Texts) -> Vec<u8> {
    let head: u64 = if abi == Abi::Amd64 { 64 + 56 } else { 52 + 32 };
    // No instruction's length depends on an address.
    let length = code(0).len() as u64;
    let code = code(BASE + head + length);
    let size = head + length + texts.0.len() as u64;
    let memory = if abi == Abi::Amd64 { 0x1000 + STACK } else { size };
    let mut file = vec![0x7f, b'E', b'L', b'F', if abi == Abi::Amd64 { 2 } else { 1 }, 1, 1];
    file.resize(16, 0);
    let half = |file: &mut Vec<u8>, n: u16| file.extend(n.to_le_bytes());
    let word = |file: &mut Vec<u8>, n: u32| file.extend(n.to_le_bytes());
    // An address, offset or size: as wide as the ABI's.
    let wide = |file: &mut Vec<u8>, n: u64| match abi {
        Abi::Amd64 => file.extend(n.to_le_bytes()),
        Abi::I386 => file.extend(&n.to_le_bytes()[..4]),
    };
    let (machine, header, entry) = if abi == Abi::Amd64 { (62, 64, 56) } else { (3, 52, 32) };
    half(&mut file, 2); // ET_EXEC
    half(&mut file, machine);
    word(&mut file, 1);
    wide(&mut file, BASE + head);
    wide(&mut file, header.into());
    wide(&mut file, 0);
    word(&mut file, 0);
    for n in [header, entry, 1, 0, 0, 0] {
        half(&mut file, n);
    }
    // PT_LOAD; the flags stand second in 64 bits and last but one in 32.
    word(&mut file, 1);
    if abi == Abi::Amd64 {
        word(&mut file, 7);
    }
    for n in [0, BASE, BASE, size, memory] {
        wide(&mut file, n);
    }
    if abi == Abi::I386 {
        word(&mut file, 7);
    }
    wide(&mut file, 0x1000);
    file.extend(code);
    file.extend(&texts.0);
    file
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn run(program: &[u8]) -> i32 {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("program");
        std::fs::write(&path, program).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        crate::Running::start(&mut crate::command(&path), None).wait().code
    }

    #[test]
    fn a_call_reports_its_result() {
        const CLOSE: u64 = 3;
        assert_eq!(run(&one_call(Abi::Amd64, CLOSE, &[Arg::Number(1)])), 0);
        assert_eq!(run(&one_call(Abi::Amd64, CLOSE, &[Arg::Number(777)])), 9, "EBADF");
        assert_eq!(run(&one_call(Abi::I386, 6, &[Arg::Number(777)])), 9, "EBADF");
        let missing = [Arg::Text("ignored"), Arg::Text("/no/such/file"), Arg::Number(0)];
        let openat = [Arg::Number(u64::MAX - 99), missing[1], missing[2]];
        assert_eq!(run(&one_call(Abi::Amd64, 257, &openat)), 2, "ENOENT");
        assert_eq!(run(&one_call(Abi::I386, 12, &[Arg::Text("/no/such/directory")])), 2, "ENOENT");
    }

    #[test]
    fn a_second_thread_calls() {
        const CLOSE: u64 = 3;
        const EXIT: u64 = 60;
        assert_eq!(run(&call_in_thread(CLOSE, &[Arg::Number(777)], 7)), 99);
        assert_eq!(run(&call_in_thread(EXIT, &[Arg::Number(0)], 7)), 7);
    }
}
