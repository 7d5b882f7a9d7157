//! Somebody else at the start gate.

use crate::Outcome::{Broken, Held};
use crate::{escape, probe};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tare_tests::oci::Case;

/// A container of another user has the directory of a waiting one, whose permissions somebody has opened.
#[test]
fn start_by_somebody_else() {
    let attack = |c: &mut Case| {
        probe::install(c);
        c.args(&["/bin/touch", "/started"]).create();
        let state = c.state_root().join(c.id());
        for path in [state.clone(), state.join("gate")] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        let second = format!("{}-second", c.id());
        c.note(second.clone());
        c.set("/linux/cgroupsPath", format!("{}2", c.cgroup())).set("/process/user/uid", 33);
        c.bind("/mnt", state, &["ro"]).args(&["/probe", "go", "/mnt/gate"]).write();
        let bundle = c.bundle();
        let out = c.oci(&["run", "--bundle", &bundle, &second]);
        let started = tare_tests::eventually(Duration::from_millis(500), || c.inside("/started").exists());
        if started { Broken("it has started".into()) } else { Held(out.stdout + &out.stderr) }
    };
    escape(attack, "no answer", &["gate"]);
}
