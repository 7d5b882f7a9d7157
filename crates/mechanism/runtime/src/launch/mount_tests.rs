//! The steps that mount, on the real kernel. Each test's thread has a mount namespace of its own, in which the steps are
//! done up to the change of the root. Needs root.

use super::handles::{Prepared, prepare};
use super::resolve::in_root;
use super::status::Reporter;
use super::step::Stage;
use crate::plan::{LaunchPlan, Step, plan};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use tare_kernel::process::Namespaces;
use tare_model::runtime_spec::{
    Linux, LinuxDevice, LinuxIdMapping, LinuxNamespace, Mount, NamespaceKind, Process, Root, Spec,
};
use tare_model::{Error, Kind};

/// A rootfs in a tmpfs of this thread's mount namespace, and directories of the host beside it.
struct Bundle {
    base: PathBuf,
    spec: Spec,
}

impl Bundle {
    fn new() -> Bundle {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tare-mounts-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let base = std::env::temp_dir().join(name);
        std::fs::create_dir(&base).unwrap();
        tare_kernel::process::unshare(Namespaces::MOUNT).unwrap();
        let private = tare_kernel::mount::Attributes { propagation: tare_kernel::mount::PRIVATE, ..Default::default() };
        tare_kernel::mount::set_attributes(tare_kernel::mount::cwd(), c"/", private, true).unwrap();
        rustix::mount::mount("tmpfs", &base, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
        for dir in ["rootfs", "rootfs/dev", "rootfs/proc", "rootfs/etc", "host"] {
            std::fs::create_dir(base.join(dir)).unwrap();
        }
        let namespaces = [NamespaceKind::Mount].map(|kind| LinuxNamespace { kind, path: None });
        let spec = Spec {
            process: Some(Process { args: vec!["true".into()], cwd: "/".into(), ..Process::default() }),
            root: Some(Root { path: base.join("rootfs").to_str().unwrap().into(), readonly: false }),
            linux: Some(Linux { namespaces: namespaces.into(), ..Linux::default() }),
            ..Spec::default()
        };
        Bundle { base, spec }
    }

    fn host(&self, name: &str) -> PathBuf {
        self.base.join("host").join(name)
    }

    fn inside(&self, name: &str) -> PathBuf {
        self.base.join("rootfs").join(name)
    }

    fn linux(&mut self) -> &mut Linux {
        self.spec.linux.as_mut().unwrap()
    }

    fn mount(&mut self, kind: &str, source: &Path, target: &str, options: &[&str]) -> &mut Mount {
        self.spec.mounts.push(Mount {
            destination: target.into(),
            kind: Some(kind.into()),
            source: Some(source.to_str().unwrap().into()),
            options: options.iter().map(|o| (*o).to_owned()).collect(),
            ..Mount::default()
        });
        self.spec.mounts.last_mut().unwrap()
    }

    /// Does the steps of the plan, all but the change of the root.
    fn start(&self) -> Result<Container, Error> {
        let plan = plan(&self.spec)?;
        let root = super::open_root(&self.base.join("rootfs"))?;
        let prepared = prepare(&plan, root, Vec::new())?;
        Container::make(&plan, prepared)
    }

    fn kind_of_failure(&self) -> Kind {
        self.start().err().expect("it was refused").kind()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.base, rustix::mount::UnmountFlags::DETACH);
        let _ = std::fs::remove_dir(&self.base);
    }
}

struct Container {
    root: OwnedFd,
}

impl Container {
    fn make(plan: &LaunchPlan, prepared: Prepared) -> Result<Container, Error> {
        let (near, _far) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        rustix::process::umask(Mode::empty());
        let mut stage = Stage::new(&prepared, Reporter(near.as_fd()), false);
        for step in &plan.steps {
            // The thread's namespace is its own, and what the tests do on the host's side happens in it, too.
            if !matches!(step, Step::IsolateMounts | Step::EnterRoot(_) | Step::DetachHost) {
                stage.perform(step)?;
            }
        }
        let root = prepared.root().try_clone_to_owned().unwrap();
        Ok(Container { root })
    }

