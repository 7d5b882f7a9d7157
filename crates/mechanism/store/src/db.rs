//! state.db: opening it, its schema, and the one way to write to it.
//!
//! Writers queue on a lock file before `BEGIN IMMEDIATE`: the kernel wakes them in order, where SQLite's busy handler
//! sleeps longer and longer. The same lock orders renames on disk against the rows that speak of them, so what is
//! read under it (leases, orphans) stays true until it is let go.

use crate::migrate::migrate;
use crate::sql::{State as _, state_error};
use crate::{Inner, Store};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;
use tare_model::{Context as _, Error, Kind, Result};

/// The schema that this tare writes. A store with a higher one is refused; a lower one is brought here by [`migrate`].
const SCHEMA_VERSION: i64 = 3;

/// `tare` in ASCII, in the header of state.db.
const APPLICATION_ID: i64 = 0x7461_7265;

/// Length of the write-ahead log in bytes beyond which a commit that nobody waits for empties it into the database.
/// Whoever opens an idle store reads the whole log (3 µs per page of 4 KiB), so it is kept short.
const LOG_MAX: u64 = 288 << 10;

/// The same for commits that a user waits for: only a bound against growth.
const LOG_MAX_WAITING: u64 = 4 << 20;

// Few tables and few indexes: every opening parses them (`run` opens the store each time). What a container
// uses is a list in its row, so that reserving one writes one row. Digests are 64 hexadecimal digits without algorithm.
const SCHEMA: &str = "
CREATE TABLE images (
    id            TEXT PRIMARY KEY,         -- digest of the config
    manifest      TEXT NOT NULL,
    manifest_type TEXT NOT NULL,
    manifest_size INTEGER NOT NULL,
    created       INTEGER NOT NULL          -- Unix nanoseconds
) WITHOUT ROWID;
CREATE TABLE image_layers (
    image     TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    position  INTEGER NOT NULL,             -- 0 is the bottom
    diff_id   TEXT NOT NULL REFERENCES layers,
    blob      TEXT NOT NULL,
    blob_type TEXT NOT NULL,
    blob_size INTEGER NOT NULL,
    PRIMARY KEY (image, position)
) WITHOUT ROWID;
CREATE TABLE names (
    name  TEXT PRIMARY KEY,                 -- HOST/REPOSITORY:TAG
    image TEXT NOT NULL REFERENCES images ON DELETE CASCADE
) WITHOUT ROWID;
CREATE TABLE digests (
    name   TEXT NOT NULL,                   -- HOST/REPOSITORY
    digest TEXT NOT NULL,                   -- of the manifest or index, there
    image  TEXT NOT NULL REFERENCES images ON DELETE CASCADE,
    PRIMARY KEY (name, digest)
) WITHOUT ROWID;
CREATE TABLE layers (
    diff_id TEXT PRIMARY KEY,
    size    INTEGER NOT NULL,               -- bytes of its files
    boot    TEXT,                           -- not synced yet: trusted in this boot of the host only
    index_digest TEXT                       -- of its image without the archive; NULL for a tree of files
) WITHOUT ROWID;
CREATE TABLE containers (
    id      TEXT PRIMARY KEY,
    name    TEXT NOT NULL UNIQUE,
    image   TEXT,                           -- may be gone (rmi --force)
    created INTEGER NOT NULL,
    layers  TEXT NOT NULL,                  -- diff IDs, bottom first, separated by spaces
    volumes TEXT NOT NULL,                  -- names, separated by spaces
    networks TEXT NOT NULL DEFAULT ''       -- ids, separated by spaces
) WITHOUT ROWID;
CREATE TABLE addresses (
    network   TEXT NOT NULL,                -- id
    address   BLOB NOT NULL,                -- 4 or 16 bytes, so that order is numeric
    container TEXT NOT NULL,
    boot      TEXT,                         -- in quarantine since this boot of the host
    PRIMARY KEY (network, address)
) WITHOUT ROWID;
CREATE TABLE networks (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    definition TEXT NOT NULL                -- JSON object: tare_model::network::Network
) WITHOUT ROWID;
CREATE TABLE settings (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE volumes (
    name      TEXT PRIMARY KEY,
    anonymous INTEGER NOT NULL,
    labels    TEXT NOT NULL,                -- JSON object
    created   INTEGER NOT NULL
) WITHOUT ROWID;
";

/// Whether an answer may be given before the change would survive a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On disk before the call returns.
    Durable,
    /// Survives the end of the process, not a power cut.
    Lazy,
}

