//! How much space what takes: all of it, to the block, as du(1) counts.

use crate::disk::Disk;
use crate::image::Rows;
use crate::lease::names;
use crate::rows::{self, References};
use crate::{ContainerRow, Store};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use tare_model::{Digest, Reference, Result};

/// Things of one sort, and what they take together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageItem {
    /// How many there are.
    pub count: usize,
    /// How many are used.
    pub active: usize,
    /// Bytes.
    pub bytes: u64,
    /// Bytes that removing everything unused would free.
    pub reclaimable: u64,
}

/// What one image takes: its unpacked layers and the blobs that it came as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUsage {
    /// Its id.
    pub id: Digest,
    /// Its names, then its repository digests.
    pub names: Vec<Reference>,
    /// Unix nanoseconds.
    pub created: i64,
    /// All of it, in bytes.
    pub bytes: u64,
    /// Of it, what other images have as well.
    pub shared: u64,
    /// Of it, blobs.
    pub blobs: u64,
    /// Containers made from it.
    pub containers: usize,
}

/// What one container takes: its own changes, its logs and records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerUsage {
    /// The container.
    pub row: ContainerRow,
    /// Bytes.
    pub bytes: u64,
}

/// What one volume takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeUsage {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub bytes: u64,
    /// Containers that use it.
    pub containers: usize,
}

/// Everything below the root directory. [`Usage::total`] is what `du -s` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Newest first.
    pub images: Vec<ImageUsage>,
    /// Newest first.
    pub containers: Vec<ContainerUsage>,
    /// By name.
    pub volumes: Vec<VolumeUsage>,
    /// Unpacked layers that an image or a container needs, each once; counted and used are the images.
    pub layers: UsageItem,
    /// What images came as, kept for push and save, with manifests and configurations.
    pub blobs: UsageItem,
    /// The database, the directories that hold all this, init layers, and what is being made just now.
    pub state: u64,
    /// What nothing refers to: [`Store::gc`] removes it, but for volumes' directories with somebody's data.
    pub unreferenced: u64,
}

impl Usage {
    /// Bytes of everything.
    pub fn total(&self) -> u64 {
        let containers = self.containers.iter().map(|c| c.bytes).sum::<u64>();
        let volumes = self.volumes.iter().map(|v| v.bytes).sum::<u64>();
        self.layers.bytes + self.blobs.bytes + containers + volumes + self.state + self.unreferenced
    }

    /// The volumes as one line.
    pub fn volumes_item(&self) -> UsageItem {
        let unused = self.volumes.iter().filter(|v| v.containers == 0);
        UsageItem {
            count: self.volumes.len(),
            active: self.volumes.iter().filter(|v| v.containers > 0).count(),
            bytes: self.volumes.iter().map(|v| v.bytes).sum(),
            reclaimable: unused.map(|v| v.bytes).sum(),
        }
    }
}

/// What was found below the root directory, by name.
#[derive(Default)]
struct Sizes {
    layers: HashMap<Digest, u64>,
    blobs: HashMap<Digest, u64>,
    containers: HashMap<String, u64>,
    volumes: HashMap<String, u64>,
    state: u64,
    unreferenced: u64,
}

impl Store {
    /// Counts the space that everything takes; walks all of it. What comes and goes meanwhile may be counted or not.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn usage(&self) -> Result<Usage> {
        let before = self.read(References::read)?;
        let mut sizes = self.sizes()?;
        let held = self.writer().and_then(|_writer| self.held_by_leases(None))?;
        let (refs, images, containers) = self.read(|db| {
            let ids = rows::strings(db, "SELECT id FROM images")?;
            let images = ids.iter().map(|hex| Rows::read(db, Digest::from_hex(hex)?)).collect::<Result<Vec<_>>>()?;
            Ok((References::read(db)?, images, rows::containers(db)?))
        })?;
        let mut usage = Usage::default();
        // What was made or removed during the walk belongs to somebody at one of the two moments.
        let kept = |now: &HashSet<Digest>, then: &HashSet<Digest>, d: &Digest| now.contains(d) || then.contains(d);
        sizes.sort_out(&held, |sizes| &mut sizes.layers, |d| kept(&refs.layers, &before.layers, d));
        sizes.sort_out(&held, |sizes| &mut sizes.blobs, |d| kept(&refs.blobs, &before.blobs, d));
        usage.count_images(&images, &containers, &sizes);
        for row in containers {
            let bytes = sizes.containers.remove(&row.id).unwrap_or(0);
            usage.containers.push(ContainerUsage { row, bytes });
        }
        for volume in self.volumes()? {
            let bytes = sizes.volumes.remove(&volume.name).unwrap_or(0);
            let users = usage.containers.iter().filter(|c| c.row.volumes.contains(&volume.name)).count();
            usage.volumes.push(VolumeUsage { name: volume.name, bytes, containers: users });
        }
        let strays = sizes.containers.values().chain(sizes.volumes.values()).sum::<u64>();
        (usage.state, usage.unreferenced) = (sizes.state, sizes.unreferenced + strays);
        Ok(usage)
    }

    /// Bytes on disk of one container's directory, its logs included.
    pub fn container_bytes(&self, id: &str) -> u64 {
        Disk::default().bytes(&self.container_dir(id))
    }

    fn sizes(&self) -> Result<Sizes> {
        let (mut sizes, mut disk) = (Sizes::default(), Disk::default());
        sizes.state += disk.alone(self.root());
        for name in names(self.root())? {
            let path = self.root().join(&name);
            match name.as_str() {
                "blobs" => {
                    sizes.state += disk.alone(&path);
                    for name in names(&path)? {
                        let path = path.join(&name);
                        sizes.state += disk.alone(&path);
                        digests(&path, &mut disk, &mut sizes.blobs, &mut sizes.unreferenced)?;
                    }
                }
                "layers" => {
                    sizes.state += disk.alone(&path);
                    digests(&path, &mut disk, &mut sizes.layers, &mut sizes.unreferenced)?;
                }
                "containers" | "volumes" => {
                    sizes.state += disk.alone(&path);
                    let into = if name == "volumes" { &mut sizes.volumes } else { &mut sizes.containers };
                    for name in names(&path)? {
                        let bytes = disk.bytes(&path.join(&name));
                        into.insert(name, bytes);
                    }
                }
                "tmp" => {
                    sizes.state += disk.alone(&path);
                    let dead: HashSet<_> = self.writer().and_then(|_w| self.dead_leases())?.into_iter().collect();
                    for dir in self.lease_dirs()? {
                        let bytes = disk.bytes(&dir);
                        *if dead.contains(&dir) { &mut sizes.unreferenced } else { &mut sizes.state } += bytes;
                    }
                }
                _ => sizes.state += disk.bytes(&path),
            }
        }
        Ok(sizes)
    }
}

