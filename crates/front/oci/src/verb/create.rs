pub(super) use crate::arguments::CreateArgs;
use crate::context::Context;
use crate::making::{self, Made, Purpose};
use crate::state;
use tare_model::Result;

pub(super) fn main(args: CreateArgs, context: &Context) -> Result<u8> {
    context.protect()?;
    let Made { container, launch, .. } = making::make(context, &args, Purpose::Create)?;
    // From here on the process belongs to whoever starts or deletes the container.
    launch.leave();
    state::unlock(&container.dir);
    context.show_trace();
    Ok(0)
}
