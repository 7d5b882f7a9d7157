//! What `events` prints of a container: the form of runc's lines, which containerd and others read.

use serde_json::{Value, json};
use tare_model::Result;
use tare_runtime::cgroup::Group;

/// A line about what a group uses.
pub(crate) fn line(id: &str, group: &Group) -> Result<Value> {
    Ok(json!({ "type": "stats", "id": id, "data": group.statistics()? }))
}

/// A line about processes killed for want of memory.
pub(crate) fn oom(id: &str) -> Value {
    json!({ "type": "oom", "id": id })
}
