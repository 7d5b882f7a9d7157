//! The verbs, one file each: what was typed, and what is done.

mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod restore;
mod resume;
mod run;
mod spec;
mod start;
mod state;
mod update;

use crate::arguments::parse;
use crate::context::Context;
use clap::{ArgMatches, Args, Command};
use tare_model::Result;

/// A verb.
#[derive(Debug)]
pub(crate) struct Verb {
    pub(crate) name: &'static str,
    pub(crate) build: fn(Command) -> Command,
    pub(crate) run: fn(&ArgMatches, &Context) -> Result<u8>,
}

macro_rules! verb {
    ($name:literal, $module:ident :: $args:ident) => {
        Verb {
            name: $name,
            build: <$module::$args as Args>::augment_args,
            run: |matches, context| $module::main(parse::<$module::$args>(matches)?, context),
        }
    };
}

/// In the order of a container's life.
pub(crate) const TOP: &[Verb] = &[
    verb!("create", create::CreateArgs),
    verb!("start", start::StartArgs),
    verb!("run", run::RunArgs),
    verb!("state", state::StateArgs),
    verb!("kill", kill::KillArgs),
    verb!("delete", delete::DeleteArgs),
    verb!("list", list::ListArgs),
    verb!("exec", exec::ExecArgs),
    verb!("ps", ps::PsArgs),
    verb!("pause", pause::PauseArgs),
    verb!("resume", resume::ResumeArgs),
    verb!("update", update::UpdateArgs),
    verb!("events", events::EventsArgs),
    verb!("spec", spec::SpecArgs),
    verb!("features", features::FeaturesArgs),
    verb!("checkpoint", checkpoint::CheckpointArgs),
    verb!("restore", restore::RestoreArgs),
];
