//! config.md, "Specification version".

use tare_tests::oci::case;

#[test]
fn state_tells_the_version_that_the_runtime_follows() {
    case(|c| {
        c.sleeper();
        let version = c.state()["ociVersion"].as_str().unwrap().to_owned();
        assert!(version.starts_with("1."), "{version}");
    });
}

#[test]
fn a_configuration_without_a_version_is_refused() {
    case(|c| {
        let said = c.unset("/ociVersion").refused();
        assert!(said.contains("ociVersion"), "{said}");
    });
}

#[test]
fn another_major_version_is_refused() {
    case(|c| {
        let said = c.set("/ociVersion", "2.0.0").refused();
        assert!(said.contains("2.0.0"), "{said}");
    });
}

#[test]
fn what_is_no_version_is_refused() {
    case(|c| {
        let said = c.set("/ociVersion", "one").refused();
        assert!(said.contains("one") && said.to_lowercase().contains("version"), "{said}");
    });
}

#[test]
fn a_newer_minor_version_is_taken() {
    case(|c| assert_eq!(c.set("/ociVersion", "1.1.0").sh("echo runs"), "runs"));
}

#[test]
fn fields_that_nobody_knows_are_left_out() {
    case(|c| {
        c.set("/noSuchField", true).set("/linux/noSuchField", "x").set("/process/noSuchField", 1);
        assert_eq!(c.sh("echo runs"), "runs");
    });
}

#[test]
fn a_configuration_that_is_no_json_is_refused() {
    case(|c| {
        c.write();
        std::fs::write(c.path("config.json"), "{ \"ociVersion\": ").unwrap();
        let out = c.oci(&["run", "--bundle", &c.bundle(), c.id()]);
        assert!(out.code != 0 && !out.stderr.is_empty(), "{out:?}");
        assert!(!c.oci(&["state", c.id()]).code == 0 || !c.state_root().join(c.id()).exists(), "nothing is left");
    });
}
