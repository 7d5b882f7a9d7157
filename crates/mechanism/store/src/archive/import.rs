//! A root filesystem becomes an image.

use crate::{Event, Image, Progress, Store};
use std::io::Read;
use tare_model::image::{Compression, History, ImageConfig};
use tare_model::{Reference, Result};

/// What an import records.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// The image's name.
    pub name: Option<Reference>,
    /// Config to start from; platform and time are filled in if they are missing.
    pub config: ImageConfig,
    /// Comment of the one history entry.
    pub message: Option<String>,
}

impl Store {
    /// Makes an image of a root filesystem's tar stream (maybe compressed, then kept as it is; else gzip, fast).
    ///
    /// # Errors
    /// As [`Store::add_layer`].
    pub fn import(&self, tar: &mut (dyn Read + Send), import: Import, progress: &dyn Progress) -> Result<Image> {
        let lease = self.lease()?;
        progress.event(&Event::Started { item: super::IMPORTED, verb: "import", total: None });
        let made = self.add_layer(&lease, tar, Compression::Gzip, progress)?;
        progress.event(&Event::Finished { item: super::IMPORTED, outcome: "done" });
        let mut config = import.config;
        let created = config.created.get_or_insert_with(|| jiff::Timestamp::now().to_string()).clone();
        config.history.push(History {
            created: Some(created),
            comment: Some(import.message.unwrap_or_else(|| "imported".to_owned())),
            ..History::default()
        });
        let names: Vec<_> = import.name.into_iter().collect();
        self.image_from_layer(&lease, None, Some(made.layer), config, &names)
    }
}