/// The right to write: the lock file is held and nobody else changes state.db, blobs/, layers/ or the set of leases.
pub(crate) struct Writer<'a> {
    db: MutexGuard<'a, Option<Connection>>,
    lock: &'a OwnedFd,
    inner: &'a Inner,
    uncertain: bool,
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        // Explicit, because a child between clone and exec may still share the open file description.
        let _ = rustix::fs::flock(self.lock, FlockOperation::Unlock);
    }
}

impl Writer<'_> {
    fn connection(&mut self) -> &mut Connection {
        self.db.as_mut().expect("Store::writer opened it")
    }

    /// One transaction; rolled back when `f` fails.
    pub(crate) fn transaction<T>(
        &mut self,
        durability: Durability,
        f: impl FnOnce(&Connection) -> Result<T>,
    ) -> Result<T> {
        let (synchronous, log_max) = match durability {
            Durability::Durable => ("FULL", LOG_MAX),
            Durability::Lazy => ("NORMAL", LOG_MAX_WAITING),
        };
        self.transaction_with(synchronous, log_max, f)
    }

    /// One lazy transaction for which nobody waits: empties the log if that is due.
    pub(crate) fn background_transaction<T>(&mut self, f: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.transaction_with("NORMAL", LOG_MAX, f)
    }

    fn transaction_with<T>(
        &mut self,
        synchronous: &str,
        log_max: u64,
        f: impl FnOnce(&Connection) -> Result<T>,
    ) -> Result<T> {
        let begin = |db: &mut Connection| -> rusqlite::Result<()> {
            db.pragma_update(None, "synchronous", synchronous)?;
            db.execute_batch("BEGIN IMMEDIATE")
        };
        let begun = match begin(self.connection()) {
            // SQLite could not open its log for writing, and would not try again.
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::ReadOnly) => {
                *self.db = Some(connect(&self.inner.database(), OpenFlags::SQLITE_OPEN_READ_WRITE).state("open")?);
                begin(self.connection())
            }
            other => other,
        };
        begun.state("begin")?;
        let tx = Open(self.connection());
        let out = f(tx.0)?;
        let committed = tx.0.execute_batch("COMMIT");
        drop(tx);
        if let Err(e) = committed {
            self.uncertain = !self.overwrite();
            return Err(state_error(&e, "commit"));
        }
        self.shorten_log(log_max);
        Ok(out)
    }

    /// Makes true that a commit has failed. If only its sync did, all of it is in the log: this connection has forgotten it, but
    /// whoever next recovers the log would take it for committed. Another commit in its place ends that.
    fn overwrite(&mut self) -> bool {
        let again = |db: &mut Connection| -> rusqlite::Result<()> {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            tx.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            tx.commit()
        };
        again(self.connection()).is_ok()
    }

    /// Whether a transaction has failed of which nobody can say if it will be found committed: the files that belong to its
    /// rows must stay, and so must the marks of those whose rows were to go.
    pub(crate) fn is_uncertain(&self) -> bool {
        self.uncertain
    }

    /// SQLite's own checkpoints do not shorten the log before the next commit of the same connection, and what has been
    /// copied is forgotten when the last one closes: the log would grow for ever. So it is emptied here, by truncation.
    fn shorten_log(&mut self, max: u64) {
        if std::fs::metadata(&self.inner.log).is_ok_and(|m| m.len() > max) {
            // The commit stands whatever becomes of this; the next one tries again.
            let _ = self.connection().query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
    }

    /// Reads without a transaction of its own; nobody writes meanwhile.
    pub(crate) fn read<T>(&mut self, f: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        f(self.connection())
    }
}

/// A transaction that has begun: rolled back, unless it is committed.
struct Open<'a>(&'a Connection);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.0.is_autocommit() {
            // There is nothing else to be done about one that cannot be: SQLite does it when the next one begins.
            let _ = self.0.execute_batch("ROLLBACK");
        }
    }
}

impl Store {
    /// Reads from one consistent state.
    pub(crate) fn read<T>(&self, f: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let db = self.connection()?;
        let db = db.as_ref().expect("connection() opened it");
        let tx = db.unchecked_transaction().state("begin")?;
        let out = f(&tx)?;
        drop(tx);
        Ok(out)
    }

