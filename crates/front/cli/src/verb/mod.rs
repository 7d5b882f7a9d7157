//! The verbs, one file each: convert what was typed, call the engine once, print.

mod attach;
mod commit;
mod complete;
mod completion;
mod container;
mod cp;
mod create;
mod diff;
mod exec;
mod export;
mod hello;
mod history;
mod image;
mod images;
mod import;
mod info;
mod inspect;
mod kill;
mod load;
mod logs;
mod network;
mod ns;
mod oci;
mod pause;
pub(crate) mod port;
mod ps;
mod pull;
mod push;
mod rename;
mod rm;
mod rmi;
mod run;
mod save;
mod start;
mod stats;
mod stop;
mod system;
mod tag;
mod top;
mod unpause;
mod untag;
mod update;
mod version;
mod volume;
mod wait;

use crate::context::Context;
use clap::{ArgMatches, Args, Command};
use tare_model::{Error, Kind, Result};

/// A verb, or a group of them.
#[derive(Debug)]
pub(crate) struct Verb {
    pub(crate) name: &'static str,
    pub(crate) aliases: &'static [&'static str],
    /// Of a group; a verb's own is its arguments' doc comment.
    pub(crate) about: &'static str,
    pub(crate) hidden: bool,
    /// What its positional arguments name, for completion.
    pub(crate) names: Names,
    pub(crate) entry: Entry,
}

/// What a verb's positional arguments name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    Nothing,
    Containers,
    Running,
    Images,
    Volumes,
    Networks,
    /// A network, then a container.
    NetworkAndContainer,
    Anything,
}

/// What stands behind a name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Entry {
    Group(&'static [Verb]),
    Leaf { build: fn(Command) -> Command, run: fn(&ArgMatches, &Context) -> Result<u8> },
}

macro_rules! verb {
    ($name:literal $(| $alias:literal)*, $module:ident, $names:ident) => {
        verb!($name $(| $alias)*, $module::ARGS, $module::main, $names)
    };
    ($name:literal $(| $alias:literal)*, $build:expr, $main:path, $names:ident) => {
        Verb {
            name: $name,
            aliases: &[$($alias),*],
            about: "",
            hidden: false,
            names: Names::$names,
            entry: Entry::Leaf { build: $build, run: |matches, context| $main(parse(matches)?, context) },
        }
    };
}

/// `Args` of clap as a plain function, for tables.
type Build = fn(Command) -> Command;

fn parse<T: Args>(matches: &ArgMatches) -> Result<T> {
    T::from_arg_matches(matches).map_err(|e| Error::new(Kind::Invalid, "read the arguments", "").because(e))
}

const fn group(name: &'static str, about: &'static str, verbs: &'static [Verb]) -> Verb {
    Verb { name, aliases: &[], about, hidden: false, names: Names::Nothing, entry: Entry::Group(verbs) }
}

const fn hidden(verb: Verb) -> Verb {
    Verb { hidden: true, ..verb }
}

/// The verbs behind `tare`.
pub(crate) const TOP: &[Verb] = &[
    verb!("run", run, Images),
    verb!("create", create, Images),
    verb!("start", start, Containers),
    verb!("stop", stop, Running),
    verb!("kill", kill, Running),
    verb!("rm", rm, Containers),
    verb!("ps" | "ls" | "list", ps, Nothing),
    verb!("logs", logs, Containers),
    verb!("exec", exec, Running),
    verb!("attach", attach, Running),
    verb!("wait", wait, Containers),
    verb!("inspect", inspect, Anything),
    verb!("stats", stats, Running),
    verb!("top", top, Running),
    verb!("pause", pause, Running),
    verb!("unpause", unpause, Containers),
    verb!("update", update, Containers),
    verb!("rename", rename, Containers),
    verb!("diff", diff, Containers),
    verb!("commit", commit, Containers),
    verb!("cp", cp, Containers),
    verb!("export", export, Containers),
    verb!("ns", ns, Running),
    verb!("pull", pull, Images),
    verb!("push", push, Images),
    verb!("load", load, Nothing),
    verb!("save", save, Images),
    verb!("import", import, Nothing),
    verb!("images", images, Images),
    verb!("rmi", rmi, Images),
    verb!("tag", tag, Images),
    verb!("untag", untag, Images),
    verb!("history", history, Images),
    group("port", "Published ports: `tare port CONTAINER [PORT]` lists them", PORT),
    group("network", "Networks, and who is on them", NETWORK),
    group("volume", "Directories that outlive containers", VOLUME),
    group("container", "The verbs about containers", CONTAINER),
    group("image", "The verbs about images", IMAGE),
    group("system", "Disk space, and whether everything is as it should be", SYSTEM),
    verb!("version", version, Nothing),
    verb!("info", info, Nothing),
    verb!("completion", completion, Nothing),
    verb!("oci", oci, Nothing),
    hidden(verb!("hello", hello, Nothing)),
    hidden(verb!("__complete", complete, Nothing)),
];

