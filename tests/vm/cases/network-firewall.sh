#!/bin/bash
# Beside ufw and firewalld: what they drop stays dropped, what they let through gets through, their rules are as they
# were, and reloading them takes nothing from tare.
# vm: --kernel oldest --timeout 1200
# vm: --kernel newest --timeout 1200
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
ip -n outside link set eth0 up
ip addr add 192.0.2.10/24 dev eth1
ip link set eth1 up
out() { ip netns exec outside "$@"; }
# each connection gets the server's answer
serve='while :; do echo served | busybox nc -l -p 80; done'
asks() { [ "$(out timeout 10 busybox nc -w 5 192.0.2.10 8080 </dev/null)" = served ]; }
others() { nft list ruleset | sed 's/packets [0-9]* bytes [0-9]*//' | awk -v ours="table inet tare" '
  /^table/ { skip = index($0, ours) == 1 } !skip'; iptables-save | grep -v '^#' | sed 's/\[[0-9:]*\]//'; }

# with nothing else
tare run -d --name web -p 8080:80 box:1 sh -c "$serve"
asks
tare port explain web
tare rm -f web

# ufw: its forward policy drops, and says so; routes that it lets through work
systemctl unmask ufw
ufw --force enable
ufw allow 22/tcp
others >/root/before
tare run -d --name web -p 8080:80 box:1 sh -c "$serve" 2>/root/warnings
fails asks
tare port explain web | tee /root/explained
grep -iE 'drop|reject' /root/explained
# from the host itself nothing is forwarded
[ "$(timeout 10 busybox nc -w 5 127.0.0.1 8080 </dev/null)" = served ]
others >/root/after
diff /root/before /root/after
ufw route allow proto tcp to any port 80
asks
ufw reload
asks
tare rm -f web
ufw --force disable
iptables -P FORWARD ACCEPT
iptables -F
iptables -X || true

# firewalld: lets through what was published (it accepts what was translated), and keeps what it has
systemctl unmask firewalld
systemctl start firewalld
firewall-cmd --zone=public --change-interface=eth1
others >/root/before
tare run -d --name web -p 8080:80 box:1 sh -c "$serve"
asks
tare port explain web
others >/root/after
diff /root/before /root/after
firewall-cmd --reload
asks
firewall-cmd --complete-reload
asks
# outwards it refuses until the bridge's zone may
out ip route add 198.51.100.0/24 via 192.0.2.10 || true
firewall-cmd --zone=trusted --add-interface=tare0
tare exec web busybox ping -c 1 -W 5 192.0.2.1
tare rm -f web
systemctl stop firewalld