    /// Waits for the right to write.
    pub(crate) fn writer(&self) -> Result<Writer<'_>> {
        // The mutex first: threads of this process share the open file description of the lock, and with it the lock.
        let db = self.connection()?;
        let lock = self.0.lock()?;
        flock(lock, FlockOperation::LockExclusive, &self.0.root)?;
        Ok(Writer { db, lock, inner: &self.0, uncertain: false })
    }

    /// One transaction under the right to write.
    pub(crate) fn write<T>(&self, durability: Durability, f: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        self.writer()?.transaction(durability, f)
    }

    fn connection(&self) -> Result<MutexGuard<'_, Option<Connection>>> {
        // A panic while it was held leaves at worst an open transaction, which dropping it rolled back.
        let mut db = self.0.db.lock().unwrap_or_else(PoisonError::into_inner);
        if db.is_none() {
            *db = Some(self.0.open_db()?);
        }
        Ok(db)
    }
}

impl Store {
    /// Puts a new, empty state.db in the place of one that is lost or damaged; what is left of the old one is
    /// `state.db.damaged`. `fill` writes what is known into the new one, in one transaction. Nobody else writes meanwhile; a process that
    /// had the old one open goes on with that and is to be ended first.
    pub(crate) fn replace_db(&self, fill: impl FnOnce(&Connection) -> Result<()>) -> Result<()> {
        let mut db = self.0.db.lock().unwrap_or_else(PoisonError::into_inner);
        *db = None;
        for ending in ["", "-wal", "-shm"] {
            let from = self.0.root.join(format!("state.db{ending}"));
            let to = self.0.root.join(format!("state.db.damaged{ending}"));
            match std::fs::rename(&from, &to) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                other => other.during("rename", from.display())?,
            }
        }
        let mut new = self.0.create(Orphaned::Adopt)?;
        let tx = new.transaction_with_behavior(TransactionBehavior::Immediate).state("begin")?;
        fill(&tx)?;
        tx.commit().state("commit")?;
        *db = Some(new);
        Ok(())
    }
}

impl Inner {
    fn database(&self) -> PathBuf {
        self.root.join("state.db")
    }

    /// A state.db that is not there although there is content was lost: an empty one would make garbage of everything.
    fn refuse_orphans(&self) -> Result<()> {
        for dir in ["containers", "volumes", "layers", "blobs/sha256"] {
            if let Some(name) = crate::lease::names(&self.root.join(dir))?.first() {
                return Err(Error::new(Kind::Corrupt, "open store", self.root.display())
                    .because(format!("state.db is missing, but there is content: {dir}/{name}"))
                    .hint("bring state.db back from a copy, or let `tare system check --repair` make one of what there is"));
            }
        }
        Ok(())
    }

    fn lock(&self) -> Result<&OwnedFd> {
        if let Some(fd) = self.lock.get() {
            return Ok(fd);
        }
        let fd = open_lock(&self.root)?;
        Ok(self.lock.get_or_init(|| fd))
    }

    fn open_db(&self) -> Result<Connection> {
        let path = self.database();
        let missing = |e: &rusqlite::Error| e.sqlite_error_code() == Some(ErrorCode::CannotOpen);
        let opened = match connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE) {
            // Another process has made it between the two looks.
            Err(e) if missing(&e) && path.exists() => connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE),
            other => other,
        };
        match opened {
            Ok(db) => match schema_version(&db)? {
                0 => self.create(Orphaned::Refuse),
                1..SCHEMA_VERSION => {
                    drop(db);
                    self.migrate()
                }
                found => checked(found, &path).map(|()| db),
            },
            Err(e) if missing(&e) && !path.exists() => self.create(Orphaned::Refuse),
            Err(e) => Err(state_error(&e, "open").during("open", path.display())),
        }
    }

    /// Brings an older store to this schema, or finds that another process just did.
    fn migrate(&self) -> Result<Connection> {
        let path = self.database();
        let lock = self.lock()?;
        flock(lock, FlockOperation::LockExclusive, &self.root)?;
        let migrated = (|| -> Result<Connection> {
            let mut db = connect(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).state("open")?;
            bring_up(&mut db, &path)?;
            Ok(db)
        })();
        let _ = rustix::fs::flock(lock, FlockOperation::Unlock);
        migrated.during("bring to this version", path.display())
    }

    /// Makes the layout and the schema, or finds that another process just did.
    fn create(&self, orphaned: Orphaned) -> Result<Connection> {
        let path = self.database();
        for dir in DIRECTORIES {
            make_dir(&self.root.join(dir))?;
        }
        let lock = self.lock()?;
        flock(lock, FlockOperation::LockExclusive, &self.root)?;
        let made = (|| -> Result<Connection> {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
            let mut db = connect(&path, flags).state("create")?;
            match schema_version(&db)? {
                0 => {
                    if orphaned == Orphaned::Refuse {
                        self.refuse_orphans().inspect_err(|_| drop(std::fs::remove_file(&path)))?;
                    }
                    create_schema(&mut db)?;
                }
                _ => bring_up(&mut db, &path)?,
            }
            Ok(db)
        })();
        let _ = rustix::fs::flock(lock, FlockOperation::Unlock);
        let db = made.during("create store", self.root.display())?;
        for dir in ["", "blobs", "blobs/sha256"] {
            crate::sync_dir(&self.root.join(dir))?;
        }
        Ok(db)
    }
}

