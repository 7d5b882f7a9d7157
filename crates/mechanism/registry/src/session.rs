//! Requests about one repository: credentials shown to its registry and to nobody else, redirects, second attempts.

use crate::body::Content;
use crate::challenge::{self, Challenge};
use crate::credentials::Credential;
use crate::failure::Refusal;
use crate::http::{self, Http, Trouble};
use crate::token;
use crate::token_cache::Source;
use crate::url::{self, Origin};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Method, Response, StatusCode, Uri};
use std::borrow::Cow;
use std::time::Duration;
use tare_model::{Error, Kind, Reference, Result};
use tokio::sync::Mutex;

const MAX_REDIRECTS: usize = 10;
/// A `Retry-After` that is longer than this is told to the user instead of being waited for.
const MAX_WAIT: Duration = Duration::from_secs(20);

/// What a session may do; becomes the token's scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
}

/// One repository on one registry, for the time of one operation. Used by several threads at once.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) http: &'a Http,
    pub(crate) reference: &'a Reference,
    pub(crate) origin: Origin,
    credential: Option<Credential>,
    scopes: Vec<String>,
    /// What the registry asked for. Held while a token is fetched, so that parallel requests wait for one token.
    challenge: Mutex<Option<Challenge>>,
}

/// A request that can be sent more than once.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// A verb that ends before the server's name, for errors: `find image on`.
    pub(crate) operation: Cow<'static, str>,
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Call {
    pub(crate) fn new(operation: impl Into<Cow<'static, str>>, method: Method, uri: Uri) -> Call {
        Call { operation: operation.into(), method, uri, headers: HeaderMap::new(), body: Bytes::new() }
    }
}

/// A whole answer, small enough to hold.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
    /// After redirects.
    pub(crate) uri: Uri,
    pub(crate) server: Origin,
}

/// The head of an answer, and who gave it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    /// After redirects.
    pub(crate) uri: Uri,
    pub(crate) server: Origin,
}

