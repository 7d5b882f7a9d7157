# shellcheck shell=bash
# One run of the emulated machine: files in, boots, events, files out. Sourced by ./vm.
#
# The guest speaks on its second serial port, one event per line; guest/vm-agent and its neighbours send them:
#   start N    boot N is complete, the script begins     reboot   an orderly reboot follows (QEMU ends with it)
#   cut S      kill the machine in S seconds             end C    the script ended with exit code C
#   lost TEXT  the answer is incomplete: a failure
# The first port is the kernel's console, the third what the script prints.

vm_run() {
  local kernel=oldest cgroup=v2 timeout=600 boot_timeout=240 memory=2048 cpus=2 append='' live='' may_reboot='' may_cut=''
  local script outdir stage arg args=()
  work=$(mktemp -d "${TMPDIR:-/var/tmp}/tare-vm.XXXXXX")
  machine=
  # shellcheck disable=SC2064
  trap 'stop_machine; rm -rf "$work"' EXIT
  trap 'exit 130' INT TERM HUP
  stage=$work/in
  mkdir -p "$stage/vm/bin" "$stage/etc/systemd/system"
  while [ $# -gt 0 ]; do
    case $1 in
    --kernel | --cgroup | --tare | --add | --arg | --timeout | --boot-timeout | --memory | --cpus | --append)
      [ $# -ge 2 ] || die "$1 needs a value"
      ;;&
    --kernel) kernel=$2 ;;
    --cgroup) cgroup=$2 ;;
    --tare) add_file "$2" /usr/local/bin/tare ;;
    --add) case $2 in
      *:*) add_file "${2%%:*}" "${2#*:}" ;;
      *) add_file "$2" "/vm/$(basename "$2")" ;;
      esac ;;
    --arg) args+=("$2") ;;
    --timeout) timeout=$2 ;;
    --boot-timeout) boot_timeout=$2 ;;
    --memory) memory=$2 ;;
    --cpus) cpus=$2 ;;
    --append) append+=" $2" ;;
    --reboot) may_reboot=yes ;;
    --power-cut) may_cut=yes ;;
    --live) live=yes ;;
    -*) die "unknown option '$1'" ;;
    *) break ;;
    esac
    case $1 in
    --reboot | --power-cut | --live) shift ;;
    *) shift 2 ;;
    esac
  done
  [ $# -eq 1 ] || [ $# -eq 2 ] || die "run wants SCRIPT and perhaps OUTDIR (see --help)"
  script=$1 outdir=${2-}
  [ -r "$script" ] || die "no script '$script'"
  prepare "$kernel"

  cp "$VM_DIR"/guest/vm-{agent,lan,reboot,power-cut,tests,witness} "$stage/vm/bin/"
  cp "$VM_DIR/guest/vm-agent.service" "$stage/etc/systemd/system/"
  cat "$script" >"$stage/vm/script"
  chmod 755 "$stage/vm/script"
  {
    printf 'export VM_KERNEL=%q VM_CGROUP=%q\nset --' "$kernel" "$cgroup"
    for arg in "${args[@]}"; do printf ' %q' "$arg"; done
    echo
  } >"$stage/vm/env"
  (cd "$stage" && tar -c --owner=0 --group=0 -f "$work/in.img" -- *)
  truncate -s %1M "$work/in.img"
  truncate -s 4G "$work/out.img"
  qemu-img create -q -f qcow2 -F raw -b "$(root_image)" "$work/root.qcow2"

  converse
  deliver
}

# add_file SRC DST: what the guest shall find at DST.
add_file() {
  local dst=$work/in$2
  [ -e "$1" ] || die "no file '$1'"
  mkdir -p "$(dirname "$dst")"
  # Debug information would only be bytes to move; other files are not for strip to judge.
  if [ -f "$1" ] && [ "$(head -c 4 "$1" | tail -c 3)" = ELF ] && strip --strip-debug -o "$dst" "$1" 2>/dev/null; then
    chmod 755 "$dst"
  else
    cp -aH "$1" "$dst"
  fi
}

