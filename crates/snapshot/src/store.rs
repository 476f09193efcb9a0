//! The store of layers: what is there, staging, removal, and the way back to a tar.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use errdefs::{ErrnoStep, Error, Kind, Result, Step};
use rustix::fs::{FlockOperation, OFlags};
use sha2::{Digest as _, Sha256};

use crate::Digest;
use crate::apply::{self, Applied};
use crate::tar::{Entry, EntryKind, Reader, Source};
use crate::tree::{copy_exact, remove_tree, remove_trees};

/// Most bytes of content in a layer, unless it is said otherwise.
const LIMIT: u64 = 64 << 30;

/// What is read at once.
const BUFFER: usize = 256 * 1024;

/// All layers of a host.
pub struct Store {
    pub(crate) dir: PathBuf,
    /// See [`Store::lay_over`].
    pub(crate) amendment: Option<String>,
    /// Most bytes of content in a layer.
    limit: u64,
}

/// A layer that is unpacked, and to be published; gone if it is dropped.
pub struct Prepared {
    staging: Staging,
    layer: Layer,
}

impl Prepared {
    /// Bytes of content.
    pub fn size(&self) -> u64 {
        self.layer.size
    }

    /// Its files, to be read.
    pub fn files(&self) -> PathBuf {
        self.staging.dir.join("fs")
    }

    /// A place for what is known of it, as [`Store::beside`].
    pub fn beside(&self, name: &str) -> PathBuf {
        self.staging.dir.join(name)
    }
}

/// A layer that is there, whole.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The digest of its uncompressed tar.
    pub diff_id: Digest,
    /// Bytes of file content.
    pub size: u64,
}

