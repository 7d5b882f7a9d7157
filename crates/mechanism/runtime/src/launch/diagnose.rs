//! Why a program that is there cannot be executed: the kernel says ENOENT for four different things.

use rustix::fd::OwnedFd;
use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use tare_model::{Error, Kind};

pub(super) fn exists(path: &CStr) -> bool {
    rustix::fs::stat(path).is_ok()
}

/// Words for a failed execve(2) of a path.
pub(super) fn explain(path: &CStr, errno: Errno) -> Error {
    let shown = path.to_string_lossy();
    let error = |kind| Error::new(kind, "execute", format!("{shown:?}"));
    let not_executable = || error(Kind::CommandNotExecutable);
    match errno {
        Errno::NOENT if !exists(path) => error(Kind::CommandNotFound)
            .because("no such file or directory")
            .hint("the path is inside the container: look with `--entrypoint ls`"),
        Errno::NOENT => missing_interpreter(path, &shown),
        Errno::ACCESS => denied(path, &shown),
        Errno::NOEXEC => wrong_format(path, &shown),
        Errno::TOOBIG => not_executable().because("the arguments and the environment are too long together"),
        Errno::LOOP => not_executable().because("too many links, or interpreters of interpreters"),
        Errno::TXTBSY => not_executable().because("the file is open for writing"),
        e => Error::io("execute", format!("{shown:?}"), e).with_kind(Kind::CommandNotExecutable),
    }
}

/// Words for a search in which some candidates were forbidden and none could be executed.
pub(super) fn explain_search(command: &str, candidates: &[CString]) -> Error {
    match candidates.iter().find(|c| exists(c)) {
        Some(path) => explain(path, Errno::ACCESS),
        None => Error::new(Kind::CommandNotExecutable, "execute", format!("{command:?}"))
            .because("a directory in PATH may not be searched by this user"),
    }
}

fn missing_interpreter(path: &CStr, shown: &str) -> Error {
    let start = read_start(path);
    if let Some(rest) = start.strip_prefix(b"#!") {
        let line = rest.split(|b| *b == b'\n').next().unwrap_or_default();
        let interpreter = String::from_utf8_lossy(line).trim_start().to_string();
        let error = Error::new(Kind::CommandNotFound, "execute", format!("{shown:?}"));
        if interpreter.ends_with('\r') {
            return error
                .because(format!(
                    "its first line names the interpreter {interpreter:?}: the file has Windows line ends (CRLF)"
                ))
                .hint("convert it: sed -i 's/\\r$//' FILE");
        }
        let program = interpreter.split_whitespace().next().unwrap_or_default().to_owned();
        return error
            .because(format!("its interpreter {program:?} is not in the image"))
            .hint("install the interpreter in the image, or correct the first line");
    }
    let error = Error::new(Kind::CommandNotFound, "execute", format!("{shown:?}"));
    match elf_interpreter(&start) {
        Some(loader) => error
            .because(format!("the file is there, but its loader {loader:?} is not in the image"))
            .hint("use an image with that C library, or link the program statically"),
        None => error.because("the file is there, but something that it needs to start is not"),
    }
}

fn denied(path: &CStr, shown: &str) -> Error {
    let error = Error::new(Kind::CommandNotExecutable, "execute", format!("{shown:?}")).because("permission denied");
    if let Ok(stat) = rustix::fs::stat(path) {
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Error::new(Kind::CommandNotExecutable, "execute", format!("{shown:?}"))
                .because("it is a directory");
        }
        if stat.st_mode & 0o111 == 0 {
            return error.because("permission denied: no execute bit is set").hint(format!("chmod +x {shown}"));
        }
    }
    let whole = path.to_bytes();
    for (i, _) in whole.iter().enumerate().filter(|(i, b)| **b == b'/' && *i > 0) {
        let Ok(dir) = CString::new(&whole[..i]) else { continue };
        if rustix::fs::accessat(rustix::fs::CWD, dir.as_c_str(), Access::EXEC_OK, AtFlags::EACCESS).is_err() {
            let dir = dir.to_string_lossy();
            return error
                .because(format!("permission denied: this user may not search {dir:?}"))
                .hint(format!("chmod o+x {dir}, or run as another user (--user)"));
        }
    }
    error
        .because("permission denied: this user may not execute the file, or it lies on a noexec mount")
        .hint("look at its owner and mode, at --user, and at the options of the mount")
}

