#!/bin/bash
# A machine that reboots of itself has not passed.
# vm: --kernel oldest
# expect: 125 the guest rebooted or shut down and nobody had asked for it
sync
echo 1 >/proc/sys/kernel/sysrq
echo b >/proc/sysrq-trigger
sleep infinity
