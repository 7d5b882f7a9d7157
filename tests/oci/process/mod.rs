//! config.md, "Process".

mod user;
