//! Session keyrings: keyctl(2), session-keyring(7).

use std::ffi::CStr;
use std::io;

const JOIN_SESSION_KEYRING: libc::c_int = 1;
const DESCRIBE: libc::c_int = 6;
/// KEY_SPEC_SESSION_KEYRING: the caller's own.
const SESSION: libc::c_int = -3;

/// Leaves the caller's session keyring for a new one that nobody else has, named if the kernel lets it.
///
/// The kernel joins a keyring of that name if it finds one that the caller may search, which can be only one that was
/// laid out for it: a new one lets nobody search it who does not possess it. So the rights tell whether it is new; what
/// is not new is left for an anonymous keyring. Returns whether it bears the name.
///
/// # Errors
/// As keyctl(2); ENOSYS on kernels without keys, EDQUOT when the user has too many.
pub fn new_session(name: Option<&CStr>) -> io::Result<bool> {
    let Some(name) = name else {
        join(std::ptr::null())?;
        return Ok(false);
    };
    join(name.as_ptr())?;
    if is_new()? {
        return Ok(true);
    }
    join(std::ptr::null())?;
    Ok(false)
}

fn join(name: *const libc::c_char) -> io::Result<()> {
    // SAFETY: null asks for an anonymous keyring; else the kernel reads a C string that outlives the call.
    if unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, name) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether the rights of the session keyring are those of one just made: `type;uid;gid;rights;name`, rights in hex,
/// possessor, user, group, others by byte; bit 3 is search.
fn is_new() -> io::Result<bool> {
    let mut text = [0u8; 512];
    // SAFETY: the kernel writes at most `len` bytes into a live buffer.
    let n = unsafe { libc::syscall(libc::SYS_keyctl, DESCRIBE, SESSION, text.as_mut_ptr(), text.len()) };
    if n < 0 {
        return Err(io::Error::last_os_error());
    }
    let text = &text[..text.len().min(n as usize)];
    let rights = text.split(|b| *b == b';').nth(3).and_then(|r| std::str::from_utf8(r).ok());
    let rights = rights.and_then(|r| u32::from_str_radix(r, 16).ok());
    Ok(rights.is_some_and(|r| r & 0x0008_0808 == 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> String {
        let mut text = [0u8; 512];
        // SAFETY: as in `is_new`.
        let n = unsafe { libc::syscall(libc::SYS_keyctl, DESCRIBE, SESSION, text.as_mut_ptr(), text.len()) };
        String::from_utf8_lossy(&text[..n as usize - 1]).into_owned()
    }

    fn serial() -> i64 {
        // SAFETY: KEYCTL_GET_KEYRING_ID takes two numbers.
        unsafe { libc::syscall(libc::SYS_keyctl, 0, SESSION, 0) as i64 }
    }

    #[test]
    fn a_keyring_is_new_even_when_its_name_is_taken() {
        let name = std::ffi::CString::new(format!("_ses.tare-test-{}", std::process::id())).unwrap();
        let other = name.clone();
        std::thread::spawn(move || {
            match new_session(Some(&name)) {
                Ok(named) => assert!(named && description().ends_with(name.to_str().unwrap()), "{}", description()),
                Err(e) => {
                    assert!(matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EDQUOT)), "{e}");
                    return;
                }
            }
            let first = serial();
            let again = name.clone();
            // Another session may not get into it by the name.
            std::thread::spawn(move || assert!(new_session(Some(&again)).unwrap() && serial() != first))
                .join()
                .unwrap();
            // One that is laid out (KEYCTL_SETPERM: all for everyone) is joined by the kernel, and left.
            // SAFETY: KEYCTL_SETPERM takes two numbers.
            assert_eq!(unsafe { libc::syscall(libc::SYS_keyctl, 5, SESSION, 0x3f3f_3f3f_u32) }, 0);
            std::thread::spawn(move || {
                assert!(!new_session(Some(&other)).unwrap());
                assert!(serial() != first && description().ends_with(";_ses"), "{}", description());
            })
            .join()
            .unwrap();
        })
        .join()
        .unwrap();
    }
}
