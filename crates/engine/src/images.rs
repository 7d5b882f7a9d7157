//! Images as the engine sees them: one more name than the store knows.

use crate::Engine;
use crate::starter::STARTER;
use tare_model::{Error, Kind, Result};
use tare_store::Image;

impl Engine {
    /// Finds an image by reference, id or id prefix. `hello` is the starter image, made on first use.
    ///
    /// # Errors
    /// `Kind::NotFound` with the command that would fetch it.
    pub fn image(&self, name: &str) -> Result<Image> {
        match self.store.image(name) {
            Ok(image) if image.names.iter().any(|n| n.to_string() == STARTER) && is_starter(name) => self.starter(),
            Err(e) if e.kind() == Kind::NotFound && is_starter(name) => self.starter(),
            other => other,
        }
    }

    fn starter(&self) -> Result<Image> {
        let binary = std::fs::File::open("/proc/self/exe").map_err(|e| Error::io("open", "/proc/self/exe", e))?;
        match self.store.image(STARTER) {
            Ok(image) if crate::starter::is_of(&image, &binary)? => Ok(image),
            Ok(_) => crate::starter::make(&self.store, &binary),
            Err(e) if e.kind() == Kind::NotFound => crate::starter::make(&self.store, &binary),
            Err(e) => Err(e),
        }
    }
}

pub(crate) fn is_starter(name: &str) -> bool {
    matches!(name, "hello" | "hello:latest" | "localhost/hello" | STARTER)
}
