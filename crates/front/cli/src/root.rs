//! The root command: which verbs there are, and the one that was called.
//!
//! Starting must be fast, so only the verb that was called has its arguments built. Everything is built for help, for
//! completion, and to suggest a name where there is no such verb.

use crate::context::Context;
use crate::errors::{self, code};
use crate::parse::boolean;
use crate::verb::{Entry, TOP, Verb};
use crate::{environment, out, unsupported};
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use tare_engine::{Snapshotter, Trace};
use tare_model::Result;

/// The verbs in which a process of this program enters a container.
const LAUNCHING: [&str; 3] = ["run", "start", "exec"];

/// The whole command tree.
pub(crate) fn full() -> Command {
    TOP.iter().fold(bare(), |root, verb| root.subcommand(build(verb, Booleans::Flags)))
}

/// Runs the verb that the arguments name; returns the process's exit code.
pub(crate) fn run(args: &[OsString], trace: Trace) -> u8 {
    let args = &port_form(help_flag(args));
    let called = first_word(args).and_then(|word| find(TOP, word.to_str()?));
    let booleans = if args.iter().any(|a| boolean_value(a)) { Booleans::Values } else { Booleans::Flags };
    let command = match called {
        Some(verb) => bare().subcommand(whole_text(build(verb, booleans))),
        None => full(),
    };
    match command.try_get_matches_from(args) {
        Ok(matches) => dispatch(&matches, trace),
        Err(error) => refused(&error, called),
    }
}

fn dispatch(root: &ArgMatches, trace: Trace) -> u8 {
    let mut list = TOP;
    let mut matches = root;
    let mut path = Vec::new();
    loop {
        let Some((name, inner)) = matches.subcommand() else { return code::ENGINE };
        let Some(verb) = find(list, name) else { return code::ENGINE };
        path.push(verb.name);
        matches = inner;
        match verb.entry {
            Entry::Group(inner) => list = inner,
            Entry::Leaf { run, .. } => {
                let mut context = match context(root, path.join(" "), trace) {
                    Ok(context) => context,
                    Err(error) => return errors::report(&path.join(" "), &error),
                };
                let ready = if LAUNCHING.contains(&verb.name) { context.protect() } else { Ok(()) };
                return match ready.and_then(|()| run(matches, &context)) {
                    Ok(code) => code,
                    Err(error) => errors::report(&context.verb, &error),
                };
            }
        }
    }
}

fn context(root: &ArgMatches, verb: String, trace: Trace) -> Result<Context> {
    let path = |option: &str, variable: &str, default: &str| {
        let given = root.get_one::<PathBuf>(option).cloned();
        let given = given.or_else(|| environment::non_empty(variable).map(PathBuf::from));
        environment::places().cwd.join(given.unwrap_or_else(|| PathBuf::from(default)))
    };
    let snapshotter = match root.get_one::<Snapshotter>("snapshotter").copied() {
        None => environment::non_empty("TARE_SNAPSHOTTER").map(|word| word.parse()).transpose()?,
        given => given,
    };
    Ok(Context {
        snapshotter,
        root: path("root", "TARE_ROOT", "/var/lib/tare"),
        run: path("run", "TARE_RUN", "/run/tare"),
        executable: None,
        trace,
        verb,
    })
}

fn bare() -> Command {
    let directory = |name: &'static str| {
        Arg::new(name).long(name).value_name("DIRECTORY").value_parser(clap::value_parser!(PathBuf))
    };
    Command::new("tare")
        .about("Runs containers")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand_value_name("VERB")
        .subcommand_help_heading("Verbs")
        .arg(
            directory("root")
                .help("Where images, containers and volumes lie [env: TARE_ROOT] [default: /var/lib/tare]"),
        )
        .arg(directory("run").help("Where the state of what runs lies [env: TARE_RUN] [default: /run/tare]"))
        .arg(
            Arg::new("snapshotter")
                .long("snapshotter")
                .value_name("FORM")
                .value_parser(|word: &str| word.parse::<Snapshotter>().map_err(|_| "expected auto, erofs or overlay"))
                .help("What new layers are unpacked as: auto, erofs, overlay [env: TARE_SNAPSHOTTER] [default: auto]"),
        )
        .arg(Arg::new("version").long("version").short('v').action(ArgAction::Version).help("Print the version"))
        .after_help(
            "Examples:\n  tare run hello                          say from inside what isolates a container\n  \
             tare run -it --rm debian bash           a shell\n  \
             tare run -d --name web -p 8080:80 IMAGE a service\n  tare ps                                 what runs\n\n\
             `tare VERB --help` says more.",
        )
}

