#!/bin/bash
# A bare machine with nothing but the binary: the starter image runs, isolated and limited, on each layout of cgroups.
# vm: --kernel oldest
# vm: --kernel newest
# vm: --kernel oldest --cgroup v1
# vm: --kernel oldest --cgroup hybrid
set -eux
tare run --rm -m 64m --pids-limit 20 --cpus 0.5 --hostname inside hello | tee /vm/hello
grep -q '^process  *PID 1, user 0' /vm/hello
grep -q 'host name inside' /vm/hello
grep -q 'memory 64' /vm/hello
# and leaves nothing but its image
[ -z "$(tare ps --all --quiet)" ]
! grep tare /proc/self/mountinfo | grep -v layers
! find /sys/fs/cgroup -maxdepth 3 -type d -name 'tare*' | grep .
! ip -br link | grep '^t'
