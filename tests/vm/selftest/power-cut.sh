#!/bin/bash
# A power cut keeps everything that was fsynced and nothing that was only in memory.
# vm: --kernel oldest --power-cut
# vm: --kernel newest --power-cut
set -eux
case $VM_PHASE in
1)
  cat /proc/sys/kernel/random/boot_id >/root/boot-1
  dd if=/dev/urandom of=/root/kept bs=64k count=16 conv=fsync status=none
  sha256sum /root/kept >/root/kept.sum
  sync /root/kept.sum /root/boot-1 /root
  echo lost >/root/lost
  vm-power-cut
  ;;
2)
  sha256sum -c /root/kept.sum
  [ "$(cat /proc/sys/kernel/random/boot_id)" != "$(cat /root/boot-1)" ]
  [ ! -s /root/lost ]
  # once more, in the midst of writing: each number is promised only after its fsync
  mkdir /root/numbers
  sync /root/numbers /root
  for i in $(seq 1000); do
    echo "$i" >/root/numbers/new
    sync /root/numbers/new
    mv /root/numbers/new "/root/numbers/$i"
    sync /root/numbers
    vm-witness "$i"
    [ "$i" != 10 ] || vm-power-cut 1
  done
  exit 1
  ;;
3)
  promised=$(vm-witness | tail -n 1)
  [ "$promised" -ge 10 ]
  for i in $(seq "$promised"); do
    [ "$(cat "/root/numbers/$i")" = "$i" ]
  done
  ;;
*) exit 1 ;;
esac
