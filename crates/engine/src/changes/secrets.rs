//! What looks like a secret: by its name, by how it begins. Misses what it does not know, so it warns and never forbids.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// So much of each file is looked at, in bytes.
const LOOKED_AT: usize = 1 << 20;

/// Ends of paths, and what such a file is.
const NAMES: &[(&str, &str)] = &[
    ("/.netrc", "logins of netrc"),
    ("/.npmrc", "settings of npm, often with a token"),
    ("/.yarnrc.yml", "settings of yarn, often with a token"),
    ("/.pypirc", "logins of PyPI"),
    ("/.git-credentials", "logins of git"),
    ("/.docker/config.json", "logins of registries"),
    ("/containers/auth.json", "logins of registries"),
    ("/.aws/credentials", "keys of AWS"),
    ("/.azure/accessTokens.json", "tokens of Azure"),
    ("/gcloud/application_default_credentials.json", "keys of Google Cloud"),
    ("/.kube/config", "logins of Kubernetes"),
    ("/.cargo/credentials.toml", "token of crates.io"),
    ("/.cargo/credentials", "token of crates.io"),
    ("/.gem/credentials", "key of RubyGems"),
    ("/.pgpass", "passwords of PostgreSQL"),
    ("/.my.cnf", "logins of MySQL"),
    ("/.vault-token", "token of Vault"),
    ("/.env", "variables of a service, often with secrets"),
    ("/.htpasswd", "passwords of a web server"),
    ("/id_rsa", "private key of SSH"),
    ("/id_dsa", "private key of SSH"),
    ("/id_ecdsa", "private key of SSH"),
    ("/id_ed25519", "private key of SSH"),
    ("/.bash_history", "history of a shell"),
    ("/.ash_history", "history of a shell"),
    ("/.zsh_history", "history of a shell"),
    ("/.sh_history", "history of a shell"),
    ("/.history", "history of a shell"),
    ("/fish_history", "history of a shell"),
    ("/.python_history", "history of a shell"),
    ("/.mysql_history", "history of a database's shell"),
    ("/.psql_history", "history of a database's shell"),
    ("/.lesshst", "history of a pager"),
];

/// How tokens begin, how many characters of theirs follow at least, and whose they are.
const TOKENS: &[(&str, usize, &str)] = &[
    ("ghp_", 36, "token of GitHub"),
    ("gho_", 36, "token of GitHub"),
    ("ghu_", 36, "token of GitHub"),
    ("ghs_", 36, "token of GitHub"),
    ("ghr_", 36, "token of GitHub"),
    ("github_pat_", 50, "token of GitHub"),
    ("glpat-", 20, "token of GitLab"),
    ("xoxb-", 20, "token of Slack"),
    ("xoxp-", 20, "token of Slack"),
    ("AKIA", 16, "access key of AWS"),
    ("ASIA", 16, "access key of AWS"),
    ("AIza", 35, "key of Google"),
    ("sk_live_", 20, "key of Stripe"),
    ("rk_live_", 20, "key of Stripe"),
    ("npm_", 36, "token of npm"),
    ("pypi-AgEIcHlwaS5vcmc", 20, "token of PyPI"),
    ("dckr_pat_", 20, "token of Docker Hub"),
    ("hvs.", 24, "token of Vault"),
    ("SG.", 40, "key of SendGrid"),
    ("sk-ant-", 20, "key of Anthropic"),
];

/// What a file seems to hold that should not be given away.
pub(super) fn in_file(path: &str, file: &File) -> Option<String> {
    let named = NAMES.iter().find(|(end, _)| path.ends_with(end)).map(|(_, what)| (*what).to_owned());
    named.or_else(|| {
        let mut start = vec![0; LOOKED_AT];
        let mut filled = 0;
        while filled < start.len() {
            match file.read_at(&mut start[filled..], filled as u64) {
                Ok(0) | Err(_) => break,
                Ok(n) => filled += n,
            }
        }
        in_bytes(&start[..filled]).map(str::to_owned)
    })
}

