#!/bin/bash
# Beside ufw and firewalld: what they drop stays dropped, and is said; what they let through gets through; their rules are as
# they were, and loading them anew takes nothing from tare.
# vm: --kernel oldest
set -eux
. vm-lan
out busybox nc -ll -p 90 -e echo outside &
# gets_out: whether the container reaches a service outside
gets_out() { [ "$(timeout 5 tare exec web busybox nc -w 3 192.0.2.1 90 </dev/null)" = outside ]; }

# ufw comes while a container runs: its forward policy drops, and routes that it lets through work
serve -p 8080:80
asks 192.0.2.10 8080
gets_out
systemctl unmask ufw
ufw --force enable
others >/root/before
fails asks 192.0.2.10 8080
fails gets_out
tare port explain web | grep 'FORWARD of table ip filter.* drops it'
# from the host itself nothing is forwarded
[ "$(timeout 5 busybox nc -w 3 127.0.0.1 8080 </dev/null)" = served ]
# the next start says it
tare stop -t 0 web
tare start web 2>/root/warnings
grep 'FORWARD.* drops .*published ports' /root/warnings
grep 'FORWARD.* drops .*send to outside' /root/warnings
others | diff /root/before -
# one rule for both: the container's port, and the service outside
ufw route allow proto tcp to any port 80,90
asks 192.0.2.10 8080
gets_out
# as `ufw disable`, which takes half a minute here
iptables -P FORWARD ACCEPT
iptables -F
ip6tables -P FORWARD ACCEPT
ip6tables -F

# firewalld lets through what was translated; what goes out only between zones that may
systemctl unmask firewalld
systemctl start firewalld
firewall-cmd --state
others >/root/before
asks 192.0.2.10 8080
fails gets_out
tare stop -t 0 web
tare start web 2>/root/warnings
cat /root/warnings
grep 'firewalld.* drops .*send to outside' /root/warnings
fails grep 'published ports' /root/warnings
tare port explain web
others | diff /root/before -
firewall-cmd --permanent --zone=trusted --add-interface=tare0
firewall-cmd --reload
asks 192.0.2.10 8080
gets_out
tare rm -f web
systemctl stop firewalld
