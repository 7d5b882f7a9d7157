//! What a registry's refusal means, in words.

use crate::url::Origin;
use hyper::StatusCode;
use serde::Deserialize;
use std::borrow::Cow;
use tare_model::{Error, Kind};

/// A refusal, with all that is needed to word it.
#[derive(Debug)]
pub(crate) struct Refusal<'a> {
    /// A verb that ends before the server's name: `find image on`, `upload layer to`.
    pub(crate) operation: Cow<'static, str>,
    pub(crate) server: &'a Origin,
    pub(crate) status: StatusCode,
    pub(crate) retry_after: Option<u64>,
    pub(crate) body: &'a [u8],
    /// The registry as people name it, for `docker login`.
    pub(crate) registry: &'a str,
    /// The program that keeps the credentials and is not run.
    pub(crate) helper: Option<&'a str>,
    /// Whether credentials were shown.
    pub(crate) known: bool,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    errors: Vec<Item>,
    /// Token servers use OAuth2's or their own.
    #[serde(default, alias = "details")]
    message: Option<String>,
    #[serde(default)]
    error_description: Option<String>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Refusal<'_> {
    pub(crate) fn into_error(self) -> Error {
        let kind = match self.status.as_u16() {
            401 | 403 => Kind::Denied,
            404 => Kind::NotFound,
            400 | 405 | 413 | 415 | 416 => Kind::Invalid,
            408 | 429 | 500..=599 => Kind::Unavailable,
            _ => Kind::System,
        };
        let said = quote(self.body).map_or(String::new(), |q| format!(": {q}"));
        let limit = if self.status == StatusCode::TOO_MANY_REQUESTS { " (its rate limit is reached)" } else { "" };
        let status = self.status.canonical_reason().unwrap_or("unknown status");
        let cause = format!("it answered {} {status}{limit}{said}", self.status.as_u16());
        let hint = self.hint();
        let error = Error::new(kind, self.operation, self.server).because(cause);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    fn hint(&self) -> Option<String> {
        let login = self.registry;
        Some(match (self.status.as_u16(), self.helper) {
            (401 | 403, Some(helper)) => format!(
                "the credentials are kept by the program docker-credential-{helper}, which tare does not run; use \
                 `docker login {login}`"
            ),
            (401 | 403, None) if self.known => {
                format!("check that the user in config.json may do this, or use `docker login {login}` again")
            }
            (401 | 403, None) => format!(
                "use `docker login {login}`, or put the credentials into config.json; check the name, too: registries \
                 refuse what does not exist the same way"
            ),
            (404, _) => "check the name and the tag".to_owned(),
            (429, _) => {
                let wait = self.retry_after.map_or("wait".to_owned(), |s| format!("wait {s} seconds"));
                format!("{wait}, or use `docker login {login}` for a higher limit")
            }
            (500..=599, _) => "try again later".to_owned(),
            _ => return None,
        })
    }
}

/// The registry's own words (distribution-spec, "Error Codes"), or the start of a plain text.
fn quote(body: &[u8]) -> Option<String> {
    let text = match serde_json::from_slice::<Document>(body) {
        Ok(document) => {
            let errors = document.errors.iter().map(|e| match (e.code.as_str(), e.message.as_str()) {
                (code, "") => code.to_owned(),
                ("", message) => message.to_owned(),
                (code, message) => format!("{message} ({code})"),
            });
            let errors: Vec<String> = errors.filter(|e| !e.is_empty()).take(3).collect();
            match errors.is_empty() {
                false => errors.join("; "),
                true => document
                    .error_description
                    .or(document.message)
                    .or_else(|| document.error.and_then(|e| e.as_str().map(str::to_owned)))?,
            }
        }
        // A page for browsers says nothing in a line.
        Err(_) if body.trim_ascii_start().starts_with(b"<") => return None,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    // What a foreign server sends goes to a terminal.
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    let line = line.trim().to_owned();
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str, helper: Option<&str>) -> Error {
        let server = Origin { https: true, host: "r.example".into(), port: 443 };
        Refusal {
            operation: "find image on".into(),
            server: &server,
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: Some(7),
            body: body.as_bytes(),
            registry: "r.example",
            helper,
            known: false,
        }
        .into_error()
    }

    #[test]
    fn refusals_quote_the_registry_and_say_what_to_do() {
        let e =
            refusal(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}"#, None);
        assert_eq!(
            e.to_string(),
            "find image on r.example:443: it answered 404 Not Found: manifest unknown (MANIFEST_UNKNOWN)"
        );
        assert_eq!((e.kind(), e.first_hint()), (Kind::NotFound, Some("check the name and the tag")));
        let e = refusal(401, "", None);
        assert!(
            e.first_hint().unwrap().contains("docker login r.example")
                && e.first_hint().unwrap().contains("config.json")
        );
        let e = refusal(403, "", Some("pass"));
        assert!(e.first_hint().unwrap().contains("docker-credential-pass"));
        let e = refusal(429, r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#, None);
        assert!(e.to_string().contains("rate limit is reached") && e.to_string().contains("slow down"));
        assert!(e.first_hint().unwrap().starts_with("wait 7 seconds"));
        let e = refusal(502, "<html>Bad</html>", None);
        assert_eq!((e.kind(), e.to_string().contains("html")), (Kind::Unavailable, false));
        assert!(!refusal(500, "a\u{1b}[2Jb\r\nc", None).to_string().contains('\u{1b}'));
    }
}
