#!/bin/bash
# The kernels' modules are there and work: what the machine at hand lacks, and what a container engine needs.
# vm: --kernel oldest
# vm: --kernel newest
set -eux
modprobe -a sctp ipvlan macvlan dummy veth bridge br_netfilter tun vxlan ifb loop overlay erofs squashfs \
  nf_tables nft_chain_nat nft_masq nft_redir nft_ct nf_nat sch_tbf sch_netem dm_mod dm-flakey dm-snapshot
ip link add d0 type dummy
ip link add link d0 name i0 type ipvlan
ip link add br0 type bridge
ip link add v0 type veth peer name v1
ip link set v0 master br0
nft add table ip t
nft 'add chain ip t c { type nat hook postrouting priority 100 ; }'
nft add rule ip t c ip saddr 10.0.0.0/8 masquerade
nft add map ip t m '{ type inet_service : ipv4_addr . inet_service ; }'
nft delete table ip t

mkdir -p /t/{lower,upper,work,merged,image}
echo lower >/t/lower/file
mount -t overlay -o lowerdir=/t/lower,upperdir=/t/upper,workdir=/t/work overlay /t/merged
[ "$(cat /t/merged/file)" = lower ]
echo changed >/t/merged/file
[ "$(cat /t/upper/file)" = changed ]

mkfs.erofs -Enoinline_data /t/erofs.img /t/lower
case $VM_KERNEL in
oldest) mount -t erofs -o loop /t/erofs.img /t/image ;;
# straight from the file, which is what the newest kernel is here for
newest)
  # (mount(8) would make a loop device)
  python3 -c 'import ctypes; exit(ctypes.CDLL(None).mount(b"/t/erofs.img", b"/t/image", b"erofs", 1, None))'
  [ -z "$(losetup -a)" ]
  ;;
esac
[ "$(cat /t/image/file)" = lower ]

# a device that can be told to fail
truncate -s 64M /t/disk
disk=$(losetup -f --show /t/disk)
mkfs.ext4 -q "$disk"
sectors=$(blockdev --getsz "$disk")
dmsetup create flaky --table "0 $sectors flakey $disk 0 3600 0"
mkdir /t/flaky
mount /dev/mapper/flaky /t/flaky
echo before >/t/flaky/file
sync /t/flaky/file
dmsetup suspend flaky
dmsetup load flaky --table "0 $sectors flakey $disk 0 0 3600 1 error_writes"
dmsetup resume flaky
! dd if=/dev/zero of=/t/flaky/more bs=4k count=4 conv=fsync
