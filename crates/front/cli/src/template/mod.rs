//! Go's text/template over JSON values, as docker's `--format` uses it.
//!
//! Everything of the language but `define`, `template` and `block`. Docker's functions are there (`json`, `join`,
//! `lower`, `upper`, `title`, `split`, `pad`, `truncate`) beside Go's. Go tells a struct from a map: an unknown field of
//! a struct is an error, an unknown key of a map prints `<no value>`. JSON has only objects, so an object whose keys all
//! begin with a capital counts as a struct, which is what docker's documents look like.

mod eval;
mod functions;
mod lex;
mod parse;
mod print;

use serde_json::Value;
use tare_model::{Error, Kind, Result};

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    source: String,
    nodes: Vec<parse::Node>,
}

impl Template {
    /// Parses a template; `\t` and `\n` in it are those characters, as docker's `--format` has them.
    ///
    /// # Errors
    /// `Kind::Invalid` with what is wrong with it.
    pub(crate) fn parse(source: &str) -> Result<Template> {
        let text = source.replace("\\t", "\t").replace("\\n", "\n");
        let nodes = parse::template(&text).map_err(|why| refuse(source, &why))?;
        Ok(Template { source: source.to_owned(), nodes })
    }

    /// Renders the template for one value.
    ///
    /// # Errors
    /// `Kind::Invalid`: unknown fields, wrong arguments of functions.
    pub(crate) fn render(&self, value: &Value) -> Result<String> {
        self.render_row(value, &|_| String::new())
    }

    /// As [`Template::render`]; `.Label "NAME"` at the root asks `labels`.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub(crate) fn render_row(&self, value: &Value, labels: &dyn Fn(&str) -> String) -> Result<String> {
        eval::render(&self.nodes, value, labels).map_err(|why| refuse(&self.source, &why))
    }
}

