# shellcheck shell=bash disable=SC2034
# What the scripts in tools/ and tests/vm/ share. Sourced, never run.

# Root's tools, where the login's PATH lacks them.
PATH=$PATH:/usr/sbin:/sbin
TARE_TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Everything that is fetched or built once and is not part of the tree: kernels, root images, tarballs.
TARE_CACHE=${TARE_CACHE:-/var/cache/tare-tests}
# Debian 12: what containers are made from in the demo and the tests, and what the virtual machine boots.
TARE_SUITE=bookworm

say() { printf '%s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

need_root() { [ "$(id -u)" = 0 ] || die "$1 needs root"; }

# The mirror that this machine's apt uses, so that nothing else has to be reachable.
debian_mirror() {
  local uri
  # The package lists know best, but a fresh machine has none yet.
  uri=$(apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI)' 2>/dev/null |
    awk '$1 == "Debian" && $2 !~ /-/ { print $3; exit }')
  [ -n "$uri" ] || uri=$(cat /etc/apt/sources.list.d/*.sources 2>/dev/null |
    awk '$1 == "URIs:" && $2 ~ /\/debian\/?$/ { print $2; exit }')
  [ -n "$uri" ] || uri=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
    awk '$1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /\/debian\/?$/) { print $i; exit } }')
  [ -n "$uri" ] || die "no Debian mirror in apt's sources"
  printf '%s\n' "${uri%/}"
}

# with_lock NAME CMD...: one process at a time makes a thing in the cache; the others wait and then find it made.
with_lock() {
  local name=$1
  shift
  mkdir -p "$TARE_CACHE"
  (
    flock 9
    "$@"
  ) 9>"$TARE_CACHE/.$name.lock"
}

# debootstrap_into DIR [DEBOOTSTRAP-OPTION...]: a minimal Debian tree. In a mount namespace of its own, because
# debootstrap mounts /proc in the tree and an interrupted one would leave it there.
debootstrap_into() {
  local dir=$1 log
  shift
  mkdir -p "$TARE_CACHE/debs"
  log=$(mktemp)
  if ! unshare --mount --propagation private debootstrap --variant=minbase --cache-dir="$TARE_CACHE/debs" "$@" \
    "$TARE_SUITE" "$dir" "$(debian_mirror)" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    die "debootstrap of $TARE_SUITE failed"
  fi
  rm -f "$log"
}

# private_apt SUITE COMMAND...: apt against one suite of this machine's mirror, with lists and cache of its own, so that the
# host's apt neither sees nor needs it.
private_apt() {
  local suite=$1 dir=$TARE_CACHE/apt/$1
  shift
  "$1" -q -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null \
    -o Dir::State::lists="$dir/lists" -o Dir::Cache="$dir/cache" -o Dir::State::status="$dir/status" \
    -o APT::Architecture=amd64 -o APT::Sandbox::User=root -o APT::Update::Post-Invoke-Success::= \
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "${@:2}"
}

# read_suite SUITE: its package lists, for private_apt.
read_suite() {
  local apt=$TARE_CACHE/apt/$1
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
  : >"$apt/status"
  printf 'deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' \
    "$(debian_mirror)" "$1" >"$apt/sources.list"
  private_apt "$1" apt-get update >/dev/null || die "cannot read the package lists of $1"
}
