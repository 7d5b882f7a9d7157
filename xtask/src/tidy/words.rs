//! Words that must not get into the tree: a developer's own places, and notes of what is unfinished.

use crate::tree::{File, Finding, Tree};
use std::path::Path;

/// Notes that something is not done. Split here, or this file would be a finding.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
const UNFINISHED_CODE: &[&str] = &[concat!("to", "do!("), concat!("unimple", "mented!(")];

/// The usual places of checkouts, unless they are a part of a longer path.
const PLACES: &[&str] = &[concat!("/wo", "rk/"), concat!("/works", "pace/"), concat!("/home/us", "er/")];

/// Hosts that may be named; with all below them.
const HOSTS: &[&str] = &[
    "apache.org",
    "debian.org",
    "docker.com",
    "docker.io",
    "docs.rs",
    "github.com",
    "json-schema.org",
    "kernel.org",
    "keepachangelog.com",
    "man7.org",
    "no-color.org",
    "opencontainers.org",
    "rust-lang.org",
    "semver.org",
    "spdx.org",
    "sqlite.org",
];
/// Reserved for examples (RFC 2606) and for this host.
const RESERVED: &[&str] = &["example", "example.com", "example.org", "invalid", "localhost", "test"];

/// `top`: where this checkout lies.
pub(super) fn check(tree: &Tree, top: &Path) -> Vec<Finding> {
    tree.files.iter().flat_map(|file| check_file(file, &top.display().to_string())).collect()
}

fn check_file(file: &File, top: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in file.lines() {
        let mut found = |what: String| findings.push(Finding::new(&file.path, number, what));
        for word in UNFINISHED.iter().filter(|w| has_word(line, w)) {
            found(format!("{word}: finish it, or file it elsewhere"));
        }
        for code in UNFINISHED_CODE.iter().filter(|c| line.contains(*c)) {
            found(format!("{code}…): finish it, or leave it out"));
        }
        // The root directory as a checkout's place would forbid every path.
        if top.len() > 1 && line.contains(top) {
            found(format!("{top} is a path of this machine"));
        }
        for place in PLACES.iter().filter(|p| begins_path(line, p)) {
            found(format!("{place} is a path of a developer's machine"));
        }
        for host in hosts(line).into_iter().filter(|h| !is_public(h)) {
            found(format!("{host} is no host that everybody knows: see HOSTS in xtask/src/tidy/words.rs"));
        }
    }
    findings
}

fn has_word(line: &str, word: &str) -> bool {
    let edge = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    line.match_indices(word)
        .any(|(i, _)| edge(line[..i].chars().next_back()) && edge(line[i + word.len()..].chars().next()))
}

/// Whether a path begins with this, rather than having it in its middle.
fn begins_path(line: &str, place: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "_-.>})]*$".contains(c);
    line.match_indices(place).any(|(i, _)| !line[..i].chars().next_back().is_some_and(inside))
}

/// Host names of the web addresses on a line.
fn hosts(line: &str) -> Vec<String> {
    let mut out = Vec::new();
    for scheme in [concat!("http", "://"), concat!("https", "://")] {
        for rest in line.split(scheme).skip(1) {
            let authority = rest.split(['/', '"', ' ', '<', '>', '`', ')', '\\', '\'', '?', '#', ',']).next();
            let host = authority.unwrap_or_default().rsplit('@').next().unwrap_or_default();
            let host = if host.starts_with('[') { host } else { host.split(':').next().unwrap_or_default() };
            out.push(host.trim_end_matches('.').to_ascii_lowercase());
        }
    }
    out
}

fn is_public(host: &str) -> bool {
    let below = |list: &[&str]| list.iter().any(|h| host == *h || host.ends_with(&format!(".{h}")));
    // A single word, an address, or a variable names no host of anybody.
    let no_name = !host.contains('.') || host.contains(['[', '{', '$']) || host.parse::<std::net::Ipv4Addr>().is_ok();
    no_name || below(RESERVED) || below(HOSTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let file = File { path: "a".to_owned(), text: text.to_owned() };
        check_file(&file, "/srv/checkout").iter().map(ToString::to_string).collect()
    }

    #[test]
    fn unfinished_things_are_found_as_words() {
        assert!(found(&format!("x\n// {}: later", UNFINISHED[0]))[0].starts_with("a:2: "));
        assert_eq!(found("mktemp /tmp/a.XXXXXX"), Vec::<String>::new());
        assert_eq!(found(&format!("{}x)", UNFINISHED_CODE[0])).len(), 1);
    }

    #[test]
    fn places_of_a_machine_are_found() {
        assert_eq!(found(&format!("see {}x", PLACES[0])).len(), 1);
        assert_eq!(found("/srv/checkout/x").len(), 1);
        assert_eq!(found(&format!("<id>{}x and a{}", PLACES[0], PLACES[0])), Vec::<String>::new());
    }

    #[test]
    fn only_known_hosts_are_named() {
        let url = |host: &str| format!("get {}{host}/x", concat!("https", "://"));
        for good in
            ["github.com", "index.docker.io", "a.example", "10.1.2.3", "localhost:5000", "u:p@proxy:1", "[::1]:2"]
        {
            assert_eq!(found(&url(good)), Vec::<String>::new(), "{good}");
        }
        assert_eq!(found(&url("mirror.corp.net:80")).len(), 1);
        assert_eq!(found(&url("notgithub.com")).len(), 1);
    }
}
