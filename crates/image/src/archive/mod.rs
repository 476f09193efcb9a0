//! Archives of images in all three shapes: Docker's (`manifest.json`, old and new), OCI in a tar, OCI layout directory.

mod docker;
mod files;
mod oci;
mod write;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use errdefs::{Error, Result};
use oci_spec::image::Descriptor;

use crate::Reference;
use crate::verify::Verified;
use files::{Files, Section};

pub use files::nameless;
pub use write::{Saved, SavedVariant, WriteLayer, save};

/// One image found in an archive.
pub struct Found {
    /// Tags it carries (docker's RepoTags, or the OCI `ref.name` annotation).
    pub references: Vec<Reference>,
    /// The configuration, exactly as found.
    pub config: Vec<u8>,
    /// The manifest as found; `None` for docker archives (the engine writes one).
    pub manifest: Option<Vec<u8>>,
    /// The index that the manifest stands in, where the archive has one for several platforms.
    pub index: Option<Arc<[u8]>>,
    /// Bottom first.
    pub layers: Vec<LayerSource>,
}

/// Where a layer's bytes are: opened when needed.
pub struct LayerSource {
    /// Digest, size and type, where the archive says them.
    pub descriptor: Option<Descriptor>,
    section: Section,
}

impl LayerSource {
    /// The layer as it is in the archive, compressed or not (see [`crate::decompress`]); checked where it can be.
    pub fn open(&self) -> Result<Box<dyn Read + Send>> {
        let reader = self.section.open()?;
        Ok(match &self.descriptor {
            Some(d) => Box::new(Verified::new(reader, d.digest().clone(), d.size())),
            None => reader,
        })
    }
}

/// Opens a docker archive (old `VERSION/layer.tar` and new), an OCI archive or an OCI layout directory. A compressed
/// archive is first unpacked into `spool`.
pub fn open_path(path: &Path, spool: &Path) -> Result<Vec<Found>> {
    images(&Files::open(path, spool)?)
}

/// The same from a stream (stdin, HTTP body), which is first put into `spool`.
pub fn open_stream(from: &mut (dyn Read + Send), spool: &Path) -> Result<Vec<Found>> {
    images(&Files::spool(from, spool)?)
}

