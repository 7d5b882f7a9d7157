//! Running the program under test and being asked before each of its calls that changes something of a root.
//!
//! ```text
//! thread     loads a filter with a listener, spawns the program, ends: the program and its children have the filter
//! listener   each mutating call of any of their threads waits for an answer: go on, fail with ENOSPC or EIO, or be killed
//! ```
//!
//! All other calls run at full speed. A call counts when what it changes lies below one of the given places (or when it is a
//! mount or a new process), so that its name and how often it came before, *the third rename*, name a point of the operation.

use crate::calls::{self, CLONE, CLONE3, IOCTL, MUTATING, Mutating, OPEN, OPENAT, OPENAT2, Object, UTIMENSAT};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tare_kernel::notify::{Call, Listener, NOTIFY};
use tare_kernel::seccomp::{FLAG_NEW_LISTENER, SockFilter, load};

/// A program that hangs is killed, and its test fails, after this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is left of an operation when its client has ended, such as a supervisor that clears up, ends this soon.
const AFTERMATH: Duration = Duration::from_secs(20);

/// A call about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) call: &'static str,
    /// How often this call came before, in this run.
    pub(crate) occurrence: u32,
    /// What it is about to change.
    pub(crate) path: PathBuf,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    GoOn,
    /// The whole family of processes dies before it.
    KillAll,
    /// The process that makes it dies before it; its parents and children live.
    KillOne,
    /// It fails with this error number.
    Fail(i32),
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Exit code; 128 + n if signal n ended it.
    pub(crate) code: i32,
    pub(crate) stderr: String,
    /// All counted calls, in order.
    pub(crate) seen: Vec<Seen>,
}

/// Runs a command to its end, and all of its family. `places`: what counts. `decide` is asked for each call that counts.
pub(crate) fn run(mut command: Command, places: &[PathBuf], decide: &mut dyn FnMut(&Seen) -> Answer) -> Ended {
    let stderr = tempfile::tempfile().unwrap();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr.try_clone().unwrap());
    let (listener, child) = spawn(command);
    let mut tracer = Tracer { listener, places, counts: BTreeMap::new(), seen: Vec::new(), processes: BTreeSet::new() };
    let code = tracer.follow(&child, decide);
    Ended { code, stderr: text(stderr), seen: tracer.seen }
}

/// The thread that loads the filter is the only one of this process that has it, and ends when it has started the child.
fn spawn(mut command: Command) -> (Listener, Receiver<Child>) {
    let ((give, take), (give_child, take_child)) = (channel(), channel());
    std::thread::spawn(move || {
        give.send(load(&filter(), FLAG_NEW_LISTENER).unwrap().unwrap()).unwrap();
        give_child.send(command.spawn().unwrap()).unwrap();
    });
    (Listener::new(take.recv().unwrap()), take_child)
}

/// Asks about the calls of the table; opens only if they may make or empty a file.
fn filter() -> Vec<SockFilter> {
    let load_word = |k| SockFilter { code: 0x20, jt: 0, jf: 0, k };
    let jump = |code, k, jt, jf| SockFilter { code, jt, jf, k };
    let ret = |k| SockFilter { code: 0x06, jt: 0, jf: 0, k };
    let argument = |n: u32| load_word(16 + 8 * n);
    let (equal, any_set) = (0x15, 0x45);
    let mut program = vec![load_word(0)];
    for call in MUTATING {
        let number = call.number as u32;
        let flags = match call.number {
            OPEN => Some(1),
            OPENAT => Some(2),
            _ => None,
        };
        match flags {
            Some(n) => program.extend([
                jump(equal, number, 0, 4),
                argument(n),
                jump(any_set, calls::OPEN_CHANGES as u32, 0, 1),
                ret(NOTIFY),
                ret(0x7fff_0000),
            ]),
            None => program.extend([jump(equal, number, 0, 1), ret(NOTIFY)]),
        }
    }
    program.push(ret(0x7fff_0000));
    program
}

struct Tracer<'a> {
    listener: Listener,
    places: &'a [PathBuf],
    counts: BTreeMap<&'static str, u32>,
    seen: Vec<Seen>,
    /// All that have made a call.
    processes: BTreeSet<i32>,
}

