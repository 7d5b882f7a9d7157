//! One process as /proc shows it: proc_pid_stat(5), proc_pid_status(5).

/// What is known of a process.
#[derive(Debug, Clone, Default)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) comm: String,
    pub(super) state: char,
    pub(super) ppid: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    pub(super) tty: u32,
    /// Foreground process group of its terminal.
    pub(super) foreground: i32,
    /// Clock ticks.
    pub(super) user_time: u64,
    /// Clock ticks.
    pub(super) system_time: u64,
    pub(super) priority: i64,
    pub(super) nice: i64,
    pub(super) threads: u64,
    /// Clock ticks since boot.
    pub(super) start: u64,
    /// Bytes.
    pub(super) virtual_size: u64,
    /// Bytes.
    pub(super) resident: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) locked: bool,
    /// Its id in the innermost PID namespace.
    pub(super) inner_pid: i32,
    /// Empty for kernel threads and zombies.
    pub(super) args: Vec<String>,
}

impl Process {
    /// `None` if it is gone.
    pub(super) fn read(pid: i32) -> Option<Process> {
        let text = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).ok();
        let mut process = Process::parse(pid, &String::from_utf8_lossy(&text("stat")?))?;
        process.add_status(&String::from_utf8_lossy(&text("status")?));
        process.args = arguments(&text("cmdline").unwrap_or_default());
        Some(process)
    }

    fn parse(pid: i32, stat: &str) -> Option<Process> {
        // The command may hold spaces and parentheses: fields are counted behind its last one.
        let (open, close) = (stat.find('(')?, stat.rfind(')')?);
        let fields: Vec<&str> = stat.get(close + 2..)?.split_whitespace().collect();
        let number = |i: usize| fields.get(i).and_then(|f| f.parse::<i64>().ok()).unwrap_or(0);
        let unsigned = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        let small = |i: usize| i32::try_from(number(i)).unwrap_or(0);
        Some(Process {
            pid,
            comm: stat.get(open + 1..close)?.to_owned(),
            state: fields.first()?.chars().next()?,
            ppid: small(1),
            group: small(2),
            session: small(3),
            tty: small(4) as u32,
            foreground: small(5),
            user_time: unsigned(11),
            system_time: unsigned(12),
            priority: number(15),
            nice: number(16),
            threads: unsigned(17),
            start: unsigned(19),
            virtual_size: unsigned(20),
            resident: unsigned(21) * rustix::param::page_size() as u64,
            ..Process::default()
        })
    }

    fn add_status(&mut self, status: &str) {
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')).unwrap_or("");
        // Real, effective, saved, file system.
        let effective = |name: &str| field(name).split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
        self.uid = effective("Uid");
        self.gid = effective("Gid");
        self.locked = field("VmLck").split_whitespace().next().is_some_and(|n| n != "0");
        self.inner_pid = field("NSpid").split_whitespace().last().and_then(|n| n.parse().ok()).unwrap_or(self.pid);
    }
}

/// Arguments as they are shown: one line, whatever they hold.
fn arguments(cmdline: &[u8]) -> Vec<String> {
    let trimmed = cmdline.strip_suffix(b"\0").unwrap_or(cmdline);
    if trimmed.is_empty() {
        return Vec::new();
    }
    let shown = |arg: &[u8]| {
        String::from_utf8_lossy(arg).chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>()
    };
    trimmed.split(|b| *b == 0).map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_command_name_does_not_shift_fields() {
        let p = Process::parse(
            7,
            "7 (a) R 1 (b) S 3 7 7 34816 7 4194560 1 0 0 0 250 50 0 0 20 0 2 0 1000 8192 3 18446744073709551615 0",
        )
        .unwrap();
        assert_eq!((p.comm.as_str(), p.state, p.ppid, p.tty), ("a) R 1 (b", 'S', 3, 34816));
        assert_eq!((p.user_time, p.system_time, p.threads, p.start), (250, 50, 2, 1000));
        assert_eq!((p.virtual_size, p.resident), (8192, 3 * 4096));
    }

    #[test]
    fn arguments_stay_on_one_line() {
        assert_eq!(arguments(b"sh\0-c\0a\nb\x1b[0m\0"), ["sh", "-c", "a?b?[0m"]);
        assert_eq!(arguments(b""), Vec::<String>::new());
        assert_eq!(arguments(b"title"), ["title"]);
    }
}
