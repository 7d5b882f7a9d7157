//! The root command: global options, and the verb that was called.
//!
//! Starting must be fast, so only the verb that was called has its arguments built; everything is built for help.

use crate::arguments::boolean;
use crate::context::Context;
use crate::log::{Format, Log};
use crate::verb::{TOP, Verb};
use crate::{environment, out};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use tare_model::{Error, Result};
use tare_runtime::launch::{Form, Trace};

/// Where the containers of root are, unless `--root` says otherwise.
const ROOT: &str = "/run/tare-oci";

/// Runs the verb that the arguments name; returns the process's exit code.
pub(crate) fn run(args: &[OsString], trace: Trace) -> u8 {
    let called = first_word(args).and_then(|word| TOP.iter().find(|v| v.name == word));
    let valued = args.iter().any(|a| boolean_value(a));
    let command = match called {
        Some(verb) => bare().subcommand(build(verb, valued)),
        None => TOP.iter().fold(bare(), |root, verb| root.subcommand(build(verb, valued))),
    };
    let command = if valued { command.mut_args(with_value) } else { command };
    let words = format!("called with {args:?}");
    let matches = match command.try_get_matches_from(args) {
        Ok(matches) => matches,
        Err(error) => return refused(&error),
    };
    let (Some(verb), Some((_, inner))) = (called, matches.subcommand()) else { return version() };
    let context = match context(&matches, trace) {
        Ok(context) => context,
        Err(error) => {
            Log::new(None, Format::Text, false).error(&error);
            return 1;
        }
    };
    context.log.debug(&words);
    match (verb.run)(inner, &context) {
        Ok(code) => code,
        Err(error) => {
            context.log.error(&error);
            1
        }
    }
}

/// The lines by which callers find out which runtime and which specification this is.
fn version() -> u8 {
    let text =
        format!("tare-runtime version {}\nspec: {}\n", env!("CARGO_PKG_VERSION"), tare_model::runtime_spec::VERSION);
    u8::from(out::text(text).is_err())
}

fn context(root: &ArgMatches, trace: Trace) -> Result<Context> {
    let path = |name: &str| root.get_one::<PathBuf>(name).cloned();
    let format = match root.get_one::<String>("log-format").map(String::as_str) {
        Some("json") => Format::Json,
        _ => Format::Text,
    };
    let euid = rustix::process::geteuid();
    let rootless = match root.get_one::<String>("rootless").map(String::as_str) {
        Some("true" | "1") => Some(true),
        Some("false" | "0") => Some(false),
        _ => None,
    };
    let directory = match path("root") {
        Some(path) => absolute(&path)?,
        None => match environment::get("XDG_RUNTIME_DIR").filter(|d| !d.is_empty()) {
            Some(directory) if !euid.is_root() => Path::new(&directory).join("tare-oci"),
            _ => PathBuf::from(ROOT),
        },
    };
    let log = Log::new(path("log"), format, root.get_flag("debug"));
    let systemd_cgroup = root.get_flag("systemd-cgroup");
    let trace_form = root.get_one::<String>("trace-setup").and_then(|name| Form::named(name));
    Ok(Context { root: directory, log, systemd_cgroup, rootless, trace, trace_form })
}

/// A path as seen from the working directory.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|e| Error::io("use path", path.display(), e))
}

