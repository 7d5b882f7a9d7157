//! Bearer tokens from authorization servers (distribution's "Token Authentication" and "OAuth2 Token Authentication").

use crate::body::Content;
use crate::credentials::Credential;
use crate::http::{self, Http, Trouble};
use crate::token_cache::Source;
use crate::url::{self, Origin, percent};
use base64::Engine as _;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, StatusCode, Uri};
use serde::Deserialize;
use std::time::{Duration, Instant};
use tare_model::{Error, Kind, Result};

const MAX_ANSWER: u64 = 1 << 20;
/// What the specification assumes if a server does not say how long a token lives.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token this close to its end is not sent: it would expire on the way.
const MARGIN: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// What the server of tokens said, if it was not a token.
pub(crate) struct Refused {
    pub(crate) server: Origin,
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

/// Gets a token, from the cache or from its server, as the value of an `Authorization` header.
pub(crate) async fn fetch(
    http: &Http,
    source: &Source,
    credential: Option<&Credential>,
    registry: &Origin,
) -> Result<Result<HeaderValue, Refused>, Trouble> {
    if let Some(value) = http.tokens.get(source) {
        return Ok(Ok(value));
    }
    let realm = url::parse(&source.realm)?;
    let server = Origin::of(&realm)?;
    let secret = matches!(credential, Some(Credential::Password(..) | Credential::Identity(_)));
    if secret && !server.https && !server.is_loopback() && server != *registry {
        return Err(Error::new(Kind::Denied, "log in to", server)
            .because("the registry names a token server without HTTPS; the password is not sent there")
            .into());
    }
    let asked = Instant::now();
    let request = match credential {
        Some(Credential::Identity(token)) => exchange_identity(&realm, source, token)?,
        other => ask(&realm, source, other)?,
    };
    let response = http.exchange(request).await?;
    let status = response.status();
    if status != StatusCode::OK {
        let body = http.read_error(&server, response.into_body()).await;
        return Ok(Err(Refused { server, status, body }));
    }
    let body = http.read(&server, response.into_body(), MAX_ANSWER).await?;
    let bad = |why: String| Error::new(Kind::Invalid, "read token from", &server).because(why);
    let answer: Answer = serde_json::from_slice(&body).map_err(|e| bad(e.to_string()))?;
    let token = answer.token.or(answer.access_token).filter(|t| !t.is_empty());
    let token = token.ok_or_else(|| bad("there is no token in it".to_owned()))?;
    let mut value = http::header(&format!("Bearer {token}"))?;
    value.set_sensitive(true);
    let life = answer.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs).min(Duration::from_secs(86_400));
    http.tokens.put(source, value.clone(), asked + life.saturating_sub(MARGIN));
    Ok(Ok(value))
}

fn ask(realm: &Uri, source: &Source, credential: Option<&Credential>) -> Result<hyper::Request<Content>> {
    let mut uri = realm.clone();
    if let Some(service) = &source.service {
        uri = url::with_query(&uri, "service", service)?;
    }
    for scope in &source.scopes {
        uri = url::with_query(&uri, "scope", scope)?;
    }
    if let Some(Credential::Password(user, _)) = credential {
        uri = url::with_query(&uri, "account", user)?;
    }
    let mut request = http::request(Method::GET, &uri, Content::Whole(None));
    if let Some(Credential::Password(user, password)) = credential {
        request.headers_mut().insert(AUTHORIZATION, basic(user, password)?);
    }
    Ok(request)
}

fn exchange_identity(realm: &Uri, source: &Source, token: &str) -> Result<hyper::Request<Content>> {
    let form = format!(
        "grant_type=refresh_token&service={}&client_id=tare&scope={}&refresh_token={}",
        percent(source.service.as_deref().unwrap_or_default()),
        percent(&source.scopes.join(" ")),
        percent(token)
    );
    let mut request = http::request(Method::POST, realm, Bytes::from(form).into());
    request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    Ok(request)
}

/// RFC 7617.
pub(crate) fn basic(user: &str, password: &str) -> Result<HeaderValue> {
    let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let mut value = http::header(&format!("Basic {text}"))?;
    value.set_sensitive(true);
    Ok(value)
}
