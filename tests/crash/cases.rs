//! One operation disturbed at one point, and all that must hold afterwards.
//!
//! ```text
//! put the root back ─► operation, disturbed ─► nothing unrecoverable; all that was there before is there, byte for byte
//!                                          ─► operation again: succeeds, and is done
//!                                          ─► prune: the same files are left as without the disturbance
//! ```

use crate::calls::{Space, named};
use crate::operations::{Again, Operation};
use crate::points::{Blow, Point};
use crate::trace::{self, Answer, Ended, Seen};
use crate::world::{Files, Form, Listing, World, hash, without_ids};
use std::collections::BTreeSet;
use tare_tests::command;

/// An operation, and how it goes when nothing disturbs it.
pub(crate) struct Subject {
    pub(crate) world: World,
    pub(crate) operation: &'static Operation,
    /// The calls that it makes.
    pub(crate) seen: Vec<Seen>,
    before: State,
    after: State,
    /// What is left on disk when it is done and everything is pruned.
    pruned: Vec<String>,
}

#[derive(Clone)]
struct State {
    listing: Listing,
    files: Files,
    /// The digest of the archive of an image, if it is there.
    archive: Option<String>,
    /// How much there is to be mended.
    findings: usize,
}

/// An image that most operations leave alone.
const SAVED: &str = "kept:2";

/// What became of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tried {
    Hit,
    /// The operation took another way this time: threads.
    PassedThrough,
}

impl Subject {
    /// Runs the operation undisturbed.
    pub(crate) fn new(operation: &'static Operation, form: Form) -> Subject {
        let world = World::new(form, operation.wants_registry());
        if let Some(prepare) = operation.prepare {
            prepare(&world);
            world.keep();
        }
        let before = State::of(&world).unwrap();
        let arguments = operation.arguments(&world);
        let ended = trace::run(world.tare(&words(&arguments)), &world.places(), &mut |_| Answer::GoOn);
        assert_eq!(ended.code, 0, "{arguments:?}: {}", ended.stderr);
        let after = State::of(&world).unwrap();
        world.prune().unwrap();
        let pruned = names(&world.files());
        Subject { world, operation, seen: ended.seen, before, after, pruned }
    }

    /// Disturbs it at one point.
    ///
    /// # Errors
    /// What does not hold.
    pub(crate) fn disturb(&self, point: Point) -> Result<Tried, String> {
        self.world.restore();
        let arguments = self.operation.arguments(&self.world);
        let mut hit = None;
        let ended = trace::run(self.world.tare(&words(&arguments)), &self.world.places(), &mut |seen| {
            let here = seen.call == point.call && seen.occurrence == point.occurrence;
            let later = point.blow == Blow::StaysFull && hit.is_some() && takes_space(seen);
            if here {
                hit = Some(seen.clone());
            }
            match (here || later, point.blow.error()) {
                (false, _) => Answer::GoOn,
                (true, Some(error)) => Answer::Fail(error.raw_os_error()),
                (true, None) if point.blow == Blow::KillOne => Answer::KillOne,
                (true, None) => Answer::KillAll,
            }
        });
        let at = hit.as_ref().map_or_else(|| "never reached".to_owned(), |s| s.path.display().to_string());
        let fail = |what: String| {
            format!(
                "{} ({}): {point} ({at})\n{what}\nit ended with {}: {}",
                self.operation.name,
                self.world.form().as_str(),
                ended.code,
                ended.stderr
            )
        };
        if let (Some(seen), Some(_)) = (&hit, point.blow.error()) {
            self.failed_well(&ended, seen, point).map_err(fail)?;
        }
        self.holds().map_err(fail)?;
        self.again().map_err(fail)?;
        Ok(if hit.is_some() { Tried::Hit } else { Tried::PassedThrough })
    }

