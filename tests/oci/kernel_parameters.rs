//! config-linux.md, "Sysctl", "Personality" and "Memory policy".

use serde_json::json;
use tare_tests::oci::{case, kernel, skip};

#[test]
fn a_sysctl_of_the_network_namespace_is_set() {
    case(|c| {
        c.unshare("network").set("/linux/sysctl/net.ipv4.ip_default_ttl", "77");
        assert_eq!(c.sh("cat /proc/sys/net/ipv4/ip_default_ttl"), "77");
        assert_ne!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_default_ttl").unwrap(), "77\n");
    });
}

#[test]
fn a_sysctl_of_the_ipc_namespace_is_set() {
    case(|c| {
        c.set("/linux/sysctl/kernel.msgmax", "4321").set("/linux/sysctl/kernel.shm_rmid_forced", "1");
        assert_eq!(c.sh("cat /proc/sys/kernel/msgmax /proc/sys/kernel/shm_rmid_forced"), "4321\n1");
    });
}

#[test]
fn a_sysctl_of_message_queues_is_set() {
    case(|c| {
        c.set("/linux/sysctl/fs.mqueue.msg_max", "9");
        assert_eq!(c.sh("cat /proc/sys/fs/mqueue/msg_max"), "9");
    });
}

#[test]
fn the_names_of_the_uts_namespace_are_sysctls_too() {
    case(|c| {
        c.set("/linux/sysctl/kernel.domainname", "example.test");
        assert_eq!(c.sh("cat /proc/sys/kernel/domainname"), "example.test");
    });
}

#[test]
fn slashes_may_stand_for_dots() {
    case(|c| {
        c.unshare("network").set("/linux/sysctl/net~1ipv4~1ip_default_ttl", "78");
        assert_eq!(c.sh("cat /proc/sys/net/ipv4/ip_default_ttl"), "78");
    });
}

#[test]
fn a_sysctl_of_a_namespace_that_is_shared_is_refused() {
    for (namespace, name, value) in [("network", "net.ipv4.ip_default_ttl", "77"), ("ipc", "kernel.msgmax", "4321")] {
        case(|c| {
            let before = std::fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).unwrap();
            let said = c.share(namespace).set(&format!("/linux/sysctl/{name}"), value).refused();
            assert!(said.contains(name), "{said}");
            assert_eq!(std::fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).unwrap(), before);
        });
    }
}

#[test]
fn a_sysctl_of_the_whole_host_is_refused() {
    case(|c| {
        let said = c.set("/linux/sysctl/vm.swappiness", "13").refused();
        assert!(said.contains("vm.swappiness"), "{said}");
    });
}

#[test]
fn a_sysctl_that_leads_elsewhere_is_refused() {
    case(|c| {
        let said = c.unshare("network").set("/linux/sysctl/net~1..~1vm~1swappiness", "13").refused();
        assert!(said.contains("swappiness"), "{said}");
    });
}

#[test]
fn a_sysctl_that_is_missing_is_named() {
    case(|c| {
        let said = c.unshare("network").set("/linux/sysctl/net.no_such_thing", "1").refused();
        assert!(said.contains("no_such_thing"), "{said}");
    });
}

#[test]
fn a_value_that_the_kernel_does_not_take_is_told() {
    case(|c| {
        let said = c.unshare("network").set("/linux/sysctl/net.ipv4.ip_default_ttl", "many").refused();
        assert!(said.contains("ip_default_ttl"), "{said}");
    });
}

#[test]
fn personality_of_32_bits_is_what_uname_tells() {
    case(|c| {
        c.set("/linux/personality/domain", "LINUX32");
        assert_eq!(c.sh("uname -m; cat /proc/self/personality"), "i686\n00000008");
    });
}

#[test]
fn personality_of_linux_is_the_usual_one() {
    case(|c| {
        let pid = c.set("/linux/personality/domain", "LINUX").sleeper();
        assert_eq!(kernel::proc(pid, "personality"), "00000000");
    });
}

#[test]
fn an_unknown_personality_is_refused() {
    case(|c| {
        let said = c.set("/linux/personality/domain", "NO_SUCH_THING").refused();
        assert!(said.contains("NO_SUCH_THING"), "{said}");
    });
}

#[test]
fn an_unknown_flag_of_personality_is_named() {
    case(|c| {
        // The specification has no flags yet, so whether a container without them is what was asked for is open.
        c.set("/linux/personality", json!({ "domain": "LINUX", "flags": ["NO_SUCH_FLAG"] }));
        let out = c.args(&["/bin/true"]).run();
        assert!(out.stderr.contains("NO_SUCH_FLAG"), "{out:?}");
    });
}

/// The policies of the areas of memory of a container's first process, each once.
fn policies(pid: i32) -> Vec<String> {
    let text = kernel::proc(pid, "numa_maps");
    let mut all: Vec<String> = text.lines().filter_map(|l| l.split(' ').nth(1)).map(str::to_owned).collect();
    all.sort();
    all.dedup();
    all
}

fn needs_numa() {
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        skip("the kernel has no NUMA");
    }
}

#[test]
fn memory_is_bound_to_a_node() {
    case(|c| {
        needs_numa();
        c.set("/linux/memoryPolicy", json!({ "mode": "MPOL_BIND", "nodes": "0" }));
        let pid = c.sleeper();
        assert_eq!(policies(pid), ["bind:0"]);
    });
}

#[test]
fn memory_is_interleaved() {
    case(|c| {
        needs_numa();
        c.set("/linux/memoryPolicy", json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0-0" }));
        let pid = c.sleeper();
        assert_eq!(policies(pid), ["interleave:0"]);
    });
}

#[test]
fn flags_of_the_memory_policy_are_passed_on() {
    case(|c| {
        needs_numa();
        let policy = json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"] });
        let pid = c.set("/linux/memoryPolicy", policy).sleeper();
        assert_eq!(policies(pid), ["bind=static:0"]);
    });
}

#[test]
fn an_unknown_memory_policy_is_refused() {
    case(|c| {
        let said = c.set("/linux/memoryPolicy", json!({ "mode": "MPOL_NO_SUCH_THING", "nodes": "0" })).refused();
        assert!(said.contains("MPOL_NO_SUCH_THING"), "{said}");
    });
}

#[test]
fn an_unknown_flag_of_the_memory_policy_is_refused() {
    case(|c| {
        let policy = json!({ "mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NO_SUCH_THING"] });
        let said = c.set("/linux/memoryPolicy", policy).refused();
        assert!(said.contains("MPOL_F_NO_SUCH_THING"), "{said}");
    });
}
