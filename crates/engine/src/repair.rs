//! Whether everything is as it should be, and putting right what can be put right.

use crate::Engine;
use crate::record::Record;
use std::path::Path;
use std::time::{Duration, Instant};
use tare_model::{Kind, Result};
use tare_store::{Finding, NewContainer};

/// What is being removed just now is gone within that time.
const GOING: Duration = Duration::from_secs(1);

impl Engine {
    /// Looks for whatever is not as it should be: the database, rows against files in both directions, descriptions of
    /// containers, what processes that were killed have left.
    ///
    /// # Errors
    /// State that cannot be read; a damaged or lost state.db is a finding.
    pub fn check(&self) -> Result<Vec<Finding>> {
        let mut findings = match self.store.check(false) {
            Err(e) if e.kind() == Kind::Corrupt => return Ok(vec![Finding::repairable("state.db", e.to_string())]),
            other => other?,
        };
        self.leave_out_what_is_going(&mut findings);
        if self.store.is_rebuilding()? {
            findings
                .push(Finding::repairable("state.db", "it was made anew, and that has not been brought to its end"));
        }
        // What makers and supervisors that were killed have left is no loss: whoever looks at containers clears it up.
        self.recover_all()?;
        for row in self.store.containers()? {
            let dirs = self.dirs(&row.id);
            if dirs.state.is_dir()
                && !dirs.is_alive()?
                && let Err(e) = dirs.record()
            {
                let object = format!("container {}", row.id);
                // Nobody was ever told that it is there: the description comes last. Whoever looks at containers clears it away.
                if dirs.state.join("config.json").exists() {
                    let mend = format!("tare rm -f {}", row.name);
                    findings.push(Finding::broken(object, e.to_string(), mend));
                } else {
                    findings.push(Finding::garbage(object, "its making was never brought to an end"));
                }
            }
        }
        for layer in self.stale_layers()? {
            findings.push(Finding::garbage(
                format!("layer sha256:{layer}"),
                "it is mounted, and not in the store any more",
            ));
        }
        Ok(findings)
    }

    /// A container that is removed at its end leaves its directory behind for a moment: its supervisor is about to remove that.
    fn leave_out_what_is_going(&self, findings: &mut Vec<Finding>) {
        let end = Instant::now() + GOING;
        let containers = self.store.root().join("containers");
        loop {
            let mut left = 0;
            findings.retain(|f| {
                let path = Path::new(&f.object);
                let is_path = f.collectable && path.is_absolute();
                let id = path.strip_prefix(&containers).ok().and_then(Path::to_str);
                let going = id.is_some_and(|id| self.dirs(id).is_alive().unwrap_or(false));
                let gone = is_path && (going || !path.exists());
                left += usize::from(is_path && !gone);
                !gone
            });
            if left == 0 || Instant::now() >= end {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Mends whatever [`Engine::check`] calls repairable; what was done, in sentences.
    ///
    /// # Errors
    /// State or files that cannot be read or changed.
    pub fn repair(&self) -> Result<Vec<String>> {
        let mut done = Vec::new();
        let database = match self.store.check(false) {
            Ok(findings) => findings.iter().any(|f| f.object == "state.db"),
            Err(e) if e.kind() == Kind::Corrupt => true,
            Err(e) => return Err(e),
        };
        if database {
            done.extend(self.store.rebuild()?);
        }
        if self.store.is_rebuilding()? {
            // At any other time what has no row is what is left of a container that was removed.
            self.restore_containers(&mut done)?;
            self.store.end_rebuilding()?;
        }
        done.extend(self.store.repair()?);
        // A layer that was unpacked anew is another file than the one that is mounted.
        self.let_go_of_layers()?;
        Ok(done)
    }

    fn restore_containers(&self, done: &mut Vec<String>) -> Result<()> {
        for id in self.store.strays()? {
            let Ok(record) = self.dirs(&id).record() else { continue };
            if record.request.remove || record.id != id {
                continue;
            }
            let name = record.request.name.clone();
            let restored = match self.restore(&record, name.as_deref()) {
                // Another one has its name by now.
                Err(e) if e.kind() == Kind::AlreadyExists => self.restore(&record, None),
                other => other,
            };
            if restored? {
                let name = self.store.container(&id)?.name;
                done.push(format!("container {name}: found again"));
            }
        }
        Ok(())
    }

    fn restore(&self, record: &Record, name: Option<&str>) -> Result<bool> {
        let volumes: Vec<String> = record.mounts.iter().filter_map(|m| m.volume.clone()).collect();
        let networks: Vec<String> = record.leases.iter().map(|l| l.network.clone()).collect();
        let created = record.created_at.parse::<jiff::Timestamp>().map_or(0, |t| t.as_nanosecond());
        self.store.restore_container(&NewContainer {
            id: &record.id,
            name,
            image: record.image_id,
            layers: &record.layers,
            created: i64::try_from(created).unwrap_or(0),
            networks: &networks,
            addresses: &[],
            volumes: &volumes,
            durability: tare_store::Durability::Durable,
        })
    }
}
