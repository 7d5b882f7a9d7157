#!/bin/bash
# A card of the host that a container has comes back as it was, however the container ends: by itself, killed, with its
# supervisor killed, with everything killed, with its launcher killed in the midst of a start; and when it is taken off
# the network while the container runs.
# vm: --kernel oldest
# vm: --kernel newest
set -eux
. vm-lan
ip addr flush dev eth1 scope global
ip link set eth1 mtu 1400 up
ip addr add 192.0.2.10/24 dev eth1
ip addr add 192.0.2.11/24 dev eth1 label eth1:b
ip addr add fd00:10::10/64 dev eth1 nodad
ip route add 203.0.113.0/24 via 192.0.2.1
ip -6 route add 2001:db8::/32 via fd00:10::1
told() {
  {
    ip -o addr show dev eth1 scope global
    ip -o link show dev eth1
    ip route show dev eth1
    ip -6 route show dev eth1 | grep -v '^fe80'
    cat /sys/class/net/eth1/address
  } | sed 's/^[0-9]*: //; s/ *$//'
}
told >/root/before
back() {
  local _
  for _ in $(seq "${1:-1}"); do
    if told >/root/now 2>/root/why && cmp -s /root/before /root/now; then return; fi
    sleep 0.1
  done
  ip addr
  cat /root/why
  diff /root/before /root/now
}

tare network create -d phys -o parent=eth1 --subnet 192.0.2.0/24 --gateway 192.0.2.1 lab
tare network inspect lab

# one that the container did everything to that it may; back when the client returns
tare run --rm --network lab --ip 192.0.2.50 --cap-add NET_ADMIN box:1 sh -exc '
  busybox ip addr show eth0 | busybox grep 192.0.2.50/24
  busybox ip route | busybox grep "default via 192.0.2.1"
  busybox ping -c 1 -W 2 192.0.2.1
  busybox ip link set eth0 down
  busybox ip link set eth0 address 02:00:00:00:00:09
  busybox ip link set eth0 name mine
  busybox ip link set mine mtu 900 up
  busybox ip addr add 10.9.9.9/24 dev mine'
back
fails ls /run/tare/devices/*.json

start() {
  tare run -d --name card --network lab --ip 192.0.2.50 box:1 busybox sleep 1000
  fails ip link show eth1
  tare exec card busybox ping -c 1 -W 2 192.0.2.1
}
pid_of() { tare inspect --format "{{.State.$1}}" card; }
# A signal is sent at once, but a process takes its time to end.
kill_dead() {
  local pid
  kill -9 "$@"
  for pid; do
    while [ -e "/proc/$pid" ]; do sleep 0.05; done
  done
}
supervisor() { tare inspect card | grep -m 1 -oi '"supervisor_*pid": *[0-9]*' | grep -o '[0-9]*$'; }

# stopped, killed
start
tare stop -t 0 card
back
tare start card
kill -9 "$(pid_of Pid)"
tare wait card
back
tare rm card

# nobody else gets what a container has; a second one says who has it
start
fails tare run --rm --network lab box:1 busybox true 2>/root/refused
grep -E 'container card has it' /root/refused
tare rm -f card
back

# the supervisor is killed: the container ends with it, the kernel returns the card, the next command finds it
start
kill_dead "$(supervisor)"
tare ps --all
back 50
tare rm -f card

# everything is killed at once, with the name that it had inside taken on the host: the kernel calls it dev%d
start
ip link add eth0 type veth peer name other0
pid=$(pid_of Pid)
kill_dead "$(supervisor)" "$pid"
for _ in $(seq 100); do ip -br link | grep -q '^dev' && break; sleep 0.1; done
ip -br link
ip -br link | grep '^dev'
ip link del eth0
tare ps --all
back
tare rm -f card

# everything of the host's tare is killed in the midst of a start: after the card was moved
fails env TARE_FAULT=network:kill tare run -d --name card --network lab --ip 192.0.2.50 box:1 busybox sleep 1000
for _ in $(seq 100); do tare ps --all >/dev/null; ip link show eth1 >/dev/null 2>&1 && break; sleep 0.1; done
back
tare rm -f card || true

# on a running container
tare run -d --name card box:1 busybox sleep 1000
tare network connect --ip 192.0.2.51 lab card
fails ip link show eth1
tare exec card busybox ping -c 1 -W 2 192.0.2.1
tare network disconnect lab card
back
tare network connect --ip 192.0.2.51 lab card
tare rm -f card
back
tare network rm lab

# without a subnet it keeps its own addresses and routes
tare network create -d phys -o parent=eth1 own
tare run --rm --network own box:1 sh -exc '
  busybox ip addr show eth0 | busybox grep 192.0.2.10/24
  busybox ip route | busybox grep "203.0.113.0/24 via 192.0.2.1"
  busybox ping -c 1 -W 2 192.0.2.1'
back

# a name for its namespace pins it no longer than the container lives, whoever is killed
tare run -d --name card --network own box:1 busybox sleep 1000
tare network attach-netns card
ip netns exec card ip link show eth0
kill_dead "$(supervisor)" "$(pid_of Pid)"
tare ps --all
back 50
fails grep -w card <<<"$(ip netns list)"
tare rm -f card
tare network rm own
fails ls /run/tare/devices/*.json
