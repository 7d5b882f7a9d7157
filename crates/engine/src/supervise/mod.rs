//! The supervisor: one small process for each running container, its parent and owner.
//!
//! It begins as the launcher (see [`crate::start`]), which executes this program anew once the container runs: what the
//! start needed of memory is gone. One thread, one poll loop. It holds the lock that says *alive*, the pidfd, the log,
//! the terminal or the pipes, and the sockets that reserve published ports; it keeps no state that is not on disk or in
//! the kernel. When the first process ends it records how, takes everything down, and goes.
//!
//! ```text
//! container's stdout, stderr or terminal ──► log
//!                                        └─► every attached client that wants output
//! any attached client's input ──► container's stdin or terminal
//! rules deleted by others ──► restored
//! any client's request ──► control: networks and published ports, changed while it runs
//! ```

mod apply;
pub(crate) mod control;
mod log;
mod network;
mod peer;

use crate::attach::{
    self, ANSWER, CHUNK, CONTROL, EXIT, RESIZE, SENDS_INPUT, SIGNAL, STDERR, STDIN, STDIN_END, STDOUT, WANTS_OUTPUT,
};
use crate::layers::LayersHandover;
use crate::lifecycle::Held;
use crate::view::Exit;
use crate::{Config, Engine, NetworkDefaults, time};
use control::Live;
use log::Log;
use network::NetworkSide;
use peer::Peer;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::time::Timespec;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tare_model::{Context, Error, Kind, Result};
use tare_network::Monitor;
use tare_network::dns::Listener;

/// What the launcher hands over: as the one argument, with the descriptors left open under these numbers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Handover {
    pub(crate) root: PathBuf,
    pub(crate) run: PathBuf,
    pub(crate) executable: Option<PathBuf>,
    pub(crate) fault: Option<String>,
    pub(crate) id: String,
    pub(crate) pidfd: i32,
    pub(crate) lock: i32,
    /// What keeps layers mounted.
    #[serde(default)]
    pub(crate) layers: Option<LayersHandover>,
    pub(crate) listen: i32,
    pub(crate) stdin: Option<i32>,
    pub(crate) stdout: Option<i32>,
    pub(crate) stderr: Option<i32>,
    pub(crate) master: Option<i32>,
    /// The client that started it, attached.
    pub(crate) client: Option<i32>,
    pub(crate) ports: Vec<i32>,
    /// The container's network namespace, if a device of the host is in it.
    pub(crate) namespace: Option<i32>,
    /// What [`tare_network::dns::Listener::descriptors`] gives; empty if no names are answered.
    #[serde(default)]
    pub(crate) names: Vec<i32>,
    pub(crate) stop_signal: i32,
    /// Seconds from the stop signal to SIGKILL, when the supervisor is asked to end.
    pub(crate) stop_timeout: u32,
}

