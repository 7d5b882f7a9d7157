pub(super) mod create;
pub(super) mod ls;
pub(super) mod prune;
pub(super) mod rm;
