//! Documents whose examples are run: what a reader is shown is what tare does.
//!
//! A fenced block that is marked `console` is a session of a shell:
//!
//! ````text
//! ```console
//! $ tare run --rm box echo hello
//! hello
//! $ for i in 1 2; do
//! >   echo $i
//! > done
//! 1
//! 2
//! ```
//! ````
//!
//! All blocks of a document are one session of bash, in an empty directory, with roots of their own. A line of
//! expected output that consists of `...` stands for any number of lines, `...` within a line for any characters. Output
//! that is not shown must not come. Standard error counts as output. A command must succeed; one whose failure is shown
//! is followed by `; echo $?`, by which the reader sees the code, too.
//!
//! `<!-- cgroups: v1 -->` or `<!-- cgroups: v2 -->` on the line before a block says where it is run: v1 includes hybrid
//! hosts. Blocks with another mark, or none, are not run.

use crate::Host;
use crate::process::{Running, binary, command};
use std::path::Path;
use std::time::Duration;

/// A document may take as long.
const PATIENCE: Duration = Duration::from_secs(600);
/// Stands before each note that the script makes of its own progress.
const NOTE: char = '\u{1e}';

/// A command, and what it is said to print.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Example {
    line: usize,
    command: String,
    output: Vec<String>,
    /// Where it is run; everywhere if there is nothing.
    cgroups: Option<String>,
}

/// Runs the examples of a document and compares.
///
/// # Panics
/// If one fails or prints something else; the message has both, with the document's line.
pub fn check(path: &Path) {
    check_after(path, "");
}

/// The same on a host of its own: a network namespace with the device eth0 (192.0.2.1, 2001:db8::1), and behind it, in another, a
/// neighbour (192.0.2.2, 2001:db8::2), whose resolver says of every name that there is none.
///
/// # Panics
/// As [`check`].
pub fn check_on_a_lan(path: &Path) {
    let neighbour = crate::unique("tare-doc-");
    let lan = LAN.replace("NEIGHBOUR", &neighbour);
    check_after(path, &lan);
}

/// Ends with the shell in a namespace of its own. The neighbour's goes with the mounts of that shell, its resolver with the
/// shell.
const LAN: &str = r#"
if [ -z "${LAN_IS_THERE-}" ]; then LAN_IS_THERE=yes exec unshare --net --mount --propagation private bash "$0"; fi
mkdir -p /run/netns && mount -t tmpfs none /run/netns
{ ip netns add NEIGHBOUR
ip link set lo up
ip link add eth0 type veth peer name eth0 netns NEIGHBOUR
sysctl -qw net.ipv6.conf.eth0.accept_dad=0
ip netns exec NEIGHBOUR sysctl -qw net.ipv6.conf.eth0.accept_dad=0
ip address add 192.0.2.1/24 dev eth0 && ip address add 2001:db8::1/64 dev eth0
ip -n NEIGHBOUR address add 192.0.2.2/24 dev eth0 && ip -n NEIGHBOUR address add 2001:db8::2/64 dev eth0
ip link set eth0 up && ip -n NEIGHBOUR link set eth0 up && ip -n NEIGHBOUR link set lo up
ip route add default via 192.0.2.2
echo nameserver 192.0.2.2 > ~/.resolv.conf && mount --bind ~/.resolv.conf "$(readlink -f /etc/resolv.conf)"
setpriv --pdeathsig KILL ip netns exec NEIGHBOUR dnsmasq --no-daemon --conf-file=/dev/null --no-resolv --no-hosts \
    --user=root --pid-file= --local=/#/ &
for _ in {1..200}; do ip netns exec NEIGHBOUR ss -Hlun | grep -q ':53 ' && break; sleep 0.05; done; } >&2 || exit 1
"#;

fn check_after(path: &Path, prelude: &str) {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let all = examples(&text);
    assert!(!all.is_empty(), "{} has no examples", path.display());
    let here = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "v2" } else { "v1" };
    let examples: Vec<Example> = all.into_iter().filter(|e| e.cgroups.as_deref().is_none_or(|c| c == here)).collect();
    let outputs = run(&examples, prelude);
    for (example, output) in examples.iter().zip(outputs.iter().map(Some).chain(std::iter::repeat(None))) {
        let place = format!("{}:{}: $ {}", path.display(), example.line, example.command);
        let Some((printed, code)) = output else { panic!("{place}\nwas not reached") };
        let lines: Vec<&str> = printed.lines().map(str::trim_end).collect();
        let expected: Vec<&str> = example.output.iter().map(|l| l.trim_end()).collect();
        let right = *code == 0 && lines_match(&expected, &lines);
        assert!(right, "{place}\nis said to print:\n{}\nand prints, code {code}:\n{printed}", expected.join("\n"));
    }
}

