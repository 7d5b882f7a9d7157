//! config.md, "Process".

mod affinity;
mod apparmor;
mod capabilities;
mod command;
mod io_priority;
mod labels;
mod no_new_privileges;
mod oom;
mod rlimits;
mod scheduler;
mod terminal;
mod user;
