use super::{Root, assert_sound, child, image, in_child};
use crate::{Store, VolumeSpec};
use std::time::Duration;

/// Until it is killed: makes and removes images, volumes and containers. `kept` was acknowledged before.
#[test]
#[ignore = "a child of kill_at_any_moment_leaves_a_sound_store"]
fn child_works_until_killed() {
    let Some((store, ready)) = in_child() else { return };
    std::fs::write(ready, "").unwrap();
    for i in 0.. {
        let (a, b) = (format!("a{}", i % 3), format!("b{}", i % 5));
        image(&store, &["base", &a, &b], &["app", &a]);
        let name = Some(format!("v{}", i % 2));
        let (volume, _) = store.volume_create(&VolumeSpec { name, ..Default::default() }).unwrap();
        std::fs::write(volume.path.join("data"), "x").unwrap();
        let id = Store::new_id().unwrap();
        store.reserve_container(&super::container(&id, None)).unwrap();
        store.remove_image("app", true).unwrap();
        store.release_container(&id, crate::Durability::Lazy).unwrap();
        store.remove_container_dir(&id).unwrap();
        let _ = store.remove_image(&a, true);
        store.volume_remove(&volume.name).unwrap();
        if i % 7 == 0 {
            store.gc().unwrap();
        }
    }
}

#[test]
fn kill_at_any_moment_leaves_a_sound_store() {
    let root = Root::new();
    let kept = image(&root.store, &["base", "kept"], &["kept"]);
    let mut interrupted = 0;
    for round in 0..40_u64 {
        let ready = root.store.root().join("ready");
        let argument = ready.display().to_string();
        let mut process = child("tests::killed::child_works_until_killed", root.store.root(), &argument);
        while !ready.exists() {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::fs::remove_file(&ready).unwrap();
        std::thread::sleep(Duration::from_micros(round * 7_919 % 60_000));
        process.kill().unwrap();
        process.wait().unwrap();
        let store = root.reopen();
        // A volume whose removal was interrupted has a row without a directory; removing it again completes it.
        for volume in store.volumes().unwrap() {
            store.volume_remove(&volume.name).unwrap();
        }
        for container in store.containers().unwrap() {
            store.release_container(&container.id, crate::Durability::Durable).unwrap();
        }
        interrupted += usize::from(store.check(false).unwrap().iter().any(|f| f.object.contains("/tmp/")));
        assert_sound(&store);
        let again = store.image("kept").unwrap();
        assert_eq!(again, kept);
        assert_eq!(std::fs::read_to_string(store.lowers(&again).unwrap()[0].path.join("file")).unwrap(), "kept");
        image(&store, &["base", "a0", "b0"], &["app", "a0"]);
    }
    assert!(interrupted > 10, "only {interrupted} of 40 processes were killed in the middle of something");
}