impl Store {
    /// Opens (makes) the store.
    pub fn open(dir: &Path) -> Result<Self> {
        let staging = dir.join("staging");
        if !staging.is_dir() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&staging)
                .step_with(|| format!("make {}", staging.display()))?;
        }
        Ok(Store {
            dir: dir.to_owned(),
            amendment: None,
            limit: LIMIT,
        })
    }

    /// Unpacks no layer that has more bytes of content.
    pub fn limit_layers(&mut self, bytes: u64) {
        self.limit = bytes;
    }

    /// The directory of one layer.
    pub(crate) fn path(&self, diff_id: &Digest) -> PathBuf {
        self.dir.join(diff_id.digest())
    }

    /// Whether it is there.
    pub fn has(&self, diff_id: &Digest) -> bool {
        self.path(diff_id).join("fs").is_dir()
    }

    /// What is known of one.
    pub fn layer(&self, diff_id: &Digest) -> Result<Layer> {
        let size = std::fs::read_to_string(self.path(diff_id).join("size"));
        let size = size.map_err(|_| Error::not_found(format!("layer {diff_id} is not there")))?;
        Ok(Layer {
            diff_id: diff_id.clone(),
            size: size.trim().parse().unwrap_or(0),
        })
    }

    /// All that are there.
    pub fn layers(&self) -> Result<Vec<Layer>> {
        let entries = std::fs::read_dir(&self.dir).step("list the layers")?;
        let names = entries
            .flatten()
            .filter_map(|e| e.file_name().into_string().ok())
            .filter(|n| n.len() == 64);
        names
            .filter_map(|n| format!("sha256:{n}").parse().ok())
            .map(|d| self.layer(&d))
            .collect()
    }

    /// The directory of a layer's files: to be read.
    pub fn files(&self, diff_id: &Digest) -> PathBuf {
        self.path(diff_id).join("fs")
    }

    /// A place for what is known of a layer; it goes with the layer.
    pub fn beside(&self, diff_id: &Digest, name: &str) -> PathBuf {
        self.path(diff_id).join(name)
    }

    /// A directory that goes when the value is dropped, or by `sweep`.
    pub fn scratch(&self) -> Result<Scratch> {
        Staging::new(&self.dir).map(Scratch)
    }

    /// Bytes that a layer takes on the disk.
    pub fn disk_usage(&self, diff_id: &Digest) -> Result<u64> {
        crate::tree::disk_usage(&self.path(diff_id))
    }

    /// Unpacks an uncompressed tar stream into a new layer: staged, hashed, synced, renamed into place. When `expect` is
    /// given and differs, nothing stays. Two at once for the same layer: one wins, both succeed.
    pub fn apply(&self, tar: impl Read, expect: Option<&Digest>) -> Result<Layer> {
        let prepared = self.prepare(&mut BufReader::with_capacity(BUFFER, tar), expect)?;
        let layer = prepared.layer.clone();
        self.publish(vec![prepared])?;
        Ok(layer)
    }

    /// The first part of [`Store::apply`]: unpacked and checked, but nobody sees it yet.
    pub fn prepare(&self, tar: &mut dyn BufRead, expect: Option<&Digest>) -> Result<Prepared> {
        let staging = Staging::new(&self.dir)?;
        let Applied { digest, size } = apply::apply(tar, &staging.dir, self.limit)?;
        if let Some(expect) = expect.filter(|e| **e != digest) {
            return Err(
                Error::invalid(format!("the layer's content is {digest}, and was to be {expect}"))
                    .hint("the image is damaged, or its registry is"),
            );
        }
        std::fs::write(staging.dir.join("size"), size.to_string()).step("write the layer's size")?;
        Ok(Prepared {
            staging,
            layer: Layer { diff_id: digest, size },
        })
    }

    /// The second part, for any number of layers: the disk is waited for once before and once after they become visible,
    /// so that whoever refers to them afterwards refers to what is there.
    pub fn publish(&self, layers: Vec<Prepared>) -> Result<()> {
        let step = "write the layers to disk";
        let dir = File::open(&self.dir).step(step)?;
        // The eldest's lock: what failed since then is told, also where the disk was not waited for yet (Linux 5.8).
        if let Some(eldest) = layers.iter().map(|l| &l.staging).min_by_key(|s| s.since) {
            rustix::fs::syncfs(&eldest.lock).errno_step(step)?;
        }
        for prepared in &layers {
            match std::fs::rename(&prepared.staging.dir, self.path(&prepared.layer.diff_id)) {
                Ok(()) => {}
                Err(_) if self.has(&prepared.layer.diff_id) => {}
                Err(e) => return Err(e).step("put the layer into the store"),
            }
        }
        dir.sync_all().step(step)
    }

    /// Has the disk begin with what was written so far, so that [`Store::publish`] waits for less. What goes wrong is told there.
    pub fn write_back(&self) {
        static AT_IT: AtomicBool = AtomicBool::new(false);
        let Ok(dir) = File::open(&self.dir) else { return };
        if !AT_IT.swap(true, Ordering::Relaxed) {
            std::thread::spawn(move || {
                let _ = rustix::fs::syncfs(&dir);
                AT_IT.store(false, Ordering::Relaxed);
            });
        }
    }

    /// Puts a layer in the place of one that is damaged.
    pub fn replace(&self, prepared: Prepared) -> Result<()> {
        self.remove(std::slice::from_ref(&prepared.layer.diff_id))?;
        self.publish(vec![prepared])
    }

    /// The byte-exact tar that the layer was made from.
    pub fn write_tar(&self, diff_id: &Digest, out: &mut dyn Write) -> Result<()> {
        let digest = self.rebuild(diff_id, out, &mut |_, _| {})?;
        match digest == diff_id.digest() {
            true => Ok(()),
            false => Err(Error::system(format!(
                "layer {diff_id} was changed on disk: its tar is sha256:{digest} now"
            ))
            .hint("`berth system check --repair` fetches it again")),
        }
    }

    /// Writes the tar that recipe and files give now, and tells of each entry and the checksum of its content; the digest of it
    /// all.
    pub(crate) fn rebuild(
        &self,
        diff_id: &Digest,
        out: &mut dyn Write,
        seen: &mut dyn FnMut(&Entry, u32),
    ) -> Result<String> {
        let dir = self.path(diff_id);
        let recipe =
            File::open(dir.join("recipe")).map_err(|_| Error::not_found(format!("layer {diff_id} is not there")))?;
        let recipe = zstd::Decoder::new(BufReader::new(recipe)).step("read the layer's recipe")?;
        let root = File::open(dir.join("fs")).step("open the layer")?;
        let mut rebuild = Rebuild {
            recipe: Box::new(recipe),
            out,
            hash: Sha256::new(),
            content: None,
        };
        let mut reader = Reader::default();
        let mut number = 0u64;
        while let Some(entry) = reader.next(&mut rebuild)? {
            number += 1;
            rebuild.content = Some(crc32fast::Hasher::new());
            if entry.size > 0 {
                let content = content(&root, &dir, &entry, number)?;
                let mut content = BufReader::with_capacity(entry.size.min(BUFFER as u64) as usize, content);
                let step = || format!("read the layer's {}", String::from_utf8_lossy(&entry.path));
                let whole = [(0, entry.size)];
                let pieces = entry.sparse.as_ref().map_or(&whole[..], |s| &s.pieces[..]);
                for (offset, bytes) in pieces {
                    content.seek(SeekFrom::Start(*offset)).step_with(step)?;
                    copy_exact(&mut content, &mut rebuild, *bytes).step_with(step)?;
                }
            }
            seen(&entry, rebuild.content.take().map_or(0, crc32fast::Hasher::finalize));
        }
        Ok(hex(&rebuild.hash.finalize()))
    }

    /// Takes layers away; fine if they are gone.
    pub fn remove(&self, diff_ids: &[Digest]) -> Result<()> {
        let mut doomed = Vec::new();
        for diff_id in diff_ids {
            let aside = self.dir.join("staging").join(format!("removed-{}", unique()));
            match std::fs::rename(self.path(diff_id), &aside) {
                Ok(()) => doomed.push(aside),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(e).step_with(|| format!("remove layer {diff_id}")),
            }
        }
        remove_trees(&doomed)
    }

    /// Takes a directory on the store's file system out of sight at once; its tree is removed when the value is dropped, and
    /// by `sweep` if we are killed before.
    pub fn doom(&self, dir: &Path) -> Result<Doomed> {
        let step = || format!("remove {}", dir.display());
        let lock = File::open(dir).step_with(step)?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).errno_step(step())?;
        let aside = self.dir.join("staging").join(unique());
        std::fs::rename(dir, &aside).step_with(step)?;
        Ok(Doomed(Staging {
            dir: aside,
            lock,
            since: Instant::now(),
        }))
    }

    /// Removes what an interrupted `apply` or `remove` left (staging directories without a live owner's lock).
    pub fn sweep(&self) -> Result<()> {
        for entry in std::fs::read_dir(self.dir.join("staging"))
            .step("look for abandoned layers")?
            .flatten()
        {
            let Ok(dir) = File::open(entry.path()) else { continue };
            if rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok() {
                // What cannot be removed is in nobody's way: whoever sweeps has something else to do.
                let _ = remove_tree(&entry.path());
            }
        }
        Ok(())
    }
}

