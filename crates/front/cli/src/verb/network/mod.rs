//! `tare network`: one file for each verb.

pub(super) mod attach_netns;
pub(super) mod connect;
pub(super) mod create;
pub(super) mod detach_netns;
pub(super) mod disconnect;
pub(super) mod exists;
pub(super) mod ls;
pub(super) mod prune;
pub(super) mod reload;
pub(super) mod rm;
