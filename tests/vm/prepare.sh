# shellcheck shell=bash
# The two kernels and the root image, made once and kept in $TARE_CACHE/vm. Sourced by ./vm.
#
#   kernel-oldest/, kernel-newest/   vmlinux, release, modules.img (ext4, mounted on /usr/lib/modules)
#   root-HASH.img                    one partition, ext4 with journal; HASH is of the recipe below

VM_CACHE=$TARE_CACHE/vm
VM_ROOT_ID=74617265
VM_PACKAGES=systemd,systemd-sysv,libpam-systemd,dbus,udev,kmod,iproute2,nftables,procps,psmisc,apparmor,busybox-static
VM_PACKAGES+=,python3,dmsetup,strace,netcat-openbsd,erofs-utils
# What the end-to-end tests use besides (skopeo and umoci have dependencies that debootstrap cannot order).
VM_PACKAGES+=,gcc,libc6-dev,sqlite3,docker-registry,apache2-utils,xz-utils,bzip2,zstd,openssl,curl,iputils-ping
# Firewalls of others, and what asks names.
VM_PACKAGES+=,iptables,ufw,firewalld,bind9-dnsutils
# Not needed for a test, and each costs time at every emulated boot.
VM_MASKED=(apparmor.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer
  e2scrub_reap.service fstrim.timer getty.target getty@tty1.service systemd-journal-flush.service
  systemd-journal-catalog-update.service systemd-udev-trigger.service systemd-udev-settle.service
  systemd-timesyncd.service systemd-update-utmp.service systemd-update-utmp-runlevel.service
  systemd-random-seed.service systemd-pcrphase.service systemd-pcrphase-sysinit.service
  systemd-machine-id-commit.service systemd-tmpfiles-clean.timer ldconfig.service modprobe@efi_pstore.service
  modprobe@drm.service systemd-pstore.service sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount
  ufw.service firewalld.service
  serial-getty@ttyS0.service systemd-hwdb-update.service nftables.service user@0.service docker-registry.service apache-htcacheclean.service)

kernel_suite() {
  case $1 in
  oldest) echo "$TARE_SUITE" ;;
  newest) echo sid ;;
  *) die "no kernel '$1' (there are: oldest, newest)" ;;
  esac
}

# kernel_packages SUITE PACKAGE: the packages that hold the kernel's files; newer suites split image, base,
# binary and modules.
kernel_packages() {
  private_apt "$1" apt-cache show --no-all-versions "$2" | sed -n 's/^Depends: //p' | tr ',|' '\n\n' | awk '{ print $1 }' |
    { grep -E '^linux-(image|base|binary|modules)-[0-9].*-cloud-amd64$' || true; } |
    while read -r name; do
      echo "$name"
      kernel_packages "$1" "$name"
    done
}

# The bare ELF inside a bzImage. QEMU starts it directly (PVH), which saves decompressing under emulation.
extract_vmlinux() {
  local image=$1 out=$2 magic tool position
  while read -r magic tool; do
    for position in $(LC_ALL=C grep -obUaP "$magic" "$image" | cut -d: -f1 | head -n 8); do
      tail -c +$((position + 1)) "$image" | $tool >"$out" 2>/dev/null || true
      [ "$(head -c 4 "$out" | tail -c 3)" = ELF ] && return
    done
  done <<'MAGIC'
\x28\xb5\x2f\xfd zstd -dc
\xfd7zXZ\x00 xz -dc
\x02\x21\x4c\x18 lz4 -dc
\x1f\x8b\x08 gzip -dc
MAGIC
  die "no known compression in $image"
}