fn wrong_format(path: &CStr, shown: &str) -> Error {
    let start = read_start(path);
    let error = Error::new(Kind::CommandNotExecutable, "execute", format!("{shown:?}"));
    if start.starts_with(b"\x7fELF") && start.len() > 20 {
        let little = start[5] == 1;
        let machine = if little {
            u16::from_le_bytes([start[18], start[19]])
        } else {
            u16::from_be_bytes([start[18], start[19]])
        };
        let has = machine_name(machine);
        let host = std::env::consts::ARCH;
        if has != host {
            return error
                .because(format!("it is a program for {has}, and this host is {host}"))
                .hint("use an image for this platform");
        }
        return error.because("it is damaged, or of a kind of ELF that this kernel does not execute");
    }
    if start.is_empty() {
        return error.because("the file is empty");
    }
    error
        .because("it is neither a program nor a script with #! in its first line")
        .hint("begin the script with #!/bin/sh")
}

fn machine_name(machine: u16) -> &'static str {
    match machine {
        3 => "x86",
        8 => "mips",
        20 | 21 => "powerpc64",
        22 => "s390x",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv64",
        258 => "loongarch64",
        _ => "another processor",
    }
}

fn read_start(path: &CStr) -> Vec<u8> {
    let open = || -> rustix::io::Result<OwnedFd> {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())
    };
    let mut buffer = vec![0; 4096];
    let read = open().and_then(|fd| rustix::io::read(fd, &mut buffer[..]));
    buffer.truncate(read.unwrap_or(0));
    buffer
}

/// The PT_INTERP string of a 64-bit little-endian ELF file, if its headers lie in the first page.
fn elf_interpreter(start: &[u8]) -> Option<String> {
    let u16_at = |o: usize| Some(u16::from_le_bytes(start.get(o..o + 2)?.try_into().ok()?) as usize);
    let u64_at = |o: usize| usize::try_from(u64::from_le_bytes(start.get(o..o + 8)?.try_into().ok()?)).ok();
    if start.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, size, count) = (u64_at(32)?, u16_at(54)?, u16_at(56)?);
    for i in 0..count.min(64) {
        let header = table.checked_add(i.checked_mul(size)?)?;
        if start.get(header..header + 4)? == [3, 0, 0, 0] {
            let (offset, length) = (u64_at(header + 8)?, u64_at(header + 32)?);
            let text = start.get(offset..offset.checked_add(length)?)?;
            return Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn hint_for(name: &str, content: &[u8], mode: u32, errno: Errno) -> (Kind, String) {
        let path = std::env::temp_dir().join(format!("tare-diagnose-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let c = CString::new(path.to_str().unwrap()).unwrap();
        let e = explain(&c, errno);
        std::fs::remove_file(path).unwrap();
        (e.kind(), e.to_string())
    }

    #[test]
    fn each_failure_has_its_words() {
        let (kind, text) = hint_for("crlf", b"#!/bin/sh\r\necho\r\n", 0o755, Errno::NOENT);
        assert!(kind == Kind::CommandNotFound && text.contains("CRLF"), "{text}");
        let (_, text) = hint_for("interp", b"#!/opt/none -x\n", 0o755, Errno::NOENT);
        assert!(text.contains("\"/opt/none\" is not in the image"), "{text}");
        let (kind, text) = hint_for("mode", b"#!/bin/sh\n", 0o644, Errno::ACCESS);
        assert!(kind == Kind::CommandNotExecutable && text.contains("no execute bit"), "{text}");
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(64, 0);
        elf[18] = 183;
        let (_, text) = hint_for("arch", &elf, 0o755, Errno::NOEXEC);
        assert!(text.contains("for aarch64"), "{text}");
    }

    #[test]
    fn the_loader_of_a_dynamic_program_is_found() {
        let start = std::fs::read("/bin/ls").unwrap();
        let loader = elf_interpreter(&start[..4096]).unwrap();
        assert!(loader.contains("/ld-linux"), "{loader}");
    }
}
