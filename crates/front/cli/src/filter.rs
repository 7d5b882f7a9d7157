//! `--filter KEY=VALUE`: values of one key are alternatives, keys must all match (labels: every one).

use std::collections::BTreeMap;
use tare_model::{Error, Kind, Result};

/// Filters as typed, grouped by key.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// Parses filters and refuses keys that the verb does not know.
    ///
    /// # Errors
    /// `Kind::Invalid`, naming the known keys.
    pub(crate) fn parse(texts: &[String], known: &[&str]) -> Result<Filters> {
        let mut filters = Filters::default();
        for text in texts {
            let bad = |why: String| Error::new(Kind::Invalid, "invalid", format!("--filter {text:?}")).because(why);
            let (key, value) = text.split_once('=').ok_or_else(|| bad("expected KEY=VALUE".into()))?;
            let key = key.trim().to_ascii_lowercase();
            if !known.contains(&key.as_str()) {
                return Err(bad(format!("there are {}", known.join(", "))));
            }
            filters.0.entry(key).or_default().push(value.trim().to_owned());
        }
        Ok(filters)
    }

    /// The values of a key.
    pub(crate) fn get(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether the key is absent or one of its values satisfies the test.
    pub(crate) fn any(&self, key: &str, test: impl Fn(&str) -> bool) -> bool {
        let values = self.get(key);
        values.is_empty() || values.iter().any(|v| test(v))
    }

    /// Whether labels satisfy every `label=NAME[=VALUE]`, and none of `label!=NAME[=VALUE]`.
    pub(crate) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|v| v == value),
            None => labels.contains_key(wanted),
        };
        self.get("label").iter().all(has) && !self.get("label!").iter().any(has)
    }

    /// A key that is true or false, if it was given.
    ///
    /// # Errors
    /// `Kind::Invalid` for another value.
    pub(crate) fn boolean(&self, key: &str) -> Result<Option<bool>> {
        let Some(text) = self.get(key).last() else { return Ok(None) };
        crate::parse::boolean(text).map(Some).ok_or_else(|| {
            Error::new(Kind::Invalid, "invalid", format!("--filter \"{key}={text}\"")).because("expected true or false")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_alternatives_and_labels_are_not() {
        let texts = ["name=a".into(), "name=b".into(), "label=x".into(), "label=y=1".into()];
        let f = Filters::parse(&texts, &["name", "label"]).unwrap();
        assert!(f.any("name", |v| v == "b") && !f.any("name", |v| v == "c") && f.any("status", |_| false));
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        assert!(f.labels(&labels(&[("x", "anything"), ("y", "1")])));
        assert!(!f.labels(&labels(&[("x", ""), ("y", "2")])));
        let e = Filters::parse(&["colour=red".into()], &["name"]).unwrap_err().to_string();
        assert!(e.contains("there are name"), "{e}");
        assert!(Filters::parse(&["name".into()], &["name"]).is_err());
        let f = Filters::parse(&["label!=x".into()], &["label!"]).unwrap();
        assert!(!f.labels(&labels(&[("x", "1")])) && f.labels(&labels(&[("y", "1")])));
    }
}
