//! A program on a pseudo-terminal, as a user sits before it.

use crate::process::command;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// What is expected to appear does so in this time, or the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The terminal, with a program that has it as its controlling one.
#[derive(Debug)]
pub struct Terminal {
    master: Option<OwnedFd>,
    /// Keeps the settings readable when the program has ended.
    slave: OwnedFd,
    child: Child,
    seen: Vec<u8>,
    read_to: usize,
}

impl Terminal {
    /// Starts a command in a session of its own on a terminal of 24 rows and 80 columns.
    ///
    /// # Panics
    /// If there is no terminal, or no setsid(1).
    pub fn start(program: &Command) -> Terminal {
        let master = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        rustix::pty::grantpt(&master).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap();
        rustix::io::ioctl_fionbio(&master, true).unwrap();
        let mut outer = command("setsid");
        outer.env_clear().arg("--ctty").arg(program.get_program()).args(program.get_args());
        outer.envs(program.get_envs().filter_map(|(k, v)| Some((k, v?))));
        let end = || slave.try_clone().unwrap();
        let child = outer.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let terminal = Terminal { master: Some(master), slave, child, seen: Vec::new(), read_to: 0 };
        terminal.resize(24, 80);
        terminal
    }

    /// The program's process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Changes the window's size, of which the program hears by a signal.
    ///
    /// # Panics
    /// If the terminal is closed.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(self.master.as_ref().unwrap(), size).unwrap();
    }

    /// Types.
    ///
    /// # Panics
    /// If the terminal is closed.
    pub fn keys(&self, text: &str) {
        let master = self.master.as_ref().unwrap();
        assert_eq!(rustix::io::write(master, text.as_bytes()).unwrap(), text.len());
    }

    /// Waits until this text appears after what was found before; what came before it.
    ///
    /// # Panics
    /// If it does not appear.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let rest = &self.seen[self.read_to..];
            if let Some(at) = rest.windows(text.len()).position(|w| w == text.as_bytes()) {
                let before = String::from_utf8_lossy(&rest[..at]).into_owned();
                self.read_to += at + text.len();
                return before;
            }
            assert!(self.more() && Instant::now() < end, "{text:?} does not appear in {:?}", self.screen());
        }
    }

    /// Everything that was printed so far.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Whether input is edited line by line and echoed: the state in which a shell leaves it.
    ///
    /// # Panics
    /// If the terminal is gone.
    pub fn is_cooked(&self) -> bool {
        tcgetattr(&self.slave).unwrap().local_modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Closes the terminal, as a user closes a window.
    pub fn close(&mut self) {
        self.master = None;
    }

    /// Sends the program itself a signal.
    ///
    /// # Panics
    /// If it is gone.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the program's end: its exit code, or 128 + n.
    ///
    /// # Panics
    /// If it does not end.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                while self.master.is_some() && self.read_once() {}
                return status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
            }
            assert!(Instant::now() < end, "has not ended; printed {:?}", self.screen());
            self.more();
        }
    }

    /// Waits up to 20 ms for output; false if none can come any more.
    fn more(&mut self) -> bool {
        let Some(master) = &self.master else {
            std::thread::sleep(Duration::from_millis(20));
            return true;
        };
        let timeout = rustix::time::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let _ = poll(&mut [PollFd::new(master, PollFlags::IN)], Some(&timeout));
        let ended = self.child.try_wait().unwrap().is_some();
        self.read_once() || !ended
    }

    /// Reads what is there; false if that is nothing.
    fn read_once(&mut self) -> bool {
        let mut buffer = [0u8; 65536];
        let Some(master) = &self.master else { return false };
        let n = rustix::io::read(master, &mut buffer[..]).unwrap_or(0);
        self.seen.extend_from_slice(&buffer[..n]);
        n > 0
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