    /// A path through which std's functions see what is at a path inside.
    fn path(&self, inside: &str) -> PathBuf {
        let fd = in_root(&self.root, inside, OFlags::PATH | OFlags::NOFOLLOW).unwrap();
        // Left open: the path is that of the descriptor.
        let number = rustix::fd::AsRawFd::as_raw_fd(&fd);
        std::mem::forget(fd);
        format!("/proc/self/fd/{number}").into()
    }

    fn write(&self, inside: &str) -> rustix::io::Result<OwnedFd> {
        let (dir, name) = super::resolve::split(inside);
        let dir = in_root(&self.root, dir, OFlags::PATH)?;
        rustix::fs::openat(dir, name, OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))
    }

    /// The line of mountinfo for what is mounted at a path inside.
    fn mount_info(&self, inside: &str) -> String {
        let fd = in_root(&self.root, inside, OFlags::PATH).unwrap();
        let number = rustix::fd::AsRawFd::as_raw_fd(&fd);
        let info = std::fs::read_to_string(format!("/proc/thread-self/fdinfo/{number}")).unwrap();
        let id = info.lines().find_map(|l| l.strip_prefix("mnt_id:")).unwrap().trim().to_owned();
        let all = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        all.lines().find(|l| l.split(' ').next() == Some(&id)).unwrap_or_default().to_owned()
    }
}

fn maps(container: u32, host: u32) -> Vec<LinuxIdMapping> {
    vec![LinuxIdMapping { container_id: container, host_id: host, size: 10 }]
}

fn errno(e: &Error) -> i32 {
    e.errno().unwrap_or_default()
}

#[test]
fn attributes_reach_the_mount_and_what_is_below_it() {
    let mut b = Bundle::new();
    std::fs::create_dir_all(b.host("a/b")).unwrap();
    let none = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", b.host("a/b"), "tmpfs", none, None).unwrap();
    let source = b.host("a");
    b.mount("none", &source, "/alone", &["rbind", "ro", "nosuid", "noatime"]);
    b.mount("bind", &source, "/all", &["rbind", "rro", "rnoexec", "rnosymfollow"]);
    b.mount("bind", &source, "/shallow", &["bind"]);
    let c = b.start().unwrap();
    assert!(c.mount_info("/alone").contains(" ro,nosuid,noatime "), "{}", c.mount_info("/alone"));
    assert!(c.mount_info("/alone/b").contains(" rw,relatime "));
    for path in ["/all", "/all/b"] {
        let line = c.mount_info(path);
        assert!(line.contains(" ro,noexec,relatime,nosymfollow "), "{line}");
        assert_eq!(c.write(&format!("{path}/x")).unwrap_err(), rustix::io::Errno::ROFS);
    }
    // Not recursive: the directory below is the host's, empty, on the mount itself.
    assert_eq!(c.mount_info("/shallow/b"), c.mount_info("/shallow"));
}

