#!/bin/bash
# Networks on kernels that have what the usual test machine lacks: ipvlan, SCTP, VLANs; and beside an existing docker's rules.
# vm: --kernel oldest
# vm: --kernel newest
set -eux
. vm-lan
reaches() { out ping -c 1 -W 3 "$1"; }

# ipvlan at layer 2: hosts of their own on the parent's network, with its hardware address
tare network create -d ipvlan -o parent=eth1 --subnet 192.0.2.0/24 --gateway 192.0.2.1 \
  --subnet fd00:10::/64 --gateway fd00:10::1 lan
tare run -d --name one --network lan --ip 192.0.2.50 --ip6 fd00:10::50 box:1 busybox sleep 1000
tare run -d --name two --network lan --ip 192.0.2.51 box:1 busybox sleep 1000
reaches 192.0.2.50
reaches fd00:10::50
tare exec one sh -exc '
  busybox ping -c 1 -W 3 192.0.2.51
  busybox ping -c 1 -W 3 192.0.2.1
  busybox ip route | busybox grep "^default via 192.0.2.1 dev eth0"
  # names work where there is no bridge, too
  busybox nslookup two | busybox grep 192.0.2.51'
[ "$(tare exec one busybox cat /sys/class/net/eth0/address)" = "$(cat /sys/class/net/eth1/address)" ]
# one parent carries one kind
fails tare network create -d macvlan -o parent=eth1 --subnet 192.0.2.0/24 second 2>/root/refused
grep -w lan /root/refused
tare rm -f one two
tare network rm lan

# at layer 3 others need a route, and the container leads everything to its device
out ip route add 10.55.0.0/24 via 192.0.2.10
out ip route add fd00:55::/64 via fd00:10::10
for mode in l3 l3s; do
  tare network create -d ipvlan -o parent=eth1 -o ipvlan_mode=$mode --subnet 10.55.0.0/24 --subnet fd00:55::/64 $mode
  tare run -d --name one --network $mode --ip 10.55.0.5 --ip6 fd00:55::5 box:1 busybox sleep 1000
  tare exec one busybox ip route | grep '^default dev eth0'
  reaches 10.55.0.5
  reaches fd00:55::5
  tare exec one busybox ping -c 1 -W 3 192.0.2.1
  tare rm -f one
  tare network rm $mode
done

# macvlan and ipvlan on VLANs of the card
for id in 7 8; do
  ip link add link eth1 name eth1.$id type vlan id $id
  ip link set eth1.$id up
  out ip link add link eth0 name eth0.$id type vlan id $id
  out ip addr add 198.51.$id.1/24 dev eth0.$id
  out ip link set eth0.$id up
done
tare network create -d macvlan -o parent=eth1.7 --subnet 198.51.7.0/24 --gateway 198.51.7.1 vlan7
tare network create -d ipvlan -o parent=eth1.8 --subnet 198.51.8.0/24 --gateway 198.51.8.1 vlan8
tare run --rm --network vlan7 --network vlan8 box:1 sh -exc '
  busybox ping -c 1 -W 3 198.51.7.1
  busybox ping -c 1 -W 3 198.51.8.1'
tare network rm vlan7 vlan8
ip link del eth1.7
ip link del eth1.8

# SCTP through a published port, both families, from outside and from the host; the source address preserved
modprobe sctp
cat >/root/server.py <<'PY'
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(("::", 5000)); s.listen(8)
print("ready", flush=True)
while True:
    c, peer = s.accept()
    c.send(peer[0].encode()); c.close()
PY
cat >/root/client.py <<'PY'
import socket, sys
for address in sys.argv[2:]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
    s.settimeout(5); s.connect((address, int(sys.argv[1])))
    print("seen as", s.recv(100).decode())
PY
tare run -d --name sctp -p 7000:5000/sctp box:1 busybox sleep 1000
tare port sctp | grep '5000/sctp'
nsenter -t "$(tare inspect --format '{{.State.Pid}}' sctp)" -n python3 /root/server.py >/root/ready &
server=$!
for _ in $(seq 100); do grep -q ready /root/ready && break; sleep 0.1; done
out python3 /root/client.py 7000 192.0.2.10 fd00:10::10 >/root/seen
grep -F 'seen as ::ffff:192.0.2.1' /root/seen
grep -F 'seen as fd00:10::1' /root/seen
python3 /root/client.py 7000 127.0.0.1
fails tare run --rm -p 7000:1/sctp box:1 busybox true 2>/root/refused
grep -w sctp /root/refused
# taken back while it runs
tare port rm sctp 7000:5000/sctp
fails out timeout 5 python3 /root/client.py 7000 192.0.2.10
kill $server
tare rm -f sctp

# beside docker's rules: its policy drops what it has not allowed, and it has a chain for others to allow more
iptables -P FORWARD DROP
iptables -N DOCKER-USER
iptables -A FORWARD -j DOCKER-USER
iptables -N DOCKER
iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A FORWARD -o docker0 -j DOCKER
iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
iptables -A DOCKER-USER -j RETURN
iptables -t nat -N DOCKER
iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
iptables -t nat -A DOCKER ! -i docker0 -p tcp --dport 9999 -j DNAT --to-destination 172.17.0.2:80
others >/root/before
serve -p 8080:80 --net-rate 8mbit 2>/root/warnings
grep 'FORWARD' /root/warnings
fails asks 192.0.2.10 8080
tare port explain web | grep 'FORWARD.* drops it'
others | diff /root/before -
iptables -I DOCKER-USER -o tare0 -j ACCEPT
iptables -I DOCKER-USER -i tare0 -j ACCEPT
asks 192.0.2.10 8080
tare exec web busybox ping -c 1 -W 3 192.0.2.1

# what passes through a published port is limited where the container has a limit: 21 Mbit at 8 Mbit/s
tare exec -d web sh -c 'busybox dd if=/dev/zero bs=64k count=40 | busybox nc -l -p 7001'
tare port add web 7001:7001
sleep 1
began=$(date +%s%N)
bytes=$(out timeout 60 busybox nc 192.0.2.10 7001 < <(sleep 60) | wc -c)
took=$((($(date +%s%N) - began) / 1000000))
[ "$bytes" = $((40 * 65536)) ]
# the machine is emulated and slow, never fast
[ "$took" -ge 2000 ]
tare rm -f web
gone