/// What has the name of a digest, and the rest.
fn digests(dir: &Path, disk: &mut Disk, known: &mut HashMap<Digest, u64>, rest: &mut u64) -> Result<()> {
    for name in names(dir)? {
        let bytes = disk.bytes(&dir.join(&name));
        match Digest::from_hex(&name) {
            Ok(digest) => drop(known.insert(digest, bytes)),
            Err(_) => *rest += bytes,
        }
    }
    Ok(())
}

impl Sizes {
    /// Takes out what nothing refers to: what a living lease holds is being made.
    fn sort_out(
        &mut self,
        held: &HashSet<Digest>,
        of: impl Fn(&mut Sizes) -> &mut HashMap<Digest, u64>,
        kept: impl Fn(&Digest) -> bool,
    ) {
        let all = std::mem::take(of(self));
        for (digest, bytes) in all {
            if kept(&digest) {
                of(self).insert(digest, bytes);
            } else if held.contains(&digest) {
                self.state += bytes;
            } else {
                self.unreferenced += bytes;
            }
        }
    }
}

impl Usage {
    fn count_images(&mut self, images: &[Rows], containers: &[ContainerRow], sizes: &Sizes) {
        let mut users: HashMap<Digest, usize> = HashMap::new();
        containers.iter().filter_map(|c| c.image).for_each(|id| *users.entry(id).or_default() += 1);
        // How many images have it, and whether a container keeps one of them.
        let mut layers: BTreeMap<Digest, (usize, bool)> = BTreeMap::new();
        let mut blobs = layers.clone();
        for image in images {
            let (content, used) = (image.content(), users.contains_key(&image.id));
            for (all, map) in [(&content.layers, &mut layers), (&content.blobs, &mut blobs)] {
                for digest in all {
                    let (count, kept) = map.entry(*digest).or_default();
                    (*count, *kept) = (*count + 1, *kept || used);
                }
            }
        }
        for image in images {
            let content = image.content();
            let sum = |digests: &HashSet<Digest>, of: &HashMap<Digest, u64>, keep: &dyn Fn(&Digest) -> bool| {
                digests.iter().filter(|d| keep(d)).filter_map(|d| of.get(d)).sum::<u64>()
            };
            let several =
                |map: &BTreeMap<Digest, (usize, bool)>, d: &Digest| map.get(d).is_some_and(|(count, _)| *count > 1);
            let own_blobs = sum(&content.blobs, &sizes.blobs, &|_| true);
            self.images.push(ImageUsage {
                id: image.id,
                names: image.names.iter().chain(&image.digests).cloned().collect(),
                created: image.created,
                bytes: sum(&content.layers, &sizes.layers, &|_| true) + own_blobs,
                shared: sum(&content.layers, &sizes.layers, &|d| several(&layers, d))
                    + sum(&content.blobs, &sizes.blobs, &|d| several(&blobs, d)),
                blobs: own_blobs,
                containers: users.get(&image.id).copied().unwrap_or(0),
            });
        }
        self.images.sort_by_key(|i| (std::cmp::Reverse(i.created), i.id));
        let free = |of: &HashMap<Digest, u64>, map: &BTreeMap<Digest, (usize, bool)>| {
            of.iter().filter(|(d, _)| map.get(*d).is_some_and(|(_, kept)| !kept)).map(|(_, bytes)| bytes).sum()
        };
        self.layers = UsageItem {
            count: images.len(),
            active: images.iter().filter(|i| users.contains_key(&i.id)).count(),
            bytes: sizes.layers.values().sum(),
            // A layer that only a container keeps, whose image was removed by force, goes with the container.
            reclaimable: free(&sizes.layers, &layers),
        };
        let used = |digest: &Digest| blobs.get(digest).is_some_and(|(_, kept)| *kept);
        self.blobs = UsageItem {
            count: sizes.blobs.len(),
            active: sizes.blobs.keys().filter(|d| used(d)).count(),
            bytes: sizes.blobs.values().sum(),
            reclaimable: free(&sizes.blobs, &blobs),
        };
    }
}
