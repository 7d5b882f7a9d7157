//! Images in memory: what a tree comes to, written and read back.

use super::*;
use crate::layer::Change;
use crate::tar;
use tare_model::Result;

/// The image of an archive, as the store makes it; nothing may have to be copied.
fn image_of(archive: &[u8]) -> Result<Vec<u8>> {
    let mut tree = Tree::default();
    let mut reader = tar::Reader::new(archive, tar::Limits::default());
    while let Some(entry) = reader.next()? {
        let Plan::There(data) = Plan::of(&entry, ARCHIVE + reader.position()) else { panic!("to be copied") };
        tree.put(Change::of(entry)?, data)?;
    }
    assert!(tree.unsettled().is_empty());
    let image = Image::plan(&tree, archive.len() as u64, 0)?;
    let mut out = image.head();
    out.extend_from_slice(archive);
    out.resize(usize::try_from(image.index_at()).unwrap(), 0);
    image.write(&mut out).unwrap();
    assert_eq!(out.len() as u64, image.size());
    Ok(out)
}
