#!/bin/bash
# After an orderly reboot nothing is stuck: containers that ran have ended, can be started, and their names are free
# once they are removed.
# vm: --kernel oldest --reboot
# vm: --kernel newest --reboot
set -eux
status() { tare ps --all --format '{{.Status}}' --filter "name=$1"; }
case $VM_PHASE in
1)
  # Debian's busybox is static
  mkdir -p /root/tree/bin
  cp /bin/busybox /root/tree/bin/
  ln -s busybox /root/tree/bin/sh
  tar -c -C /root/tree . | tare import - box:1
  # ends when it is asked to, as the shutdown asks everybody
  tare run -d --name web -p 8080:80 box:1 sh -c 'trap "exit 3" TERM; busybox touch /ran; while :; do busybox sleep 0.1; done'
  tare run -d --name stopped box:1 busybox sleep 1000
  tare stop -t 0 stopped
  tare create --name waiting box:1 sh
  vm-reboot
  ;;
2)
  tare ps --all
  [[ $(status web) == "Exited (3)"* ]]
  [[ $(status stopped) == "Exited (137)"* ]]
  [[ $(status waiting) == Created* ]]
  # it starts again, with what it wrote and its port
  tare start web
  [[ $(status web) == Up* ]]
  tare exec web busybox ls /ran
  tare rm -f web waiting stopped
  tare run --rm --name web -p 8080:80 box:1 busybox true
  [ -z "$(tare ps --all --quiet)" ]
  ;;
esac