    /// A call failed: either that did not matter, or the operation says what is wrong and leaves nothing behind.
    fn failed_well(&self, ended: &Ended, seen: &Seen, point: Point) -> Result<(), String> {
        let now = self.world.listing()?;
        if ended.code == 0 {
            return if self.is_done(&now) {
                Ok(())
            } else {
                Err(format!("it claims success and is not done: {}", difference(&self.after.listing, &now)))
            };
        }
        if ended.stderr.contains("panicked") || ended.code > 128 {
            return Err("it panicked".to_owned());
        }
        let words: &[&str] = match point.blow {
            Blow::Broken => &["input/output error", "is its file system full"],
            _ => &["no space left on device", "is its file system full"],
        };
        let said = ended.stderr.to_lowercase();
        if !words.iter().any(|w| said.contains(w)) {
            return Err("its error does not say what is wrong".to_owned());
        }
        // While the disk stays full not even a row can be taken away again: what is left then is mended below.
        if point.blow == Blow::StaysFull {
            return Ok(());
        }
        if now != self.before.listing && !self.is_done(&now) && !self.operation.several {
            return Err(format!("it failed and left something: {}", difference(&self.before.listing, &now)));
        }
        // What cannot be moved away or removed is left for a collection.
        let removes = named(seen.call).space != Space::Takes || seen.call.starts_with("rename");
        if !removes {
            let findings = self.world.findings()?;
            if findings.len() > self.before.findings {
                return Err(format!("it failed and left garbage: {findings:#?}"));
            }
        }
        Ok(())
    }

    /// The store is sound, and what was there before is there.
    fn holds(&self) -> Result<(), String> {
        let broken: Vec<_> = self.world.findings()?.into_iter().filter(|f| f.class == "lost").collect();
        if !broken.is_empty() {
            return Err(format!("check finds {broken:#?}"));
        }
        let now = State::of(&self.world)?;
        self.kept(&now)?;
        let strangers: Vec<_> = named_without_ids(&now.listing)
            .into_iter()
            .filter(|l| {
                !named_without_ids(&self.before.listing).contains(l)
                    && !named_without_ids(&self.after.listing).contains(l)
            })
            .collect();
        if !strangers.is_empty() {
            return Err(format!("nobody asked for {strangers:#?}"));
        }
        Ok(())
    }

    /// What is there before and after the operation is there now, unchanged.
    fn kept(&self, now: &State) -> Result<(), String> {
        let (before, after) = (&self.before, &self.after);
        let gone: Vec<_> = before.listing.intersection(&after.listing).filter(|l| !now.listing.contains(*l)).collect();
        if !gone.is_empty() {
            return Err(format!("it lost {gone:#?}"));
        }
        for (path, file) in before.files.iter().filter(|(path, file)| after.files.get(*path) == Some(file)) {
            match now.files.get(path) {
                Some(there) if there == file => {}
                other => return Err(format!("{} was {file}\nand is {other:?}", path.display())),
            }
        }
        if now.archive != before.archive && before.archive == after.archive {
            return Err("an image that was there before is saved as another archive".to_owned());
        }
        Ok(())
    }

    /// The operation succeeds when it is asked for again, and nothing is left of the first attempt.
    fn again(&self) -> Result<(), String> {
        let was_done = self.is_done(&self.world.listing()?);
        if !was_done || self.operation.again != Again::Another {
            let arguments = self.operation.arguments(&self.world);
            let (code, _, stderr) = self.world.run(&words(&arguments));
            let excused = matches!(self.operation.again, Again::Refused(said) if was_done && stderr.contains(said));
            if code != 0 && !excused {
                return Err(format!("the second attempt ended with {code}: {stderr}"));
            }
        }
        let now = State::of(&self.world)?;
        if !self.is_done(&now.listing) {
            return Err(format!("the second attempt did not do it: {}", difference(&self.after.listing, &now.listing)));
        }
        self.kept(&now)?;
        self.world.prune()?;
        let findings = self.world.findings()?;
        if !findings.is_empty() {
            return Err(format!("prune has left {findings:#?}"));
        }
        let pruned = names(&self.world.files());
        if pruned != self.pruned {
            let (there, expected): (BTreeSet<_>, BTreeSet<_>) =
                (pruned.into_iter().collect(), self.pruned.iter().cloned().collect());
            return Err(format!("files after prune: {}", difference(&expected, &there)));
        }
        self.world.usage_is_what_du_says()?;
        let left = self.world.left();
        if !left.is_empty() {
            return Err(format!("left behind: {left:#?}"));
        }
        Ok(())
    }

