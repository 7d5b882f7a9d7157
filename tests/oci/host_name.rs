//! config.md, "Hostname" and "Domainname".

use tare_tests::oci::{case, kernel};

#[test]
fn hostname_is_set() {
    case(|c| {
        assert_eq!(
            c.set("/hostname", "some-name").sh("hostname; cat /proc/sys/kernel/hostname"),
            "some-name\nsome-name"
        )
    });
}

#[test]
fn domainname_is_set() {
    case(|c| assert_eq!(c.set("/domainname", "example.test").sh("cat /proc/sys/kernel/domainname"), "example.test"));
}

#[test]
fn the_hosts_own_names_stay() {
    case(|c| {
        let own =
            || ["hostname", "domainname"].map(|f| std::fs::read_to_string(format!("/proc/sys/kernel/{f}")).unwrap());
        let before = own();
        c.set("/hostname", "some-name").set("/domainname", "example.test").sleeper();
        assert_eq!(own(), before);
    });
}

#[test]
fn the_name_is_the_hosts_unless_asked_for() {
    case(|c| {
        let own = kernel::proc(i32::try_from(std::process::id()).unwrap(), "../sys/kernel/hostname");
        assert_eq!(c.sh("hostname"), own);
    });
}

#[test]
fn hostname_without_a_namespace_of_its_own_is_refused() {
    case(|c| {
        let said = c.share("uts").set("/hostname", "some-name").refused();
        assert!(said.to_lowercase().contains("uts"), "{said}");
    });
}

#[test]
fn domainname_without_a_namespace_of_its_own_is_refused() {
    case(|c| {
        let said = c.share("uts").set("/domainname", "example.test").refused();
        assert!(said.to_lowercase().contains("uts"), "{said}");
    });
}
