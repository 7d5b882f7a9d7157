//! Cgroup mounts that lead to the host's groups, or to a hierarchy's release_agent (CVE-2022-0492, CVE-2023-25809).

use crate::Outcome::{Broken, Held};
use crate::{escape, held, usual_capabilities};
use tare_tests::oci::{Case, layout};

/// A container that may write to its cgroups, with the usual capabilities, and without a cgroup namespace or with one.
fn writable(c: &mut Case, namespace: bool) {
    usual_capabilities(c, &[]);
    if namespace {
        c.unshare("cgroup");
    }
    c.unshare("network").mount("/sys", "sysfs", "sysfs", &["ro"]);
    c.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw", "nosuid", "noexec", "nodev"]);
}

/// Files that are opened for writing, but not written: they would be the host's.
#[test]
fn release_agent() {
    for namespace in [false, true] {
        let attack = |c: &mut Case| {
            writable(c, namespace);
            let script =
                "for f in $(find /sys/fs/cgroup -name release_agent); do ( : >> $f ) && echo can write $f; done
                for n in $(find /sys/fs/cgroup -name notify_on_release | head -n 1); do echo found $n; done
                mkdir -p /mnt/c; mount -t cgroup -o memory memory /mnt/c 2>&1; ls /mnt/c/release_agent 2>&1";
            let out = c.args(&["/bin/sh", "-c", script]).run();
            if out.stdout.contains("can write") { Broken(out.stdout) } else { Held(out.stdout + &out.stderr) }
        };
        if layout().v1.is_empty() {
            return tare_tests::skip("there is no release_agent in cgroup2");
        }
        escape(attack, "/mnt/c/release_agent: No such file", &["release-agent"]);
    }
}

/// The group above the container's own is nowhere to be seen, and no process of the host in any group that is.
#[test]
fn groups_of_the_host() {
    for namespace in [false, true] {
        let attack = |c: &mut Case| {
            writable(c, namespace);
            let above = c.cgroup().trim_start_matches('/').split('/').next().unwrap().to_owned();
            let script = format!(
                "find /sys/fs/cgroup -name {above}; cat $(find /sys/fs/cgroup -name cgroup.procs) | sort -u | wc -l"
            );
            let out = c.args(&["/bin/sh", "-c", &script]).run();
            if out.stdout.contains(&above) {
                return Broken(out.stdout);
            }
            let count: usize = out.stdout.trim().parse().unwrap_or(usize::MAX);
            // The shell and what it runs.
            if count < 8 { Held("only its own".into()) } else { Broken(format!("{count} processes")) }
        };
        escape(attack, "only its own", &["cgroup-mount"]);
    }
}

/// Groups nested deeper than a path can name keep nobody from removing the container.
#[test]
fn groups_nested_without_end() {
    let attack = |c: &mut Case| {
        writable(c, true);
        let script = "for at in /sys/fs/cgroup/pids /sys/fs/cgroup/unified /sys/fs/cgroup; do cd $at || continue
            n=$(printf '%0200d' 0); i=0; while [ $i -lt 25 ] && mkdir $n 2>/dev/null && cd $n; do i=$((i + 1)); done
            echo $i; done; cd /sys/fs/cgroup/pids || cd /sys/fs/cgroup
            i=0; while [ $i -lt 1100 ] && mkdir d 2>/dev/null && cd d; do i=$((i + 1)); done; echo $i deep; exec sleep 1000";
        c.args(&["/bin/sh", "-c", script]).create();
        c.start();
        c.until("they are nested", || c.output().0.contains("deep"));
        let nested = c.output().0.split_whitespace().collect::<Vec<_>>().join(" ");
        let out = c.oci(&["delete", "--force", c.id()]);
        let left = layout().directories(c.cgroup());
        if out.code == 0 && left.is_empty() {
            Held(format!("removed: {nested}"))
        } else {
            Broken(format!("{nested}: {} {}", out.stderr.chars().take(300).collect::<String>(), left.len()))
        }
    };
    held(attack, "1100 deep");
}
