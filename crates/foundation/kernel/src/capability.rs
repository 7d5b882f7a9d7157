//! capability sets of the calling thread.
