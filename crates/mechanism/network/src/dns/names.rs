//! The names file of a network: which containers are on it, under which names, at which addresses.
//!
//! ```text
//! ID ADDRESS[,ADDRESS…] NAME[ ALIAS…]      one line for each running container
//! ```
//!
//! It is replaced by rename while its directory is locked, so a reader sees the old file or the new one, and keeps no
//! lock. A reader keeps the file open that it has read: as long as it does, no other file has the same number, and one
//! look at the number tells whether there is a newer one.

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open, openat, renameat};
use rustix::io::Errno;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use tare_model::{Context as _, Error, Kind, Result};

/// The file's name inside the network's directory.
pub const NAMES: &str = "names";
const NEW: &str = "names.new";

/// How many digits of an id are a name of its container.
pub const SHORT_ID: usize = 12;

/// One container on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameEntry {
    /// 64 hexadecimal digits.
    pub id: String,
    /// At least one.
    pub addresses: Vec<IpAddr>,
    /// The container's name.
    pub name: String,
    /// Further names on this network.
    pub aliases: Vec<String>,
}

impl NameEntry {
    /// The line of the file, with its end.
    fn line(&self) -> Result<String> {
        let fields = [&self.id, &self.name].into_iter().chain(&self.aliases);
        let bad =
            fields.into_iter().find(|f| f.is_empty() || f.contains(|c: char| c.is_whitespace() || c.is_control()));
        if let Some(bad) = bad {
            return Err(Error::new(Kind::Invalid, "write name", format_args!("{bad:?}"))
                .because("a name in a network must not be empty or have blanks in it"));
        }
        if self.addresses.is_empty() {
            return Err(Error::new(Kind::Invalid, "write name", &self.name).because("the container has no address"));
        }
        let mut line = format!("{} ", self.id);
        for (i, address) in self.addresses.iter().enumerate() {
            let _ = write!(line, "{}{address}", if i == 0 { "" } else { "," });
        }
        for name in [&self.name].into_iter().chain(&self.aliases) {
            let _ = write!(line, " {name}");
        }
        line.push('\n');
        Ok(line)
    }
}

/// A line, split and not copied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) id: &'a str,
    addresses: &'a str,
    /// Name and aliases.
    names: &'a str,
}

impl<'a> Line<'a> {
    /// `None` for what is not a line of the file, which is passed over.
    pub(super) fn parse(line: &'a str) -> Option<Line<'a>> {
        let (id, rest) = line.split_once(' ')?;
        let (addresses, names) = rest.split_once(' ')?;
        let line = Line { id, addresses, names };
        let whole =
            !id.is_empty() && line.name().is_some() && addresses.split(',').all(|a| a.parse::<IpAddr>().is_ok());
        whole.then_some(line)
    }

    pub(super) fn addresses(self) -> impl Iterator<Item = IpAddr> + 'a {
        self.addresses.split(',').filter_map(|a| a.parse().ok())
    }

    pub(super) fn names(self) -> impl Iterator<Item = &'a str> {
        self.names.split_ascii_whitespace()
    }

    pub(super) fn name(self) -> Option<&'a str> {
        self.names().next()
    }

    /// Everything that it is found by: short id, name, aliases. Not the whole id, which is longer than a label of DNS.
    fn keys(self) -> impl Iterator<Item = &'a str> {
        self.id.get(..SHORT_ID).into_iter().chain(self.names())
    }
}

/// The directory of a network, for those who change its names file.
#[derive(Debug, Clone)]
pub struct NamesFile {
    directory: PathBuf,
}

impl NamesFile {
    /// Of the network whose directory this is (`<run>/networks/<id>`); it must exist when names are changed.
    pub fn of(directory: impl Into<PathBuf>) -> NamesFile {
        NamesFile { directory: directory.into() }
    }

    /// The file's path.
    pub fn path(&self) -> PathBuf {
        self.directory.join(NAMES)
    }

