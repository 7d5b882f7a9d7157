//! One layer: sink, unpacking, difference.