/// A name nobody else uses now.
fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A layer that is being unpacked: locked while its owner lives, gone unless it was renamed.
pub(crate) struct Staging {
    pub(crate) dir: PathBuf,
    lock: File,
    since: Instant,
}

impl Staging {
    pub(crate) fn new(store: &Path) -> Result<Self> {
        loop {
            let dir = store.join("staging").join(unique());
            match std::fs::DirBuilder::new().mode(0o700).create(&dir) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                    // Another process of our number has left it behind.
                    remove_tree(&dir)?;
                    continue;
                }
                other => other.step("make a directory for the layer")?,
            }
            // A sweep may come in between: it holds the lock, or has removed the directory.
            let lock = match File::open(&dir) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                opened => opened.step("lock the new layer")?,
            };
            rustix::fs::flock(&lock, FlockOperation::LockExclusive).errno_step("lock the new layer")?;
            if dir.exists() {
                return Ok(Staging {
                    dir,
                    lock,
                    since: Instant::now(),
                });
            }
        }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Gone already, when all went well; and if it cannot be removed `sweep` finds it.
        let _ = remove_tree(&self.dir);
    }
}

/// A directory for a while.
pub struct Scratch(Staging);

impl Scratch {
    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }
}

/// A directory tree that is out of sight, and goes.
pub struct Doomed(#[expect(dead_code, reason = "kept for its end")] Staging);

/// Feeds the recipe to the reader, and everything to the output.
struct Rebuild<'a> {
    recipe: Box<dyn Read>,
    out: &'a mut dyn Write,
    hash: Sha256,
    /// Of an entry whose content is being written.
    content: Option<crc32fast::Hasher>,
}

impl Source for Rebuild<'_> {
    fn raw(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.recipe.read(buffer)?;
        self.write_all(&buffer[..read])?;
        Ok(read)
    }
}

impl Write for Rebuild<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.hash.update(bytes);
        if let Some(content) = &mut self.content {
            content.update(bytes);
        }
        self.out.write_all(bytes)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// The content of the tar's `number`th entry.
