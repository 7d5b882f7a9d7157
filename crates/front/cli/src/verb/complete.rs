use super::{Build, Names};
use crate::context::Context;
use crate::out::Out;
use crate::root;
use clap::{Args, Command};
use tare_model::{Reference, Result};

pub(super) const ARGS: Build = <CompleteArgs as Args>::augment_args;

/// Print what may follow, for the scripts of `tare completion`
#[derive(Debug, Args)]
pub(crate) struct CompleteArgs {
    /// The words so far, the unfinished one last
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

pub(super) fn main(args: CompleteArgs, context: &Context) -> Result<u8> {
    let (last, before) = args.words.split_last().map_or(("", &[][..]), |(l, b)| (l.as_str(), b));
    let before: Vec<&str> = before.iter().map(String::as_str).collect();
    let mut found = words(&before, last);
    if found.is_empty() && !last.starts_with('-') {
        found = names(&before, context).into_iter().map(|n| (n, String::new())).collect();
    }
    let mut out = Out::new();
    for (name, help) in found.iter().filter(|(n, _)| n.starts_with(last)) {
        if help.is_empty() { out.line(name)? } else { out.line(format_args!("{name}\t{help}"))? }
    }
    out.finish()?;
    Ok(0)
}

/// Verbs, flags, and the values that flags may have.
fn words(before: &[&str], last: &str) -> Vec<(String, String)> {
    if before.first() == Some(&"oci") {
        let verbs = if before.len() == 1 { &super::oci::VERBS[..] } else { &[] };
        return verbs.iter().map(|v| ((*v).to_owned(), String::new())).collect();
    }
    let full = root::full();
    let mut command = &full;
    for word in before.iter().filter(|w| !w.starts_with('-')) {
        match command.find_subcommand(word) {
            Some(inner) => command = inner,
            None => break,
        }
    }
    if last.starts_with('-') {
        return flags(command);
    }
    let flag = before.last().filter(|w| w.starts_with('-'));
    if let Some(values) = flag.and_then(|f| values(command, f)) {
        return values;
    }
    let verbs = command.get_subcommands().filter(|c| !c.is_hide_set());
    let mut found: Vec<_> = verbs.map(|c| (c.get_name().to_owned(), text(c.get_about()))).collect();
    if found.is_empty() && !command.has_subcommands() {
        let positional = command.get_positionals().next();
        found.extend(
            positional
                .into_iter()
                .flat_map(|a| a.get_possible_values())
                .map(|v| (v.get_name().to_owned(), String::new())),
        );
    }
    found
}

fn flags(command: &Command) -> Vec<(String, String)> {
    let shown = command.get_arguments().filter(|a| !a.is_hide_set());
    shown.filter_map(|a| Some((format!("--{}", a.get_long()?), text(a.get_help())))).collect()
}

/// What the flag before the cursor may be followed by.
fn values(command: &Command, flag: &str) -> Option<Vec<(String, String)>> {
    let name = flag.trim_start_matches('-');
    let arg = command
        .get_arguments()
        .find(|a| a.get_long() == Some(name) || a.get_short().is_some_and(|s| name == s.to_string()))?;
    let values = arg.get_possible_values();
    (arg.get_action().takes_values() && !values.is_empty())
        .then(|| values.iter().map(|v| (v.get_name().to_owned(), String::new())).collect())
}

fn text(styled: Option<&clap::builder::StyledStr>) -> String {
    styled.map(|s| s.to_string().lines().next().unwrap_or_default().to_owned()).unwrap_or_default()
}

/// Names of containers, images, volumes or networks, by what the verb works on. Completion must not fail: no engine, no names.
fn names(before: &[&str], context: &Context) -> Vec<String> {
    let plain: Vec<&str> = before.iter().copied().filter(|w| !w.starts_with('-')).collect();
    let Some((verb, positionals)) = root::verb_of(&plain) else { return Vec::new() };
    let Ok(engine) = context.engine() else { return Vec::new() };
    let containers = |all| {
        let list = engine.containers(all).unwrap_or_default();
        list.into_iter().map(|c| c.name).collect::<Vec<_>>()
    };
    let images = || {
        let list = engine.store().images().unwrap_or_default();
        list.iter().flat_map(|i| i.names.iter().map(Reference::familiar)).collect::<Vec<_>>()
    };
    let networks = || engine.networks().unwrap_or_default().into_iter().map(|n| n.name).collect::<Vec<_>>();
    let volumes = || engine.volumes().unwrap_or_default().into_iter().map(|v| v.name).collect::<Vec<_>>();
    if matches!(before.last(), Some(&("--network" | "--net"))) {
        return ["host", "none"].into_iter().map(str::to_owned).chain(networks()).collect();
    }
    match verb.names {
        Names::Nothing => Vec::new(),
        Names::Containers => containers(true),
        Names::Running => containers(false),
        Names::Images => images(),
        Names::Volumes => volumes(),
        Names::Networks => networks(),
        Names::NetworkAndContainer if positionals.is_empty() => networks(),
        Names::NetworkAndContainer => containers(true),
        Names::Anything => [containers(true), images(), volumes(), networks()].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(before: &[&str], last: &str) -> Vec<String> {
        words(before, last).into_iter().map(|(n, _)| n).filter(|n| n.starts_with(last)).collect()
    }

    #[test]
    fn verbs_flags_and_values() {
        assert_eq!(found(&[], "pu"), ["pull", "push"]);
        assert_eq!(found(&["volume"], "p"), ["prune"]);
        assert!(found(&["run"], "--mem").contains(&"--memory-swap".to_owned()));
        assert_eq!(found(&["run", "--pull"], "n"), ["never"]);
        assert_eq!(found(&["completion"], ""), ["bash", "zsh", "fish"]);
        assert!(found(&["rm"], "").is_empty());
        assert!(!found(&[], "").contains(&"__complete".to_owned()));
    }
}
