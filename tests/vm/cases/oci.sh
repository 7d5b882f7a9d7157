#!/bin/bash
# The conformance suite of the OCI runtime: all of it on the newest kernel with cgroup2, where the runtime makes the
# groups; where systemd makes them, on each layout, what has to do with groups. AppArmor and devices of kinds that the
# host's kernel lacks come with the first.
# vm: --kernel newest --timeout 1500 --add {test:tare-tests::oci}:/vm/oci --arg cgroupfs
# vm: --kernel oldest --timeout 1500 --add {test:tare-tests::oci}:/vm/oci --arg systemd
# vm: --kernel oldest --cgroup v1 --timeout 1500 --add {test:tare-tests::oci}:/vm/oci --arg systemd
# vm: --kernel oldest --cgroup hybrid --timeout 1500 --add {test:tare-tests::oci}:/vm/oci --arg systemd
export TARE_OCI_MANAGER=$1
case $VM_KERNEL-$VM_CGROUP in
newest-v2) vm-tests --each /vm/oci --skip cycles:: ;;
oldest-v2) vm-tests --each /vm/oci cgroup:: command::{update,events,ps} lifecycle::{create,delete,kill,states} exec:: \
  apparmor:: net_devices:: mounts::guarded ;;
*) vm-tests --each /vm/oci cgroup::{systemd,path,device_rules,private} exec::joins ;;
esac
