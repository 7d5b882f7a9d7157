#!/bin/bash
# The store as EROFS images mounted from their file, as trees of files, and mixed: what layers can say is there, 127 of
# them as well; archives, proof, count and removal.
# vm: --kernel newest
set -eux
store=/var/lib/tare

# Makes two archives in OCI's layout: `odd` of three layers with everything that a layer can say, `deep` of 127.
cat >/root/make.py <<'PYTHON'
import hashlib, io, json, tarfile

def put(tar, name, data=b"", **fields):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(data), 1_700_000_000, 0o644
    for key, value in fields.items():
        setattr(entry, key, value)
    tar.addfile(entry, io.BytesIO(data))

def layer(fill):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        fill(tar)
    return out.getvalue()

def image(path, name, layers):
    blobs = {}
    def blob(data, kind):
        digest = hashlib.sha256(data).hexdigest()
        blobs["blobs/sha256/" + digest] = data
        return {"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + digest, "size": len(data)}
    listed = [blob(data, "layer.v1.tar") for data in layers]
    config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
              "rootfs": {"type": "layers", "diff_ids": [each["digest"] for each in listed]}}
    described = blob(json.dumps(config).encode(), "config.v1+json")
    manifest = blob(json.dumps({"schemaVersion": 2, "config": described, "layers": listed}).encode(), "manifest.v1+json")
    manifest["annotations"] = {"org.opencontainers.image.ref.name": name}
    with tarfile.open(path, "w") as tar:
        put(tar, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        put(tar, "index.json", json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode())
        for place, data in blobs.items():
            put(tar, place, data)

DIR = dict(type=tarfile.DIRTYPE, mode=0o755)

def base(tar):
    put(tar, "bin", **DIR)
    put(tar, "bin/busybox", open("/bin/busybox", "rb").read(), mode=0o755)
    for name in "sh cat ls rm stat sha256sum sort wc find".split():
        put(tar, "bin/" + name, type=tarfile.SYMTYPE, linkname="busybox")
    for name in "proc", "sys", "dev", "tmp", "kept", "hidden":
        put(tar, name, **DIR)
    put(tar, "kept/below", b"below\n")
    put(tar, "kept/gone", b"gone\n")
    put(tar, "kept/under", b"under\n")
    put(tar, "hidden/old", b"old\n")

def links(tar):
    put(tar, "odd", **DIR)
    put(tar, "odd/one", b"x" * 5000, mode=0o640, uid=1000, gid=70000)
    put(tar, "odd/two", type=tarfile.LNKTYPE, linkname="odd/one")
    put(tar, "odd/under", type=tarfile.LNKTYPE, linkname="kept/under")
    put(tar, "odd/said", b"said\n", pax_headers={"SCHILY.xattr.user.tare": "yes", "SCHILY.xattr.user.more": "and more"})
    put(tar, "odd/fifo", type=tarfile.FIFOTYPE)
    put(tar, "odd/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
    put(tar, "odd/sticky", type=tarfile.DIRTYPE, mode=0o1777)
    put(tar, "odd/empty")

def whiteouts(tar):
    put(tar, "kept/.wh.gone")
    put(tar, "hidden", **DIR)
    put(tar, "hidden/.wh..wh..opq")
    put(tar, "hidden/new", b"new\n")

def step(number):
    def fill(tar):
        put(tar, "deep", **DIR)
        put(tar, f"deep/{number}", f"{number}\n".encode())
        put(tar, "deep/last", f"{number}\n".encode())
        if number % 2 == 0:
            put(tar, f"deep/.wh.{number - 1}")
    return layer(fill)

image("/root/odd.tar", "odd:1", [layer(base), layer(links), layer(whiteouts)])
image("/root/deep.tar", "deep:1", [layer(base)] + [step(number) for number in range(1, 127)])
PYTHON
python3 /root/make.py

sh() { tare run --rm --network none "$1" sh -c "$2"; }
# Every layer has this form.
form() {
  local layer n=0
  for layer in "$store"/layers/*; do
    if [ "$1" = erofs ]; then test -f "$layer/layer.erofs"; else test -d "$layer/fs"; fi
    n=$((n + 1))
  done
  [ "$n" -gt 0 ]
}
# What is counted is what du counts.
counted() { [ "$(tare system df --format '{{.Type}} {{.Bytes}}' | sed -n 's/^Total //p')" = "$(du -s --block-size=1 "$store" | cut -f 1)" ]; }
whole() { tare system check && tare image verify --all; }
# Nothing of images is left.
nothing_left() {
  local place
  for place in blobs/sha256 layers containers volumes tmp; do [ -z "$(ls -A "$store/$place")" ]; done
  tare system check
  counted
}

# What the three layers say.
odd() {
  [ "$(sh "$1" 'cat /kept/*; cat /hidden/*; ls -A /kept /hidden | wc -w')" = "$(printf '%s\n' below under new 5)" ]
  [ "$(sh "$1" 'stat -c "%h %a %u %g %s %Y" /odd/one /odd/two')" = "$(printf '%s\n' \
    '2 640 1000 70000 5000 1700000000' '2 640 1000 70000 5000 1700000000')" ]
  [ "$(sh "$1" 'cat /odd/under; stat -c "%F %t,%T %a" /odd/null /odd/fifo /odd/sticky /odd/empty')" = "$(printf '%s\n' under \
    'character special file 1,3 644' 'fifo 0,0 644' 'directory 0,0 1777' 'regular empty file 0,0 644')" ]
  tare run -d --name said --network none "$1" sh -c 'while :; do read -r x </odd/fifo; done'
  [ "$(python3 -c 'import os, sys; print([(name, os.getxattr(sys.argv[1], name)) for name in sorted(os.listxattr(sys.argv[1])) if name.startswith("user.")])' \
    "/proc/$(tare inspect --format '{{.State.Pid}}' said)/root/odd/said")" = "[('user.more', b'and more'), ('user.tare', b'yes')]" ]
  tare rm -f said
}

round() {
  local form=$1
  [ "$(tare info --format '{{.Snapshotter}}')" = "$form" ]
  tare load -i /root/odd.tar
  form "$form"
  odd odd:1

  # A change, as a layer of its own.
  tare run --name changed --network none odd:1 sh -c 'cat /odd/one >/odd/copy; rm -r /kept; echo new >/hidden/more'
  tare commit changed odd:2
  tare rm changed
  form "$form"
  [ "$(sh odd:2 'ls -d /kept; ls -A /hidden /odd | wc -w; stat -c "%h %s" /odd/one /odd/copy; cat /hidden/more')" = \
    "$(printf '%s\n' 13 '2 5000' '1 5000' new)" ]
  whole
  counted

  # Away, and back from an archive: the same to the byte.
  tare inspect --format '{{.Id}}' odd:1 odd:2 >/root/before
  tare save -o /root/saved.tar odd:1 odd:2
  tare rmi odd:1 odd:2
  nothing_left
  tare load -i /root/saved.tar
  tare inspect --format '{{.Id}}' odd:1 odd:2 >/root/after
  cmp /root/before /root/after
  [ "$(sh odd:2 'cat /odd/copy | sha256sum')" = "$(sh odd:1 'cat /odd/two | sha256sum')" ]
  whole

  # As many layers as Docker takes.
  tare load -i /root/deep.tar
  [ "$(tare inspect --format '{{len .RootFS.Layers}}' deep:1)" = 127 ]
  form "$form"
  [ "$(sh deep:1 'cat /deep/last; ls /deep | wc -l; cat /deep/2 /deep/126; echo x >/deep/126; cat /deep/126')" = \
    "$(printf '%s\n' 126 64 2 126 x)" ]
  whole
  counted

  tare rmi odd:1
  tare system prune --all --force
  [ -z "$(tare images --quiet)" ]
  nothing_left
}

# Images and trees are there side by side, whatever is asked for.
mixed() {
  tare load -i /root/odd.tar
  tare run --name changed --network none odd:1 sh -c 'rm /odd/one; echo more >/odd/more'
  tare --snapshotter overlay commit changed odd:2
  tare rm changed
  [ "$(find "$store"/layers -name layer.erofs | wc -l)" = 3 ]
  [ "$(find "$store"/layers -maxdepth 2 -name fs | wc -l)" = 1 ]
  [ "$(sh odd:2 'ls /odd | wc -l; cat /odd/more')" = "$(printf '%s\n' 8 more)" ]
  whole
  counted
  tare rmi odd:2 odd:1
  nothing_left
}

round erofs
mixed
export TARE_SNAPSHOTTER=overlay
round overlay