#[test]
fn binds_of_files_sockets_and_fifos_make_their_places() {
    let mut b = Bundle::new();
    std::fs::write(b.host("file"), "content").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(b.host("socket")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, b.host("fifo"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
    for name in ["file", "socket", "fifo"] {
        let source = b.host(name);
        b.mount("bind", &source, &format!("/new/{name}"), &["bind"]);
    }
    let c = b.start().unwrap();
    assert_eq!(std::fs::read_to_string(c.path("/new/file")).unwrap(), "content");
    assert!(std::fs::metadata(c.path("/new/socket")).unwrap().file_type().is_socket());
    assert!(std::fs::metadata(c.path("/new/fifo")).unwrap().file_type().is_fifo());
    let mut b = Bundle::new();
    std::fs::write(b.host("file"), "").unwrap();
    let source = b.host("file");
    b.mount("bind", &source, "/etc", &["bind"]);
    assert_eq!(errno(&b.start().err().unwrap()), rustix::io::Errno::NOTDIR.raw_os_error());
}

#[test]
fn a_tmpfs_has_the_mode_of_what_it_covers_and_is_sealed_last() {
    let mut b = Bundle::new();
    std::fs::create_dir(b.inside("tmp")).unwrap();
    std::fs::set_permissions(b.inside("tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    let none = Path::new("tmpfs");
    b.mount("tmpfs", none, "/tmp", &[]);
    b.mount("tmpfs", none, "/given", &["mode=710", "uid=5", "gid=6", "size=64k"]);
    b.mount("tmpfs", none, "/sealed", &["ro"]);
    b.mount("tmpfs", none, "/sealed/below", &[]);
    let c = b.start().unwrap();
    assert_eq!(std::fs::metadata(c.path("/tmp")).unwrap().mode() & 0o7777, 0o1777);
    let given = std::fs::metadata(c.path("/given")).unwrap();
    assert_eq!((given.mode() & 0o7777, given.uid(), given.gid()), (0o710, 5, 6));
    assert!(c.mount_info("/given").contains("size=64k"));
    assert_eq!(c.write("/sealed/x").unwrap_err(), rustix::io::Errno::ROFS);
    c.write("/sealed/below/x").unwrap();
}

#[test]
fn a_tmpfs_begins_with_what_the_image_has() {
    let mut b = Bundle::new();
    std::fs::create_dir_all(b.inside("data/dir")).unwrap();
    std::fs::write(b.inside("data/dir/file"), vec![7u8; 100_000]).unwrap();
    std::fs::write(b.host("secret"), "secret").unwrap();
    symlink(b.host("secret"), b.inside("data/link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, b.inside("data/fifo"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
    let file = b.inside("data/dir/file");
    std::os::unix::fs::chown(&file, Some(3), Some(4)).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o4711)).unwrap();
    rustix::fs::setxattr(&file, "user.note", b"n", rustix::fs::XattrFlags::empty()).unwrap();
    std::os::unix::fs::chown(b.inside("data"), Some(8), Some(9)).unwrap();
    std::fs::set_permissions(b.inside("data"), std::fs::Permissions::from_mode(0o751)).unwrap();
    let before = std::fs::metadata(&file).unwrap().mtime_nsec();
    b.mount("tmpfs", Path::new("tmpfs"), "/data", &["tmpcopyup"]);
    b.mount("tmpfs", Path::new("tmpfs"), "/nothing", &["tmpcopyup"]);
    let c = b.start().unwrap();
    assert!(c.mount_info("/data").contains(" - tmpfs "));
    let copied = c.path("/data/dir/file");
    let stat = std::fs::metadata(&copied).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid(), stat.len()), (0o4711, 3, 4, 100_000));
    assert_eq!(stat.mtime_nsec(), before);
    let mut value = [0u8; 4];
    let opened = std::fs::File::open(&copied).unwrap();
    assert_eq!(rustix::fs::fgetxattr(&opened, "user.note", &mut value[..]).unwrap(), 1);
    // The link is a link still: what it leads to was not read.
    let link = std::fs::symlink_metadata(c.path("/data/link")).unwrap();
    assert!(std::fs::read_link(c.path("/data").join("link")).unwrap().ends_with("secret"), "{link:?}");
    assert!(std::fs::symlink_metadata(c.path("/data").join("fifo")).unwrap().file_type().is_fifo());
    let top = std::fs::metadata(c.path("/data")).unwrap();
    assert_eq!((top.mode() & 0o7777, top.uid(), top.gid()), (0o751, 8, 9));
    c.write("/data/dir/new").unwrap();
    assert!(!b.inside("data/dir/new").exists());
}

#[test]
fn ids_are_mapped_on_the_mount_and_below_it_if_asked() {
    let mut b = Bundle::new();
    std::fs::create_dir_all(b.host("a/b")).unwrap();
    let none = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", b.host("a/b"), "tmpfs", none, None).unwrap();
    for file in ["a/file", "a/b/file"] {
        std::fs::write(b.host(file), "").unwrap();
        std::os::unix::fs::chown(b.host(file), Some(1), Some(2)).unwrap();
    }
    let source = b.host("a");
    for (target, word) in [("/alone", "idmap"), ("/all", "ridmap")] {
        let m = b.mount("bind", &source, target, &["rbind", word]);
        (m.uid_mappings, m.gid_mappings) = (maps(0, 1000), maps(0, 2000));
    }
    let m = b.mount("tmpfs", Path::new("tmpfs"), "/fresh", &["mode=700"]);
    (m.uid_mappings, m.gid_mappings) = (maps(0, 1000), maps(0, 2000));
    let c = b.start().unwrap();
    let owner = |path: &str| {
        let stat = std::fs::metadata(c.path(path)).unwrap();
        (stat.uid(), stat.gid())
    };
    assert_eq!(owner("/alone/file"), (1001, 2002));
    assert_eq!(owner("/alone/b/file"), (1, 2));
    assert_eq!(owner("/all/file"), (1001, 2002));
    assert_eq!(owner("/all/b/file"), (1001, 2002));
    assert_eq!(owner("/fresh"), (1000, 2000));
}

#[test]
fn a_filesystem_without_mapped_ids_is_named() {
    let mut b = Bundle::new();
    let m = b.mount("bind", Path::new("/proc"), "/x", &["bind", "idmap"]);
    (m.uid_mappings, m.gid_mappings) = (maps(0, 1000), maps(0, 1000));
    let e = b.start().err().unwrap();
    assert_eq!(e.kind(), Kind::Unsupported);
    assert!(e.to_string().contains("cannot show mapped ids"), "{e}");
}

#[test]
fn propagation_is_private_unless_asked_for() {
    let mut b = Bundle::new();
    std::fs::create_dir_all(b.host("a/sub")).unwrap();
    rustix::mount::mount_bind(b.host("a"), b.host("a")).unwrap();
    let shared = tare_kernel::mount::Attributes { propagation: tare_kernel::mount::SHARED, ..Default::default() };
    let a = std::fs::File::open(b.host("a")).unwrap();
    tare_kernel::mount::set_attributes(a.as_fd(), c"", shared, false).unwrap();
    let source = b.host("a");
    for (target, words) in
        [("/default", &["bind"][..]), ("/slave", &["bind", "rslave"]), ("/shared", &["bind", "rprivate", "shared"])]
    {
        b.mount("bind", &source, target, words);
    }
    b.mount("bind", &source, "/peer", &["bind", "rshared"]);
    b.mount("tmpfs", Path::new("tmpfs"), "/un", &["unbindable"]);
    let c = b.start().unwrap();
    assert!(!c.mount_info("/default").contains("shared:") && !c.mount_info("/default").contains("master:"));
    assert!(c.mount_info("/slave").contains("master:"));
    assert!(c.mount_info("/un").contains("unbindable"));
    assert!(c.mount_info("/shared").contains("shared:"), "made shared anew");
    // A mount made in the container is seen on the host, and one of the host's by the slave.
    let none = rustix::mount::MountFlags::empty();
    let sub = c.path("/peer/sub");
    rustix::mount::mount("tmpfs", &sub, "tmpfs", none, None).unwrap();
    std::fs::write(b.host("a/sub/made-inside"), "").unwrap();
    for (path, seen) in [("/peer", true), ("/slave", true), ("/default", false), ("/shared", false)] {
        assert_eq!(in_root(&c.root, &format!("{path}/sub/made-inside"), OFlags::PATH).is_ok(), seen, "{path}");
    }
}

#[test]
fn what_is_mounted_can_be_changed() {
    let mut b = Bundle::new();
    b.mount("tmpfs", Path::new("tmpfs"), "/t", &["size=1m"]);
    b.mount("none", Path::new("none"), "/t", &["remount", "size=2m"]);
    b.mount("tmpfs", Path::new("tmpfs"), "/u", &["nosuid"]);
    b.mount("none", Path::new("none"), "/u", &["remount", "bind", "ro"]);
    let c = b.start().unwrap();
    assert!(c.mount_info("/t").contains("size=2048k"));
    assert!(c.mount_info("/u").contains(" ro,nosuid,"), "{}", c.mount_info("/u"));
    let mut b = Bundle::new();
    b.mount("none", Path::new("none"), "/etc", &["remount", "bind", "ro"]);
    assert_eq!(errno(&b.start().err().unwrap()), rustix::io::Errno::INVAL.raw_os_error());
}

#[test]
fn an_overlay_takes_long_lists_and_escaped_commas() {
    let mut b = Bundle::new();
    let mut lowers = Vec::new();
    for i in 0..6 {
        let name = format!("{}{i}", "l".repeat(60));
        std::fs::create_dir(b.host(&name)).unwrap();
        std::fs::write(b.host(&name).join(format!("file{i}")), "").unwrap();
        lowers.push(b.host(&name).to_str().unwrap().to_owned());
    }
    std::fs::create_dir(b.host("with,comma")).unwrap();
    std::fs::write(b.host("with,comma").join("file6"), "").unwrap();
    lowers.push(b.host("with\\,comma").to_str().unwrap().to_owned());
    for dir in ["upper", "work"] {
        std::fs::create_dir(b.host(dir)).unwrap();
    }
    let options = [
        format!("lowerdir={}", lowers.join(":")),
        format!("upperdir={}", b.host("upper").display()),
        format!("workdir={}", b.host("work").display()),
    ];
    assert!(options[0].len() > 300);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    b.mount("overlay", Path::new("overlay"), "/o", &options);
    let before = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap().lines().count();
    let c = b.start().unwrap();
    for i in 0..7 {
        assert!(std::fs::metadata(c.path("/o").join(format!("file{i}"))).is_ok(), "{i}");
    }
    c.write("/o/new").unwrap();
    assert!(b.host("upper").join("new").exists());
    // The root, the overlay and no more: what was mounted for a moment is gone.
    let after = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    assert!(after.lines().filter(|l| l.contains(" - tmpfs tmpfs ")).count() <= before, "{after}");
}

#[test]
fn the_kernel_explains_what_it_refuses() {
    let mut b = Bundle::new();
    b.mount("tmpfs", Path::new("tmpfs"), "/t", &["size=much"]);
    let e = b.start().err().unwrap().to_string();
    assert!(e.contains("size"), "{e}");
    let mut b = Bundle::new();
    b.mount("nosuchfs", Path::new("x"), "/t", &[]);
    assert_eq!(b.kind_of_failure(), Kind::Unsupported);
}

#[test]
fn a_label_without_selinux_is_refused() {
    let mut b = Bundle::new();
    b.linux().mount_label = Some("system_u:object_r:container_file_t:s0:c1,c2".into());
    b.mount("tmpfs", Path::new("tmpfs"), "/t", &[]);
    match Path::new("/sys/fs/selinux/enforce").exists() {
        false => assert_eq!(b.kind_of_failure(), Kind::Unsupported),
        true => drop(b.start().unwrap()),
    }
}

#[test]
fn where_proc_is_expected_proc_is() {
    for (kind, source, target, denied) in [
        ("tmpfs", "tmpfs", "/proc", true),
        ("tmpfs", "tmpfs", "//proc/.", true),
        ("bind", "/proc", "/proc", false),
        ("proc", "proc", "/proc", false),
    ] {
        let mut b = Bundle::new();
        b.mount(kind, Path::new(source), target, &[]);
        assert_eq!(b.start().is_err_and(|e| e.kind() == Kind::Denied), denied, "{kind} {target}");
    }
    for (target, denied) in
        [("/proc/uptime", false), ("/proc/self/attr/exec", true), ("/proc/filesystems", true), ("/p/uptime", true)]
    {
        let mut b = Bundle::new();
        symlink("/proc", b.inside("p")).unwrap();
        std::fs::write(b.host("file"), "").unwrap();
        let source = b.host("file");
        b.mount("proc", Path::new("proc"), "/proc", &[]);
        b.mount("bind", &source, target, &["bind"]);
        assert_eq!(b.start().is_err_and(|e| e.kind() == Kind::Denied), denied, "{target}");
    }
    let mut b = Bundle::new();
    std::fs::remove_dir(b.inside("proc")).unwrap();
    symlink("/etc", b.inside("proc")).unwrap();
    b.mount("proc", Path::new("proc"), "/proc", &[]);
    assert_eq!(errno(&b.start().err().unwrap()), rustix::io::Errno::LOOP.raw_os_error());
}

#[test]
fn devices_have_their_numbers_modes_and_owners() {
    let mut b = Bundle::new();
    let device = |kind: &str, path: &str, major, minor| LinuxDevice {
        kind: kind.into(),
        path: path.into(),
        major,
        minor,
        file_mode: Some(0o640),
        uid: Some(7),
        gid: Some(8),
    };
    b.linux().devices = vec![
        device("c", "/dev/deep/er/fuse", 10, 229),
        device("u", "/dev/unbuffered", 1, 5),
        device("b", "/dev/block", 7, 9),
        device("p", "/srv/pipe", 0, 0),
        device("c", "/dev/null", 1, 3),
    ];
    b.mount("tmpfs", Path::new("tmpfs"), "/dev", &["nosuid", "mode=755", "ro"]);
    let c = b.start().unwrap();
    for (path, numbers) in
        [("/dev/deep/er/fuse", (10, 229)), ("/dev/unbuffered", (1, 5)), ("/dev/block", (7, 9)), ("/dev/null", (1, 3))]
    {
        let stat = std::fs::metadata(c.path(path)).unwrap();
        assert_eq!(stat.rdev(), rustix::fs::makedev(numbers.0, numbers.1), "{path}");
        assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.gid()), (0o640, 7, 8), "{path}");
    }
    assert!(std::fs::metadata(c.path("/dev/block")).unwrap().file_type().is_block_device());
    assert!(std::fs::metadata(c.path("/srv/pipe")).unwrap().file_type().is_fifo());
    let zero = std::fs::metadata(c.path("/dev/zero")).unwrap();
    assert_eq!((zero.mode() & 0o7777, zero.rdev()), (0o666, rustix::fs::makedev(1, 5)));
    for (link, target) in [("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("ptmx", "pts/ptmx")] {
        assert_eq!(std::fs::read_link(c.path("/dev").join(link)).unwrap(), Path::new(target));
    }
    assert_eq!(c.write("/dev/x").unwrap_err(), rustix::io::Errno::ROFS);
}

#[test]
fn nothing_is_made_in_the_hosts_dev() {
    let mut b = Bundle::new();
    let source = b.host("dev");
    std::fs::create_dir(&source).unwrap();
    b.mount("bind", &source, "/dev", &["rbind"]);
    drop(b.start().unwrap());
    assert_eq!(std::fs::read_dir(&source).unwrap().count(), 0);
    // Without any mount there, nodes are made in the image's own.
    let b = Bundle::new();
    drop(b.start().unwrap());
    assert!(std::fs::metadata(b.inside("dev/null")).unwrap().file_type().is_char_device());
}

#[test]
fn a_dev_that_is_a_link_is_refused_and_nothing_is_touched() {
    for mounted in [true, false] {
        let mut b = Bundle::new();
        let outside = b.host("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::remove_dir(b.inside("dev")).unwrap();
        symlink(&outside, b.inside("dev")).unwrap();
        if mounted {
            b.mount("tmpfs", Path::new("tmpfs"), "/dev", &[]);
        }
        assert_eq!(b.kind_of_failure(), Kind::Denied);
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    }
}

#[test]
fn paths_are_masked_and_made_read_only() {
    let mut b = Bundle::new();
    for dir in ["secret", "other", "ro/sub"] {
        std::fs::create_dir_all(b.inside(dir)).unwrap();
    }
    std::fs::write(b.inside("secret/file"), "x").unwrap();
    std::fs::write(b.inside("etc/key"), "x").unwrap();
    b.linux().masked_paths = ["/secret", "/other", "/etc/key", "/missing"].map(Into::into).into();
    b.linux().readonly_paths = ["/ro", "/etc/missing"].map(Into::into).into();
    let c = b.start().unwrap();
    assert_eq!(std::fs::read_dir(c.path("/secret")).unwrap().count(), 0);
    assert_eq!(std::fs::read(c.path("/etc/key")).unwrap(), b"");
    assert_eq!(c.write("/secret/x").unwrap_err(), rustix::io::Errno::ROFS);
    assert_eq!(c.write("/ro/sub/x").unwrap_err(), rustix::io::Errno::ROFS);
    let stat = |path: &str| std::fs::metadata(c.path(path)).unwrap().dev();
    assert_eq!(stat("/secret"), stat("/other"), "one source for all");
}

#[test]
fn a_swapped_null_device_masks_nothing() {
    let mut b = Bundle::new();
    std::fs::write(b.inside("etc/key"), "x").unwrap();
    b.linux().masked_paths = vec!["/etc/key".into()];
    let source = b.host("dev");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("null"), "").unwrap();
    b.mount("bind", &source, "/dev", &["bind"]);
    assert_eq!(b.kind_of_failure(), Kind::Denied);
    std::fs::remove_file(source.join("null")).unwrap();
    symlink("/etc/key", source.join("null")).unwrap();
    assert!(b.start().is_err());
}