/// The verbs behind `tare container`.
const CONTAINER: &[Verb] = &[
    verb!("ls" | "list" | "ps", ps, Nothing),
    verb!("inspect", inspect::CONTAINER, inspect::container, Containers),
    verb!("run", run, Images),
    verb!("create", create, Images),
    verb!("start", start, Containers),
    verb!("stop", stop, Running),
    verb!("kill", kill, Running),
    verb!("rm" | "remove", rm, Containers),
    verb!("logs", logs, Containers),
    verb!("exec", exec, Running),
    verb!("attach", attach, Running),
    verb!("wait", wait, Containers),
    verb!("stats", stats, Running),
    verb!("top", top, Running),
    verb!("pause", pause, Running),
    verb!("unpause", unpause, Containers),
    verb!("update", update, Containers),
    verb!("rename", rename, Containers),
    verb!("diff", diff, Containers),
    verb!("commit", commit, Containers),
    verb!("cp", cp, Containers),
    verb!("export", export, Containers),
    verb!("prune", container::prune::ARGS, container::prune::main, Nothing),
    group("port", "Published ports: `tare container port CONTAINER [PORT]` lists them", PORT),
];

/// The verbs behind `tare image`.
const IMAGE: &[Verb] = &[
    verb!("ls" | "list", images, Images),
    verb!("inspect", inspect::IMAGE, inspect::image, Images),
    verb!("rm" | "remove", rmi, Images),
    verb!("history", history, Images),
    verb!("tag", tag, Images),
    verb!("untag", untag, Images),
    verb!("tree", image::tree::ARGS, image::tree::main, Images),
    verb!("diff", image::diff::ARGS, image::diff::main, Images),
    verb!("exists", image::exists::ARGS, image::exists::main, Images),
    verb!("mount", image::mount::ARGS, image::mount::main, Images),
    verb!("unmount" | "umount", image::unmount::ARGS, image::unmount::main, Images),
    verb!("pull", pull, Images),
    verb!("push", push, Images),
    verb!("load", load, Nothing),
    verb!("save", save, Images),
    verb!("import", import, Nothing),
    verb!("prune", image::prune::ARGS, image::prune::main, Nothing),
    verb!("verify", image::verify::ARGS, image::verify::main, Images),
];

/// The verbs behind `tare system`.
const SYSTEM: &[Verb] = &[
    verb!("df", system::df::ARGS, system::df::main, Nothing),
    verb!("check", system::check::ARGS, system::check::main, Nothing),
    verb!("prune", system::prune::ARGS, system::prune::main, Nothing),
    verb!("info", info, Nothing),
];

/// The verbs behind `tare volume`.
const VOLUME: &[Verb] = &[
    verb!("create", volume::create::ARGS, volume::create::main, Nothing),
    verb!("ls" | "list", volume::ls::ARGS, volume::ls::main, Nothing),
    verb!("inspect", inspect::VOLUME, inspect::volume, Volumes),
    verb!("rm" | "remove", volume::rm::ARGS, volume::rm::main, Volumes),
    verb!("prune", volume::prune::ARGS, volume::prune::main, Nothing),
];

/// The verbs behind `tare network`.
const NETWORK: &[Verb] = &[
    verb!("create", network::create::ARGS, network::create::main, Nothing),
    verb!("ls" | "list", network::ls::ARGS, network::ls::main, Nothing),
    verb!("inspect", inspect::NETWORK, inspect::network, Networks),
    verb!("rm" | "remove", network::rm::ARGS, network::rm::main, Networks),
    verb!("prune", network::prune::ARGS, network::prune::main, Nothing),
    verb!("exists", network::exists::ARGS, network::exists::main, Networks),
    verb!("connect", network::connect::ARGS, network::connect::main, NetworkAndContainer),
    verb!("disconnect", network::disconnect::ARGS, network::disconnect::main, NetworkAndContainer),
    verb!("reload", network::reload::ARGS, network::reload::main, Running),
    verb!("attach-netns", network::attach_netns::ARGS, network::attach_netns::main, Running),
    verb!("detach-netns", network::detach_netns::ARGS, network::detach_netns::main, Running),
];

/// The verbs behind `tare port`.
const PORT: &[Verb] = &[
    verb!("ls" | "list", port::ls::ARGS, port::ls::main, Running),
    verb!("add", port::add::ARGS, port::add::main, Containers),
    verb!("rm" | "remove", port::rm::ARGS, port::rm::main, Containers),
    verb!("explain", port::explain::ARGS, port::explain::main, Running),
];