/// The name of a variable `NAME=value` that seems to be a secret, and what it seems to be.
pub(super) fn in_variable(variable: &str) -> Option<(&str, String)> {
    let (name, value) = variable.split_once('=')?;
    if value.is_empty() {
        return None;
    }
    if let Some(what) = in_bytes(value.as_bytes()) {
        return Some((name, what.to_owned()));
    }
    let upper = name.to_ascii_uppercase();
    let words = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "API_KEY", "APIKEY", "PRIVATE_KEY", "CREDENTIALS"];
    let ends = words.iter().any(|word| upper.ends_with(word) || upper.contains(&format!("{word}_")));
    // `…_FILE` says where it is.
    (ends && !upper.ends_with("_FILE")).then(|| (name, "a variable named like a secret".to_owned()))
}

fn in_bytes(text: &[u8]) -> Option<&'static str> {
    let mut at = 0;
    while at < text.len() {
        // Whatever begins a secret begins a word.
        if (at == 0 || !is_word(text[at - 1]))
            && let Some(what) = begins(&text[at..])
        {
            return Some(what);
        }
        at += 1;
    }
    None
}

fn begins(text: &[u8]) -> Option<&'static str> {
    if text.starts_with(b"-----BEGIN ") {
        let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
        return line
            .windows(15)
            .take(40)
            .any(|w| w == b"PRIVATE KEY----")
            .then_some("private key")
            .or_else(|| line.windows(17).take(40).any(|w| w == b"PRIVATE KEY BLOCK").then_some("private key of PGP"));
    }
    TOKENS.iter().find_map(|(start, length, what)| {
        let rest = text.strip_prefix(start.as_bytes())?;
        let follows = rest.iter().take_while(|b| is_word(**b) || matches!(b, b'-' | b'.')).count();
        (follows >= *length).then_some(*what)
    })
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_tokens_are_known_by_how_they_begin() {
        let token = format!("token: ghp_{}", "a1B2".repeat(9));
        for (text, what) in [
            ("x\n-----BEGIN OPENSSH PRIVATE KEY-----\nabc", Some("private key")),
            ("-----BEGIN PRIVATE KEY-----\n", Some("private key")),
            ("-----BEGIN PGP PRIVATE KEY BLOCK-----\n", Some("private key of PGP")),
            ("-----BEGIN CERTIFICATE-----\n", None),
            (token.as_str(), Some("token of GitHub")),
            ("ghp_short", None),
            ("key=AKIAABCDEFGHIJKLMNOP", Some("access key of AWS")),
            ("XAKIAABCDEFGHIJKLMNOP", None),
            ("plain text", None),
            ("", None),
        ] {
            assert_eq!(in_bytes(text.as_bytes()), what, "{text}");
        }
    }

    #[test]
    fn variables_are_known_by_their_names() {
        for yes in ["DB_PASSWORD=x", "api_token=1", "AWS_SECRET_ACCESS_KEY=abc"] {
            assert!(in_variable(yes).is_some(), "{yes}");
        }
        for no in ["PATH=/bin", "DB_PASSWORD=", "POSTGRES_PASSWORD_FILE=/run/x", "TOKENIZER=fast"] {
            assert!(in_variable(no).is_none(), "{no}");
        }
    }

    #[test]
    fn files_are_known_by_their_names() {
        let empty = File::open("/dev/null").unwrap();
        assert_eq!(in_file("/root/.netrc", &empty).unwrap(), "logins of netrc");
        assert_eq!(in_file("/home/a/.ssh/id_ed25519", &empty).unwrap(), "private key of SSH");
        assert_eq!(in_file("/home/a/.ssh/id_ed25519.pub", &empty), None);
        assert_eq!(in_file("/etc/environment", &empty), None);
    }
}
