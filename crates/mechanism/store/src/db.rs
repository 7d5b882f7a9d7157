//! state.db.

/// Whether an answer may be given before the change would survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On disk before the call returns.
    Durable,
    /// Survives the end of the process, not a power cut.
    Lazy,
}
