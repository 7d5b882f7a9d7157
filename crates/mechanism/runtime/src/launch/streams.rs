//! A process's standard streams.

use rustix::fd::BorrowedFd;

/// Puts these in the place of descriptors 0, 1 and 2, which survive an exec.
///
/// # Errors
/// As dup2(2).
pub(super) fn replace_stdio(
    stdin: BorrowedFd<'_>,
    stdout: BorrowedFd<'_>,
    stderr: BorrowedFd<'_>,
) -> rustix::io::Result<()> {
    rustix::stdio::dup2_stdin(stdin)?;
    rustix::stdio::dup2_stdout(stdout)?;
    rustix::stdio::dup2_stderr(stderr)
}
