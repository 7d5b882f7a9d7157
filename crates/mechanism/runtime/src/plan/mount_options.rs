//! The option words of mounts: tables, and what a list of words adds up to (config.md#linux-mount-options, mount(8)).

use tare_kernel::mount::{
    ATIME, NOATIME, NODEV, NODIRATIME, NOEXEC, NOSUID, NOSYMFOLLOW, PRIVATE, RDONLY, SHARED, SLAVE, STRICTATIME,
    UNBINDABLE,
};

/// MOUNT_ATTR_* bits to set and to clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Change {
    pub(super) set: u64,
    pub(super) clear: u64,
}

impl Change {
    /// A later word wins. The bits of access times are one field: all are cleared before one is set (mount_setattr(2)).
    fn add(&mut self, set: u64, clear: u64) {
        self.set = (self.set & !clear) | set;
        self.clear = (self.clear | clear) & !set | (clear & ATIME);
    }

    /// Takes a word if it is one of a mount's attributes.
    fn word(&mut self, word: &str) -> bool {
        let (set, clear) = match word {
            "ro" => (RDONLY, 0),
            "rw" => (0, RDONLY),
            "nosuid" => (NOSUID, 0),
            "suid" => (0, NOSUID),
            "nodev" => (NODEV, 0),
            "dev" => (0, NODEV),
            "noexec" => (NOEXEC, 0),
            "exec" => (0, NOEXEC),
            "noatime" => (NOATIME, ATIME),
            "strictatime" => (STRICTATIME, ATIME),
            "relatime" => (0, ATIME),
            // These take back their opposite, and only that.
            "atime" if self.set & ATIME == STRICTATIME => (0, 0),
            "nostrictatime" if self.set & ATIME == NOATIME => (0, 0),
            "atime" | "nostrictatime" => (0, ATIME),
            "norelatime" => (0, 0),
            "nodiratime" => (NODIRATIME, 0),
            "diratime" => (0, NODIRATIME),
            "nosymfollow" => (NOSYMFOLLOW, 0),
            "symfollow" => (0, NOSYMFOLLOW),
            _ => return false,
        };
        self.add(set, clear);
        true
    }
}

/// Words of which a later one takes back an earlier one: those that a filesystem takes, by the names that fsconfig(2)
/// knows them by.
const SUPERBLOCK: [(&str, &str); 4] =
    [("sync", "async"), ("dirsync", ""), ("lazytime", "nolazytime"), ("mand", "nomand")];

/// Words that mount(2) takes and of which nothing is left to do: the kernel's silence is not ours to break, and every
/// filesystem that counts changes does so without being asked.
const WITHOUT_EFFECT: [&str; 5] = ["defaults", "silent", "loud", "iversion", "noiversion"];

/// The words of one mount, sorted by what they are for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    /// Of the mount itself.
    pub(super) alone: Change,
    /// Of the mount and everything below it (`rro`, …).
    pub(super) below: Change,
    /// Propagation, in order.
    pub(super) propagation: Vec<(u64, bool)>,
    /// `bind` (false) or `rbind` (true).
    pub(super) bind: Option<bool>,
    /// `idmap` (false) or `ridmap` (true).
    pub(super) id_map: Option<bool>,
    /// `tmpcopyup`.
    pub(super) copy_up: bool,
    /// `remount`.
    pub(super) remount: bool,
    /// Words for the filesystem's superblock.
    pub(super) superblock: Vec<String>,
    /// What only the filesystem understands, in order.
    pub(super) data: Vec<String>,
}

impl Words {
    pub(super) fn read(options: &[String]) -> Words {
        let mut words = Words::default();
        for option in options {
            words.take(option);
        }
        words
    }

    fn take(&mut self, option: &str) {
        if self.alone.word(option) || WITHOUT_EFFECT.contains(&option) || self.superblock_word(option) {
            return;
        }
        if let Some(propagation) = propagation(option) {
            self.propagation.push(propagation);
            return;
        }
        match option {
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "idmap" => self.id_map = Some(false),
            "ridmap" => self.id_map = Some(true),
            "tmpcopyup" => self.copy_up = true,
            "remount" => self.remount = true,
            _ if option.strip_prefix('r').is_some_and(|word| self.below.word(word)) => {}
            _ => self.data.push(option.to_owned()),
        }
    }

    fn superblock_word(&mut self, option: &str) -> bool {
        let Some((on, off)) = SUPERBLOCK.iter().find(|(on, off)| option == *on || option == *off) else {
            return false;
        };
        self.superblock.retain(|w| w != on && w != off);
        self.superblock.push(option.to_owned());
        true
    }
}

/// The MS_* flag that a propagation word means, and whether it is recursive.
pub(super) fn propagation(word: &str) -> Option<(u64, bool)> {
    Some(match word {
        "private" => (PRIVATE, false),
        "rprivate" => (PRIVATE, true),
        "slave" => (SLAVE, false),
        "rslave" => (SLAVE, true),
        "shared" => (SHARED, false),
        "rshared" => (SHARED, true),
        "unbindable" => (UNBINDABLE, false),
        "runbindable" => (UNBINDABLE, true),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[&str]) -> Words {
        Words::read(&options.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn every_word_of_the_specification_is_known() {
        let table = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev \
            nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime \
            rbind rdev rdiratime relatime remount rexec rnoatime rnodiratime rnoexec rnorelatime rnostrictatime rnosuid \
            rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw \
            shared silent slave strictatime suid symfollow sync tmpcopyup unbindable idmap ridmap rnodev";
        for word in table.split_whitespace() {
            assert_eq!(read(&[word]).data, [""; 0], "{word}");
        }
        assert_eq!(read(&["size=1", "sharedx", "rfoo"]).data, ["size=1", "sharedx", "rfoo"]);
    }

    #[test]
    fn a_later_word_takes_back_an_earlier_one() {
        assert_eq!(read(&["nosuid", "suid"]).alone, Change { set: 0, clear: NOSUID });
        assert_eq!(read(&["noatime", "atime"]).alone, Change { set: 0, clear: ATIME });
        assert_eq!(read(&["strictatime", "atime"]).alone, Change { set: STRICTATIME, clear: ATIME });
        assert_eq!(read(&["rnoatime", "rnostrictatime"]).below, Change { set: NOATIME, clear: ATIME });
        assert_eq!(read(&["sync", "async", "lazytime"]).superblock, ["async", "lazytime"]);
        assert_eq!(read(&["rbind", "bind"]).bind, Some(true));
        assert_eq!(read(&["rprivate", "shared"]).propagation, [(PRIVATE, true), (SHARED, false)]);
    }
}
