#!/bin/bash
# The runtime's own tests of cgroups and security, where cgroup2 has its controllers, and on pure v1.
# vm: --kernel oldest --add {test:tare-runtime}:/vm/runtime
# vm: --kernel newest --add {test:tare-runtime}:/vm/runtime
# vm: --kernel oldest --cgroup v1 --add {test:tare-runtime}:/vm/runtime
vm-tests /vm/runtime cgroup:: security::