/// How flags without a value are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Booleans {
    /// `--rm`.
    Flags,
    /// Also `--rm=false`, which docker allows. Built only where it occurs: it clutters the help.
    Values,
}

fn build(verb: &Verb, booleans: Booleans) -> Command {
    let command = Command::new(verb.name).aliases(verb.aliases.iter().copied()).hide(verb.hidden);
    match verb.entry {
        Entry::Group(inner) => {
            let command = command
                .about(verb.about)
                .subcommand_required(true)
                .arg_required_else_help(true)
                .disable_help_subcommand(true)
                .subcommand_value_name("VERB")
                .subcommand_help_heading("Verbs");
            inner.iter().fold(command, |c, v| c.subcommand(build(v, booleans)))
        }
        Entry::Leaf { build, .. } => {
            let command = with_help(build(command).args_override_self(true));
            match booleans {
                Booleans::Flags => command,
                Booleans::Values => command.mut_args(with_value),
            }
        }
    }
}

/// `--help` in the form that fits on a screen; `-h` too, where the verb has no other meaning for it.
fn with_help(command: Command) -> Command {
    let help = Arg::new("help").long("help").action(ArgAction::HelpShort).help("Print help").help_heading(None::<&str>);
    let taken = command.get_arguments().any(|a| a.get_short() == Some('h'));
    command.disable_help_flag(true).arg(if taken { help } else { help.short('h') })
}

/// The whole of a verb's doc comment, not only its first line, which lists of verbs show.
fn whole_text(command: Command) -> Command {
    match command.get_long_about().cloned() {
        Some(text) => command.about(text),
        None => command,
    }
}

/// `tare help run` means `tare run --help`.
fn help_flag(args: &[OsString]) -> Vec<OsString> {
    let mut args = args.to_vec();
    if first_word(&args) == Some(OsStr::new("help"))
        && let Some(at) = args.iter().position(|a| a == "help")
    {
        args.remove(at);
        args.push("--help".into());
    }
    args
}

/// `tare port CONTAINER` means `tare port ls CONTAINER`.
fn port_form(mut args: Vec<OsString>) -> Vec<OsString> {
    let Some(mut at) = first_word_at(&args) else { return args };
    if args[at] == "container" {
        at += 1;
    }
    if args.get(at).is_some_and(|word| word == "port")
        && let Some(verb) = crate::verb::port::with_verb(&args[at + 1..])
    {
        args.insert(at + 1, verb.into());
    }
    args
}

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

/// The verb's name: what follows the global options.
fn first_word(args: &[OsString]) -> Option<&OsStr> {
    first_word_at(args).map(|at| args[at].as_os_str())
}

fn first_word_at(args: &[OsString]) -> Option<usize> {
    let mut all = args.iter().enumerate().skip(1);
    while let Some((at, arg)) = all.next() {
        match arg.to_str() {
            Some("--root" | "--run" | "--snapshotter") => drop(all.next()),
            Some(option) if option.starts_with('-') => {}
            _ => return Some(at),
        }
    }
    None
}

fn boolean_value(arg: &OsStr) -> bool {
    let text = arg.to_str().filter(|t| t.starts_with('-')).and_then(|t| t.split_once('='));
    text.is_some_and(|(_, value)| boolean(value).is_some())
}

fn find<'a>(list: &'a [Verb], name: &str) -> Option<&'a Verb> {
    list.iter().find(|v| v.name == name || v.aliases.contains(&name))
}

