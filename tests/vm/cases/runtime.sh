#!/bin/bash
# The runtime's own tests where cgroup2 has its controllers; on pure v1 those of cgroups and security.
# vm: --kernel oldest --add {test:tare-runtime}:/vm/runtime --arg cgroup:: --arg security:: --arg launch:: --arg plan::
# vm: --kernel newest --add {test:tare-runtime}:/vm/runtime --arg cgroup:: --arg security:: --arg launch:: --arg plan::
# vm: --kernel oldest --cgroup v1 --add {test:tare-runtime}:/vm/runtime --arg cgroup:: --arg security::
vm-tests /vm/runtime "$@"