impl<'a> Session<'a> {
    /// `mount_from`: repositories on the same registry that a push may take blobs from.
    pub(crate) fn new(
        http: &'a Http,
        reference: &'a Reference,
        access: Access,
        mount_from: &[&str],
    ) -> Result<Session<'a>> {
        let actions = if access == Access::Push { "pull,push" } else { "pull" };
        let mut scopes = vec![format!("repository:{}:{actions}", reference.repository())];
        scopes.extend(mount_from.iter().map(|name| format!("repository:{name}:pull")));
        Ok(Session {
            http,
            reference,
            origin: Origin::of_registry(reference)?,
            credential: http.options.credentials.of(reference).cloned(),
            scopes,
            challenge: Mutex::new(None),
        })
    }

    /// `/v2/REPOSITORY/REST` on this registry.
    pub(crate) fn uri(&self, rest: &str) -> Result<Uri> {
        url::parse(&format!("{}/v2/{}/{rest}", self.origin.base(), self.reference.repository()))
    }

    /// Sends the request; logs in, follows redirects (of GET and HEAD), and tries again after a lost connection and
    /// where the server asks to wait or is broken for the moment. Any final status is an answer, not an error.
    pub(crate) async fn send(&self, call: &Call) -> Result<Answer> {
        let retry = self.http.options.retry;
        let mut failed = 0;
        loop {
            let result = self.once(call).await;
            failed += 1;
            let pause = match &result {
                Ok(answer) => pause_asked_for(&answer.response, retry.after(failed)),
                Err(trouble) => trouble.lost.then(|| retry.after(failed)),
            };
            match pause {
                Some(pause) if failed < retry.attempts => tokio::time::sleep(pause).await,
                _ => return result.map_err(|trouble| trouble.error),
            }
        }
    }

    /// As [`Session::send`], but a status that is not in `expected` is an error in the registry's words.
    pub(crate) async fn expect(&self, call: &Call, expected: &[StatusCode]) -> Result<Answer> {
        let answer = self.send(call).await?;
        if expected.contains(&answer.response.status()) {
            return Ok(answer);
        }
        Err(self.refusal(&call.operation, answer).await)
    }

    /// Gets a document of at most `max` bytes; a connection that is lost in the middle of it counts as any other.
    pub(crate) async fn get(&self, call: &Call, max: u64) -> Result<Whole> {
        let retry = self.http.options.retry;
        let mut failed = 0;
        loop {
            let Answer { response, uri, server } = self.expect(call, &[StatusCode::OK]).await?;
            let (head, body) = response.into_parts();
            match self.http.read(&server, body, max).await {
                Ok(bytes) => return Ok(Whole { headers: head.headers, bytes, uri, server }),
                Err(trouble) if !trouble.lost || failed + 1 >= retry.attempts => return Err(trouble.error),
                Err(_) => failed += 1,
            }
            tokio::time::sleep(retry.after(failed)).await;
        }
    }

    /// Sends a body that streams, once; the credentials are those that earlier requests have settled.
    pub(crate) async fn send_stream(&self, call: &Call, body: Content) -> Result<Answer, Trouble> {
        let server = Origin::of(&call.uri)?;
        let shown = if server == self.origin { self.authorization().await? } else { None };
        let mut request = http::request(call.method.clone(), &call.uri, body);
        *request.headers_mut() = call.headers.clone();
        request.headers_mut().extend(shown.map(|value| (AUTHORIZATION, value)));
        let response = self.http.exchange(request).await?;
        Ok(Answer { response, uri: call.uri.clone(), server })
    }

    /// Words an answer that is a refusal.
    pub(crate) async fn refusal(&self, operation: &str, answer: Answer) -> Error {
        let Answer { response, server, .. } = answer;
        let (status, retry_after) = (response.status(), retry_after(&response));
        let body = self.http.read_error(&server, response.into_body()).await;
        self.word(operation.to_owned().into(), &server, status, retry_after, &body)
    }

    fn word(
        &self,
        operation: Cow<'static, str>,
        server: &Origin,
        status: StatusCode,
        retry_after: Option<u64>,
        body: &[u8],
    ) -> Error {
        let registry = self.reference.host();
        let helper = self.http.options.credentials.helper(self.reference);
        let known = matches!(&self.credential, Some(c) if !matches!(c, Credential::Helper(_)));
        Refusal { operation, server, status, retry_after, body, registry, helper, known }.into_error()
    }

    async fn once(&self, call: &Call) -> Result<Answer, Trouble> {
        let mut uri = call.uri.clone();
        let mut challenges = 0;
        for _ in 0..MAX_REDIRECTS {
            let server = Origin::of(&uri)?;
            let ours = server == self.origin;
            let shown = if ours { self.authorization().await? } else { None };
            let mut request = http::request(call.method.clone(), &uri, call.body.clone().into());
            *request.headers_mut() = call.headers.clone();
            request.headers_mut().extend(shown.clone().map(|value| (AUTHORIZATION, value)));
            let response = self.http.exchange(request).await?;
            match response.status() {
                // Once to learn what is wanted, once more if a token that we still had is not good any more.
                StatusCode::UNAUTHORIZED if ours && challenges < 2 => {
                    challenges += 1;
                    if !self.take_challenge(&response, shown.as_ref()).await {
                        return Ok(Answer { response, uri, server });
                    }
                    // Read to its end, so that the connection can be used again.
                    self.http.read_error(&server, response.into_body()).await;
                }
                s if is_redirect(s) && matches!(call.method, Method::GET | Method::HEAD) => {
                    uri = http::location(&response, &uri)?;
                    self.http.read_error(&server, response.into_body()).await;
                }
                _ => return Ok(Answer { response, uri, server }),
            }
        }
        Err(Error::new(Kind::Invalid, call.operation.clone(), &self.origin)
            .because(format!("it redirects more than {MAX_REDIRECTS} times"))
            .into())
    }

    /// The header that answers the registry's challenge, if it has made one.
    async fn authorization(&self) -> Result<Option<HeaderValue>, Trouble> {
        let challenge = self.challenge.lock().await;
        match (&*challenge, &self.credential) {
            (_, Some(Credential::Registry(token))) => Ok(Some(http::header(&format!("Bearer {token}"))?)),
            (Some(Challenge::Basic), Some(Credential::Password(user, password))) => {
                Ok(Some(token::basic(user, password)?))
            }
            (Some(bearer @ Challenge::Bearer { .. }), credential) => {
                let source = self.source(bearer);
                match token::fetch(self.http, &source, credential.as_ref(), &self.origin).await? {
                    Ok(value) => Ok(Some(value)),
                    Err(r) => {
                        // A token server says "bad request" and "not found" where it means "not you".
                        let status = if r.status.is_client_error() && r.status != StatusCode::TOO_MANY_REQUESTS {
                            StatusCode::UNAUTHORIZED
                        } else {
                            r.status
                        };
                        Err(self.word("get token from".into(), &r.server, status, None, &r.body).into())
                    }
                }
            }
            _ => Ok(None),
        }
    }

    /// Takes note of what a 401 asks for; false if what we have cannot satisfy it.
    async fn take_challenge(&self, response: &Response<Incoming>, shown: Option<&HeaderValue>) -> bool {
        let mut challenge = self.challenge.lock().await;
        if let Some(known @ Challenge::Bearer { .. }) = &*challenge {
            let source = self.source(known);
            // Another request may have fetched a new token meanwhile; only the refused one is forgotten.
            if self.http.tokens.get(&source).as_ref() == shown {
                self.http.tokens.forget(&source);
            }
            return true;
        }
        let offered: Vec<Challenge> = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(challenge::parse)
            .collect();
        let password = matches!(self.credential, Some(Credential::Password(..)));
        let usable = offered.into_iter().find(|c| match c {
            Challenge::Bearer { .. } => !matches!(self.credential, Some(Credential::Registry(_))),
            Challenge::Basic => password,
        });
        // The same password again would be refused again; one that was not shown yet (a parallel request has learnt of
        // the challenge meanwhile) may help.
        let new = usable.is_some() && (shown.is_none() || *challenge != usable);
        *challenge = usable;
        new
    }

    /// Forgets the token that was refused in the middle of an upload; false if there was none.
    pub(crate) async fn renew(&self) -> bool {
        let challenge = self.challenge.lock().await;
        let Some(bearer @ Challenge::Bearer { .. }) = &*challenge else { return false };
        self.http.tokens.forget(&self.source(bearer));
        true
    }

    fn source(&self, challenge: &Challenge) -> Source {
        let Challenge::Bearer { realm, service, scope } = challenge else {
            return Source { realm: String::new(), service: None, scopes: Vec::new() };
        };
        let mut scopes = self.scopes.clone();
        scopes.extend(scope.iter().flat_map(|s| s.split(' ')).filter(|s| !s.is_empty()).map(str::to_owned));
        // The registry's wish first occurs as ours; what it asks in addition is added.
        let mut seen = std::collections::HashSet::new();
        scopes.retain(|s| seen.insert(s.clone()));
        Source { realm: realm.clone(), service: service.clone(), scopes }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn retry_after(response: &Response<Incoming>) -> Option<u64> {
    response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

/// How long to wait before asking again; `None` if it makes no sense.
fn pause_asked_for(response: &Response<Incoming>, usual: Duration) -> Option<Duration> {
    let asked = retry_after(response).map(Duration::from_secs);
    match response.status().as_u16() {
        // Without a time to wait, a rate limit lasts for hours.
        429 => asked.filter(|p| *p <= MAX_WAIT),
        500 | 502..=504 => Some(asked.unwrap_or(usual)).filter(|p| *p <= MAX_WAIT),
        _ => None,
    }
}