/// Help and version go to standard output; mistakes to standard error, with docker's exit code for them.
fn refused(error: &clap::Error, called: Option<&Verb>) -> u8 {
    use clap::error::ErrorKind as K;
    match error.kind() {
        K::DisplayHelp | K::DisplayVersion => {
            let text = error.render().to_string();
            return out::print(text.trim_end()).map_or(code::FAILED, |()| 0);
        }
        K::DisplayHelpOnMissingArgumentOrSubcommand => out::note(error.render().to_string().trim_end()),
        _ => {
            let text = error.render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
            let verb = called.map(|v| format!("{}: ", v.name)).unwrap_or_default();
            let known =
                unsupported::flag_of(error).filter(|_| called.is_some()).and_then(|f| unsupported::sentence(&f));
            out::note(format_args!("tare: {verb}{}", known.as_deref().unwrap_or(text)));
        }
    }
    code::ENGINE
}

/// The verb that words without flags call, and its positional arguments so far.
pub(crate) fn verb_of<'a>(words: &[&'a str]) -> Option<(&'static Verb, Vec<&'a str>)> {
    let mut list = TOP;
    let mut rest = words.iter().copied();
    loop {
        let verb = find(list, rest.next()?)?;
        match verb.entry {
            Entry::Group(inner) => list = inner,
            Entry::Leaf { .. } => return Some((verb, rest.collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        full().debug_assert();
        let values = TOP.iter().fold(bare(), |root, verb| root.subcommand(build(verb, Booleans::Values)));
        values.debug_assert();
    }

    #[test]
    fn every_verb_has_help_with_an_example() {
        fn check(command: &mut Command, path: &str) {
            if command.has_subcommands() {
                assert!(command.get_about().is_some(), "{path} lacks a description");
                for inner in command.get_subcommands_mut() {
                    let path = format!("{path} {}", inner.get_name());
                    check(inner, &path);
                }
                return;
            }
            if command.is_hide_set() {
                return;
            }
            let help = command.render_long_help().to_string();
            assert!(command.get_about().is_some(), "{path} lacks a description");
            assert!(help.contains("Examples:\n  tare "), "{path} lacks examples:\n{help}");
            assert!(help.lines().all(|l| l.chars().count() <= 120), "{path} has a line above 120 characters");
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{path}: {} has no help", arg.get_id());
            }
        }
        for command in full().get_subcommands_mut() {
            let path = format!("tare {}", command.get_name());
            check(command, &path);
        }
    }

    #[test]
    fn booleans_may_have_a_value() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        let args = words("tare run --rm=false -i=true -td image -x --rm");
        assert!(args.iter().any(|a| boolean_value(a)));
        let verb = find(TOP, "run").unwrap();
        let m = bare().subcommand(build(verb, Booleans::Values)).try_get_matches_from(&args).unwrap();
        let (_, m) = m.subcommand().unwrap();
        assert_eq!((m.get_flag("rm"), m.get_flag("interactive"), m.get_flag("tty")), (false, true, true));
        assert_eq!(m.get_many::<String>("words").unwrap().collect::<Vec<_>>(), ["image", "-x", "--rm"]);
    }

    #[test]
    fn help_has_two_spellings() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(help_flag(&words("tare help volume ls")), words("tare volume ls --help"));
        assert_eq!(help_flag(&words("tare help")), words("tare --help"));
        assert_eq!(help_flag(&words("tare run help")), words("tare run help"));
        let verb = find(TOP, "run").unwrap();
        let help = whole_text(build(verb, Booleans::Flags)).render_help().to_string();
        assert!(help.contains("125 means that tare failed") && help.contains("-h, --hostname"), "{help}");
    }

    #[test]
    fn port_has_a_short_form() {
        let formed = |line: &str| {
            let words = port_form(line.split(' ').map(OsString::from).collect());
            words.join(OsStr::new(" ")).into_string().unwrap()
        };
        assert_eq!(formed("tare port web 80"), "tare port ls web 80");
        assert_eq!(formed("tare --root /x port add"), "tare --root /x port ls add");
        assert_eq!(formed("tare container port web"), "tare container port ls web");
        for line in
            ["tare port add web 80", "tare port", "tare run port web", "tare port --help", "tare container ls port"]
        {
            assert_eq!(formed(line), line);
        }
    }

    #[test]
    fn the_verb_follows_the_global_options() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(first_word(&words("tare --root /x --run=/y ps -a")), Some(OsStr::new("ps")));
        assert_eq!(first_word(&words("tare --help")), None);
        assert_eq!(verb_of(&["container", "rm", "-f", "x"]).unwrap().0.name, "rm");
    }
}
