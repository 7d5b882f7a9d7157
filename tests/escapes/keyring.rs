//! A session keyring that is shared with the runtime's caller.

use crate::Outcome::{self, Broken, Held};
use crate::{escape, probe};
use tare_tests::oci::Case;

/// The runtime is called from a session that holds a key, which is looked for in the container.
fn attack(c: &mut Case, exec: bool) -> Outcome {
    probe::install(c);
    let key = tare_tests::unique("tare-escapes-");
    let words = std::mem::take(&mut c.runtime);
    let session = [probe::on_host().display().to_string(), "with-key".into(), key.clone(), "only the host's".into()];
    c.runtime = session.into_iter().chain(words).collect();
    let read = ["/probe", "read-key", &key];
    let out = if exec {
        c.sleeper();
        c.exec(&read)
    } else {
        c.args(&read).run()
    };
    if out.stdout.contains("only the host's") { Broken(out.stdout) } else { Held(out.stdout + &out.stderr) }
}

#[test]
fn keys_of_the_callers_session_in_run() {
    escape(|c| attack(c, false), "Required key not available", &["keyring"]);
}

#[test]
fn keys_of_the_callers_session_in_exec() {
    escape(|c| attack(c, true), "Required key not available", &["keyring"]);
}
