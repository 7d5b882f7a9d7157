//! `WWW-Authenticate` (RFC 9110 §11.6.1): what a registry asks for.

/// One challenge; the parameters' names are lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password.
    Basic,
    /// A token from an authorization server.
    Bearer {
        /// Address of that server.
        realm: String,
        /// The registry's name there.
        service: Option<String>,
        /// What the request needed.
        scope: Option<String>,
    },
}

/// Reads a header's value; schemes that we do not know and malformed rests are passed over.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = header;
    while let Some((scheme, after)) = token(rest) {
        let (params, after) = parameters(after);
        let get = |name: &str| params.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone());
        if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = get("realm")
        {
            found.push(Challenge::Bearer { realm, service: get("service"), scope: get("scope") });
        }
        if after.len() == rest.len() {
            break;
        }
        rest = after;
    }
    found
}

/// `name=value` pairs up to the next scheme or the end.
fn parameters(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut params = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((name, after)) = token(rest) else { return (params, skip_malformed(rest)) };
        // A name without `=` is the next scheme.
        let Some(after) = after.trim_start().strip_prefix('=') else { return (params, rest) };
        let Some((value, after)) = value(after.trim_start()) else { return (params, skip_malformed(after)) };
        params.push((name.to_ascii_lowercase(), value));
        rest = after;
    }
}

fn skip_malformed(rest: &str) -> &str {
    rest.split_once(',').map_or("", |(_, after)| after)
}

fn token(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut out = String::new();
    let mut chars = quoted.char_indices();
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Some((out, &quoted[i + 1..])),
            '\\' => out.push(chars.next()?.1),
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer { realm: realm.into(), service: service.map(Into::into), scope: scope.map(Into::into) }
    }

    #[test]
    fn challenges_are_found() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#,
                vec![bearer("https://auth.example/token", Some("registry.example"), Some("repository:a/b:pull,push"))],
            ),
            (r#"Basic realm="Registry Realm""#, vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            (
                r#"Negotiate, Basic realm=x, bearer REALM = "r\"q" , service=s"#,
                vec![Challenge::Basic, bearer("r\"q", Some("s"), None)],
            ),
            ("Bearer service=\"x\"", vec![]),
            ("Bearer realm=\"open", vec![]),
            ("", vec![]),
            ("=,\"", vec![]),
        ] {
            assert_eq!(parse(header), expected, "{header}");
        }
    }
}