fn content(root: &File, dir: &Path, entry: &Entry, number: u64) -> Result<File> {
    if entry.kind == EntryKind::File
        && let Ok(extra) = OpenOptions::new()
            .read(true)
            .open(dir.join("extra").join(number.to_string()))
    {
        return Ok(extra);
    }
    let path = Path::new(std::ffi::OsStr::from_bytes(&entry.path));
    let file = sys::path::open(root.as_fd(), path, OFlags::RDONLY | OFlags::NOFOLLOW);
    let file = file
        .errno_step(format!("open the layer's {}", path.display()))
        .map_err(|e| e.kind_is(Kind::System))?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("layers")).unwrap();
        (dir, store)
    }

    fn entries(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        builder.into_inner().unwrap()
    }

    fn add(builder: &mut tar::Builder<Vec<u8>>, kind: tar::EntryType, name: &str, link: &str, text: &str) {
        let mut header = tar::Header::new_gnu();
        let bytes = name.as_bytes();
        header.as_old_mut().name[..bytes.len()].copy_from_slice(bytes);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_000_000_000);
        header.set_uid(7);
        header.set_gid(8);
        header.set_cksum();
        builder.append(&header, text.as_bytes()).unwrap();
    }

    #[test]
    fn tars_come_back_byte_by_byte() {
        let (dir, store) = store();
        let tree = dir.path().join("tree");
        let long = "n".repeat(120);
        std::fs::create_dir_all(tree.join("d").join(&long)).unwrap();
        std::fs::write(tree.join("d/file"), "hello").unwrap();
        std::fs::write(tree.join("d").join(&long).join(&long), vec![7; 70_000]).unwrap();
        std::fs::hard_link(tree.join("d/file"), tree.join("d/link")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", tree.join("d/sym")).unwrap();
        std::fs::set_permissions(tree.join("d/file"), PermissionsExt::from_mode(0o4755)).unwrap();
        for format in ["gnu", "pax", "ustar", "oldgnu", "v7"] {
            let mut command = std::process::Command::new("tar");
            command.args([
                "-C",
                tree.to_str().unwrap(),
                &format!("--format={format}"),
                "-cf",
                "-",
                ".",
            ]);
            if format == "ustar" || format == "v7" {
                command.args([&format!("--exclude={long}")]);
            }
            let tar = command.output().unwrap().stdout;
            let layer = store.apply(&mut &tar[..], None).unwrap();
            let mut back = Vec::new();
            store.write_tar(&layer.diff_id, &mut back).unwrap();
            assert!(back == tar, "{format}");
            let file = store.path(&layer.diff_id).join("fs/d/file");
            let link = std::fs::metadata(store.path(&layer.diff_id).join("fs/d/link")).unwrap();
            let meta = std::fs::metadata(file).unwrap();
            assert_eq!((meta.mode() & 0o7777, meta.ino()), (0o4755, link.ino()), "{format}");
        }
    }

    #[test]
    fn what_is_written_over_comes_back_too() {
        use tar::EntryType::{Directory, Regular};
        let (_dir, store) = store();
        let tar = entries(|b| {
            add(b, Regular, "a", "", "first");
            add(b, Regular, "a", "", "second");
            add(b, Regular, "d/x", "", "in a directory");
            add(b, Regular, "d", "", "now a file");
            add(b, Directory, "d/", "", "");
            add(b, Regular, ".wh..wh.plnk", "", "a note");
        });
        let layer = store.apply(&mut &tar[..], None).unwrap();
        let mut back = Vec::new();
        store.write_tar(&layer.diff_id, &mut back).unwrap();
        assert!(back == tar);
        let fs = store.path(&layer.diff_id).join("fs");
        assert_eq!(std::fs::read_to_string(fs.join("a")).unwrap(), "second");
        assert!(fs.join("d").is_dir() && !fs.join("d/x").exists());
    }

    #[test]
    fn hostile_tars_stay_inside_and_leave_nothing() {
        use tar::EntryType::{Char, Link, Regular, Symlink};
        let (dir, store) = store();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        let outside = dir.path().join("out").display().to_string();
        type Case<'a> = (&'a str, Vec<(tar::EntryType, &'a str, &'a str, &'a str)>, bool);
        let cases: Vec<Case<'_>> = vec![
            ("dots", vec![(Regular, "../out", "", "x")], false),
            ("dots in the middle", vec![(Regular, "a/../../out", "", "x")], false),
            ("absolute", vec![(Regular, "/out", "", "x")], true),
            (
                "through a link",
                vec![(Symlink, "l", "../../../..", ""), (Regular, "l/out", "", "x")],
                true,
            ),
            (
                "through an absolute link",
                vec![(Symlink, "l", &outside, ""), (Regular, "l", "", "x")],
                true,
            ),
            ("hard link outside", vec![(Link, "l", "../../../secret", "")], false),
            (
                "hard link through a link",
                vec![(Symlink, "s", "/", ""), (Link, "l", "s/secret", "")],
                false,
            ),
            ("hard link to a directory", vec![(Link, "l", "/", "")], false),
            ("whiteout of the parent", vec![(Regular, ".wh...", "", "")], false),
            ("whiteout of nothing", vec![(Regular, ".wh.", "", "")], false),
            ("a device that is a whiteout", vec![(Char, "c", "", "")], false),
        ];
        for (name, list, good) in cases {
            let tar = entries(|b| {
                list.iter()
                    .for_each(|(kind, path, link, text)| add(b, *kind, path, link, text))
            });
            assert_eq!(store.apply(&mut &tar[..], None).is_ok(), good, "{name}");
            assert!(!dir.path().join("out").exists(), "{name}");
            assert_eq!(
                std::fs::read_dir(store.dir.join("staging")).unwrap().count(),
                0,
                "{name}"
            );
        }
    }

    #[test]
    fn mutated_tars_stay_inside_and_leave_nothing() {
        use tar::EntryType::{Directory, Link, Regular, Symlink};
        let (dir, store) = store();
        let good = entries(|b| {
            add(b, Directory, "d/", "", "");
            add(b, Regular, "d/.wh..wh..opq", "", "");
            add(b, Regular, "d/.wh.x", "", "");
            add(b, Regular, "d/a", "", "text");
            add(b, Link, "d/b", "d/a", "");
            add(b, Symlink, "l", "..", "");
            add(b, Regular, "l/c", "", "more");
        });
        let mut seed = 11u64;
        let mut chance = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) as usize % below
        };
        for _ in 0..400 {
            let mut bytes = good.clone();
            let block = chance(bytes.len() / 512) * 512;
            // Names and kinds change, and the header still counts.
            let at = block + [0, 1, 2, 3, 4, 5, 156, 157, 158, 159][chance(10)];
            bytes[at] = b"./.wh0123567SgxKL\0\xff"[chance(19)];
            let mut sum: u32 = bytes[block..block + 512].iter().map(|b| u32::from(*b)).sum();
            sum -= bytes[block + 148..block + 156]
                .iter()
                .map(|b| u32::from(*b))
                .sum::<u32>();
            bytes[block + 148..block + 156].copy_from_slice(format!("{:06o}\0 ", sum + 8 * 32).as_bytes());
            if let Ok(layer) = store.apply(&mut &bytes[..], None) {
                let mut back = Vec::new();
                store.write_tar(&layer.diff_id, &mut back).unwrap();
                assert!(back == bytes, "what is taken comes back");
                store
                    .mount(&[layer.diff_id.clone(), layer.diff_id.clone()], None, None)
                    .unwrap();
                store.remove(std::slice::from_ref(&layer.diff_id)).unwrap();
            }
            assert_eq!(std::fs::read_dir(store.dir.join("staging")).unwrap().count(), 0);
            let around: Vec<_> = std::fs::read_dir(dir.path())
                .unwrap()
                .flatten()
                .map(|e| e.file_name())
                .collect();
            assert_eq!(around, ["layers"]);
        }
    }

    #[test]
    fn a_wrong_digest_and_a_cut_stream_leave_nothing() {
        let (_dir, store) = store();
        let tar = entries(|b| add(b, tar::EntryType::Regular, "a", "", "text"));
        let wrong: Digest = format!("sha256:{}", "0".repeat(64)).parse().unwrap();
        assert!(
            store
                .apply(&mut &tar[..], Some(&wrong))
                .unwrap_err()
                .to_string()
                .contains("was to be")
        );
        let error = store.apply(&mut &tar[..514], None).unwrap_err();
        assert!(error.to_string().contains("unexpected end"), "{error}");
        assert!(store.layers().unwrap().is_empty());
        let layer = store.apply(&mut &tar[..], None).unwrap();
        store.apply(&mut &tar[..], Some(&layer.diff_id)).unwrap();
        assert_eq!(store.layers().unwrap().len(), 1);
        store.remove(std::slice::from_ref(&layer.diff_id)).unwrap();
        store.remove(std::slice::from_ref(&layer.diff_id)).unwrap();
        assert!(!store.has(&layer.diff_id));
    }

    #[test]
    fn whiteouts_are_overlayfs_own() {
        let (_dir, store) = store();
        let tar = entries(|b| add(b, tar::EntryType::Regular, "d/.wh.gone", "", ""));
        let layer = store.apply(&mut &tar[..], None).unwrap();
        let gone = std::fs::symlink_metadata(store.path(&layer.diff_id).join("fs/d/gone")).unwrap();
        assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    }

    #[test]
    fn what_was_interrupted_is_swept() {
        let (_dir, store) = store();
        std::fs::create_dir_all(store.dir.join("staging/1-0/fs/x")).unwrap();
        let busy = Staging::new(&store.dir).unwrap();
        store.sweep().unwrap();
        assert!(!store.dir.join("staging/1-0").exists() && busy.dir.exists());
    }
}