    /// Everybody on the network, in the order in which they came; nobody if there is no file.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn entries(&self) -> Result<Vec<NameEntry>> {
        let text = read(&self.path())?;
        let owned = |l: Line<'_>| {
            let mut names = l.names().map(str::to_owned);
            let name = names.next()?;
            Some(NameEntry { id: l.id.to_owned(), addresses: l.addresses().collect(), name, aliases: names.collect() })
        };
        Ok(text.lines().filter_map(Line::parse).filter_map(owned).collect())
    }

    /// Puts a container in, in place of an older entry of the same id.
    ///
    /// # Errors
    /// `Kind::Invalid` for names with blanks or no address; if the file cannot be replaced.
    pub fn put(&self, entry: &NameEntry) -> Result<()> {
        let line = entry.line()?;
        self.change(&entry.id, |_| Some(line))
    }

    /// Takes a container out; fine if it is not there, or the network's directory is gone.
    ///
    /// # Errors
    /// If the file cannot be replaced.
    pub fn remove(&self, id: &str) -> Result<()> {
        match self.change(id, |_| None) {
            Err(e) if e.kind() == Kind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Gives a container another name; its aliases stay. Fine if it is not there.
    ///
    /// # Errors
    /// As [`NamesFile::put`].
    pub fn rename(&self, id: &str, name: &str) -> Result<()> {
        let entry = self.entries()?.into_iter().find(|e| e.id == id);
        let Some(entry) = entry else { return Ok(()) };
        let line = NameEntry { name: name.to_owned(), ..entry }.line()?;
        // Only what is there still: it may have ended meanwhile.
        self.change(id, |there| there.then_some(line))
    }

    /// Replaces the line of `id` by what `new` gives, which is told whether there is one.
    fn change(&self, id: &str, new: impl FnOnce(bool) -> Option<String>) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            open(&self.directory, flags, Mode::empty()).map_err(|e| Error::io("open", self.directory.display(), e))?;
        loop {
            match flock(&directory, FlockOperation::LockExclusive) {
                Ok(()) => break,
                Err(Errno::INTR) => {}
                Err(e) => return Err(Error::io("lock", self.directory.display(), e)),
            }
        }
        let old = read(&self.path())?;
        let is_it = |line: &&str| line.split(' ').next() == Some(id);
        let there = old.lines().any(|l| is_it(&l));
        let new = new(there);
        if !there && new.is_none() {
            return Ok(());
        }
        let mut text = String::with_capacity(old.len() + new.as_ref().map_or(0, String::len));
        for line in old.lines().filter(|l| !is_it(l)) {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str(new.as_deref().unwrap_or_default());
        let describe = || self.directory.join(NEW).display().to_string();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(&directory, NEW, flags, Mode::from_raw_mode(0o644))
            .map_err(|e| Error::io("create", describe(), e))?;
        File::from(file).write_all(text.as_bytes()).during("write", describe())?;
        renameat(&directory, NEW, &directory, NAMES).map_err(|e| Error::io("replace", self.path().display(), e))
    }
}

fn read(path: &Path) -> Result<String> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(Error::io("read", path.display(), e)),
    }
}

/// The names of one network, as its servers keep them: the file's text, and where in it each name leads.
#[derive(Debug, Default)]
pub(super) struct Names {
    text: String,
    /// Hash of a name and where its line begins, in order. Of four bytes each, because every supervisor on the network
    /// has one: 10 KiB for 300 containers.
    index: Vec<(u32, u32)>,
}

impl Names {
    pub(super) fn new(text: String) -> Names {
        let mut index = Vec::new();
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            if let Some(parsed) = Line::parse(line.trim_end_matches('\n')) {
                index.extend(parsed.keys().map(|key| (hash(key), at)));
            }
            at += line.len() as u32;
        }
        index.sort_unstable();
        index.dedup();
        index.shrink_to_fit();
        Names { text, index }
    }

    /// The lines of all containers with this name, alias or id, each once.
    pub(super) fn find<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Line<'a>> + 'a {
        let hash = hash(name);
        let first = self.index.partition_point(|(h, _)| *h < hash);
        let same = self.index[first..].iter().take_while(move |(h, _)| *h == hash);
        same.filter_map(|(_, at)| self.text.get(*at as usize..)?.lines().next().and_then(Line::parse))
            .filter(move |line| line.keys().any(|key| key.eq_ignore_ascii_case(name)))
    }

    /// The lines of all containers with this address.
    pub(super) fn at(&self, address: IpAddr) -> impl Iterator<Item = Line<'_>> {
        let lines = self.text.lines().filter_map(Line::parse);
        lines.filter(move |line| line.addresses().any(|a| a == address))
    }
}

/// FNV-1a, blind to case. Names are chosen by those who start containers: many of one hash only make their look-up slow.
fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |hash, b| (hash ^ u32::from(b.to_ascii_lowercase())).wrapping_mul(0x0100_0193))
}

/// A names file that is read again when it was replaced.
#[derive(Debug)]
pub(super) struct WatchedNames {
    path: PathBuf,
    /// What was read last; open, so that its number is not given to another file.
    file: Option<(File, u64, u64)>,
    names: Names,
}

impl WatchedNames {
    pub(super) fn new(path: PathBuf) -> WatchedNames {
        WatchedNames { path, file: None, names: Names::default() }
    }

    /// The names now. A file that is gone has none; one that cannot be read leaves the old ones in force.
    pub(super) fn current(&mut self) -> &Names {
        let now = std::fs::metadata(&self.path).ok().map(|m| (m.dev(), m.ino()));
        let known = self.file.as_ref().map(|(_, device, number)| (*device, *number));
        if now != known {
            self.reread();
        }
        &self.names
    }