impl Tracer<'_> {
    /// Answers until nobody has the filter any more; the exit code of the child.
    fn follow(&mut self, spawned: &Receiver<Child>, decide: &mut dyn FnMut(&Seen) -> Answer) -> i32 {
        let (mut child, mut code, mut end) = (None, None, Instant::now() + PATIENCE);
        loop {
            let ready = self.wait();
            if ready.contains(PollFlags::IN) {
                if let Some(call) = self.listener.receive().unwrap() {
                    self.answer(call, child.as_ref(), decide);
                }
                continue;
            }
            child = child.or_else(|| spawned.try_recv().ok());
            if let Some(running) = child.as_mut().filter(|_| code.is_none())
                && let Some(status) = running.try_wait().unwrap()
            {
                code = Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()));
                end = Instant::now() + AFTERMATH;
            }
            match code {
                // Hung up: nobody is left. (While the child is a zombie, it may count as somebody.)
                Some(code) if ready.contains(PollFlags::HUP) => return code,
                _ => {}
            }
            if Instant::now() > end {
                self.kill_all(child.as_ref());
                panic!("it has not ended, exit code so far {code:?}; the last calls: {:#?}", self.last());
            }
        }
    }

    fn last(&self) -> &[Seen] {
        &self.seen[self.seen.len().saturating_sub(5)..]
    }

    fn wait(&self) -> PollFlags {
        let mut fds = [PollFd::new(&self.listener, PollFlags::IN)];
        let moment = rustix::time::Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        match poll(&mut fds, Some(&moment)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => panic!("poll: {e}"),
        }
        let ready = fds[0].revents();
        if ready.contains(PollFlags::HUP) {
            // It comes back at once, for ever.
            std::thread::sleep(Duration::from_micros(300));
        }
        ready
    }

    fn answer(&mut self, call: Call, child: Option<&Child>, decide: &mut dyn FnMut(&Seen) -> Answer) {
        let answer = match self.counted(call) {
            Some(seen) => {
                let answer = decide(&seen);
                self.seen.push(seen);
                answer
            }
            None => Answer::GoOn,
        };
        match answer {
            Answer::GoOn => self.listener.go_on(call).unwrap(),
            Answer::Fail(error) => self.listener.fail(call, error).unwrap(),
            Answer::KillOne => kill(process_of(call.thread).unwrap_or_default()),
            Answer::KillAll => self.kill_all(child),
        }
    }

    /// The call, if it changes something of the places.
    fn counted(&mut self, call: Call) -> Option<Seen> {
        let thread = i32::try_from(call.thread).ok()?;
        let process = process_of(call.thread)?;
        // The thread of the test itself that spawns.
        if process == i32::try_from(std::process::id()).ok()? {
            return None;
        }
        self.processes.insert(process);
        let known = calls::numbered(call.number)?;
        let path = self.place(thread, call, known)?;
        let count = self.counts.entry(known.name).or_default();
        *count += 1;
        Some(Seen { call: known.name, occurrence: *count, path })
    }

    fn place(&self, thread: i32, call: Call, known: &Mutating) -> Option<PathBuf> {
        let arguments = &call.arguments;
        match call.number {
            CLONE if arguments[0] & calls::CLONE_THREAD != 0 => return None,
            CLONE3 if read_word(thread, arguments[0])? & calls::CLONE_THREAD != 0 => return None,
            OPENAT2 if read_word(thread, arguments[2])? & calls::OPEN_CHANGES == 0 => return None,
            IOCTL if !calls::CLONES_EXTENTS.contains(&arguments[1]) => return None,
            // Without a path it is the descriptor's own.
            UTIMENSAT if arguments[1] == 0 => return self.below(descriptor(thread, arguments[0])?),
            _ => {}
        }
        let find = |object: &Object| match *object {
            Object::Always => Some(PathBuf::new()),
            Object::Descriptor(n) => self.below(descriptor(thread, arguments[n])?),
            Object::Path(n) => self.below(working_directory(thread)?.join(read_path(thread, arguments[n])?)),
            Object::At(dir, n) => {
                let path = read_path(thread, arguments[n])?;
                if path.is_absolute() {
                    return self.below(path);
                }
                const AT_FDCWD: i32 = -100;
                let base = match arguments[dir] as u32 as i32 {
                    AT_FDCWD => working_directory(thread)?,
                    _ => descriptor(thread, arguments[dir])?,
                };
                self.below(base.join(path))
            }
        };
        known.objects.iter().filter_map(find).next_back()
    }

    fn below(&self, path: PathBuf) -> Option<PathBuf> {
        self.places.iter().any(|p| path.starts_with(p)).then_some(path)
    }

    /// Kills the child, all that have made a call, and their descendants: whoever was cloned since has the same filter.
    fn kill_all(&mut self, child: Option<&Child>) {
        self.processes.extend(child.and_then(|c| i32::try_from(c.id()).ok()));
        for process in descendants(&self.processes) {
            kill(process);
        }
    }
}

fn kill(process: i32) {
    // A descriptor, because the number may be another's by now: what has no filter is not of this family.
    let Some(pid) = Pid::from_raw(process) else { return };
    if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty())
        && status_field(process, "Seccomp:").is_some_and(|mode| mode == 2)
    {
        let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
    }
}

/// These processes and whoever descends from them.
fn descendants(of: &BTreeSet<i32>) -> BTreeSet<i32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        if let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok())
            && let Some(parent) = status_field(pid, "PPid:")
        {
            parents.push((pid, parent));
        }
    }
    let mut found = of.clone();
    while parents.iter().any(|(pid, parent)| found.contains(parent) && found.insert(*pid)) {}
    found
}

fn status_field(process: i32, field: &str) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|l| l.strip_prefix(field))?.trim().parse().ok()
}

fn process_of(thread: u32) -> Option<i32> {
    status_field(i32::try_from(thread).ok()?, "Tgid:")
}

fn descriptor(thread: i32, fd: u64) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{thread}/fd/{}", fd as u32)).ok()
}

fn working_directory(thread: i32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{thread}/cwd")).ok()
}

fn read_word(thread: i32, address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    File::open(format!("/proc/{thread}/mem")).ok()?.read_exact_at(&mut bytes, address).ok()?;
    Some(u64::from_ne_bytes(bytes))
}

fn read_path(thread: i32, address: u64) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let memory = File::open(format!("/proc/{thread}/mem")).ok()?;
    let mut bytes = vec![0; 4096];
    // It may end at the end of a mapping.
    let page = 4096 - (address as usize & 4095);
    let mut n = memory.read_at(&mut bytes[..page], address).ok()?;
    if !bytes[..n].contains(&0) {
        n += memory.read_at(&mut bytes[n..], address + n as u64).unwrap_or(0);
    }
    let end = bytes[..n].iter().position(|b| *b == 0)?;
    bytes.truncate(end);
    Some(Path::new(&std::ffi::OsString::from_vec(bytes)).to_owned())
}

fn text(mut file: File) -> String {
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
