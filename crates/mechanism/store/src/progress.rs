//! How far a long operation is: plain events, worded by the front.

/// Told how far a pull, push, load or save is. Called from several threads.
pub trait Progress: Sync {
    /// One thing happened. Must return quickly.
    fn event(&self, event: &Event<'_>);
}

/// What happened. `item` names a layer or document (short digest, file name) and is stable over its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// Work on `item` began; `total` bytes if known.
    Started {
        /// Which.
        item: &'a str,
        /// `download`, `upload`, `unpack`, `load`, …
        verb: &'static str,
        /// Bytes to be moved.
        total: Option<u64>,
    },
    /// `bytes` more have been moved.
    Advanced {
        /// Which.
        item: &'a str,
        /// How many more.
        bytes: u64,
    },
    /// `item` is done; `outcome` is `done`, `exists`, `mounted`, …
    Finished {
        /// Which.
        item: &'a str,
        /// How it ended.
        outcome: &'static str,
    },
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: &Event<'_>) {}
}
