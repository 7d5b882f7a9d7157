#!/bin/bash
# The older layouts, for kernels that still have them.
# vm: --kernel oldest --cgroup v1
# vm: --kernel oldest --cgroup hybrid
set -eux
for controller in memory cpu pids devices freezer blkio; do
  grep -q " - cgroup .*[ ,]$controller\(,\|$\)" /proc/self/mountinfo
done
[ "$(systemctl is-system-running --wait)" = running ]
case $VM_CGROUP in
v1) [ ! -e /sys/fs/cgroup/unified ] ;;
hybrid) [ "$(stat -fc %T /sys/fs/cgroup/unified)" = cgroup2fs ] ;;
esac
