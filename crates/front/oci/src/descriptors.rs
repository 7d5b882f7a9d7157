//! Descriptors that the caller left open for the program: `--preserve-fds`, and sockets in systemd's manner
//! (sd_listen_fds(3)), which come first.

use crate::environment;
use tare_model::runtime_spec::Spec;
use tare_model::{Error, Kind, Result};
use tare_runtime::launch;

/// How many descriptors from 3 up the program gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inherited {
    /// Sockets, then preserved ones.
    pub(crate) count: u32,
    listening: u32,
}

/// Looks which are there. To be called before anything is opened, or its number would pass for one of them.
///
/// # Errors
/// `Kind::Invalid` for one that is not open.
pub(crate) fn inherited(preserve: u32) -> Result<Inherited> {
    let number = |name| environment::get(name).and_then(|text| text.parse::<u32>().ok());
    let ours = number("LISTEN_PID") == Some(std::process::id());
    let listening = number("LISTEN_FDS").filter(|_| ours).unwrap_or(0);
    let count = listening.checked_add(preserve);
    let count = count.filter(|c| *c < 1 << 20);
    let count = count.ok_or_else(|| Error::new(Kind::Invalid, "preserve descriptors", preserve).because("too many"))?;
    launch::check_preserved(count)?;
    Ok(Inherited { count, listening })
}

impl Inherited {
    /// Tells the program of its sockets. It is process 1 of its PID namespace, or will look at the number anyhow.
    pub(crate) fn announce(self, spec: &mut Spec) {
        if let (Some(process), true) = (&mut spec.process, self.listening > 0) {
            process.env.push(format!("LISTEN_FDS={}", self.listening));
            process.env.push("LISTEN_PID=1".to_owned());
        }
    }
}
