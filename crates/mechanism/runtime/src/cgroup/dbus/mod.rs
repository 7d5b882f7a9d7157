//! A client of D-Bus for the few calls that systemd's manager needs: blocking, one message at a time.
//! Source: the D-Bus specification, "Authentication Protocol" and "Message Protocol".
//!
//! To systemd's own socket as root, which needs no bus daemon; else to the system bus.

mod message;

pub(super) use message::{Body, Call};
use message::{Kind as MessageKind, Message};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};
use tare_model::{Error, Kind, Result};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const DAEMON: &str = "org.freedesktop.DBus";

/// A connection.
pub(super) struct Bus {
    stream: UnixStream,
    serial: u32,
    patience: Duration,
    /// Signals that came while an answer was waited for.
    signals: Vec<Message>,
}

impl Bus {
    /// Connects to the system's systemd.
    ///
    /// # Errors
    /// Unsupported when it does not run here.
    pub(super) fn systemd(patience: Duration) -> Result<Bus> {
        // As sd_booted(3) tells.
        if !Path::new("/run/systemd/system").is_dir() {
            return Err(Error::new(Kind::Unsupported, "reach", "systemd")
                .because("it does not run on this host")
                .hint("leave out --systemd-cgroup: tare makes its cgroups itself then"));
        }
        if let Ok(stream) = UnixStream::connect("/run/systemd/private") {
            return Bus::over(stream, patience);
        }
        const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
        let stream = UnixStream::connect(SYSTEM_BUS).map_err(|e| Error::io("connect to", SYSTEM_BUS, e))?;
        let mut bus = Bus::over(stream, patience)?;
        bus.enter()?;
        Ok(bus)
    }

    /// Authenticates on a fresh connection.
    pub(super) fn over(stream: UnixStream, patience: Duration) -> Result<Bus> {
        let failed = |e| Error::io("authenticate to", "D-Bus", e);
        stream.set_read_timeout(Some(patience)).map_err(failed)?;
        let mut bus = Bus { stream, serial: 0, patience, signals: Vec::new() };
        let uid = rustix::process::getuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|b| format!("{b:02x}")).collect();
        // The zero byte is the place of credentials on other systems. All at once: systemd would not look at a message
        // that it happens to read together with BEGIN until another one comes. It answers when it has read both lines.
        bus.stream.write_all(format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").as_bytes()).map_err(failed)?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0_u8; 1];
            bus.stream.read_exact(&mut byte).map_err(failed)?;
            line.push(byte[0]);
            if line.len() > 1024 {
                break;
            }
        }
        if !line.starts_with(b"OK ") {
            return Err(Error::new(Kind::Denied, "authenticate to", "D-Bus")
                .because(String::from_utf8_lossy(&line).trim().to_owned()));
        }
        Ok(bus)
    }

    /// On a bus with a daemon: says who we are, and asks for the signals that systemd's own socket sends unasked.
    fn enter(&mut self) -> Result<()> {
        self.hello()?;
        let mut rule = Call::new(("/org/freedesktop/DBus", DAEMON), "AddMatch").to(DAEMON);
        rule.body.text("type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'");
        self.call(rule)?;
        self.call(Call::new(("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"), "Subscribe"))?;
        Ok(())
    }

    /// Says who we are: the first call on a bus with a daemon.
    ///
    /// # Errors
    /// As [`Bus::call`].
    pub(super) fn hello(&mut self) -> Result<()> {
        self.call(Call::new(("/org/freedesktop/DBus", DAEMON), "Hello").to(DAEMON)).map(|_| ())
    }

    /// Calls a method and waits for its answer.
    ///
    /// # Errors
    /// What the other side answers.
    pub(super) fn call(&mut self, call: Call) -> Result<Message> {
        self.serial += 1;
        let member = call.member.clone();
        let failed = |e| Error::io("send to", "D-Bus", e);
        let bytes = call.encode(self.serial, SYSTEMD);
        self.stream.write_all(&bytes).map_err(failed)?;
        let deadline = Instant::now() + self.patience;
        loop {
            let message = self.receive(deadline)?;
            match message.kind {
                MessageKind::Signal => self.signals.push(message),
                MessageKind::Return if message.reply_to == Some(self.serial) => return Ok(message),
                MessageKind::Error if message.reply_to == Some(self.serial) => return Err(refusal(&member, &message)),
                _ => {}
            }
        }
    }

    /// Calls a method that begins a job of systemd, and waits for the job's end.
    ///
    /// # Errors
    /// Also when the job does not come to a good end.
    pub(super) fn job(&mut self, call: Call) -> Result<()> {
        self.signals.clear();
        let answer = self.call(call)?;
        let mut body = answer.body();
        let job = body.text().ok_or_else(malformed)?;
        let deadline = Instant::now() + self.patience;
        loop {
            let message = match self.signals.pop() {
                Some(m) => m,
                None => self.receive(deadline)?,
            };
            if message.member.as_deref() != Some("JobRemoved") {
                continue;
            }
            // Id, job, unit, result.
            let mut body = message.body();
            let (Some(_), Some(path), Some(unit), Some(result)) = (body.u32(), body.text(), body.text(), body.text())
            else {
                return Err(malformed());
            };
            if path == job {
                return match result.as_str() {
                    "done" | "skipped" => Ok(()),
                    other => Err(Error::new(Kind::System, "wait for job of", unit)
                        .because(format!("its result is {other:?}"))
                        .hint("journalctl tells what systemd has to say of the unit")),
                };
            }
        }
    }

    fn receive(&mut self, deadline: Instant) -> Result<Message> {
        let mut head = [0_u8; 16];
        self.read(&mut head, deadline)?;
        let rest = Message::rest(&head).ok_or_else(malformed)?;
        let mut bytes = vec![0_u8; rest];
        self.read(&mut bytes, deadline)?;
        Message::decode(&head, &bytes).ok_or_else(malformed)
    }

    fn read(&mut self, mut into: &mut [u8], deadline: Instant) -> Result<()> {
        let failed = |e: std::io::Error| Error::io("receive from", "D-Bus", e);
        while !into.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            let time = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            let mut polled = [PollFd::new(&self.stream, PollFlags::IN)];
            match poll(&mut polled, Some(&time)) {
                Ok(0) => {
                    return Err(Error::new(Kind::System, "receive from", "systemd")
                        .because(format!("no answer within {} s", self.patience.as_secs())));
                }
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(failed(e.into())),
            }
            match self.stream.read(into).map_err(failed)? {
                0 => return Err(failed(std::io::ErrorKind::UnexpectedEof.into())),
                n => into = &mut into[n..],
            }
        }
        Ok(())
    }
}

fn malformed() -> Error {
    Error::new(Kind::System, "read message from", "D-Bus").because("it is malformed")
}

/// systemd's refusal, with the kinds that callers tell apart.
fn refusal(member: &str, message: &Message) -> Error {
    let name = message.error.clone().unwrap_or_default();
    let words = message.body().text().unwrap_or_default();
    let kind = match name.rsplit('.').next().unwrap_or_default() {
        "UnitExists" => Kind::InUse,
        "NoSuchUnit" => Kind::NotFound,
        "AccessDenied" | "InteractiveAuthorizationRequired" => Kind::Denied,
        "InvalidArgs" | "PropertyReadOnly" => Kind::Invalid,
        _ => Kind::System,
    };
    Error::new(kind, "call systemd's", member.to_owned()).because(format!("{words} ({name})"))
}

#[cfg(test)]
mod tests;