/// Whether a new state.db may come where there is content already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Orphaned {
    /// No: it has lost its own, and would be taken for garbage.
    Refuse,
    /// It is about to be found again.
    Adopt,
}

/// What a store consists of, beside its files; relative to its root.
pub(crate) const DIRECTORIES: [&str; 7] = ["", "blobs", "blobs/sha256", "layers", "containers", "volumes", "tmp"];

fn create_schema(db: &mut Connection) -> Result<()> {
    // WAL is a property of the file: set once, before the schema, so that a kill between the two leaves version 0.
    db.pragma_update(None, "journal_mode", "WAL").state("configure")?;
    db.pragma_update(None, "synchronous", "FULL").state("configure")?;
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).state("begin")?;
    tx.execute_batch(SCHEMA).state("create schema")?;
    tx.pragma_update(None, "application_id", APPLICATION_ID).state("create schema")?;
    tx.pragma_update(None, "user_version", SCHEMA_VERSION).state("create schema")?;
    tx.commit().state("commit")
}

/// Brings older tables to this schema, in one transaction. To be called under the writers' lock.
fn bring_up(db: &mut Connection, path: &Path) -> Result<()> {
    let found = schema_version(db)?;
    if found >= SCHEMA_VERSION {
        return checked(found, path);
    }
    db.pragma_update(None, "synchronous", "FULL").state("configure")?;
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate).state("begin")?;
    migrate(&tx, found)?;
    tx.pragma_update(None, "user_version", SCHEMA_VERSION).state("migrate")?;
    tx.commit().state("commit")
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    // Not by a query: nothing here reads the file yet.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    db.execute_batch("PRAGMA wal_autocheckpoint=0")?;
    db.busy_handler(Some(wait_a_little))?;
    Ok(db)
}

/// SQLite is busy only while another process recovers the log after opening an idle store: well below a millisecond.
fn wait_a_little(attempt: i32) -> bool {
    std::thread::sleep(Duration::from_micros(200));
    attempt < 50_000
}

fn schema_version(db: &Connection) -> Result<i64> {
    db.pragma_query_value(None, "user_version", |row| row.get(0)).state("read")
}

fn checked(found: i64, path: &Path) -> Result<()> {
    if found == SCHEMA_VERSION {
        return Ok(());
    }
    Err(Error::new(Kind::Unsupported, "open store", path.display())
        .because(format!("it has schema {found}, and this tare knows {SCHEMA_VERSION}"))
        .hint("use the tare that wrote it, or another root directory (--root)"))
}

fn open_lock(root: &Path) -> Result<OwnedFd> {
    let path = root.join("lock");
    rustix::fs::open(&path, OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)
        .map_err(|e| Error::io("open", path.display(), e))
}

fn flock(fd: &OwnedFd, operation: FlockOperation, root: &Path) -> Result<()> {
    loop {
        match rustix::fs::flock(fd, operation) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map_err(|e| Error::io("lock", root.join("lock").display(), e)),
        }
    }
}

fn make_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    // 0700: layers hold setuid programs that other users of the host must not reach.
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).during("create directory", path.display())
}

/// The id of this boot of the host: what was not synced in an earlier one is not trusted.
pub(crate) fn boot_id() -> Result<String> {
    let path = PathBuf::from("/proc/sys/kernel/random/boot_id");
    Ok(std::fs::read_to_string(&path).during("read", path.display())?.trim().to_owned())
}