fn examples(text: &str) -> Vec<Example> {
    let mut out: Vec<Example> = Vec::new();
    let (mut inside, mut before) = (None, "");
    for (i, line) in text.lines().enumerate() {
        match &inside {
            None if line.starts_with("```") => inside = Some((line == "```console", cgroups(before), out.len())),
            None => {}
            Some(_) if line == "```" => inside = None,
            Some((true, cgroups, first)) => {
                let started = out.len() > *first;
                if let Some(command) = line.strip_prefix("$ ") {
                    let (command, cgroups) = (command.to_owned(), cgroups.clone());
                    out.push(Example { line: i + 1, command, cgroups, output: Vec::new() });
                } else if let (Some(example), true) = (out.last_mut(), started) {
                    match line.strip_prefix("> ").or(line.strip_prefix('>')).filter(|_| example.output.is_empty()) {
                        Some(more) => example.command.extend(["\n", more]),
                        None => example.output.push(line.to_owned()),
                    }
                }
            }
            Some(_) => {}
        }
        before = line;
    }
    out
}

/// `<!-- cgroups: v1 -->`
fn cgroups(line: &str) -> Option<String> {
    line.strip_prefix("<!-- cgroups: ")?.strip_suffix(" -->").map(str::to_owned)
}

/// What each command printed, and its exit code; fewer if the shell ended early.
fn run(examples: &[Example], prelude: &str) -> Vec<(String, i32)> {
    let host = Host::new();
    let script: String =
        examples.iter().map(|e| format!("printf '{NOTE}'\n{}\nprintf '{NOTE}%s' $?\n", e.command)).collect();
    let (file, dir, bin) = (host.scratch("session.sh"), host.scratch("session"), host.scratch("bin"));
    std::fs::write(&file, format!("{prelude}exec 2>&1\n{script}")).unwrap();
    std::fs::create_dir(&dir).unwrap();
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(binary(), bin.join("tare")).unwrap();
    let mut bash = command("bash");
    bash.arg(&file).current_dir(&dir).env_clear().env("LC_ALL", "C.UTF-8").env("HOME", &dir);
    bash.env("PATH", format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", bin.display()));
    bash.env("TARE_ROOT", host.root()).env("TARE_RUN", host.run_dir());
    let out = Running::start(&mut bash, None).wait_for(PATIENCE);
    // Before the first note, and after the last, there is nothing: pairs of output and code are left.
    let notes: Vec<&str> = out.stdout.split(NOTE).skip(1).collect();
    let pair = |p: &[&str]| (p[0].to_owned(), p[1].trim().parse().unwrap_or(-1));
    notes.chunks_exact(2).map(pair).collect()
}

/// `...` alone stands for any number of lines.
fn lines_match(expected: &[&str], lines: &[&str]) -> bool {
    match expected.split_first() {
        None => lines.is_empty(),
        Some((first, rest)) if first.trim() == "..." => (0..=lines.len()).any(|n| lines_match(rest, &lines[n..])),
        Some((first, rest)) => {
            lines.split_first().is_some_and(|(l, more)| line_matches(first, l) && lines_match(rest, more))
        }
    }
}

/// `...` stands for any characters.
fn line_matches(expected: &str, line: &str) -> bool {
    match expected.split_once("...") {
        None => expected == line,
        Some((start, rest)) => line.strip_prefix(start).is_some_and(|after| {
            after.char_indices().map(|(i, _)| i).chain([after.len()]).any(|i| line_matches(rest, &after[i..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "x\n```console\n$ a \\\n> b\n1\n> 2\n$ c\n```\n```text\n$ no\n```\n<!-- cgroups: v2 -->\n```console\n$ d\n```\n";

    #[test]
    fn sessions_are_read() {
        let found = examples(TEXT);
        let commands: Vec<_> = found.iter().map(|e| (e.line, e.command.as_str(), e.output.join("|"))).collect();
        let expected = [(3, "a \\\nb", "1|> 2"), (7, "c", ""), (14, "d", "")];
        assert_eq!(commands, expected.map(|(l, c, o)| (l, c, o.to_owned())));
        assert_eq!((found[0].cgroups.as_deref(), found[2].cgroups.as_deref()), (None, Some("v2")));
    }

    #[test]
    fn dots_stand_for_anything() {
        assert!(lines_match(&["a", "...", "z"], &["a", "z"]));
        assert!(lines_match(&["a", "...", "z"], &["a", "b", "c", "z"]));
        assert!(!lines_match(&["a", "...", "z"], &["a", "b"]));
        assert!(!lines_match(&["a"], &["a", "b"]) && lines_match(&[], &[]));
        assert!(line_matches("pid:[...] own ...", "pid:[4026] own x"));
        assert!(!line_matches("pid:[...] own", "pid:[4026] owned"));
    }
}