/// Runs a supervisor until its container is gone. `handover`: the launcher's argument.
///
/// # Errors
/// If the handover is malformed. What goes wrong later is recorded with the container.
pub fn supervise(handover: &str) -> Result<()> {
    let handover: Handover = serde_json::from_str(handover)
        .map_err(|e| Error::new(Kind::Invalid, "supervise", "").because(e).hint("this command is tare's own"))?;
    // It was executed by its descriptor, which says nothing to those who list processes.
    let _ = rustix::thread::set_name(c"tare");
    // Nobody at a terminal ends a container by ending its supervisor; whoever asks politely has the container stopped.
    let signals = tare_kernel::process::signal_fd(&[1, 2, 3, 13, 15]).during("block", "signals")?;
    let engine = Engine::open(Config {
        root: handover.root.clone(),
        run: handover.run.clone(),
        executable: handover.executable.clone(),
        fault: handover.fault.clone(),
        // It unpacks nothing.
        snapshotter: crate::Snapshotter::default(),
        // What they decide is decided before a container starts.
        network: NetworkDefaults::default(),
    })?;
    let adopt = |n: i32| tare_kernel::process::adopt(n).during("take over", "descriptor");
    let optional = |n: Option<i32>| n.map(adopt).transpose();
    let dirs = engine.dirs(&handover.id);
    let mut clients = Vec::new();
    if let Some(fd) = optional(handover.client)? {
        clients.push(Peer::new(fd, Some(WANTS_OUTPUT | SENDS_INPUT)));
    }
    let master = optional(handover.master)?;
    let outputs = match &master {
        Some(m) => vec![Output { fd: m.try_clone().during("duplicate", "terminal")?, stderr: false, ended: false }],
        None => {
            let mut out = Vec::new();
            for (n, stderr) in [(handover.stdout, false), (handover.stderr, true)] {
                if let Some(fd) = optional(n)? {
                    out.push(Output { fd, stderr, ended: false });
                }
            }
            out
        }
    };
    let lock = adopt(handover.lock)?;
    engine.adopt_layers(handover.layers)?;
    let sockets = handover.ports.iter().map(|n| adopt(*n)).collect::<Result<Vec<_>>>()?;
    // One for each port, in the same order.
    let published = dirs.status()?.unwrap_or_default().ports;
    let reserved = published.iter().map(crate::network::port_mapping).zip(sockets).collect();
    let names = handover.names.iter().map(|n| adopt(*n)).collect::<Result<Vec<_>>>()?;
    let mut network = NetworkSide::default();
    if let Ok(descriptors) = <[OwnedFd; 3]>::try_from(names) {
        network.answer_names(Listener::from_descriptors(descriptors))?;
    }
    let mut supervisor = Supervisor {
        network,
        live: Live::new(&engine, &handover.id, reserved),
        pidfd: adopt(handover.pidfd)?,
        signals,
        listen: Some(adopt(handover.listen)?),
        stdin: match &master {
            Some(m) => Some(m.try_clone().during("duplicate", "terminal")?),
            None => optional(handover.stdin)?,
        },
        master,
        outputs,
        clients,
        unwritten: Vec::new(),
        stdin_ends: false,
        log: Log::open(&dirs.log()),
        stop_signal: handover.stop_signal,
        stop_timeout: Duration::from_secs(handover.stop_timeout.into()),
        kill_at: None,
        monitor: None,
    };
    supervisor.watch_rules();
    supervisor.live.namespace = optional(handover.namespace)?;
    // A relayed connection takes two descriptors.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let _ = rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: limit.maximum, ..limit },
    );
    supervisor.follow_networks();
    let status = supervisor.watch();
    // Ports are free before anybody hears of the end.
    let names = std::mem::take(&mut supervisor.network).into_names();
    let ports = supervisor.live.let_go();
    let namespace = supervisor.live.namespace.take();
    engine.finish(&handover.id, status, Held { lock, ports, namespace, names }, |exit| supervisor.announce(exit));
    // All that was held of the container goes before.
    linger(supervisor.into_clients());
    Ok(())
}

struct Output {
    fd: OwnedFd,
    stderr: bool,
    ended: bool,
}

struct Supervisor<'a> {
    live: Live<'a>,
    network: NetworkSide,
    pidfd: OwnedFd,
    signals: OwnedFd,
    listen: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    master: Option<OwnedFd>,
    outputs: Vec<Output>,
    clients: Vec<Peer>,
    /// Input that the container did not take yet.
    unwritten: Vec<u8>,
    /// No more input comes: the container sees its end behind what is unwritten.
    stdin_ends: bool,
    log: Log,
    stop_signal: i32,
    stop_timeout: Duration,
    /// When it is killed, having been asked to end.
    kill_at: Option<Instant>,
    /// Tells when others deleted rules, if there are any to be restored.
    monitor: Option<Monitor>,
}

/// What a poll entry stands for.
#[derive(Debug, Clone, Copy)]
enum Source {
    Pid,
    Signals,
    Rules,
    Network,
    Listen,
    Output(usize),
    Stdin,
    Client(usize),
}

/// Chunks read from each output once the first process has ended: more than a pipe holds. A process that outlived it (in
/// another PID namespace than its own) may go on writing for ever.
const LAST_CHUNKS: usize = 256;

