//! The terminal: over a console socket, and relayed by `run`.

use crate::place::{Place, eventually};
use rustix::fd::{AsFd, OwnedFd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::termios::{LocalModes, OptionalActions, OutputModes, tcgetattr, tcgetwinsize, tcsetattr};
use serde_json::json;
use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixListener;

pub(crate) fn receive(listener: &UnixListener) -> (String, OwnedFd) {
    let (stream, _) = listener.accept().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut text = [0; 64];
    let n = recvmsg(stream.as_fd(), &mut [IoSliceMut::new(&mut text)], &mut control, RecvFlags::empty()).unwrap().bytes;
    let fd = control.drain().find_map(|m| match m {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    (String::from_utf8_lossy(&text[..n]).into_owned(), fd.unwrap())
}

fn with_terminal(args: &[&str]) -> Place {
    let mut place = Place::with(args);
    place.config["process"]["terminal"] = json!(true);
    place.config["process"]["consoleSize"] = json!({"height": 31, "width": 97});
    place
}

#[test]
fn the_terminal_is_sent_before_create_returns() {
    let place = with_terminal(&["sh", "-c", "tty; stty size; readlink /proc/self/fd/0; read x; echo got $x"]);
    let path = place.path("console");
    let listener = UnixListener::bind(&path).unwrap();
    let path = path.display().to_string();
    place.ok(&["create", "--bundle", &place.bundle(), "--console-socket", &path, &place.id]);
    let (name, master) = receive(&listener);
    assert_eq!(name, "/dev/pts/0");
    // As the kernel makes it: whoever shows it has its own terminal raw.
    assert!(tcgetattr(&master).unwrap().output_modes.contains(OutputModes::ONLCR));
    let size = tcgetwinsize(&master).unwrap();
    assert_eq!((size.ws_row, size.ws_col), (31, 97));
    // Else what is typed is shown among what the program prints.
    let mut settings = tcgetattr(&master).unwrap();
    settings.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&master, OptionalActions::Now, &settings).unwrap();
    place.ok(&["start", &place.id]);
    let mut master = std::fs::File::from(master);
    master.write_all(b"words\n").unwrap();
    let mut text = Vec::new();
    // Ends with EIO once nobody has the other side open.
    let _ = master.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.contains("/dev/pts/0\r\n31 97\r\n/dev/pts/0\r\n") && text.contains("got words\r\n"), "{text:?}");
}

#[test]
fn a_terminal_needs_somebody_who_takes_it() {
    let place = with_terminal(&["true"]);
    let text = place.fails(&["create", "--bundle", &place.bundle(), &place.id]);
    assert!(text.contains("without setting console socket"), "{text}");
    let text = place.fails(&["create", "--bundle", &place.bundle(), "--console-socket", "/none", &place.id]);
    assert!(text.contains("/none"), "{text}");
    let place = Place::new();
    let text = place.fails(&["create", "--bundle", &place.bundle(), "--console-socket", "/none", &place.id]);
    assert!(text.contains("console socket"), "{text}");
    place.is_gone();
}

#[test]
fn run_relays_the_terminal() {
    let place = with_terminal(&["sh", "-c", "tty; read x; echo got $x; exit 4"]);
    let mut run = place.command(&["run", "--bundle", &place.bundle(), &place.id]);
    let out = place.path("out");
    let file = std::fs::File::create(&out).unwrap();
    let mut child = run.stdin(std::process::Stdio::piped()).stdout(file).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"words\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(4));
    let text = std::fs::read_to_string(&out).unwrap();
    assert!(text.contains("/dev/pts/0\n") && text.contains("got words\n"), "{text:?}");
    eventually("gone", || !place.root().join(&place.id).exists());
    place.is_gone();
}
