//! The hooks that run in the runtime's namespaces: their moment, their input, and what their failure means.

use crate::context::Context;
use crate::state::State;
use tare_model::Result;
use tare_model::runtime_spec::Hooks;
use tare_runtime::launch::hook::{self, ContainerState, Status};

/// What hooks are told of a container, whatever happens to it.
pub(crate) fn told(state: &State) -> ContainerState {
    ContainerState {
        id: state.id.clone(),
        bundle: state.bundle.display().to_string(),
        annotations: state.annotations.clone(),
    }
}

/// Those that end `create` when one fails: prestart, then createRuntime. The child stands before its change of root.
pub(crate) fn creating(hooks: Option<&Hooks>, state: &ContainerState, pid: i32) -> Result<()> {
    let Some(hooks) = hooks else { return Ok(()) };
    if hooks.prestart.is_empty() && hooks.create_runtime.is_empty() {
        return Ok(());
    }
    let state = state.json(Status::Creating, Some(pid));
    hook::run_all("prestart", &hooks.prestart, &state)?;
    hook::run_all("createRuntime", &hooks.create_runtime, &state)
}

/// After the program began. The caller stops the container when one fails (runtime.md#lifecycle).
pub(crate) fn poststart(state: &State) -> Result<()> {
    if state.hooks.poststart.is_empty() {
        return Ok(());
    }
    hook::run_all("poststart", &state.hooks.poststart, &told(state).json(Status::Running, Some(state.pid)))
}

/// After the container is gone. Each runs, whatever the others did, and failures are only told.
pub(crate) fn poststop(context: &Context, state: &State) {
    if state.hooks.poststop.is_empty() {
        return;
    }
    let told = told(state).json(Status::Stopped, None);
    for one in &state.hooks.poststop {
        if let Err(e) = hook::run_all("poststop", std::slice::from_ref(one), &told) {
            context.log.warn(&e.to_string());
        }
    }
}
