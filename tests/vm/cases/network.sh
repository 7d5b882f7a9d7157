#!/bin/bash
# Networks on kernels that have what the usual test machine lacks: ipvlan, SCTP, VLANs; with two cards, one of which is a
# machine outside.
# vm: --kernel oldest --timeout 900
# vm: --kernel newest --timeout 900
set -eux
fails() { ! "$@"; }
modprobe virtio_net
for _ in $(seq 100); do [ -e /sys/class/net/eth1 ] && break; sleep 0.1; done
mkdir -p /root/tree/bin
cp /bin/busybox /root/tree/bin/
ln -s busybox /root/tree/bin/sh
tar -c -C /root/tree . | tare import - box:1

ip netns add outside
ip link set eth0 netns outside
ip -n outside link set lo up
ip -n outside addr add 192.0.2.1/24 dev eth0
ip -n outside addr add fd00:10::1/64 dev eth0 nodad
ip -n outside link set eth0 up
ip addr add 192.0.2.10/24 dev eth1
ip addr add fd00:10::10/64 dev eth1 nodad
ip link set eth1 up
out() { ip netns exec outside "$@"; }
reaches() { out ping -c 1 -W 3 "$1"; }

# ipvlan at layer 2: hosts of their own on the parent's network, with its hardware address
tare network create -d ipvlan -o parent=eth1 --subnet 192.0.2.0/24 --gateway 192.0.2.1 \
  --subnet fd00:10::/64 --gateway fd00:10::1 lan
tare run -d --name one --network lan --ip 192.0.2.50 --ip6 fd00:10::50 box:1 busybox sleep 1000
tare run -d --name two --network lan --ip 192.0.2.51 box:1 busybox sleep 1000
reaches 192.0.2.50
reaches fd00:10::50
tare exec one busybox ping -c 1 -W 3 192.0.2.51
tare exec one busybox ping -c 1 -W 3 192.0.2.1
[ "$(tare exec one busybox cat /sys/class/net/eth0/address)" = "$(cat /sys/class/net/eth1/address)" ]
# names work where there is no bridge, too
tare exec one busybox nslookup two | grep 192.0.2.51
tare rm -f one two
tare network rm lan

# at layer 3 others need a route, and the container leads everything to its device
tare network create -d ipvlan -o parent=eth1 -o ipvlan_mode=l3 --subnet 10.55.0.0/24 routed
tare run -d --name one --network routed --ip 10.55.0.5 box:1 busybox sleep 1000
tare exec one busybox ip route | grep '^default dev eth0'
out ip route add 10.55.0.0/24 via 192.0.2.10
reaches 10.55.0.5
tare exec one busybox ping -c 1 -W 3 192.0.2.1
tare rm -f one
tare network rm routed

# one parent carries one kind
tare network create -d ipvlan -o parent=eth1 --subnet 192.0.2.0/24 first
fails tare network create -d macvlan -o parent=eth1 --subnet 192.0.2.0/24 second 2>/root/refused
grep -q first /root/refused
tare network rm first

# macvlan on a VLAN of the card
ip link add link eth1 name eth1.7 type vlan id 7
ip link set eth1.7 up
out ip link add link eth0 name eth0.7 type vlan id 7
out ip addr add 198.51.100.1/24 dev eth0.7
out ip link set eth0.7 up
tare network create -d macvlan -o parent=eth1.7 --subnet 198.51.100.0/24 --gateway 198.51.100.1 vlan7
tare run --rm --network vlan7 box:1 busybox ping -c 1 -W 3 198.51.100.1
tare network rm vlan7
ip link del eth1.7

# SCTP through a published port, both families, from outside and from the host; the source address preserved
modprobe sctp
cat >/root/server.py <<'PY'
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", 5000)); s.listen(8)
while True:
    c, peer = s.accept()
    c.send(peer[0].encode()); c.close()
PY
cat >/root/client.py <<'PY'
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
s.settimeout(5); s.connect((sys.argv[1], int(sys.argv[2])))
print(s.recv(100).decode())
PY
tare run -d --name sctp -p 7000:5000/sctp box:1 busybox sleep 1000
tare port sctp | grep '5000/sctp'
pid=$(tare inspect --format '{{.State.Pid}}' sctp)
nsenter -t "$pid" -n python3 /root/server.py &
server=$!
sleep 2
out python3 /root/client.py 192.0.2.10 7000 | grep -F 192.0.2.1
out python3 /root/client.py fd00:10::10 7000 | grep -F fd00:10::1
python3 /root/client.py 127.0.0.1 7000
fails tare run --rm -p 7000:1/sctp box:1 busybox true 2>/root/refused
grep -E 'container sctp|sctp' /root/refused
kill $server
tare rm -f sctp
fails out timeout 5 python3 /root/client.py 192.0.2.10 7000

# limits of rate, with a published port
modprobe ifb
tare run -d --name rate --net-rate 8mbit -p 7001:7001 box:1 sh -c 'busybox dd if=/dev/zero bs=64k count=40 | busybox nc -l -p 7001'
sleep 1
began=$(date +%s%N)
bytes=$(out timeout 60 busybox nc 192.0.2.10 7001 < <(sleep 60) | wc -c)
took=$((($(date +%s%N) - began) / 1000000))
[ "$bytes" = $((40 * 65536)) ]
# 21 Mbit at 8 Mbit/s; the machine itself is emulated and slow, never fast
[ "$took" -ge 2000 ]
tare rm -f rate
fails grep -E '^t[iv]' <<<"$(ip -br link)"
