//! Credentials as docker's config.json and podman's auth.json keep them.
//!
//! Keys are registries (`ghcr.io`, `127.0.0.1:5000`), addresses (`https://index.docker.io/v1/`) or, with podman,
//! namespaces (`quay.io/team`); the most specific one wins. Helper programs (`credHelpers`, `credsStore`) are not run:
//! what they keep is named in the error when a registry asks for it.

use base64::Engine as _;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use tare_model::{Context, Error, Kind, Reference, Result};

/// The credentials for all registries.
#[derive(Clone, Default)]
pub struct Credentials {
    entries: BTreeMap<String, Credential>,
    /// `credsStore`: keeps the credentials of the registries that have an empty entry.
    store: Option<String>,
}

/// What to show to one registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// User name and password.
    Password(String, String),
    /// An OAuth2 refresh token, exchanged for access tokens.
    Identity(String),
    /// A bearer token for the registry itself.
    Registry(String),
    /// A helper program keeps it: its name.
    Helper(String),
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: Option<BTreeMap<String, Option<Entry>>>,
    #[serde(default, rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl Credentials {
    /// Reads a config.json; a file that is not there is empty.
    ///
    /// # Errors
    /// As [`Credentials::parse`], and what reading the file gives.
    pub fn load(path: &Path) -> Result<Credentials> {
        match std::fs::read_to_string(path) {
            Ok(text) => Credentials::parse(&text).during("read credentials", path.display()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Credentials::default()),
            Err(e) => Err(Error::io("read credentials", path.display(), e)),
        }
    }

    /// Reads the text of a config.json.
    ///
    /// # Errors
    /// `Kind::Invalid` if it is not JSON or an `auth` field is not base64 of `user:password`.
    pub fn parse(text: &str) -> Result<Credentials> {
        let bad = |object: &str, why: String| Error::new(Kind::Invalid, "parse credentials", object).because(why);
        let file: File = serde_json::from_str(text).map_err(|e| bad("", e.to_string()))?;
        let mut entries = BTreeMap::new();
        for (key, entry) in file.auths.unwrap_or_default() {
            let credential = entry.unwrap_or_default().credential().map_err(|why| bad(&key, why.to_owned()))?;
            let credential = credential.or_else(|| file.store.clone().map(Credential::Helper));
            if let Some(c) = credential {
                entries.insert(canonical(&key), c);
            }
        }
        for (key, helper) in file.helpers.unwrap_or_default() {
            entries.insert(canonical(&key), Credential::Helper(helper));
        }
        Ok(Credentials { entries, store: file.store })
    }

    /// Adds what a login gave, instead of what was there for this registry (`HOST[:PORT]`).
    #[must_use]
    pub fn with_password(mut self, registry: &str, user: &str, password: &str) -> Credentials {
        self.entries.insert(canonical(registry), Credential::Password(user.to_owned(), password.to_owned()));
        self
    }

    /// The most specific credential for a repository.
    pub(crate) fn of(&self, reference: &Reference) -> Option<&Credential> {
        let name = reference.name();
        let mut key = name.as_str();
        loop {
            if let Some(c) = self.entries.get(key) {
                return Some(c);
            }
            key = key.rsplit_once('/')?.0;
        }
    }

    /// The helper that may keep a credential that was not found, for a hint.
    pub(crate) fn helper(&self, reference: &Reference) -> Option<&str> {
        match self.of(reference) {
            Some(Credential::Helper(name)) => Some(name),
            Some(_) => None,
            None => self.store.as_deref(),
        }
    }
}

impl Entry {
    fn credential(self) -> Result<Option<Credential>, &'static str> {
        let some = |s: Option<String>| s.filter(|s| !s.is_empty());
        if let Some(token) = some(self.registrytoken) {
            return Ok(Some(Credential::Registry(token)));
        }
        if let Some(token) = some(self.identitytoken) {
            return Ok(Some(Credential::Identity(token)));
        }
        if let Some(auth) = some(self.auth) {
            let engine = base64::engine::general_purpose::GeneralPurpose::new(
                &base64::alphabet::STANDARD,
                base64::engine::GeneralPurposeConfig::new()
                    .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
            );
            let text = engine.decode(auth.trim()).ok().and_then(|b| String::from_utf8(b).ok());
            let text = text.ok_or("\"auth\" is not base64 of user:password")?;
            // Docker pads the password with NUL bytes in files of old versions.
            let (user, password) = text.split_once(':').ok_or("\"auth\" is not base64 of user:password")?;
            return Ok(Some(Credential::Password(user.to_owned(), password.trim_end_matches('\0').to_owned())));
        }
        Ok(some(self.username).map(|u| Credential::Password(u, self.password.unwrap_or_default())))
    }
}

/// The key as `HOST[:PORT][/NAMESPACE]`: docker writes addresses for old registries and docker.io in three ways.
fn canonical(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    match key {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        other => other.to_owned(),
    }
}

impl fmt::Debug for Credentials {
    /// The registries only; secrets are never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Credential::Password(..) => "Password",
            Credential::Identity(_) => "Identity",
            Credential::Registry(_) => "Registry",
            Credential::Helper(_) => "Helper",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"auths":{
        "https://index.docker.io/v1/":{"auth":"dTpwOnc="},
        "quay.io":{"username":"q","password":"x"},
        "quay.io/team":{"identitytoken":"t"},
        "127.0.0.1:5000":{},
        "broken.example":null},
        "credHelpers":{"gcr.io":"gcloud"},"credsStore":"desktop"}"#;

    #[test]
    fn the_most_specific_entry_wins() {
        let c = Credentials::parse(FILE).unwrap();
        let of = |name: &str| c.of(&name.parse().unwrap()).cloned();
        assert_eq!(of("debian"), Some(Credential::Password("u".into(), "p:w".into())));
        assert_eq!(of("quay.io/other/x"), Some(Credential::Password("q".into(), "x".into())));
        assert_eq!(of("quay.io/team/x"), Some(Credential::Identity("t".into())));
        assert_eq!(of("quay.io/teamwork/x"), Some(Credential::Password("q".into(), "x".into())));
        assert_eq!(of("gcr.io/x/y"), Some(Credential::Helper("gcloud".into())));
        assert_eq!(of("127.0.0.1:5000/x"), Some(Credential::Helper("desktop".into())));
        assert_eq!(of("elsewhere.example/x"), None);
        assert_eq!(c.helper(&"elsewhere.example/x".parse().unwrap()), Some("desktop"));
    }

    #[test]
    fn malformed_files_are_refused_and_secrets_hidden() {
        assert_eq!(Credentials::parse("{").unwrap_err().kind(), Kind::Invalid);
        let e = Credentials::parse(r#"{"auths":{"h":{"auth":"!!"}}}"#).unwrap_err();
        assert_eq!(e.to_string(), "parse credentials h: \"auth\" is not base64 of user:password");
        assert!(!format!("{:?}", Credentials::parse(FILE).unwrap()).contains("p:w"));
        assert!(Credentials::load(Path::new("/nonexistent/config.json")).is_ok());
    }
}
