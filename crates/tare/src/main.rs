//! Role dispatch only.
fn main() {}