    fn reread(&mut self) {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                self.file = None;
                self.names = Names::default();
                return;
            }
            Err(_) => return,
        };
        let mut text = Vec::new();
        // What was opened is what was read, whatever has its name by now.
        let Ok(about) = file.metadata() else { return };
        if file.read_to_end(&mut text).is_ok() {
            self.names = Names::new(String::from_utf8_lossy(&text).into_owned());
            self.file = Some((file, about.dev(), about.ino()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, addresses: &[&str], name: &str, aliases: &[&str]) -> NameEntry {
        NameEntry {
            id: id.repeat(64),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            name: name.into(),
            aliases: aliases.iter().map(|a| (*a).to_owned()).collect(),
        }
    }

    fn found(names: &Names, name: &str) -> Vec<String> {
        names.find(name).map(|l| l.name().unwrap().to_owned()).collect()
    }

    #[test]
    fn what_is_put_is_read_and_what_is_removed_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let file = NamesFile::of(directory.path());
        assert_eq!(file.entries().unwrap(), []);
        let a = entry("a", &["10.0.0.2", "fd00::2"], "Web", &["db", "cache"]);
        let b = entry("b", &["10.0.0.3"], "other", &[]);
        file.put(&a).unwrap();
        file.put(&b).unwrap();
        assert_eq!(file.entries().unwrap(), [a.clone(), b.clone()]);
        let a = NameEntry { addresses: vec!["10.0.0.9".parse().unwrap()], ..a };
        file.put(&a).unwrap();
        assert_eq!(file.entries().unwrap(), [b.clone(), a.clone()]);
        file.rename(&a.id, "site").unwrap();
        file.rename(&"c".repeat(64), "nobody").unwrap();
        assert_eq!(
            std::fs::read_to_string(file.path()).unwrap(),
            format!("{} 10.0.0.3 other\n{} 10.0.0.9 site db cache\n", b.id, a.id)
        );
        file.remove(&b.id).unwrap();
        file.remove(&b.id).unwrap();
        assert_eq!(file.entries().unwrap().len(), 1);
        NamesFile::of("/nonexistent/x").remove("a").unwrap();
        assert_eq!(NamesFile::of("/nonexistent/x").put(&a).unwrap_err().kind(), Kind::NotFound);
    }

    #[test]
    fn a_name_that_would_break_the_file_is_refused() {
        let file = NamesFile::of("/nonexistent");
        for bad in [
            entry("a", &["::1"], "a b", &[]),
            entry("a", &["::1"], "a", &["x\ny"]),
            entry("a", &[], "a", &[]),
            entry("a", &["::1"], "", &[]),
        ] {
            assert_eq!(file.put(&bad).unwrap_err().kind(), Kind::Invalid, "{bad:?}");
        }
    }

    #[test]
    fn sixteen_writers_lose_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = NamesFile::of(directory.path());
        std::thread::scope(|scope| {
            for t in 0..16 {
                let file = &file;
                scope.spawn(move || {
                    for n in 0..20 {
                        let id = format!("{t:02}-{n:02}");
                        file.put(&NameEntry { id: id.clone(), ..entry("a", &["10.0.0.1"], "x", &[]) }).unwrap();
                        if n % 2 == 1 {
                            file.remove(&id).unwrap();
                        }
                    }
                });
            }
        });
        let mut left: Vec<_> = file.entries().unwrap().into_iter().map(|e| e.id).collect();
        left.sort();
        let wanted: Vec<_> = (0..16).flat_map(|t| (0..20).step_by(2).map(move |n| format!("{t:02}-{n:02}"))).collect();
        assert_eq!(left, wanted);
    }

    #[test]
    fn names_are_found_whatever_their_case_and_broken_lines_are_passed_over() {
        let a = entry("a", &["10.0.0.2", "fd00::2"], "Web", &["db", "web"]);
        let b = entry("b", &["10.0.0.3"], "other", &["DB"]);
        let text =
            format!("{}rubbish\n\nx y\nx 10.0.0.x name\n{}{}", a.line().unwrap(), b.line().unwrap(), "e 10.0.0.7");
        let names = Names::new(text);
        assert_eq!(found(&names, "wEB"), ["Web"]);
        assert_eq!(found(&names, "db"), ["Web", "other"]);
        assert_eq!(found(&names, "aaaaaaaaaaaa"), ["Web"]);
        for absent in ["aaaaaaaaaaa", "aaaaaaaaaaaaa", "name", "rubbish", "", "10.0.0.2", "we"] {
            assert!(found(&names, absent).is_empty(), "{absent}");
        }
        let at: Vec<_> = names.at("fd00::2".parse().unwrap()).map(|l| l.id).collect();
        assert_eq!(at, [a.id]);
    }

    #[test]
    fn a_reader_sees_every_change_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = NamesFile::of(directory.path());
        let mut watched = WatchedNames::new(file.path());
        assert!(found(watched.current(), "c0").is_empty());
        // So fast after one another that times of files do not tell them apart.
        for n in 0..200 {
            let name = format!("c{n}");
            file.put(&entry("a", &["10.0.0.2"], &name, &[])).unwrap();
            assert_eq!(found(watched.current(), &name), [name]);
        }
        std::fs::remove_file(file.path()).unwrap();
        assert!(found(watched.current(), "c199").is_empty());
    }
}
