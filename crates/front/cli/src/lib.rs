//! wip
#![allow(dead_code)]
mod parse;
mod template;
