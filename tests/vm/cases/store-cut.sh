#!/bin/bash
# Power cuts at random moments while everything that changes a store is done again and again: what was answered is there
# to the byte, what was under way can be done again, and nothing is left when all is removed.
# vm: --kernel newest --power-cut
set -eux

# The digest of what an image shows.
content() { tare run --rm --network none "$1" sh -c 'cat /data/* | sha256sum'; }
# promise WORDS: told after the answer; the last word about a thing counts.
promise() { vm-witness "$VM_PHASE $*"; }

# A registry in memory, and an image to pull from it.
registry() {
  mkdir -p /run/registry
  cat >/run/registry/config.yml <<CONFIG
version: 0.1
storage: {filesystem: {rootdirectory: /run/registry/data}}
http: {addr: "127.0.0.1:5000"}
CONFIG
  docker-registry serve /run/registry/config.yml >/dev/null 2>&1 &
  for _ in $(seq 300); do
    if curl -sf http://127.0.0.1:5000/v2/ >/dev/null; then break; fi
    sleep 0.1
  done
  tar -c -C /root/tree . | tare import - 127.0.0.1:5000/box:1
  tare push 127.0.0.1:5000/box:1
}

# Makes and removes things until the machine dies.
work() {
  local i
  for i in $(seq 100); do
    seq "$i" 3000 >"/root/tree/data/$VM_PHASE-$i"
    tar -c -C /root/tree . | tare import - "import:$i"
    promise image "import:$i" "$(content "import:$i")"
    tare run --name "run$i" --network none "import:$i" sh -c "seq $i >/data/new$i; rm /data/first"
    promise container "run$i"
    tare commit "run$i" "commit:$i"
    promise image "commit:$i" "$(content "commit:$i")"
    tare tag "commit:$i" "tag:$i"
    promise image "tag:$i" "$(content "tag:$i")"
    tare save -o /run/saved.tar "commit:$i"
    tare rm "run$i"
    promise gone container "run$i"
    tare rmi "commit:$i"
    promise gone image "commit:$i"
    tare load -i /run/saved.tar
    promise image "commit:$i" "$(content "commit:$i")"
    tare volume create "v$i"
    promise volume "v$i"
    tare network create "n$i"
    promise network "n$i"
    tare create --name "c$i" -v "v$i:/v" --network "n$i" "tag:$i" true
    promise container "c$i"
    tare rmi 127.0.0.1:5000/box:1
    promise gone image 127.0.0.1:5000/box:1
    tare pull 127.0.0.1:5000/box:1
    promise image 127.0.0.1:5000/box:1 "$(content 127.0.0.1:5000/box:1)"
    if [ "$i" -gt 1 ]; then
      tare rm "c$((i - 1))"
      promise gone container "c$((i - 1))"
      tare volume rm "v$((i - 1))"
      promise gone volume "v$((i - 1))"
      tare network rm "n$((i - 1))"
      promise gone network "n$((i - 1))"
      tare rmi "import:$((i - 1))"
      promise gone image "import:$((i - 1))"
    fi
  done
}

# there KIND NAME
there() {
  case $1 in
  container) tare inspect --format '{{.Id}}' "$2" ;;
  *) tare "$1" inspect "$2" ;;
  esac >/dev/null 2>&1
}

# What was promised in this and earlier phases; the thing that the next answer would have been about is not looked at.
kept() {
  local phase kind name what n=0
  declare -A last=()
  vm-witness >/root/promised
  while read -r phase kind name what; do
    if [ "$kind" = gone ]; then
      last["$name $what"]=gone
    else
      last["$kind $name"]="there $what"
    fi
  done </root/promised
  for name in "${!last[@]}"; do
    kind=${name%% *} what=${last[$name]}
    if [ "$what" = gone ]; then
      # It may have been on the way back: images are pulled and loaded again under the same name.
      [ "$kind" = image ] || { ! there "$kind" "${name#* }"; }
    elif there "$kind" "${name#* }"; then
      [ "$kind" != image ] || [ "$(content "${name#* }")" = "${what#there }" ]
      n=$((n + 1))
    else
      # Only the one whose removal was under way may be gone.
      missing+=("$name")
    fi
  done
  [ "$n" -gt 3 ]
  [ "${#missing[@]}" -le 1 ]
}

missing=()
modprobe erofs || true
case $VM_PHASE in
1)
  mkdir -p /root/tree/bin /root/tree/data
  cp /bin/busybox /root/tree/bin/
  for name in sh seq rm cat sha256sum true; do ln -s busybox "/root/tree/bin/$name"; done
  seq 1000 >/root/tree/data/first
  registry
  vm-power-cut "$((3 + RANDOM % 6)).$((RANDOM % 1000))"
  work
  exit 1
  ;;
2)
  tare system check
  kept
  tare system check
  # The same names again: nothing half done is in the way.
  tare rm -f $(tare ps --all --quiet)
  tare rmi -f $(tare images --quiet)
  tare volume prune --all --force
  tare network prune --force
  tare system prune --all --volumes --force
  tare system check
  for place in blobs/sha256 layers containers volumes tmp; do
    [ -z "$(ls -A "/var/lib/tare/$place")" ]
  done
  registry
  work_once=$(tar -c -C /root/tree . | tare import - again:1)
  [ -n "$work_once" ]
  content again:1
  ;;
esac
