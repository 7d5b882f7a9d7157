//! Registries that do not keep to what they say.

use crate::ground::both;
use crate::image::{INDEX, Image, Layer, MANIFEST, descriptor};
use crate::server::{Answer, Server};
use crate::tar::Tar;
use serde_json::json;

fn image() -> Image {
    Image::of(&[Layer::plain(Tar::new().file("f", "x").end())])
}

/// An honest registry but for the paths with this in them.
fn lying(part: &'static str, answer: Answer) -> Server {
    let image = image();
    Server::start(move |path| if path.contains(part) { answer.clone() } else { Server::find(&image, path) })
}

#[test]
fn answers_that_lie_are_refused() {
    let top = image().top;
    both(|g| {
        for (what, answer, words) in [
            ("index in the header", Answer::ok(INDEX, &top), "announced as"),
            ("text in the header", Answer::ok("text/plain", &top), "announced as"),
            ("a web page", Answer::ok("text/html", b"<html>"), "web page"),
            ("an endless manifest", Answer::endless(MANIFEST, &[b' '; 65536]), "manifest-bytes"),
            ("nothing", Answer::ok(MANIFEST, b""), "parse manifest"),
        ] {
            let server = lying("/manifests/", answer);
            g.refuses(what, &["pull", "--quiet", &server.name("x")], None, words);
        }
        let mut told = Answer::ok(MANIFEST, &top);
        told.headers.push(("Docker-Content-Digest".into(), crate::image::digest(b"other")));
        g.refuses(
            "another digest",
            &["pull", "--quiet", &lying("/manifests/", told).name("x")],
            None,
            "expected sha256:",
        );
        let endless = Answer::endless("application/octet-stream", &[0; 65536]);
        g.refuses("endless blobs", &["pull", "--quiet", &lying("/blobs/", endless).name("x")], None, "more than");
        let loud = Answer { status: 500, ..Answer::endless("text/plain", &[b'e'; 65536]) };
        let server = lying("/blobs/", loud);
        g.refuses("an endless error", &["pull", "--quiet", &server.name("x")], None, "500");
        let body = b"{\"errors\":[{\"code\":\"\\u001b[31mRED\\u0007\",\"message\":\"one\\ntwo\\r\\nthree\"}]}";
        let rude = Answer { status: 400, ..Answer::ok("application/json", body) };
        g.refuses(
            "an error that speaks to the terminal",
            &["pull", "--quiet", &lying("/manifests/", rude).name("x")],
            None,
            "400",
        );
    });
}

#[test]
fn an_index_that_leads_to_itself_ends() {
    both(|g| {
        // Whatever is asked for, the same index is the answer.
        let entry = descriptor(INDEX, b"another");
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).to_string();
        let server = Server::start(move |_| Answer::ok(INDEX, index.as_bytes()));
        g.refuses("loop", &["pull", "--quiet", &server.name("x")], None, "expected sha256:");
        let away = |to: &str| {
            let to = to.to_owned();
            Server::start(move |_| {
                let headers = vec![("Location".to_owned(), to.clone())];
                Answer { status: 307, headers, body: Vec::new(), endless: false }
            })
        };
        for to in ["/v2/round", "file:///etc/passwd", "gopher://x", "http://", "\u{7f}", ""] {
            g.refuses(
                to,
                &["pull", "--quiet", &away(to).name("x")],
                None,
                "redirect|address|Location|leads|URL|reach|follow|not HTTP",
            );
        }
    });
}
