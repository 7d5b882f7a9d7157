//! Questions to the caller before something cannot be undone.

use crate::out;
use std::io::Write;
use tare_model::{Error, Kind, Result};

/// Asks on standard error; anything but yes is no.
///
/// # Errors
/// `Kind::Cancelled`, under the name of the operation.
pub(crate) fn confirm(question: &str, operation: &'static str) -> Result<()> {
    drop(write!(std::io::stderr(), "{question} Go on? [y/N] "));
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    if read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(());
    }
    out::note("");
    Err(Error::new(Kind::Cancelled, operation, "").because("nothing was removed").hint("-f does not ask"))
}