fn images(files: &Files) -> Result<Vec<Found>> {
    let (docker, oci) = (files.has("manifest.json"), files.has("index.json"));
    // Docker from 25 on writes both: what its own older versions read comes first here, too, unless there is more.
    if docker && !(oci && oci::has_several_platforms(files)?) {
        return docker::images(files);
    }
    if oci {
        return oci::images(files);
    }
    Err(
        Error::invalid("this is no archive of images: it has neither manifest.json nor index.json")
            .hint("a root file system becomes an image by `berth import`"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest_of;
    use std::io::Write;

    fn tar(files: &[(&str, &[u8])], links: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, *bytes).unwrap();
        }
        for (name, target) in links {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, name, target).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn open(bytes: &[u8]) -> Result<Vec<Found>> {
        let dir = tempfile::tempdir().unwrap();
        open_stream(&mut &bytes[..], dir.path())
    }

    fn text(layer: &LayerSource) -> String {
        std::io::read_to_string(layer.open().unwrap()).unwrap()
    }

    #[test]
    fn dockers_old_shape_with_links_between_layers() {
        let manifest = br#"[{"Config":"c.json","RepoTags":["app:1"],"Layers":["a/layer.tar","b/layer.tar"]}]"#;
        let files: &[(&str, &[u8])] = &[("c.json", b"{}"), ("a/layer.tar", b"one"), ("manifest.json", manifest)];
        let found = open(&tar(files, &[("b/layer.tar", "../a/layer.tar")])).unwrap();
        assert_eq!(found[0].references[0].familiar(), "app:1");
        assert_eq!(
            (text(&found[0].layers[0]), text(&found[0].layers[1])),
            ("one".into(), "one".into())
        );
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&tar(files, &[("b/layer.tar", "../a/layer.tar")]))
            .unwrap();
        assert_eq!(open(&gzip.finish().unwrap()).unwrap().len(), 1);
    }

    #[test]
    fn an_oci_layout_in_a_tar_and_as_a_directory() {
        let (config, layer) = (br#"{"architecture":"amd64"}"#, b"layer");
        let blob = |b: &[u8]| format!("blobs/sha256/{}", digest_of(b).digest());
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},
            "layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":5}}]}}"#,
            digest_of(config),
            config.len(),
            digest_of(layer)
        );
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":{},
            "annotations":{{"org.opencontainers.image.ref.name":"example.org/a:b"}}}}]}}"#,
            digest_of(manifest.as_bytes()),
            manifest.len()
        );
        let files = [
            (blob(config), config.to_vec()),
            (blob(layer), layer.to_vec()),
            (blob(manifest.as_bytes()), manifest.clone().into_bytes()),
            ("index.json".into(), index.into_bytes()),
            ("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ];
        let list: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in &files {
            let path = dir.path().join("layout").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let from_dir = open_path(&dir.path().join("layout"), dir.path()).unwrap();
        for found in [open(&tar(&list, &[])).unwrap(), from_dir] {
            assert_eq!(
                (found[0].config.as_slice(), text(&found[0].layers[0])),
                (&config[..], "layer".to_owned())
            );
            assert_eq!(found[0].references[0].familiar(), "example.org/a:b");
        }
        std::fs::write(dir.path().join("layout").join(blob(layer)), "lAyer").unwrap();
        let found = open_path(&dir.path().join("layout"), dir.path()).unwrap();
        assert!(std::io::read_to_string(found[0].layers[0].open().unwrap()).is_err());
    }

    #[test]
    fn hostile_archives_are_refused() {
        let manifest =
            |config: &str, layer: &str| format!(r#"[{{"Config":"{config}","RepoTags":null,"Layers":["{layer}"]}}]"#);
        let outside = manifest("../../etc/passwd", "l");
        let cases: Vec<Vec<u8>> = vec![
            b"no tar at all".to_vec(),
            tar(&[("x", b"y")], &[]),
            tar(&[("manifest.json", b"{")], &[]),
            tar(&[("manifest.json", outside.as_bytes()), ("l", b"")], &[]),
            tar(
                &[("manifest.json", manifest("c", "l").as_bytes()), ("c", b"{}")],
                &[("l", "/etc/passwd")],
            ),
            tar(
                &[("manifest.json", manifest("c", "l").as_bytes()), ("c", b"{}")],
                &[("l", "l")],
            ),
        ];
        for bytes in cases {
            assert!(open(&bytes).is_err());
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("manifest.json"), manifest("c", "l")).unwrap();
        std::fs::write(dir.path().join("c"), "{}").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("l")).unwrap();
        assert!(open_path(dir.path(), dir.path()).is_err());
    }

    #[test]
    fn what_is_saved_can_be_opened() {
        let config = br#"{"rootfs":{"type":"layers","diff_ids":[]}}"#.to_vec();
        let layer = digest_of(b"layer");
        let saved = Saved {
            references: vec![Reference::parse("a/b:c").unwrap()],
            variants: vec![SavedVariant {
                platform: None,
                config_digest: digest_of(&config),
                config: config.clone(),
                layers: vec![(
                    layer.clone(),
                    Box::new(|out| errdefs::Step::step(out.write_all(b"layer"), "x")),
                )],
            }],
        };
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = Vec::new();
        save(&[saved], &mut bytes, dir.path()).unwrap();
        let found = open(&bytes).unwrap();
        assert_eq!(
            (found[0].config.clone(), text(&found[0].layers[0])),
            (config, "layer".into())
        );
        // The OCI side of the same archive.
        let files = Files::spool(&mut &bytes[..], dir.path()).unwrap();
        let found = oci::images(&files).unwrap();
        assert_eq!(
            (found[0].references[0].familiar(), text(&found[0].layers[0])),
            ("a/b:c".into(), "layer".into())
        );
    }
}
