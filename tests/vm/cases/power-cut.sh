#!/bin/bash
# A power cut: a container that ran is shown as ended, with the reason; what was answered is there; the store opens.
# vm: --kernel oldest --power-cut
# vm: --kernel newest --power-cut
set -eux
status() { tare ps --all --format '{{.Status}}' --filter "name=$1"; }
case $VM_PHASE in
1)
  mkdir -p /root/tree/bin
  cp /bin/busybox /root/tree/bin/
  ln -s busybox /root/tree/bin/sh
  tar -c -C /root/tree . | tare import - box:1
  tare run -d --name web -p 8080:80 box:1 busybox sleep 1000
  # what is answered is durable: each line is promised after the answer
  for i in $(seq 100); do
    tare tag box:1 "box:tag$i"
    vm-witness image "box:tag$i"
    tare create --name "c$i" box:1 sh
    vm-witness container "c$i"
    tare volume create "v$i"
    vm-witness volume "v$i"
    echo "$i" >"/root/file$i"
    tar -c -C /root "file$i" | tare import - "import:$i"
    vm-witness image "import:$i"
    if [ "$i" -gt 1 ]; then
      tare rm "c$((i - 1))"
      vm-witness removed "c$((i - 1))"
    fi
    [ "$i" != 3 ] || vm-power-cut 2
  done
  exit 1
  ;;
2)
  tare ps --all
  [[ $(status web) == "Exited (255)"* ]]
  [ "$(tare inspect --format '{{.State.Error}}' web)" = "host rebooted" ]
  vm-witness >/root/promised
  [ "$(wc -l </root/promised)" -ge 10 ]
  last=$(sed -n 's/^container //p' /root/promised | tail -n 1)
  while read -r what name; do
    case $what in
    image) tare inspect "$name" >/dev/null ;;
    volume) tare volume inspect "$name" >/dev/null ;;
    removed) ! tare inspect "$name" ;;
    # earlier ones were removed, and the cut may have come before that was promised
    container) [ "$name" != "$last" ] || tare inspect "$name" >/dev/null ;;
    esac
  done </root/promised
  # everything still works
  tare start web
  [[ $(status web) == Up* ]]
  tare run --rm import:1 true && exit 1
  tare run --rm "$(sed -n 's/^image box/box/p' /root/promised | tail -n 1)" busybox true
  # shellcheck disable=SC2046
  tare rm -f $(tare ps --all --quiet)
  ;;
esac
