//! `top`: the processes of a container as the host sees them, read from /proc; no ps(1) is run.

mod column;
mod process;

use crate::Engine;
use column::{Column, Facts};
use process::Process;
use tare_model::{Error, Kind, Result};

/// A table of processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Top {
    /// One title for each column.
    pub titles: Vec<String>,
    /// One row for each process, by process id.
    pub rows: Vec<Vec<String>>,
}

/// What `ps -ef` shows.
const FULL: [Column; 8] = [
    Column::User("UID"),
    Column::Pid,
    Column::Ppid,
    Column::Usage,
    Column::Start("STIME"),
    Column::Tty("TTY"),
    Column::Time,
    Column::Args("CMD"),
];

/// What `ps aux` shows.
const USER: [Column; 11] = [
    Column::User("USER"),
    Column::Pid,
    Column::CpuPercent,
    Column::MemoryPercent,
    Column::VirtualSize,
    Column::ResidentSize,
    Column::Tty("TTY"),
    Column::State("STAT"),
    Column::Start("START"),
    Column::Time,
    Column::Args("COMMAND"),
];

impl Engine {
    /// The processes of a running container. `args` as for ps(1): none or `-ef`; `aux`; `-o LIST`; or names of columns.
    /// Users are named by the host's /etc/passwd, times are UTC.
    ///
    /// # Errors
    /// `Kind::State` if it does not run; `Kind::Unsupported` for options and columns that there are none of.
    pub fn top(&self, name: &str, args: &[String]) -> Result<Top> {
        let columns = columns(args)?;
        let (_pidfd, view) = self.running(name, "list processes of container")?;
        let facts = Facts::read();
        let pids = self.group(&view.cgroup)?.processes()?;
        // One that has ended meanwhile is left out.
        let processes = pids.into_iter().filter_map(Process::read);
        let rows = processes.map(|p| columns.iter().map(|(c, _)| c.text(&p, &facts)).collect()).collect();
        Ok(Top { titles: columns.into_iter().map(|(_, title)| title).collect(), rows })
    }
}

/// The columns that ps(1)'s arguments mean, with their titles.
fn columns(args: &[String]) -> Result<Vec<(Column, String)>> {
    let titled = |list: &[Column]| list.iter().map(|c| (*c, c.title().to_owned())).collect();
    let mut chosen: Vec<(Column, String)> = Vec::new();
    let mut words = args.iter().map(String::as_str);
    let mut standard: &[Column] = &FULL;
    while let Some(word) = words.next() {
        let list = match word {
            "-o" | "o" | "-O" | "--format" | "-eo" | "-Ao" | "axo" | "-axo" => {
                Some(words.next().ok_or_else(|| refused(word, "a list of columns must follow"))?)
            }
            "-e" | "-A" | "-f" | "-ef" | "-Af" | "-a" | "-x" => None,
            "u" | "au" | "aux" | "-aux" | "-u" => {
                standard = &USER;
                None
            }
            w => Some(w.strip_prefix("--format=").or_else(|| w.strip_prefix("-o")).unwrap_or(w)),
        };
        if let Some(list) = list {
            add(list, &mut chosen)?;
        }
    }
    Ok(if chosen.is_empty() { titled(standard) } else { chosen })
}

fn add(list: &str, chosen: &mut Vec<(Column, String)>) -> Result<()> {
    if let Some((name, title)) = list.split_once('=') {
        // With a title, a name stands alone (ps(1)).
        let column = Column::named(name).ok_or_else(|| refused(name, "there is no such column"))?;
        chosen.push((column, title.to_owned()));
        return Ok(());
    }
    for name in list.split([',', ' ']).filter(|n| !n.is_empty()) {
        let column = Column::named(name).ok_or_else(|| refused(name, "there is no such option or column"))?;
        chosen.push((column, column.title().to_owned()));
    }
    Ok(())
}

fn refused(word: &str, why: &str) -> Error {
    Error::new(Kind::Unsupported, "list processes", format!("{word:?}"))
        .because(why)
        .hint(format!("-ef, aux, or -o with columns of {}", column::NAMES))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(line: &str) -> Result<Vec<String>> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        columns(&args).map(|c| c.into_iter().map(|(_, title)| title).collect())
    }

    #[test]
    fn arguments_are_those_of_ps() {
        assert_eq!(titles("").unwrap(), ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        assert_eq!(titles("-ef").unwrap(), titles("").unwrap());
        assert_eq!(titles("aux").unwrap()[2..4], ["%CPU", "%MEM"]);
        assert_eq!(titles("-o pid,user,args").unwrap(), ["PID", "USER", "COMMAND"]);
        assert_eq!(titles("-opid,rss -o comm=NAME").unwrap(), ["PID", "RSS", "NAME"]);
        assert_eq!(titles("-eo pid,%cpu,stat,nlwp,tty").unwrap(), ["PID", "%CPU", "STAT", "NLWP", "TT"]);
        assert_eq!(titles("pid args").unwrap(), ["PID", "COMMAND"]);
        let e = titles("-o pid,nonsense").unwrap_err();
        assert_eq!((e.kind(), e.object()), (Kind::Unsupported, "\"nonsense\""));
        assert!(e.first_hint().unwrap().contains("pid"));
        assert!(titles("-o").is_err());
    }

    #[test]
    fn this_process_is_described() {
        let facts = Facts::read();
        let me = Process::read(rustix::process::getpid().as_raw_nonzero().get()).unwrap();
        let text = |name: &str| Column::named(name).unwrap().text(&me, &facts);
        assert_eq!(text("pid"), me.pid.to_string());
        assert_eq!(text("uid"), "0");
        assert_eq!(text("user"), "root");
        assert!(text("args").contains("tare_engine"), "{}", text("args"));
        assert!(text("rss").parse::<u64>().unwrap() > 0);
        assert!(text("nlwp").parse::<u64>().unwrap() > 1);
        assert!(text("stat").contains('l'), "{}", text("stat"));
        assert_eq!(text("time").len(), 8);
    }
}
