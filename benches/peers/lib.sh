# What the scripts of the benches share. Sourced, never run.
# shellcheck shell=bash disable=SC2034
# shellcheck source=../../tools/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../tools/lib.sh"
BENCH_DIR=$TARE_TOP/benches
BENCH_CACHE=${TARE_BENCH:-/var/cache/tare-bench}
SID=$BENCH_CACHE/sid      # a Debian sid tree with the newest peers; the root of the box
BENCH=$BENCH_CACHE/bench  # seen as /bench in the box: compiled programs, the image's root filesystem, the binary of tare
