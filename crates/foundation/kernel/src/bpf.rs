//! cgroup device programs through bpf(2).