    fn is_done(&self, now: &Listing) -> bool {
        named_without_ids(now) == named_without_ids(&self.after.listing)
    }
}

impl State {
    fn of(world: &World) -> Result<State, String> {
        let listing = world.listing()?;
        let there = listing.iter().any(|line| line.contains(SAVED));
        let saved = world.path("saved.tar");
        let archive = match there.then(|| world.run(&["save", "--output", &saved, SAVED])) {
            None => None,
            Some((0, ..)) => Some(hash(&std::fs::read(saved).unwrap())),
            Some((_, _, stderr)) => return Err(format!("save: {stderr}")),
        };
        Ok(State { listing, files: world.files(), archive, findings: world.findings()?.len() })
    }
}

fn takes_space(seen: &Seen) -> bool {
    // Moving needs none, or as good as.
    named(seen.call).space == Space::Takes && !seen.call.starts_with("rename")
}

fn words(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

fn names(files: &Files) -> Vec<String> {
    let mut names: Vec<_> = files.keys().map(|path| without_ids(path)).collect();
    names.sort();
    names
}

/// Ids and random names differ from run to run: they are counted only.
fn named_without_ids(listing: &Listing) -> Vec<String> {
    let part = |p: &str| match p.strip_prefix("sha256:").unwrap_or(p) {
        id if id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()) => "*".to_owned(),
        _ => p.to_owned(),
    };
    let mut names: Vec<String> = listing.iter().map(|l| l.split(' ').map(part).collect::<Vec<_>>().join(" ")).collect();
    names.sort();
    names
}

fn difference(expected: &BTreeSet<String>, found: &BTreeSet<String>) -> String {
    let missing: Vec<_> = expected.difference(found).collect();
    let more: Vec<_> = found.difference(expected).collect();
    format!("missing {missing:#?}, more {more:#?}")
}

/// Something that check has found.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    #[expect(dead_code, reason = "printed when a case fails")]
    pub(crate) what: String,
    /// `unreferenced`, which prune removes; `repairable`, by `system check --repair`; or `lost`.
    pub(crate) class: String,
}

impl World {
    /// What check finds.
    pub(crate) fn findings(&self) -> Result<Vec<Finding>, String> {
        let (code, stdout, stderr) = self.run(&["system", "check", "--format", "json"]);
        let document: serde_json::Value =
            serde_json::from_str(&stdout).map_err(|e| format!("check ended with {code}: {e}: {stdout} {stderr}"))?;
        let text = |f: &serde_json::Value, key: &str| f[key].as_str().unwrap_or_default().to_owned();
        let finding = |f: &serde_json::Value| Finding {
            what: format!("{}: {}", text(f, "Object"), text(f, "Problem")),
            class: text(f, "Class"),
        };
        Ok(document["Findings"].as_array().ok_or("check lists nothing")?.iter().map(finding).collect())
    }

    /// Removes whatever nothing refers to, and no more.
    pub(crate) fn prune(&self) -> Result<(), String> {
        match self.run(&["system", "prune", "--force", "--filter", "label=of-nothing"]) {
            (0, _, _) => Ok(()),
            (code, _, stderr) => Err(format!("prune ended with {code}: {stderr}")),
        }
    }

    /// The last line of `system df` is what `du` says.
    pub(crate) fn usage_is_what_du_says(&self) -> Result<(), String> {
        let lines = self.ok(&["system", "df", "--format", "{{.Bytes}}"]);
        let said: u64 = lines.lines().last().and_then(|l| l.parse().ok()).ok_or(lines.clone())?;
        let out = command("du").args(["--summarize", "--block-size=1"]).arg(self.root()).output().unwrap();
        let du: u64 = String::from_utf8_lossy(&out.stdout).split_whitespace().next().unwrap().parse().unwrap();
        if said == du { Ok(()) } else { Err(format!("df says {said}, du {du}")) }
    }
}
