#!/bin/bash
# A bare machine with nothing but the binary: the starter image runs, isolated and limited, and a port is published, on each
# layout of cgroups; packets bear a class and a priority where the layout has these.
# vm: --kernel oldest
# vm: --kernel newest
# vm: --kernel oldest --cgroup v1
# vm: --kernel oldest --cgroup hybrid
set -eux
fails() { ! "$@"; }
tare run --rm -m 64m --pids-limit 20 --cpus 0.5 --hostname inside hello | tee /vm/hello
grep -q '^process  *PID 1, user 0' /vm/hello
grep -q 'host name inside' /vm/hello
grep -q 'memory 64' /vm/hello

mkdir -p /root/tree/bin
cp /bin/busybox /root/tree/bin/
tar -c -C /root/tree . | tare import - box:1
tare run -d --name web -p 8080:80 box:1 busybox nc -l -p 80 -e echo served
[ "$(timeout 5 busybox nc -w 3 127.0.0.1 8080 </dev/null)" = served ]
tare rm -f web

class() { tare run --net-cls 1:10 --net-prio lo:3 "$@"; }
if [ "$VM_CGROUP" = v2 ]; then
  fails class --rm hello 2>/vm/refused
  grep -E 'net_(cls|prio)' /vm/refused
else
  nft 'table inet count { counter classed { }
    chain out { type filter hook output priority 0; meta cgroup 0x00010010 counter name classed; }; }'
  class --rm --network host box:1 busybox ping -c 1 127.0.0.1
  nft list counter inet count classed | grep 'packets [1-9]'
  class -d --name classed box:1 busybox sleep 1000
  group=$(sed -n 's/^[0-9]*:[^:]*net_prio[^:]*://p' "/proc/$(tare inspect -f '{{.State.Pid}}' classed)/cgroup")
  grep '^lo 3$' "/sys/fs/cgroup/net_prio$group/net_prio.ifpriomap"
  tare rm -f classed
fi

# and leaves nothing but its images
[ -z "$(tare ps --all --quiet)" ]
fails grep tare <<<"$(grep -v layers /proc/self/mountinfo)"
fails grep . <<<"$(find /sys/fs/cgroup -maxdepth 3 -type d -name 'tare*')"
for _ in $(seq 50); do ip -br link | grep '^t' || break; sleep 0.1; done
fails grep '^t' <<<"$(ip -br link)"
