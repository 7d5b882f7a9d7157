#!/bin/bash
# A kernel that was booted without IPv6: networks, names and published ports work with IPv4 alone, and nobody has to say so.
# vm: --kernel newest --append ipv6.disable=1
set -eux
. vm-lan
fails [ -e /proc/net/if_inet6 ]
serve -p 8080:80 -p 8081:81/udp
asks 192.0.2.10 8080
[ "$(timeout 5 busybox nc -w 3 127.0.0.1 8080 </dev/null)" = served ]
tare port web
tare port explain web
tare exec web busybox ping -c 1 -W 3 192.0.2.1

tare network create lab
tare network connect --alias www lab web
tare run --rm --network lab box:1 sh -exc '[ "$(busybox nc -w 3 www 80 </dev/null)" = served ]'
fails tare run --rm --network lab --ip6 fd00::5 box:1 busybox true
tare port add web 8082:80
asks 192.0.2.10 8082
# who wants the port of another hears whose it is
fails tare run --rm -p 8080:80 box:1 busybox true 2>/root/refused
grep -w web /root/refused
tare rm -f web
tare network rm lab
gone
fails grep 'tare' <<<"$(nft list ruleset)"
