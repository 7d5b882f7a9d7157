# shellcheck shell=bash
# Runs a folder of scripts in the machine. Sourced by ./vm. In a script's head:
#
#   # vm: OPTIONS          a run with these options of `vm run`; one line for each run. {test:ID} stands for the path of
#                          a test binary: ID is nextest's, as in {test:tare-runtime} or {test:tare-tests::e2e}
#   # expect: CODE TEXT    instead of 0: its exit code, with TEXT in what it prints; all such lines must hold
#
# What cannot run there prints `SKIP: WHAT: why`; the run then says `SKIP: NAME@KERNEL WHAT: why`.

# cases DIR TARE [-j N] [PATTERN]: PATTERN is a part of NAME@KERNEL.
cases() {
  local dir=$1 tare=$2 jobs=2 pattern='' script options name i scripts=() runs=() names=() failed passed began=$SECONDS
  shift 2
  while [ $# -gt 0 ]; do
    case $1 in
    -j) jobs=$2 && shift 2 ;;
    -*) die "unknown option '$1'" ;;
    *) pattern=$1 && shift ;;
    esac
  done
  [ -x "$tare" ] || die "no binary '$tare': cargo build --release"
  for script in "$dir"/*.sh; do
    grep -q '^# vm:' "$script" || die "$script has no line '# vm:'"
    while IFS= read -r options; do
      name=$(basename "$script" .sh)@$(case_label "$options")
      case $name in *"$pattern"*) scripts+=("$script") runs+=("$options") names+=("$name") ;; esac
    done < <(sed -n 's/^# vm: *//p' "$script")
  done
  prepare oldest newest
  test_binaries "${runs[@]}"
  results=$(mktemp -d "${TMPDIR:-/var/tmp}/tare-cases.XXXXXX")
  # shellcheck disable=SC2064
  trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$results"' EXIT
  for i in "${!runs[@]}"; do
    while [ "$(jobs -pr | wc -l)" -ge "$jobs" ]; do wait -n || true; done
    one_case "${scripts[i]}" "${runs[i]}" "${names[i]}" "$tare" &
  done
  wait
  passed=$(find "$results" -name '*.passed' | wc -l)
  failed=$(find "$results" -name '*.failed' | wc -l)
  find "$results" -name '*.failed' -printf 'failed: vm::%f\n' | sed 's/\.failed$//' | sort
  say "vm: $((passed + failed)) runs in $((SECONDS - began)) s"
  printf '%s passed, %s failed\n' "$passed" "$failed"
  [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
}

# test_binaries OPTIONS...: the paths of those that the options name, into BINARIES: built before any machine starts.
test_binaries() {
  local ids id path packages=()
  declare -gA BINARIES=()
  ids=$(printf '%s\n' "$@" | { grep -o '{test:[^}]*}' || true; } | sort -u | sed 's/{test:\(.*\)}/\1/')
  [ -n "$ids" ] || return 0
  for id in $ids; do packages+=(-p "${id%%::*}"); done
  while IFS=$'\t' read -r id path; do
    BINARIES[$id]=$path
  done < <(cd "$TARE_TOP" && cargo nextest list --locked --list-type binaries-only --message-format json "${packages[@]}" |
    jq -r '."rust-binaries"[] | [."binary-id", ."binary-path"] | @tsv')
  for id in $ids; do [ -n "${BINARIES[$id]-}" ] || die "no test binary '$id'"; done
}

# What tells two runs of a script apart: the kernel, and the cgroup layout where it is not the usual one.
case_label() {
  local kernel=oldest cgroup=''
  [[ $1 =~ --kernel\ +([a-z]+) ]] && kernel=${BASH_REMATCH[1]}
  [[ $1 =~ --cgroup\ +([a-z0-9]+) ]] && cgroup=-${BASH_REMATCH[1]}
  printf '%s%s\n' "$kernel" "$cgroup"
}

# A run that fails and passes when it is repeated counts as passed, and is told: an emulated machine beside other work has
# unlucky moments.
one_case() {
  local name=$3
  case_run "$@" 1 && return
  printf 'flaky: vm::%s failed and is run again\n' "$name"
  rm -f "$results/$name".{failed,log}
  case_run "$@" 2
}

# case_run SCRIPT OPTIONS NAME TARE TURN: leaves NAME.passed or NAME.failed.
case_run() {
  local script=$1 options=$2 name=$3 tare=$4 turn=$5 log=$results/$3.log status=0 code=0 text why='' id began=$SECONDS args
  for id in "${!BINARIES[@]}"; do options=${options//"{test:$id}"/${BINARIES[$id]}}; done
  # The options are quoted as in a shell.
  eval "args=($options)"
  "$VM_DIR/vm" run --tare "$tare" "${args[@]}" "$script" >"$log" 2>&1 </dev/null || status=$?
  while IFS=' ' read -r code text; do
    grep -qF -- "$text" "$log" || why="no '$text' in its output"
  done < <(sed -n 's/^# expect: *//p' "$script")
  code=$(sed -n 's/^# expect: *\([0-9]*\).*/\1/p' "$script" | head -n 1)
  [ "$status" = "${code:-0}" ] || why="exit code $status instead of ${code:-0}"
  sed -n "s/^ *SKIP: /SKIP: $name /p" "$log"
  if [ -z "$why" ]; then
    : >"$results/$name.passed"
    printf 'PASS vm::%s (%s s)\n' "$name" "$((SECONDS - began))"
  else
    : >"$results/$name.failed"
    printf 'FAIL vm::%s (%s s, turn %s): %s\n%s\n' "$name" "$((SECONDS - began))" "$turn" "$why" "$(sed 's/^/    /' "$log")"
    return 1
  fi
}
