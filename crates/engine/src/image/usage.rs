//! `system df`: where the space is. Sizes are what files take on the disk, each counted once, so that their sum is that of
//! `du` over the engine's directory.

use std::collections::{HashMap, HashSet};

use bollard_stubs::models::{BuildCache, ContainerSummary, ImageSummary, Volume, VolumeUsageData};
use errdefs::Result;
use serde::Serialize;

use super::Digest;
use crate::Engine;
use crate::container::ListOptions;

/// Docker's body of `/system/df`, as clients up to API version 1.51 know it.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DiskUsage {
    /// All layers, each once, with the documents of images.
    pub layers_size: i64,
    /// With what each shares with others.
    pub images: Vec<ImageSummary>,
    /// With what each has on disk: changes, logs, settings.
    pub containers: Vec<ContainerSummary>,
    /// With their sizes and how many containers use them.
    pub volumes: Vec<Volume>,
    /// Of builds.
    pub build_cache: Vec<BuildCache>,
    /// What `image prune -a` gives back: layers that no container's image has.
    #[serde(skip)]
    pub reclaimable: i64,
    /// Layers' bytes that no image and no container needs.
    #[serde(skip)]
    pub loose: i64,
    /// The database, and what is being unpacked or removed.
    #[serde(skip)]
    pub other: i64,
}

impl Engine {
    /// Where the space is. Reads every directory: it takes a while.
    pub fn disk_usage(&self) -> Result<DiskUsage> {
        let layers: HashMap<Digest, i64> = self
            .layers
            .layers()?
            .into_iter()
            .map(|layer| Ok((layer.diff_id.clone(), self.layers.disk_usage(&layer.diff_id)? as i64)))
            .collect::<Result<_>>()?;
        let (mut users, mut needed): (HashMap<Digest, u32>, HashSet<Digest>) = Default::default();
        let mut images = self.images(&[], true)?;
        let mut of_image = Vec::new();
        for image in &images {
            let mut list = self.image(&image.id)?.layers;
            list.sort_by(|a, b| a.digest().cmp(b.digest()));
            list.dedup();
            list.iter().for_each(|l| *users.entry(l.clone()).or_default() += 1);
            needed.extend(list.iter().filter(|_| image.containers > 0).cloned());
            of_image.push(list);
        }
        for (image, list) in images.iter_mut().zip(&of_image) {
            let size = |l: &Digest| layers.get(l).copied().unwrap_or(0);
            image.size = list.iter().map(size).sum();
            image.shared_size = list.iter().filter(|l| users[*l] > 1).map(size).sum();
        }
        let du = |path: &std::path::Path| snapshot::disk_usage(path).map(|n| n as i64);
        let mut containers = self.list(&ListOptions {
            all: true,
            ..Default::default()
        })?;
        for container in &mut containers {
            let id = container.id.as_deref().unwrap_or_default();
            container.size_rw = Some(du(&self.roots.container(id))?);
        }
        let mut volumes = self.volumes(&[])?;
        for volume in &mut volumes {
            volume.usage_data = Some(VolumeUsageData {
                size: du(&self.roots.volumes().join(&volume.name))?,
                ref_count: self.state.volume_users(&volume.name)?.len() as i64,
            });
        }
        let mut usage = DiskUsage {
            layers_size: layers.values().sum(),
            images,
            containers,
            volumes,
            build_cache: Vec::new(),
            reclaimable: sum(&layers, |l| !needed.contains(l)),
            loose: sum(&layers, |l| !users.contains_key(l)),
            other: 0,
        };
        usage.layers_size += du(&self.roots.content())?;
        usage.other = du(&self.roots.data)? - usage.total();
        Ok(usage)
    }
}

fn sum(layers: &HashMap<Digest, i64>, which: impl Fn(&Digest) -> bool) -> i64 {
    let sizes = layers.iter().filter(|(layer, _)| which(layer)).map(|(_, size)| size);
    sizes.sum()
}

impl DiskUsage {
    /// Of containers.
    pub fn containers_size(&self) -> i64 {
        self.containers.iter().filter_map(|c| c.size_rw).sum()
    }

    /// Of volumes.
    pub fn volumes_size(&self) -> i64 {
        self.volumes
            .iter()
            .filter_map(|v| v.usage_data.as_ref())
            .map(|u| u.size)
            .sum()
    }

    /// Of everything.
    pub fn total(&self) -> i64 {
        self.layers_size + self.containers_size() + self.volumes_size() + self.other
    }
}
