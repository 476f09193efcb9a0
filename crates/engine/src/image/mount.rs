//! `image mount`: an image's files, to be read, in the host's own tree. The one mount that Berth leaves there, because it was
//! asked for.

use std::path::{Path, PathBuf};

use errdefs::{ErrnoStep, Error, Result, Step};
use rustix::mount::{MoveMountFlags, UnmountFlags};

use super::Digest;
use crate::{Engine, paths};

impl Engine {
    /// Mounts an image, once; where.
    pub fn mount_image(&self, name: &str) -> Result<PathBuf> {
        let image = self.image(name)?;
        let _lock = self.lock_images(false)?;
        if let Some(place) = self.image_mount(&image.id) {
            return Ok(place);
        }
        let place = self.place_of(&image.id)?;
        let mounted = self.layers.mount(&image.layers, None, None)?;
        paths::make_private(&place)?;
        let step = || format!("mount the image at {}", place.display());
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&mounted.root, "", rustix::fs::CWD, &place, flags).errno_step(step())?;
        Ok(place)
    }

    /// Takes it from there.
    pub fn unmount_image(&self, name: &str) -> Result<()> {
        let image = self.image(name)?;
        let Some(place) = self.image_mount(&image.id) else {
            return Err(Error::conflict(format!("image {name} is not mounted")));
        };
        let step = || format!("unmount the image from {}", place.display());
        rustix::mount::unmount(&place, UnmountFlags::NOFOLLOW).errno_step(step())?;
        std::fs::remove_dir(&place).step_with(step)?;
        // The last one takes the directory of all along.
        let _ = place.parent().map(std::fs::remove_dir);
        Ok(())
    }

    /// All that are mounted: ids and places.
    pub fn image_mounts(&self) -> Result<Vec<(String, PathBuf)>> {
        let ids = self.image_rows()?.into_iter().map(|(id, _)| id);
        Ok(ids
            .filter_map(|id| self.image_mount(&id).map(|place| (id, place)))
            .collect())
    }

    /// Where an image is mounted.
    pub(super) fn image_mount(&self, id: &str) -> Option<PathBuf> {
        let place = self.place_of(id).ok()?;
        is_mount(&place).then_some(place)
    }

    fn place_of(&self, id: &str) -> Result<PathBuf> {
        let digest: Digest = id.parse().step("read the image's id")?;
        Ok(self.roots.run.join("images").join(super::short(digest.digest())))
    }
}

/// Whether something is mounted there: another device than what it is in.
fn is_mount(place: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::symlink_metadata(path).map(|m| m.dev()).ok();
    match (device(place), place.parent().and_then(device)) {
        (Some(own), Some(above)) => own != above,
        _ => false,
    }
}
