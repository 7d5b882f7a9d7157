//! How fast an endpoint may be.

use serde::{Deserialize, Serialize};
use tare_model::{Error, Kind, Result};

/// The least rate in bits per second: below it a full packet takes longer than a second.
pub const LEAST_RATE: u64 = 16_000;

/// Largest rates of an endpoint, in bits per second; `None`: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// What the container receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_container: Option<u64>,
    /// What the container sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_container: Option<u64>,
}

impl Rate {
    /// Whether nothing is limited.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        *self == Rate::default()
    }

    /// Refuses rates that no packet would get through.
    ///
    /// # Errors
    /// [`Kind::Invalid`].
    pub fn check(&self) -> Result<()> {
        match [self.to_container, self.from_container].into_iter().flatten().find(|rate| *rate < LEAST_RATE) {
            None => Ok(()),
            Some(rate) => Err(Error::new(Kind::Invalid, "limit rate to", format_args!("{rate} bit/s"))
                .because(format_args!("the least is {} kbit/s", LEAST_RATE / 1000))),
        }
    }
}
