#!/bin/bash
# After a reboot a container that ran is shown as ended, with the reason; it can be started, and no name is stuck.
# vm: --kernel oldest --reboot
# vm: --kernel newest --reboot
set -eux
case $VM_PHASE in
1)
  # Debian's busybox is static
  mkdir -p /root/tree/bin
  cp /bin/busybox /root/tree/bin/
  ln -s busybox /root/tree/bin/sh
  tar -c -C /root/tree . | tare import - box:1
  tare run -d --name web -p 8080:80 box:1 sh -c 'busybox touch /ran; exec busybox sleep 1000'
  tare create --name waiting box:1 sh
  tare run -d --name stopped box:1 busybox sleep 1000
  tare stop -t 0 stopped
  tare ps
  vm-reboot
  ;;
2)
  tare ps --all
  status() { tare ps --all --format '{{.Status}}' --filter "name=$1"; }
  [[ $(status web) == Exited* ]]
  tare inspect --format '{{json .State}}' web
  [ -n "$(tare inspect --format '{{.State.Error}}' web)" ]
  [[ $(status waiting) == Created* ]]
  [[ $(status stopped) == *137* ]]
  # it starts again, with what it wrote
  tare start web
  [[ $(status web) == Up* ]]
  tare exec web busybox ls /ran
  # names are free once it is gone
  tare rm -f web waiting stopped
  tare run --rm --name web -p 8080:80 box:1 busybox true
  [ -z "$(tare ps --all --quiet)" ]
  ;;
esac
