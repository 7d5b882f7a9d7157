#!/bin/bash
# A kernel that panics ends the run at once, with the console's last words.
# vm: --kernel newest
# expect: 125 Kernel panic - not syncing: sysrq triggered crash
echo 1 >/proc/sys/kernel/sysrq
echo c >/proc/sysrq-trigger