make_kernel() {
  local which=$1 suite dir=$VM_CACHE/kernel-$1 work packages image release modules
  [ ! -e "$dir/release" ] || return 0
  suite=$(kernel_suite "$which")
  say "vm: fetching the $which kernel ($suite)"
  read_suite "$suite"
  packages=$(kernel_packages "$suite" linux-image-cloud-amd64 | sort -u)
  [ -n "$packages" ] || die "$suite has no cloud kernel"

  rm -rf "$dir.new"
  mkdir -p "$dir.new/debs" "$dir.new/tree"
  # shellcheck disable=SC2086
  (cd "$dir.new/debs" && private_apt "$suite" apt-get download $packages >/dev/null) || die "cannot download $packages"
  for deb in "$dir.new"/debs/*.deb; do dpkg-deb -x "$deb" "$dir.new/tree"; done
  image=$(find "$dir.new/tree" -name 'vmlinuz*' -type f | head -n 1)
  modules=$(find "$dir.new/tree" -path '*/lib/modules/*/kernel' -type d | head -n 1)
  modules=${modules%/kernel}
  release=${modules##*/}
  extract_vmlinux "$image" "$dir.new/vmlinux"
  # Modules of hardware that the machine does not have; decompressed, so that the guest need not do it.
  rm -rf "$modules"/kernel/drivers/{gpu,media,hid,iio,hwmon,infiniband/hw,scsi/qla2xxx,scsi/lpfc,net/ethernet,usb,nvdimm}
  find "$modules" -name '*.ko.xz' -exec xz -d {} +
  work=$dir.new/root
  mkdir -p "$work/lib/modules"
  mv "$modules" "$work/lib/modules/"
  depmod -b "$work" "$release"
  truncate -s 256M "$dir.new/modules.img"
  mkfs.ext4 -q -F -O ^has_journal -m 0 -d "$work/lib/modules" "$dir.new/modules.img"
  printf '%s\n' "$release" >"$dir.new/release"
  rm -rf "$dir.new/debs" "$dir.new/tree" "$work"
  rm -rf "$dir"
  mv "$dir.new" "$dir"
}

root_image() {
  printf '%s/root-%s.img\n' "$VM_CACHE" \
    "$({ declare -p TARE_SUITE VM_PACKAGES VM_MASKED; declare -f make_root; cat "$VM_DIR/guest/vm-init"; } |
      sha256sum | cut -c 1-12)"
}

make_root() {
  local out=$1 tree
  [ ! -e "$out" ] || return 0
  say "vm: making the root image"
  mkdir -p "$VM_CACHE"
  tree=$(mktemp -d "$VM_CACHE/root.XXXXXX")
  # shellcheck disable=SC2064
  trap "rm -rf '$tree'" EXIT
  chmod 755 "$tree"
  debootstrap_into "$tree" --include="$VM_PACKAGES"
  rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/* "$tree"/usr/share/{doc,man,locale} \
    "$tree"/usr/lib/modules
  mkdir -p "$tree/usr/lib/modules"
  echo tare-vm >"$tree/etc/hostname"
  printf '127.0.0.1 localhost tare-vm\n' >"$tree/etc/hosts"
  : >"$tree/etc/fstab"
  # A fixed identity: otherwise systemd takes each start for the first one.
  echo 7461726500000000000000000000766d >"$tree/etc/machine-id"
  for unit in "${VM_MASKED[@]}"; do ln -sf /dev/null "$tree/etc/systemd/system/$unit"; done
  mkdir -p "$tree/etc/systemd/journald.conf.d"
  printf '[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\n' >"$tree/etc/systemd/journald.conf.d/vm.conf"
  ln -sf /lib/systemd/system/multi-user.target "$tree/etc/systemd/system/default.target"
  ln -sf /etc/systemd/system/vm-agent.service "$tree/etc/systemd/system/multi-user.target.wants/vm-agent.service"
  install -m 755 "$VM_DIR/guest/vm-init" "$tree/sbin/vm-init"
  # A partition, only because the kernel can find one by its id: newer kernels number the disks as they happen to come.
  truncate -s 8G "$out.new"
  printf 'label: dos\nlabel-id: 0x%s\nstart=1MiB, type=83\n' "$VM_ROOT_ID" | sfdisk -q "$out.new"
  mkfs.ext4 -q -F -E root_owner=0:0,offset=1048576 -m 0 -d "$tree" "$out.new" $((8191 * 1024))k
  rm -rf "$tree"
  trap - EXIT
  rm -f "$VM_CACHE"/root-*.img
  mv "$out.new" "$out"
}

prepare() {
  local which
  need_root "making the images"
  for which in "$@"; do with_lock "vm-kernel-$which" make_kernel "$which"; done
  with_lock vm-root make_root "$(root_image)"
}
