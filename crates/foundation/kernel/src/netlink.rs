//! netlink sockets.
