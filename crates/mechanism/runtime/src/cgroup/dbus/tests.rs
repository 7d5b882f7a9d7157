//! The client against a manager of the test's own at the other end of a socket pair.

use super::message::from_the_other_side;
use super::*;
use std::io::{BufRead, BufReader};

/// Plays systemd on a socket: authenticates, and lets `answer` reply to each call, which it gets as serial and bytes.
fn serve(
    stream: UnixStream,
    mut answer: impl FnMut(u32, &[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut writer = stream;
        let mut line = Vec::new();
        reader.read_until(b'\n', &mut line).unwrap();
        let uid: String = rustix::process::getuid().as_raw().to_string().bytes().map(|b| format!("{b:02x}")).collect();
        assert_eq!(String::from_utf8(line).unwrap(), format!("\0AUTH EXTERNAL {uid}\r\n"));
        writer.write_all(b"OK 0123\r\n").unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, "BEGIN\r\n");
        let mut head = [0_u8; 16];
        while reader.read_exact(&mut head).is_ok() {
            let mut rest = vec![0; Message::rest(&head).unwrap()];
            reader.read_exact(&mut rest).unwrap();
            let serial = u32::from_le_bytes(head[8..12].try_into().unwrap());
            for m in answer(serial, &[&head[..], &rest].concat()) {
                writer.write_all(&m).unwrap();
            }
        }
    })
}

fn connect(answer: impl FnMut(u32, &[u8]) -> Vec<Vec<u8>> + Send + 'static) -> (Bus, std::thread::JoinHandle<()>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let server = serve(theirs, answer);
    (Bus::over(ours, Duration::from_secs(5)).unwrap(), server)
}

fn removed(job: &str, result: &str) -> Vec<u8> {
    let mut body = Body::default();
    body.u32(7).text(job).text("a.scope").text(result);
    from_the_other_side(MessageKind::Signal, 90, &[(1, "o", "/x"), (3, "s", "JobRemoved")], None, &body)
}

fn started(serial: u32, job: &str) -> Vec<u8> {
    let mut body = Body::default();
    body.text(job);
    from_the_other_side(MessageKind::Return, 91, &[(7, "s", ":1.1")], Some(serial), &body)
}

fn call(member: &str) -> Call {
    Call::new(("/o", "i.f"), member)
}

#[test]
fn a_job_is_waited_for_whatever_comes_in_between() {
    let (mut bus, server) =
        connect(|serial, _| vec![removed("/job/5", "failed"), removed("/job/6", "done"), started(serial, "/job/6")]);
    bus.job(call("Early")).unwrap();
    drop(bus);
    server.join().unwrap();
    let (mut bus, server) =
        connect(|serial, _| vec![started(serial, "/job/7"), removed("/job/1", "done"), removed("/job/7", "timeout")]);
    let e = bus.job(call("Late")).unwrap_err();
    assert!(e.to_string().contains("timeout") && e.to_string().contains("a.scope"), "{e}");
    drop(bus);
    server.join().unwrap();
}

#[test]
fn refusals_have_kinds_and_words() {
    let (mut bus, server) = connect(|serial, _| {
        let mut body = Body::default();
        body.text("no unit there");
        let name = (4, "s", "org.freedesktop.systemd1.NoSuchUnit");
        vec![from_the_other_side(MessageKind::Error, 3, &[name], Some(serial), &body)]
    });
    let e = bus.call(call("StopUnit")).unwrap_err();
    assert_eq!(e.kind(), Kind::NotFound);
    assert!(e.to_string().contains("no unit there"), "{e}");
    drop(bus);
    server.join().unwrap();
}

/// The bytes that the specification's rules give, reckoned by hand.
#[test]
fn a_call_byte_by_byte() {
    let mut c = call("M");
    c.body.text("a").array("(sv)", |a| {
        a.structure(|s| {
            s.text("P").variant("t", |v| {
                v.u64(3);
            });
        })
    });
    let bytes = c.encode(9, "d");
    #[rustfmt::skip]
    let want: &[u8] = &[
        b'l', 1, 0, 1,  40, 0, 0, 0,  9, 0, 0, 0,  76, 0, 0, 0,
        1, 1, b'o', 0, 2, 0, 0, 0, b'/', b'o', 0, 0, 0, 0, 0, 0,
        2, 1, b's', 0, 3, 0, 0, 0, b'i', b'.', b'f', 0, 0, 0, 0, 0,
        3, 1, b's', 0, 1, 0, 0, 0, b'M', 0, 0, 0, 0, 0, 0, 0,
        6, 1, b's', 0, 1, 0, 0, 0, b'd', 0, 0, 0, 0, 0, 0, 0,
        8, 1, b'g', 0, 6, b's', b'a', b'(', b's', b'v', b')', 0, 0, 0, 0, 0,
        // "a", padding, length of the array, its structure at 16.
        1, 0, 0, 0, b'a', 0, 0, 0,  24, 0, 0, 0, 0, 0, 0, 0,
        1, 0, 0, 0, b'P', 0, 1, b't', 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(bytes, want);
}

#[test]
fn what_is_no_message_is_an_error() {
    let (mut bus, server) = connect(|_, _| vec![b"x\x01\x00\x01aaaabbbbcccc".to_vec()]);
    assert!(bus.call(call("X")).unwrap_err().to_string().contains("malformed"));
    drop(bus);
    server.join().unwrap();
}