fn refuse(source: &str, why: &str) -> Error {
    Error::new(Kind::Invalid, "invalid", format!("--format {source:?}")).because(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(template: &str, expected: &str) {
        let value = json!({
            "ID": "abc", "N": 3, "F": 1.5, "T": true, "Nil": null, "Empty": "",
            "Names": ["a", "b", "c"], "Config": {"Labels": {"x.y": "z", "k": "v"}, "Env": []},
            "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "90/tcp": null},
            "Html": "<a&b>"
        });
        let labels = |name: &str| if name == "k" { "v".to_owned() } else { String::new() };
        let result = Template::parse(template).and_then(|t| t.render_row(&value, &labels));
        match result {
            Ok(text) => assert_eq!(text, expected, "{template}"),
            Err(e) => assert!(
                expected.starts_with("error: ") && e.to_string().contains(&expected[7..]),
                "{template}: {e}, expected {expected}"
            ),
        }
    }

    #[test]
    fn text_fields_and_trim_markers() {
        check("plain", "plain");
        check("{{.ID}}", "abc");
        check("{{ .ID }}\\t{{.N}}\\n", "abc\t3\n");
        check("a  {{- .ID -}}  b", "aabcb");
        check("a {{/* note */}} b", "a  b");
        check("a {{- /* note */ -}} b", "ab");
        check("{{.F}} {{.T}} {{.Nil}} {{.Names}}", "1.5 true <no value> [a b c]");
        check("{{.Config.Labels.k}} {{.Config.Labels.none}}", "v <no value>");
        check("{{.Config.Labels}}", "map[k:v x.y:z]");
        check("{{$.ID}} {{(.Config).Labels.k}}", "abc v");
        check("{{\"q\\\"\"}}{{`raw\\`}}{{'a'}} {{12}} {{-3}} {{true}}", "q\"raw\\97 12 -3 true");
    }

    #[test]
    fn unknown_fields_of_structs_are_errors() {
        check("{{.Nope}}", "error: no field Nope; there are Config, Empty");
        check("{{.ID.X}}", "error: cannot take field X of a string");
        check("{{.Nil.X}}", "<no value>");
    }

    #[test]
    fn control() {
        check("{{if .T}}y{{else}}n{{end}}", "y");
        check("{{if .Empty}}y{{else if eq .N 3}}three{{else}}n{{end}}", "three");
        check("{{if not .Config.Env}}none{{end}}", "none");
        check("{{range .Names}}<{{.}}>{{end}}", "<a><b><c>");
        check("{{range $i, $n := .Names}}{{if $i}},{{end}}{{$i}}={{$n}}{{end}}", "0=a,1=b,2=c");
        check("{{range $k, $v := .Config.Labels}}{{$k}}:{{$v}};{{end}}", "k:v;x.y:z;");
        check("{{range .Config.Env}}x{{else}}empty{{end}}", "empty");
        check("{{range .Names}}{{if eq . \"b\"}}{{break}}{{end}}{{.}}{{end}}", "a");
        check("{{range .Names}}{{if eq . \"b\"}}{{continue}}{{end}}{{.}}{{end}}", "ac");
        check("{{range 3}}{{.}}{{end}}", "012");
        check("{{with .Config}}{{.Labels.k}}{{end}}{{with .Empty}}x{{else}}e{{end}}", "ve");
        check("{{with $x := .ID}}{{$x}}{{$.N}}{{end}}", "abc3");
        check("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2");
        check("{{range $p, $b := .Ports}}{{$p}}{{range $b}}->{{.HostPort}}{{end}} {{end}}", "80/tcp->8080 90/tcp ");
    }

    #[test]
    fn functions_of_go() {
        check("{{index .Names 1}} {{index .Config.Labels \"x.y\"}}|{{index .Config.Labels \"no\"}}|", "b z||");
        check("{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8080");
        check("{{index .Ports \"80/tcp\" 0 \"HostIp\"}}", "0.0.0.0");
        check("{{index .Names 9}}", "error: index 9 is out of range");
        check("{{len .Names}} {{len .ID}} {{len .Config}}", "3 3 2");
        check(
            "{{eq .N 3}} {{eq .ID \"x\" \"abc\"}} {{ne .N 3}} {{lt .N 4}} {{le .N 3}} {{gt .F 1.0}} {{ge .ID \"abd\"}}",
            "true true false true true true false",
        );
        check("{{eq .N \"3\"}}", "error: cannot compare");
        check("{{and .T .ID}} {{or .Empty .ID}} {{not .T}} {{and .Empty (index .Names 9)}}|", "abc abc false |");
        check("{{print .ID 1 2 .ID}}|{{println .ID .N}}", "abc1 2abc|abc 3\n");
        check("{{slice .ID 1}} {{slice .ID 0 2}} {{slice .Names 1 2}}", "bc ab [b]");
        check("{{html .Html}} {{urlquery \"a b&\"}}", "&lt;a&amp;b&gt; a+b%26");
    }

    #[test]
    fn printf_knows_the_usual_verbs() {
        check("{{printf \"%s-%d-%v-%q-%x-%t-%%\" .ID .N .Names .ID 255 .T}}", "abc-3-[a b c]-\"abc\"-ff-true-%");
        check("{{printf \"%5d|%-5s|%05d|%.2f|%+d|%x\" 42 \"ab\" 42 .F 7 \"hi\"}}", "   42|ab   |00042|1.50|+7|6869");
        check("{{printf \"%.2s|%8.3f|%X|%o|%c|%T\" .ID .F 255 8 65 .ID}}", "ab|   1.500|FF|10|A|string");
        check(
            "{{printf \"%d\" .ID}}{{printf \"%s\"}}{{printf \"x\" 1}}",
            "%!d(string=abc)%!s(MISSING)x%!(EXTRA int=1)",
        );
        check("{{.ID | printf \"%s-%s\" \"x\"}}", "x-abc");
    }

    #[test]
    fn functions_of_docker() {
        check("{{json .Names}} {{json .Html}} {{json .Config.Labels}}", r#"["a","b","c"] "<a&b>" {"k":"v","x.y":"z"}"#);
        check(
            "{{join .Names \",\"}} {{.ID | upper}} {{upper .ID | lower}} {{title \"foo bar\"}}",
            "a,b,c ABC abc Foo Bar",
        );
        check("{{split \"a:b\" \":\" | json}} {{index (split \"a:b\" \":\") 1}}", r#"["a","b"] b"#);
        check("{{truncate .ID 2}}|{{truncate .ID 9}}|{{pad .ID 1 2}}|", "ab|abc| abc  |");
        check("{{.Label \"k\"}}|{{.Label \"none\"}}|", "v||");
    }

    #[test]
    fn broken_templates_say_what_is_wrong() {
        check("{{.ID", "error: an action is not closed with }}");
        check("{{if .T}}x", "error: {{if}} lacks its {{end}}");
        check("{{end}}", "error: unexpected {{end}}");
        check("{{else}}", "error: unexpected {{else}}");
        check("{{nosuch .ID}}", "error: function \"nosuch\" is not defined");
        check("{{$x}}", "error: undefined variable $x");
        check("{{}}", "error: missing value");
        check("{{.ID | }}", "error: missing value");
        check("{{(.ID}}", "error: unclosed (");
        check("{{\"x}}", "error: a string is not closed");
        check("{{template \"x\"}}", "error: not supported");
        check("{{break}}", "error: {{break}} outside of {{range}}");
        check("{{.ID 3}}", "error: ID is not a function");
    }
}
