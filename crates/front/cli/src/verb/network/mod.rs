//! `tare network`: one file for each verb.

pub(super) mod attach_netns;
pub(super) mod detach_netns;
pub(super) mod reload;
