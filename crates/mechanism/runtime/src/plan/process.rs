//! The process of the specification, its names turned into numbers.

use crate::security::capability::Capabilities;
use serde::{Deserialize, Serialize};
use tare_model::runtime_spec::{LinuxSeccomp, PosixRlimit, Process};
use tare_model::{Error, Kind, Result};

/// What the child becomes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessPlan {
    /// argv.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Absolute path inside.
    pub cwd: String,
    /// Whether it gets a controlling terminal.
    pub terminal: bool,
    /// Resource limits.
    pub rlimits: Vec<PosixRlimit>,
    /// Who it is.
    pub identity: IdentityPlan,
    /// System call filter, not yet compiled.
    pub seccomp: Option<LinuxSeccomp>,
    /// AppArmor profile to change to on exec.
    pub apparmor: Option<String>,
    /// Capabilities that no kernel knows, to be warned about.
    pub unknown_capabilities: Vec<String>,
    /// End it (SIGKILL) when its parent ends: for first processes, whose parent is the supervisor.
    pub die_with_parent: bool,
    /// Run the command below a small init (a path inside) that reaps and forwards signals.
    pub init: Option<String>,
}

/// User, groups and capabilities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityPlan {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// File creation mask.
    pub umask: Option<u32>,
    /// Capability sets as bit masks; `None` leaves them alone.
    pub capabilities: Option<Capabilities>,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: bool,
}

/// Reads the process of a specification, for a start or for an exec.
///
/// # Errors
/// `Kind::Invalid` without a command, with a relative working directory, or with zero bytes.
pub fn plan(p: &Process, seccomp: Option<&LinuxSeccomp>) -> Result<ProcessPlan> {
    let bad = |why: String| Err(Error::new(Kind::Invalid, "plan process", "").because(why));
    if p.args.is_empty() {
        return Err(Error::new(Kind::Invalid, "plan process", "")
            .because("no command is given")
            .hint("name one after the image, or give the image an ENTRYPOINT or CMD"));
    }
    if !p.cwd.starts_with('/') {
        return bad(format!("the working directory {:?} is not an absolute path", p.cwd));
    }
    if let Some(s) = p.args.iter().chain(&p.env).find(|s| s.contains('\0')) {
        return bad(format!("{s:?} holds a zero byte"));
    }
    let (capabilities, unknown) = match &p.capabilities {
        None => (None, Vec::new()),
        Some(c) => {
            let (sets, unknown) = Capabilities::from_spec(c);
            (Some(sets), unknown)
        }
    };
    Ok(ProcessPlan {
        args: p.args.clone(),
        env: p.env.clone(),
        cwd: p.cwd.clone(),
        terminal: p.terminal,
        rlimits: p.rlimits.clone(),
        identity: IdentityPlan {
            uid: p.user.uid,
            gid: p.user.gid,
            groups: p.user.additional_gids.clone(),
            umask: p.user.umask,
            capabilities,
            no_new_privileges: p.no_new_privileges,
        },
        seccomp: seccomp.cloned(),
        apparmor: p.apparmor_profile.clone(),
        die_with_parent: true,
        unknown_capabilities: unknown,
        init: None,
    })
}
