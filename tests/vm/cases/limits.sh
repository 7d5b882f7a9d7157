#!/bin/bash
# Limits bind, and namespaces and devices are what they should be, on pure cgroup2 and on pure v1: the same tests that
# run on the host.
# vm: --kernel oldest --add {test:tare-tests::e2e}:/vm/e2e
# vm: --kernel newest --add {test:tare-tests::e2e}:/vm/e2e
# vm: --kernel oldest --cgroup v1 --add {test:tare-tests::e2e}:/vm/e2e
vm-tests /vm/e2e limits:: namespaces::the_cgroup_view namespaces::each_is_new namespaces::another_containers \
  isolation::masked_paths isolation::dev_has isolation::a_device isolation::sysctls isolation::no_descriptor
