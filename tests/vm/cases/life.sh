#!/bin/bash
# Life, signals, exec and terminals on pure cgroup2: the same tests that run on the host.
# vm: --kernel oldest --add {test:tare-tests::e2e}:/vm/e2e
# vm: --kernel newest --add {test:tare-tests::e2e}:/vm/e2e
vm-tests /vm/e2e exec:: signals:: life::a_container_survives life::stopping life::starting_again life::many_may \
  life::name_address life::a_root terminal::a_terminal terminal::detaching terminal::streams