fn bare() -> Command {
    let path = |name: &'static str, value: &'static str| {
        Arg::new(name).long(name).value_name(value).value_parser(value_parser!(PathBuf))
    };
    let flag = |name: &'static str| Arg::new(name).long(name).action(ArgAction::SetTrue);
    Command::new("tare-runtime")
        .about("Starts containers from bundles, as the OCI runtime specification says")
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .subcommand_required(false)
        .args_override_self(true)
        .subcommand_value_name("VERB")
        .subcommand_help_heading("Verbs")
        .arg(path("root", "DIRECTORY").help("Where the state of containers lies [default: /run/tare-oci]"))
        .arg(path("log", "FILE").help("Where errors and warnings are written, beside standard error"))
        .arg(
            Arg::new("log-format")
                .long("log-format")
                .value_name("FORMAT")
                .value_parser(["text", "json"])
                .default_value("text")
                .help("Form of the log's lines"),
        )
        .arg(flag("debug").help("Log more"))
        .arg(flag("systemd-cgroup").help("Have systemd make cgroups: cgroupsPath is slice:prefix:name"))
        .arg(
            Arg::new("rootless")
                .long("rootless")
                .value_name("auto|true|false")
                .value_parser(["auto", "true", "false", "1", "0"])
                .default_value("auto")
                .help("Go without what only root may do: cgroups that cannot be made are left out"),
        )
        .arg(
            Arg::new("trace-setup")
                .long("trace-setup")
                .value_name("text|json")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value("text")
                .value_parser(["text", "json"])
                .help("create, run, start, exec: write each step, its microseconds and its reason to standard error"),
        )
        .arg(path("criu", "FILE").hide(true).help("Accepted and not used"))
        .arg(flag("version").short('v').help("Print the version of tare and of the specification"))
}

fn build(verb: &Verb, valued: bool) -> Command {
    let command = (verb.build)(Command::new(verb.name)).args_override_self(true);
    if valued { command.mut_args(with_value) } else { command }
}

/// `--force=true`, which callers of runc may write. Built only where it occurs.
fn with_value(arg: Arg) -> Arg {
    if !matches!(arg.get_action(), ArgAction::SetTrue) {
        return arg;
    }
    arg.action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .default_value("false")
        .hide_default_value(true)
        .value_parser(|text: &str| boolean(text).ok_or("expected true or false"))
}

fn boolean_value(arg: &OsStr) -> bool {
    let text =
        arg.to_str().filter(|t| t.starts_with('-') && !t.starts_with("--rootless")).and_then(|t| t.split_once('='));
    text.is_some_and(|(_, value)| boolean(value).is_some())
}

/// The verb's name: what follows the global options.
fn first_word(args: &[OsString]) -> Option<&str> {
    let mut args = args.iter().skip(1);
    while let Some(arg) = args.next() {
        match arg.to_str() {
            Some("--root" | "--log" | "--log-format" | "--rootless" | "--criu") => drop(args.next()),
            Some(option) if option.starts_with('-') => {}
            word => return word,
        }
    }
    None
}

/// Help goes to standard output; mistakes to standard error.
fn refused(error: &clap::Error) -> u8 {
    use clap::error::ErrorKind as K;
    let text = error.render().to_string();
    if matches!(error.kind(), K::DisplayHelp | K::DisplayVersion) {
        return u8::from(out::text(text).is_err());
    }
    out::note(format_args!("tare: {}", text.strip_prefix("error: ").unwrap_or(&text).trim_end()));
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_command_tree_is_sound() {
        for valued in [false, true] {
            TOP.iter().fold(bare(), |root, verb| root.subcommand(build(verb, valued))).debug_assert();
        }
        for verb in TOP {
            let mut command = build(verb, false);
            assert!(command.get_about().is_some(), "{}", verb.name);
            assert!(command.render_long_help().to_string().lines().all(|l| l.chars().count() <= 120), "{}", verb.name);
            assert!(command.get_arguments().all(|a| a.get_help().is_some()), "{}", verb.name);
        }
    }

    #[test]
    fn the_verb_follows_the_global_options() {
        assert_eq!(first_word(&words("x --root /x --log=/y --systemd-cgroup state a")), Some("state"));
        assert_eq!(first_word(&words("x --version")), None);
    }

    #[test]
    fn options_stand_before_and_after_the_id() {
        let verb = TOP.iter().find(|v| v.name == "delete").unwrap();
        for line in ["x delete --force a", "x delete a --force", "x delete a -f", "x delete --force=true a"] {
            let args = words(line);
            let valued = args.iter().any(|a| boolean_value(a));
            let m = bare().subcommand(build(verb, valued)).try_get_matches_from(&args).unwrap();
            assert!(m.subcommand().unwrap().1.get_flag("force"), "{line}");
        }
    }
}