impl Supervisor<'_> {
    /// Relays until the first process has ended and its output is read.
    fn watch(&mut self) -> Exit {
        for fd in self.outputs.iter().map(|o| o.fd.as_fd()).chain(self.stdin.iter().map(AsFd::as_fd)) {
            let _ = rustix::io::ioctl_fionbio(fd, true);
        }
        let mut exit = None;
        while exit.is_none() {
            if self.kill_at.is_some_and(|at| at <= Instant::now()) {
                self.kill_at = None;
                let _ = tare_kernel::process::pidfd_signal(self.pidfd.as_fd(), 9);
            }
            for source in self.wait() {
                match source {
                    Source::Pid => exit = exit.or_else(|| reap(self.pidfd.as_fd())),
                    Source::Signals => self.asked_to_end(),
                    Source::Rules => self.restore_rules(),
                    Source::Network => self.network.work(),
                    Source::Listen => self.accept(),
                    Source::Output(i) => drop(self.relay(i)),
                    Source::Stdin => self.write_input(),
                    Source::Client(i) => self.serve(i),
                }
            }
            self.outputs.retain(|o| !o.ended);
            self.clients.retain(Peer::is_open);
        }
        // For clients that are behind, too: they get it in their own time.
        for i in 0..self.outputs.len() {
            for _ in 0..LAST_CHUNKS {
                if !self.relay(i) {
                    break;
                }
            }
        }
        exit.unwrap_or_default()
    }

    /// Waits for something to do. Entries are rebuilt each time: they are few, and their set changes.
    fn wait(&self) -> Vec<Source> {
        let mut sources = Vec::with_capacity(8);
        let mut polled = Vec::with_capacity(8);
        sources.extend([Source::Pid, Source::Signals]);
        polled.push(PollFd::new(&self.pidfd, PollFlags::IN));
        polled.push(PollFd::new(&self.signals, PollFlags::IN));
        if let Some(monitor) = &self.monitor {
            sources.push(Source::Rules);
            polled.push(PollFd::new(monitor, PollFlags::IN));
        }
        if let Some(fd) = self.network.fd() {
            sources.push(Source::Network);
            polled.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        if let Some(l) = &self.listen {
            sources.push(Source::Listen);
            polled.push(PollFd::new(l, PollFlags::IN));
        }
        // A client that is behind holds the output back: nothing is dropped, nothing piles up.
        if !self.clients.iter().any(Peer::is_congested) {
            for (i, o) in self.outputs.iter().enumerate() {
                sources.push(Source::Output(i));
                polled.push(PollFd::new(&o.fd, PollFlags::IN));
            }
        }
        if let (Some(fd), false) = (&self.stdin, self.unwritten.is_empty()) {
            sources.push(Source::Stdin);
            polled.push(PollFd::new(fd, PollFlags::OUT));
        }
        for (i, c) in self.clients.iter().enumerate() {
            // While input waits to be written, nobody is asked for more; requests have nothing to do with that.
            let reads = self.unwritten.is_empty() || !c.may_send_input();
            let mut flags = if reads { PollFlags::IN } else { PollFlags::empty() };
            flags.set(PollFlags::OUT, c.is_congested());
            sources.push(Source::Client(i));
            polled.push(PollFd::from_borrowed_fd(c.fd(), flags));
        }
        let due = self.network.deadline();
        let patience = self.kill_at.into_iter().chain(due).min().map(|at| {
            let left = at.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        match poll(&mut polled, patience.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Vec::new(),
            // Out of memory in the kernel: not to spin is all that can be done.
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
        let is_due = due.is_some_and(|at| at <= Instant::now());
        sources
            .into_iter()
            .zip(&polled)
            .filter(|(s, p)| !p.revents().is_empty() || is_due && matches!(s, Source::Network))
            .map(|(s, _)| s)
            .collect()
    }

    /// Serves on the networks what the status says now. What cannot be served is left out: the container runs on.
    fn follow_networks(&mut self) {
        let status = self.live.engine.dirs(&self.live.id).status();
        if let Ok(Some(status)) = status {
            let _ = self.network.follow(self.live.engine, &status, &self.live.ports);
        }
    }

    /// Reads one chunk of output, logs it and hands it on. False when there is nothing (more).
    fn relay(&mut self, i: usize) -> bool {
        let mut packet = [0u8; 1 + CHUNK];
        let Some(output) = self.outputs.get_mut(i) else { return false };
        let n = match rustix::io::read(&output.fd, &mut packet[1..]) {
            Err(Errno::AGAIN | Errno::INTR) => return false,
            // EIO: the last slave of the terminal is closed.
            Ok(0) | Err(_) => {
                output.ended = true;
                return false;
            }
            Ok(n) => n,
        };
        packet[0] = if output.stderr { STDERR } else { STDOUT };
        self.log.write(output.stderr, &packet[1..=n]);
        for client in self.clients.iter_mut().filter(|c| c.wants_output()) {
            client.send(&packet[..=n]);
        }
        true
    }

    /// Watches for deletions if the container has rules that could be deleted, and not otherwise.
    fn watch_rules(&mut self) {
        if self.monitor.is_some() || !self.live.has_rules() {
            return;
        }
        self.monitor = Monitor::open().ok();
    }

    /// Whoever flushes the firewall means his own rules.
    fn restore_rules(&mut self) {
        let Some(monitor) = &mut self.monitor else { return };
        match monitor.changed() {
            Ok(true) => self.live.restore(),
            Ok(false) => {}
            // Not to be asked again and again.
            Err(_) => self.monitor = None,
        }
    }

    fn accept(&mut self) {
        let Some(listen) = &self.listen else { return };
        let flags = rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK;
        if let Ok(fd) = rustix::net::accept_with(listen, flags) {
            self.clients.push(Peer::new(fd, None));
        }
    }

    fn serve(&mut self, i: usize) {
        let mut packet = [0u8; 1 + CHUNK];
        let Some(client) = self.clients.get_mut(i) else { return };
        client.flush();
        let Some(n) = client.receive(&mut packet) else { return };
        match packet[..n] {
            [STDIN, ref bytes @ ..] if self.stdin.is_some() => {
                self.unwritten.extend_from_slice(bytes);
                self.write_input();
            }
            // The end of a terminal's input is a character, which the client sends as such.
            [STDIN_END] if self.master.is_none() => {
                self.stdin_ends = true;
                self.write_input();
            }
            [RESIZE, a, b, c, d] => {
                if let Some(master) = &self.master {
                    let size = rustix::termios::Winsize {
                        ws_row: u16::from_le_bytes([a, b]),
                        ws_col: u16::from_le_bytes([c, d]),
                        ws_xpixel: 0,
                        ws_ypixel: 0,
                    };
                    let _ = rustix::termios::tcsetwinsize(master, size);
                }
            }
            [CONTROL, last, ref piece @ ..] => {
                let Some(request) = client.gather(last != 0, piece) else { return };
                let answer = self.live.answer(&request);
                self.watch_rules();
                // Names and ports answer as the change has made them when its client hears of it.
                self.follow_networks();
                let Some(client) = self.clients.get_mut(i) else { return };
                attach::pieces(ANSWER, &answer).for_each(|packet| client.send(&packet));
            }
            [SIGNAL, a, b, c, d] => {
                let _ = tare_kernel::process::pidfd_signal(self.pidfd.as_fd(), i32::from_le_bytes([a, b, c, d]));
            }
            _ => {}
        }
    }

    fn write_input(&mut self) {
        let Some(fd) = &self.stdin else { return };
        while !self.unwritten.is_empty() {
            match rustix::io::write(fd, &self.unwritten) {
                Ok(n) => drop(self.unwritten.drain(..n)),
                Err(Errno::AGAIN | Errno::INTR) => return,
                Err(_) => {
                    self.unwritten.clear();
                    self.stdin = None;
                    return;
                }
            }
        }
        self.unwritten.shrink_to(0);
        if self.stdin_ends {
            self.stdin = None;
        }
    }

    fn asked_to_end(&mut self) {
        while let Ok(Some(signal)) = tare_kernel::process::read_signal(self.signals.as_fd()) {
            if signal == 15 {
                let _ = tare_kernel::process::pidfd_signal(self.pidfd.as_fd(), self.stop_signal);
                // As `stop` does: a host that shuts down does not wait for one that does not listen.
                self.kill_at.get_or_insert_with(|| Instant::now() + self.stop_timeout);
            }
        }
    }

    fn into_clients(self) -> Vec<Peer> {
        self.clients
    }

    /// The last word to everybody.
    fn announce(&mut self, exit: &Exit) {
        self.listen = None;
        let mut packet = vec![EXIT];
        if serde_json::to_writer(&mut packet, exit).is_ok() {
            self.clients.iter_mut().for_each(|client| client.send(&packet));
        }
        self.clients.retain(Peer::is_congested);
    }
}

/// Stays for clients that are behind, until they have taken everything or are gone.
fn linger(mut clients: Vec<Peer>) {
    while !clients.is_empty() {
        let mut polled: Vec<_> = clients.iter().map(|c| PollFd::from_borrowed_fd(c.fd(), PollFlags::OUT)).collect();
        if poll(&mut polled, None).is_err_and(|e| e != Errno::INTR) {
            return;
        }
        clients.iter_mut().for_each(Peer::flush);
        clients.retain(Peer::is_congested);
    }
}

/// Collects the first process's status, if it has ended.
fn reap(pidfd: BorrowedFd<'_>) -> Option<Exit> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let status = match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Ok(status) => status?,
        Err(Errno::INTR) => return None,
        // It has ended and cannot be asked how: not to be waited for again.
        Err(e) => {
            let reason = Some(format!("its exit status was lost: {e}"));
            return Some(Exit { code: 255, reason, finished_at: time::now(), ..Exit::default() });
        }
    };
    let signal = status.terminating_signal();
    let code = signal.map_or_else(|| status.exit_status().unwrap_or(0), |s| 128 + s);
    Some(Exit { code, signal, finished_at: time::now(), ..Exit::default() })
}
