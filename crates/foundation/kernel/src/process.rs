//! clone3, pidfds, execution, and the attributes of the calling process.
