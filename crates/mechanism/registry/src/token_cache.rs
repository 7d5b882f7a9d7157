//! Bearer tokens that are still good, by what they are for.

use hyper::header::HeaderValue;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Where a token comes from and what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Source {
    pub(crate) realm: String,
    pub(crate) service: Option<String>,
    /// `repository:NAME:pull,push`
    pub(crate) scopes: Vec<String>,
}

/// Tokens that are still good.
#[derive(Default)]
pub(crate) struct Tokens(Mutex<HashMap<Source, (HeaderValue, Instant)>>);

impl Tokens {
    pub(crate) fn get(&self, source: &Source) -> Option<HeaderValue> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(source).filter(|(_, end)| *end > Instant::now()).map(|(value, _)| value.clone())
    }

    pub(crate) fn put(&self, source: &Source, value: HeaderValue, end: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (_, end)| *end > Instant::now());
        all.insert(source.clone(), (value, end));
    }

    /// Forgets a token that a registry refused.
    pub(crate) fn forget(&self, source: &Source) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(source);
    }
}
