//! The pipes between a process in a container and whoever relays its streams.

use rustix::fd::OwnedFd;
use tare_model::{Error, Result};
use tare_runtime::launch::{self, Stdio};

/// Our ends of the container's pipes.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// Makes the process's streams and our ends of them; without `stdin` its input is empty.
pub(crate) fn pipes(stdin: bool) -> Result<(Stdio, Ends)> {
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| Error::io("make", "pipe", e));
    let (out_read, out_write) = pipe()?;
    let (err_read, err_write) = pipe()?;
    let (in_read, in_write) = if stdin {
        let (r, w) = pipe()?;
        (r, Some(w))
    } else {
        (launch::null_device()?, None)
    };
    let stdio = Stdio { stdin: in_read, stdout: out_write, stderr: err_write };
    Ok((stdio, Ends { stdin: in_write, stdout: Some(out_read), stderr: Some(err_read) }))
}
