#!/bin/bash
# The conformance suite of the OCI runtime on pure cgroup2: all of it on the newest kernel, and what the kernel, the
# layout or the manager of cgroups can change on the others. The runtime makes the groups, or has systemd make them.
# vm: --kernel newest --timeout 1500 --add {test:tare-tests::oci}:/vm/oci --arg cgroupfs
# vm: --kernel oldest --timeout 1500 --add {test:tare-tests::oci}:/vm/oci --arg systemd
# vm: --kernel oldest --cgroup v1 --timeout 1500 --add {test:tare-tests::oci}:/vm/oci --arg systemd
# vm: --kernel oldest --cgroup hybrid --timeout 1500 --add {test:tare-tests::oci}:/vm/oci --arg systemd
export TARE_OCI_MANAGER=$1
[ ! -e /vm/tare-runtime ] || export TARE_OCI_RUNTIME=/vm/tare-runtime
# A device for RDMA, of software, upon an ordinary network card.
modprobe -a virtio_net rdma_rxe && rdma link add rxe0 type rxe netdev eth0
all=()
groups=(cgroup:: command::update command::events command::ps lifecycle:: exec:: devices::)
case $VM_KERNEL-$VM_CGROUP in
newest-v2) vm-tests --each /vm/oci "${all[@]}" ;;
oldest-v2) vm-tests --each /vm/oci "${groups[@]}" apparmor:: net_devices:: mounts::guarded ;;
*) vm-tests --each /vm/oci cgroup:: command::update exec::joins ;;
esac
