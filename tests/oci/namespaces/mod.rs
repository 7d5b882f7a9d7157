//! config-linux.md, "Namespaces", "User namespace mappings" and "Offset for time namespace".

mod kinds;
mod time;
mod user;
