//! Names of containers: which are allowed, and made-up ones.

use tare_model::{Error, Kind, Result};

const ADJECTIVES: [&str; 64] = [
    "agile", "amber", "autumn", "bold", "brave", "brisk", "calm", "candid", "cheery", "clear", "clever", "coastal",
    "crisp", "curious", "dapper", "daring", "eager", "early", "fair", "fleet", "fond", "fresh", "gentle", "glad",
    "golden", "grand", "hardy", "honest", "humble", "jolly", "keen", "kind", "lively", "loyal", "lucid", "lunar",
    "mellow", "merry", "mild", "misty", "neat", "nimble", "noble", "patient", "placid", "plucky", "polite", "proud",
    "quick", "quiet", "rapid", "rustic", "serene", "silent", "sleek", "snowy", "solar", "steady", "sunny", "swift",
    "tidy", "vivid", "warm", "witty",
];

const NOUNS: [&str; 64] = [
    "acorn", "anchor", "badger", "barge", "basin", "beacon", "birch", "bison", "brook", "canyon", "cedar", "clover",
    "comet", "coral", "crane", "delta", "dune", "falcon", "fern", "finch", "fjord", "fox", "gale", "glacier", "grove",
    "harbor", "hazel", "heron", "ibex", "inlet", "island", "ivy", "jetty", "kestrel", "lagoon", "lantern", "larch",
    "lark", "lynx", "maple", "marten", "meadow", "mesa", "moor", "moss", "otter", "owl", "pebble", "pine", "plover",
    "pond", "prairie", "quail", "raft", "reef", "ridge", "river", "robin", "sparrow", "spruce", "tern", "tundra",
    "walrus", "wren",
];

/// The `attempt`th name made of these random bytes; later attempts add a number, so that one is free sooner or later.
pub(crate) fn made_up(random: [u8; 4], attempt: u32) -> String {
    let adjective = ADJECTIVES[usize::from(random[0]) % ADJECTIVES.len()];
    let noun = NOUNS[usize::from(random[1]) % NOUNS.len()];
    match attempt {
        0..8 => format!("{adjective}_{noun}"),
        _ => format!("{adjective}_{noun}{}", u16::from_le_bytes([random[2], random[3]])),
    }
}

/// Docker's rule for names of containers and volumes: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, here with at most 255 characters.
/// Such a name is also safe as a file name.
pub(crate) fn check(what: &'static str, name: &str) -> Result<()> {
    let ok = (2..=255).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if ok {
        return Ok(());
    }
    Err(Error::new(Kind::Invalid, what, format!("{name:?}"))
        .because("a name is 2 to 255 letters, digits, _ . - and begins with a letter or digit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_names_are_allowed_and_never_run_out() {
        for attempt in [0, 9] {
            check("name", &made_up([7, 200, 1, 2], attempt)).unwrap();
        }
        assert_ne!(made_up([1, 1, 1, 0], 8), made_up([1, 1, 2, 0], 8));
    }

    #[test]
    fn names_that_could_leave_a_directory_are_refused() {
        for bad in ["", "a", ".x", "..", "../x", "a/b", "-x", "a b", "é1", &"x".repeat(256)] {
            assert!(check("name", bad).is_err(), "{bad:?}");
        }
    }
}
