#!/bin/bash
# The script's exit code is the run's, and what it printed comes back.
# vm: --kernel oldest
# expect: 7 this went to standard error
echo this went to standard output
echo this went to standard error >&2
exit 7
