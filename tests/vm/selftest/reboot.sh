#!/bin/bash
# A reboot is real (another boot id) and keeps the disk.
# vm: --kernel oldest --reboot
# vm: --kernel newest --reboot
set -eux
case $VM_PHASE in
1)
  cat /proc/sys/kernel/random/boot_id >/root/boot-1
  echo kept >/root/file
  echo gone >/run/file
  echo from phase 1 >"$VM_OUT/one"
  vm-reboot
  ;;
2)
  [ "$(cat /root/file)" = kept ]
  [ ! -e /run/file ]
  [ "$(cat /proc/sys/kernel/random/boot_id)" != "$(cat /root/boot-1)" ]
  [ "$(cat "$VM_OUT/one")" = "from phase 1" ]
  ;;
*) exit 1 ;;
esac
