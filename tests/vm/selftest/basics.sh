#!/bin/bash
# What every script may rely on.
# vm: --kernel oldest --arg one --arg "two words"
# vm: --kernel newest --arg one --arg "two words"
set -eux
[ "$1" = one ] && [ "$2" = "two words" ] && [ $# = 2 ]
release=$(uname -r)
case $VM_KERNEL in
oldest) [ "${release#6.1.}" != "$release" ] ;;
newest) [ "$(printf '6.12\n%s\n' "$release" | sort -V | head -n 1)" = 6.12 ] ;;
esac
case $release in *cloud-amd64) ;; *) exit 1 ;; esac

# systemd is PID 1 and has finished booting, nothing failed
[ "$(cat /proc/1/comm)" = systemd ]
[ "$(systemctl is-system-running --wait)" = running ]

# pure cgroup2 with the controllers, and they bind
[ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]
! grep -q ' - cgroup ' /proc/self/mountinfo
for controller in cpu cpuset memory io pids hugetlb rdma misc; do
  grep -qw $controller /sys/fs/cgroup/cgroup.controllers
done
echo '+cpu +memory +io +pids' >/sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/t
echo 3 >/sys/fs/cgroup/t/pids.max
! (echo $BASHPID >/sys/fs/cgroup/t/cgroup.procs && { sleep 2 & sleep 2 & sleep 2 & sleep 2 & wait; }) 2>/vm/fork
grep -q 'Resource temporarily unavailable' /vm/fork
[ "$(sed -n 's/^max //p' /sys/fs/cgroup/t/pids.events)" -gt 0 ]
echo 1 >/sys/fs/cgroup/t/cgroup.kill
sleep 0.5
rmdir /sys/fs/cgroup/t

# the binary from the host, and its files
(exec -a busybox /usr/local/bin/tare true)

# two processors, and a network card that leads nowhere else
[ "$(nproc)" = 2 ]
modprobe virtio_net
udevadm settle
ip link show eth0
grep -q Y /sys/module/apparmor/parameters/enabled

# what goes back
echo answer >"$VM_OUT/file"
mkdir "$VM_OUT/dir"
echo deep >"$VM_OUT/dir/file"
