//! A container's life, as far as the harness itself needs it.

use tare_tests::Host;

#[test]
fn a_command_runs_and_leaves_nothing() {
    let host = Host::new();
    host.busybox();
    assert_eq!(host.sh("echo $$; hostname | wc -c"), "1\n13");
    assert_eq!(host.ok(&["ps", "-aq"]), "");
}