# start_machine BOOT: QEMU's standard output carries the events.
start_machine() {
  local dir=$VM_CACHE/kernel-$kernel cache=unsafe hierarchy
  # Only flushes that the guest asks for may survive the kill, and all of them must.
  [ -z "$may_cut" ] || cache=writeback
  case $cgroup in
  v2) hierarchy="systemd.unified_cgroup_hierarchy=1" ;;
  hybrid) hierarchy="systemd.unified_cgroup_hierarchy=0" ;;
  v1) hierarchy="systemd.unified_cgroup_hierarchy=0 systemd.legacy_systemd_cgroup_controller=1" ;;
  *) die "no cgroup layout '$cgroup' (there are: v2, v1, hybrid)" ;;
  esac
  console=$work/console-$1.log output=$work/output-$1.log
  : >"$console"
  : >"$output"
  # One thread for both processors: several threads that emulate x86 race where the kernel patches its own code
  # (panics in early boot, seen with the newest kernel), and are no faster on a machine with two processors.
  coproc MACHINE {
    exec setpriv --pdeathsig KILL qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
      -machine pc -accel tcg,thread=single,tb-size=512 -cpu max -smp "$cpus" -m "$memory" \
      -kernel "$dir/vmlinux" -append "console=ttyS0 root=PARTUUID=$VM_ROOT_ID-01 rootwait rootfstype=ext4 rootflags=noinit_itable rw \
init=/sbin/vm-init net.ifnames=0 mitigations=off audit=0 quiet loglevel=5 panic=0 swapaccount=1 no_timer_check \
random.trust_cpu=on systemd.show_status=error $hierarchy$append" \
      -device nvme,id=disks,serial=tare \
      -drive if=none,id=root,format=qcow2,cache=$cache,discard=unmap,file="$work/root.qcow2" \
      -device nvme-ns,bus=disks,nsid=1,drive=root \
      -drive if=none,id=modules,format=raw,readonly=on,file="$dir/modules.img" \
      -device nvme-ns,bus=disks,nsid=2,drive=modules \
      -drive if=none,id=in,format=raw,readonly=on,file="$work/in.img" \
      -device nvme-ns,bus=disks,nsid=3,drive=in \
      -drive if=none,id=out,format=raw,cache=unsafe,file="$work/out.img" \
      -device nvme-ns,bus=disks,nsid=4,drive=out \
      -netdev hubport,id=net0,hubid=0 -device virtio-net-pci,netdev=net0,romfile=,mac=52:54:00:74:61:00 \
      -netdev hubport,id=net1,hubid=0 -device virtio-net-pci,netdev=net1,romfile=,mac=52:54:00:74:61:01 \
      -serial file:"$console" -chardev stdio,id=events,signal=off -serial chardev:events -serial file:"$output" \
      2>"$work/qemu.err"
  }
  machine=$MACHINE_PID
  # A descriptor of our own: bash closes the coprocess's when that ends, before the last lines are read.
  exec {events}<&"${MACHINE[0]}"
  viewer=
  if [ -n "$live" ]; then
    tail -n +1 -q -F "$output" >&2 2>/dev/null &
    viewer=$!
  fi
}

stop_machine() {
  [ -n "$machine" ] || return 0
  kill -KILL "$machine" 2>/dev/null || true
  wait "$machine" 2>/dev/null || true
  [ -z "$viewer" ] || { sleep 0.2 && kill "$viewer" 2>/dev/null && wait "$viewer" 2>/dev/null; } || true
  exec {events}<&-
  machine=
}

# Boots the machine, as often as the script wants, until the script has ended.
converse() {
  local boots=1 line event value part='' deadline boot_deadline began=$SECONDS rebooting='' reboots=0 cuts=0
  boot_deadline=$((SECONDS + boot_timeout))
  script_status=
  start_machine $boots
  while [ -z "$script_status" ]; do
    if IFS= read -r -t 1 line <&"$events"; then
      line=$part${line%$'\r'} part=
    elif [ $? -gt 128 ]; then
      part+=$line
      if [ -n "$boot_deadline" ] && [ $SECONDS -ge "$boot_deadline" ]; then
        lost 124 "boot $boots did not finish within $boot_timeout s"
      elif [ -z "$boot_deadline" ] && [ $SECONDS -ge "$deadline" ]; then
        lost 124 "the script did not end within $timeout s"
      elif grep -q 'Kernel panic - not syncing' "$console"; then
        lost 125 "the guest's kernel panicked"
      fi
      continue
    elif [ -n "$rebooting" ]; then
      rebooting=''
      stop_machine
      start_machine $boots
      continue
    elif [ -s "$work/qemu.err" ]; then
      lost 125 "QEMU ended: $(tail -n 3 "$work/qemu.err")"
    else
      lost 125 "the guest rebooted or shut down and nobody had asked for it"
    fi
    event=${line%% *} value=${line#* }
    case $event in
    start)
      say "vm: $kernel ($(cat "$VM_CACHE/kernel-$kernel/release"), cgroup $cgroup) boot $value after $((SECONDS - began)) s"
      boot_deadline='' deadline=$((SECONDS + timeout))
      ;;
    reboot | cut)
      boots=$((boots + 1)) began=$SECONDS boot_deadline=$((SECONDS + boot_timeout))
      ;;&
    reboot)
      [ -n "$may_reboot" ] || lost 125 "the script asked for a reboot: say --reboot"
      reboots=$((reboots + 1)) rebooting=yes
      ;;
    cut)
      [ -n "$may_cut" ] || lost 125 "the script asked for a power cut: say --power-cut"
      cuts=$((cuts + 1))
      sleep "$value"
      stop_machine
      start_machine $boots
      ;;
    lost) lost 125 "$value" ;;
    end) script_status=$value ;;
    esac
  done
  stop_machine
  # A script that failed earlier says more by its own exit code.
  [ "$script_status" = 0 ] || return 0
  [ -z "$may_reboot" ] || [ $reboots -gt 0 ] || lost 125 "--reboot was said, but the script did not reboot"
  [ -z "$may_cut" ] || [ $cuts -gt 0 ] || lost 125 "--power-cut was said, but the script did not ask for one"
}

# lost CODE WHY: no answer came; show what there is to see.
lost() {
  local log
  stop_machine
  {
    for log in "$work"/output-*.log "$work"/console-*.log; do
      printf '%s\n' "--- the last lines of ${log##*/}"
      tail -n 30 "$log" | tr -d '\r'
    done
    printf '%s\n' "---" "vm: $kernel kernel: $2"
  } >&2
  exit "$1"
}

# Hands over what the script printed and left in $VM_OUT, and exits as it did.
deliver() {
  [ -n "$outdir" ] || outdir=$work/out
  mkdir -p "$outdir"
  tar -x -f "$work/out.img" -C "$outdir" --no-same-owner || lost 125 "the files from the guest are damaged"
  cp "$work"/console-*.log "$outdir/"
  cat "$outdir/stdout"
  cat "$outdir/stderr" >&2
  exit "$script_status"
}
