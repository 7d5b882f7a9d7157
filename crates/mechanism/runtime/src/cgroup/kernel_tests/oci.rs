//! What a runtime for others needs beyond the engine: groups that exist, paths of callers, groups below, delegation.

use super::*;
use rustix::fs::{AtFlags, statat};
use tare_model::runtime_spec::*;

/// A place below a parent of the test's own, and its group.
fn place(resources: &LinuxResources) -> (Place, Created) {
    let place = Place::decide(Layout::read().unwrap(), Manager::Cgroupfs, Some(&unique()), "id").unwrap();
    let created = create(&place.plan(resources).unwrap()).unwrap();
    (place, created)
}

/// Removes the place, and the parent that the test's name made.
fn clean(place: &Place) {
    if let Ok(group) = place.open() {
        group.kill_all().unwrap();
    }
    place.remove().unwrap();
    let parent = place.path().rsplit_once('/').unwrap().0;
    remove(place.layout(), parent, Parents::Keep).unwrap();
}

#[test]
fn a_group_that_others_made_is_used_with_what_it_has() {
    let (place, _) = place(&pids(7));
    let created = create(&place.plan(&LinuxResources::default()).unwrap()).unwrap();
    assert!(!created.attach.is_empty() || created.unified.is_some());
    assert_eq!(place.open().unwrap().usage().unwrap().pids.unwrap().limit, Some(7), "its limit stays");
    place.open().unwrap().freeze().unwrap();
    let e = create(&place.plan(&LinuxResources::default()).unwrap()).unwrap_err();
    assert_eq!(e.kind(), Kind::State, "{e}");
    place.open().unwrap().thaw().unwrap();
    let f = Fixture { layout: place.layout().clone(), path: place.path().into(), group: place.open().unwrap() };
    let mut child = f.spawn("exec sleep 100");
    let e = create(&place.plan(&pids(3)).unwrap()).unwrap_err();
    assert_eq!(e.kind(), Kind::InUse, "{e}");
    assert!(e.to_string().contains("not empty: 1 process"), "{e}");
    assert_eq!(place.open().unwrap().usage().unwrap().pids.unwrap().limit, Some(7), "nothing was written");
    f.group.kill_all().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_failure_leaves_what_was_there_before_and_nothing_else() {
    let (place, _) = place(&pids(7));
    let inner =
        Place::decide(place.layout().clone(), Manager::Cgroupfs, Some(&format!("{}/new/leaf", place.path())), "id")
            .unwrap();
    for p in [&place, &inner] {
        let mut plan = p.plan(&LinuxResources::default()).unwrap();
        let lacking =
            Write { controller: "pids".into(), file: "pids.none".into(), value: "1".into(), ..Write::default() };
        plan.groups.last_mut().unwrap().writes.push(lacking);
        assert_eq!(create(&plan).unwrap_err().kind(), Kind::Unsupported);
    }
    for (_, dir) in place.directories() {
        assert!(dir.exists() && !dir.join("new").exists(), "{}", dir.display());
    }
    clean(&place);
}

#[test]
fn the_default_path_lies_below_the_runtimes_own_group() {
    let id = unique()[1..].replace('/', "-");
    let place = Place::decide(Layout::read().unwrap(), Manager::Cgroupfs, None, &id).unwrap();
    create(&place.plan(&LinuxResources::default()).unwrap()).unwrap();
    let layout = Layout::read().unwrap();
    for (h, (_, dir)) in layout.hierarchies.iter().zip(place.directories()) {
        let own = h.mount_point.join(h.own.trim_matches('/'));
        let parent = if layout.mode() == Mode::V2 { own.parent().unwrap().to_owned() } else { own };
        assert_eq!(dir, parent.join(&id));
        assert!(dir.is_dir());
    }
    place.remove().unwrap();
    assert!(place.directories().all(|(_, dir)| !dir.exists()));
    place.remove().unwrap();
}

#[test]
fn another_process_can_be_put_into_groups_below() {
    let (place, _) = place(&LinuxResources::default());
    let group = place.open().unwrap();
    for m in &group.members {
        rustix::fs::mkdirat(&m.dir, "inner", rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        if m.hierarchy.controllers.iter().any(|c| c == "cpuset") && !m.is_v2() {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                files::write(&m.dir, &format!("inner/{file}"), files::read(&m.dir, file).unwrap().unwrap()).unwrap();
            }
        }
    }
    let group_of = |attach: Created| {
        std::thread::spawn(move || {
            attach.attach.iter().for_each(|t| assert_eq!(rustix::io::write(t, b"0").unwrap(), 1));
            std::fs::read_to_string("/proc/thread-self/cgroup").unwrap()
        })
        .join()
        .unwrap()
    };
    let of = |text: &str, name: &str| {
        text.lines().find_map(|l| l.split_once(&format!(":{name}:")).map(|(_, path)| path.to_owned()))
    };
    let everywhere = SubGroups::parse(&["inner"]).unwrap();
    let text = group_of(group.attach_below(&everywhere, None).unwrap());
    let v1 = |c: &str| group.layout_has_v1(c);
    let inner = format!("{}/inner", place.path());
    if v1("pids") && v1("freezer") {
        assert_eq!((of(&text, "pids"), of(&text, "freezer")), (Some(inner.clone()), Some(inner.clone())), "{text}");
        let one = SubGroups::parse(&["pids:inner"]).unwrap();
        let text = group_of(group.attach_below(&one, None).unwrap());
        assert_eq!((of(&text, "pids"), of(&text, "freezer")), (Some(inner), Some(place.path().to_owned())), "{text}");
    }
    let e = group.attach_below(&SubGroups::parse(&["nonsense:inner"]).unwrap(), None).unwrap_err();
    assert_eq!(e.kind(), Kind::Invalid);
    let e = group.attach_below(&SubGroups::parse(&["missing"]).unwrap(), None).unwrap_err();
    assert_eq!(e.kind(), Kind::NotFound, "{e}");
    clean(&place);
}

/// cgroup2's rule: a group that hands controllers down has no processes of its own, so a further process of the container
/// goes where its first one went.
#[test]
fn beside_the_first_process_when_the_group_itself_is_closed() {
    let (place, _) = place(&LinuxResources::default());
    let group = place.open().unwrap();
    let Some(m) = group.unified() else { return clean(&place) };
    let controllers = files::read(&m.dir, "cgroup.controllers").unwrap().unwrap();
    let f = Fixture { layout: place.layout().clone(), path: place.path().into(), group: place.open().unwrap() };
    let mut child = f.spawn("exec sleep 100");
    let init = child.id() as i32;
    rustix::fs::mkdirat(&m.dir, "init", rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
    files::write(&m.dir, "init/cgroup.procs", init).unwrap();
    let same = |created: &Created, below: &str| {
        let of = |fd: &dyn AsFd, path: &str| statat(fd, path, AtFlags::empty()).unwrap().st_ino;
        of(created.unified.as_ref().unwrap(), ".") == of(&m.dir, below)
    };
    let attach = |init| group.attach_below(&SubGroups::default(), init).unwrap();
    assert!(same(&attach(Some(init)), "."), "nothing is handed down yet");
    if let Some(first) = controllers.split_whitespace().next() {
        files::write(&m.dir, "cgroup.subtree_control", format!("+{first}")).unwrap();
        assert!(same(&attach(Some(init)), "init"));
        assert!(same(&attach(None), "."));
    }
    f.group.kill_all().unwrap();
    child.wait().unwrap();
}

#[test]
fn the_delegated_files_change_hands_and_no_others() {
    let (place, created) = place(&LinuxResources::default());
    if let Some(dir) = &created.unified {
        delegate(&created, 4711).unwrap();
        let owner = |file: &str| statat(dir, file, AtFlags::empty()).unwrap().st_uid;
        for file in [".", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
            assert_eq!(owner(file), 4711, "{file}");
        }
        for file in ["cgroup.freeze", "cgroup.kill", "cgroup.max.depth"] {
            assert_eq!(owner(file), 0, "{file}");
        }
    }
    clean(&place);
}

#[test]
fn who_owns_a_group() {
    let mut spec = Spec {
        process: Some(Process { user: User { uid: 5, ..User::default() }, ..Process::default() }),
        linux: Some(Linux::default()),
        ..Spec::default()
    };
    let v2 = super::super::layout::tests::v2("pids");
    assert_eq!(owner(&v2, &spec), None);
    let linux = spec.linux.as_mut().unwrap();
    linux.namespaces = vec![LinuxNamespace { kind: NamespaceKind::Cgroup, path: None }];
    let mount = Mount {
        destination: "/sys/fs/cgroup".into(),
        kind: Some("cgroup".into()),
        source: Some("cgroup".into()),
        ..Mount::default()
    };
    assert_eq!(owner(&v2, &spec), None, "nothing is mounted");
    spec.mounts = vec![mount];
    assert_eq!(owner(&v2, &spec), Some(5));
    assert_eq!(owner(&super::super::layout::tests::v1(), &spec), None);
    let linux = spec.linux.as_mut().unwrap();
    linux.namespaces.push(LinuxNamespace { kind: NamespaceKind::User, path: None });
    linux.uid_mappings = vec![LinuxIdMapping { container_id: 0, host_id: 1000, size: 10 }];
    assert_eq!(owner(&v2, &spec), Some(1005));
    spec.mounts[0].options = vec!["ro".into()];
    assert_eq!(owner(&v2, &spec), None);
}

/// The second of two files is refused, and the first gets back what it had.
#[test]
fn no_half_of_a_limit_stays() {
    let (place, _) = place(&memory(64 * MIB, swap_of(&Layout::read().unwrap(), 64 * MIB)));
    let group = place.open().unwrap();
    let before = || {
        let m = group.with("cpu").unwrap();
        let files: &[&str] = if m.is_v2() { &["cpu.max"] } else { &["cpu.cfs_period_us", "cpu.cfs_quota_us"] };
        files.iter().map(|f| files::read(&m.dir, f).unwrap().unwrap()).collect::<Vec<_>>()
    };
    place.update(&cpu(LinuxCpu { quota: Some(50_000), period: Some(100_000), ..LinuxCpu::default() })).unwrap();
    let was = before();
    // The period is fine, the quota is below the kernel's smallest.
    let mut r = cpu(LinuxCpu { quota: Some(10), period: Some(200_000), ..LinuxCpu::default() });
    r.pids = Some(LinuxPids { limit: Some(9) });
    let e = place.update(&r).unwrap_err();
    assert_eq!(before(), was, "{e}");
    if group.layout_has_v1("cpu") {
        assert!(e.to_string().contains("put back: cpu.cfs_period_us=100000"), "{e}");
    }
    let stands = group.usage().unwrap().pids.unwrap().limit == Some(9);
    let written = e.to_string().contains("in force already: pids.max=9");
    let pending = e.to_string().contains("not written: pids.max=9");
    assert_eq!((written, pending), (stands, !stands), "{e}");
    let applied = place.update(&pids(11)).unwrap();
    assert_eq!(applied.written, [("pids.max".to_owned(), "11".to_owned())]);
    clean(&place);
}

/// Limits that the kernel checks against each other go up and down together, whatever was in force.
#[test]
fn related_limits_change_in_either_direction() {
    let (place, _) = place(&LinuxResources::default());
    let set = |quota, period, burst| {
        let c = LinuxCpu { quota: Some(quota), period: Some(period), burst: Some(burst), ..LinuxCpu::default() };
        place.update(&cpu(c)).map(|_| ())
    };
    for (quota, period, burst) in [(50_000, 100_000, 50_000), (10_000, 20_000, 5000), (90_000, 100_000, 90_000)] {
        set(quota, period, burst).unwrap();
    }
    let idle =
        |idle, shares| place.update(&cpu(LinuxCpu { idle: Some(idle), shares, ..LinuxCpu::default() })).map(|_| ());
    idle(1, Some(512)).unwrap();
    idle(0, Some(2048)).unwrap();
    clean(&place);
}

#[test]
fn device_rules_change_without_a_moment_of_denial() {
    let (place, _) = place(&LinuxResources::default());
    let f = Fixture { layout: place.layout().clone(), path: place.path().into(), group: place.open().unwrap() };
    let script = "while :; do : < /dev/null || exit 3; done";
    let mut child = f.spawn(script);
    let kmsg = |allow| LinuxDeviceCgroup {
        allow,
        kind: Some("c".into()),
        major: Some(1),
        minor: Some(11),
        access: Some("r".into()),
    };
    for i in 0..200 {
        place.update(&LinuxResources { devices: vec![kmsg(i % 2 == 0)], ..LinuxResources::default() }).unwrap();
    }
    assert!(child.try_wait().unwrap().is_none(), "/dev/null was refused");
    f.group.kill_all().unwrap();
    child.wait().unwrap();
}

#[test]
fn statistics_are_those_of_the_files() {
    let (place, _) = place(&memory(64 * MIB, 0));
    let f = Fixture { layout: place.layout().clone(), path: place.path().into(), group: place.open().unwrap() };
    let mut child = f.spawn("i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; sleep 100");
    until("it has worked", || f.group.statistics().unwrap().cpu.usage.total > 5_000_000);
    let s = f.group.statistics().unwrap();
    assert!(s.pids.current >= 1 && s.memory.usage.limit == 64 << 20 && s.memory.usage.usage > 0, "{s:?}");
    assert!(!s.memory.raw.is_empty() && s.cpu.usage.user + s.cpu.usage.kernel > 0, "{s:?}");
    f.group.kill_all().unwrap();
    child.wait().unwrap();
}
