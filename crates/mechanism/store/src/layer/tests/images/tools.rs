//! What the format's own tools say of our images, and that equal archives make equal ones.

use super::*;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output};

/// Where `tools/setup test` puts newer erofs-utils and their libraries; `TARE_CACHE` may name another parent.
fn newer() -> PathBuf {
    let cache = std::env::var_os("TARE_CACHE").map_or_else(|| PathBuf::from("/var/cache/tare-tests"), PathBuf::from);
    cache.join("erofs-utils")
}

/// Runs a tool of erofs-utils that knows blocks of 512 bytes: 1.6 and later. Debian 12 has 1.5, which knows only pages and says
/// so; then the newer one is taken, if it is there.
fn tool(name: &str, arguments: &[&str], image: &Path) -> Option<Output> {
    #[expect(clippy::disallowed_methods, reason = "the test compares with another program")]
    let run = |program: &Path, before: &[&OsStr]| {
        let out = Command::new(program).args(before).args(arguments).arg(image).output().ok()?;
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        (!text.contains("blksize 512 isn't supported")).then_some(out)
    };
    let tree = newer();
    let (program, libraries) = (tree.join("usr/bin").join(name), tree.join("usr/lib/x86_64-linux-gnu"));
    run(Path::new(name), &[]).or_else(|| {
        program.exists().then_some(())?;
        let before = [OsStr::new("--library-path"), libraries.as_os_str(), program.as_os_str()];
        run(&libraries.join("ld-linux-x86-64.so.2"), &before)
    })
}

#[test]
fn fsck_and_dump_find_nothing_wrong() {
    let both = Both::new();
    both.check(&varied::everything());
    let image = both.image();
    let Some(checked) = tool("fsck.erofs", &["-d9"], &image) else {
        println!("SKIP: no fsck.erofs that knows blocks of 512 bytes (erofs-utils 1.6; `tools/setup test` brings one)");
        return;
    };
    let said = [checked.stdout.as_slice(), &checked.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(checked.status.success() && said.contains("No errors found"), "{said}");
    let show = |arguments: &[&str]| {
        let out = tool("dump.erofs", arguments, &image).unwrap();
        assert!(out.status.success(), "{out:?}");
        String::from_utf8(out.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let head = show(&["-s"]);
    for expected in
        ["blocksize: 512 ", "root nid: 2 ", "compatible features: mtime ", "incompatible features: chunked_file "]
    {
        assert!(head.contains(expected), "{expected}: {head}");
    }
    let file = show(&["--path=/before-1970"]);
    assert!(file.contains("Timestamp: 1938-04-24 22:13:20.000000001"), "{file}");
    let file = show(&["--path=/far"]);
    assert!(file.contains("Uid: 4294967294 Gid: 4294967294 Access: 0640"), "{file}");
    let file = show(&["--path=/sparse/last-byte-of-9-GiB"]);
    assert!(file.contains("Size: 9663676416 "), "{file}");
    // A damaged one is told: the check does look.
    let mut bytes = std::fs::read(&image).unwrap();
    let index = u32::from_le_bytes(bytes[1024 + 40..1024 + 44].try_into().unwrap()) as usize * 512;
    bytes[index + 64..index + 66].fill(0xff);
    std::fs::write(both.images.0.join("damaged"), bytes).unwrap();
    assert!(!tool("fsck.erofs", &[], &both.images.0.join("damaged")).unwrap().status.success());
}

#[test]
fn equal_archives_make_equal_images() {
    let archive = varied::everything();
    let make = || {
        let both = Both::new();
        let (_, image) = both.unpack(&archive, &[]);
        (image.unwrap().index.unwrap(), Digest::of(&std::fs::read(both.image()).unwrap()))
    };
    let first = make();
    assert_eq!(first, make());
    // Not only today and here. A change of the format changes it, and then the images of existing stores are other ones.
    assert_eq!(first.0.to_string(), "sha256:b73a1623a721d9777ee203fc110b9213091b0ef0ef0ba961ec0374389d81498b");
}
