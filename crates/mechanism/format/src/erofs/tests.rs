use super::*;
use crate::layer::Change;
use crate::tar;
use std::io::Write as _;

/// The image of an archive, as the store makes it; sparse files that would have to be copied are refused.
fn image_of(archive: &[u8]) -> Vec<u8> {
    let mut tree = Tree::default();
    let mut reader = tar::Reader::new(archive, tar::Limits::default());
    while let Some(entry) = reader.next().unwrap() {
        let data = Data::of(&entry, ARCHIVE + reader.position()).unwrap();
        tree.put(Change::of(entry).unwrap(), data).unwrap();
    }
    assert!(tree.unsettled().unwrap().is_empty());
    let image = Image::plan(&tree, archive.len() as u64, 0).unwrap();
    let mut out = image.head();
    out.extend_from_slice(archive);
    out.resize(usize::try_from(image.index_at()).unwrap(), 0);
    image.write(&mut out).unwrap();
    assert_eq!(out.len() as u64, image.size());
    out
}

#[test]
fn scratch_archive_from_the_environment() {
    let Ok(path) = std::env::var("EROFS_TRY") else { return };
    let archive = std::fs::read(&path).unwrap();
    let begun = std::time::Instant::now();
    let image = image_of(&archive);
    println!("{} bytes of index in {:?}", image.len() - archive.len(), begun.elapsed());
    std::fs::File::create(format!("{path}.erofs")).unwrap().write_all(&image).unwrap();
}
