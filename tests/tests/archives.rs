//! Archives as other engines of several ages write them.

use berth_tests::{Berth, Tar, busybox};
use std::process::{Command, Stdio};

fn sha256(bytes: &[u8]) -> String {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), bytes).unwrap();
    let out = child.wait_with_output().unwrap().stdout;
    String::from_utf8_lossy(&out).split(' ').next().unwrap().to_owned()
}

/// busybox; a layer that takes a file away, empties a directory and puts something there; and the first of these again.
struct Layers {
    base: Vec<u8>,
    changes: Vec<u8>,
    config: String,
}

impl Layers {
    fn new() -> Self {
        let mut changes = Tar::default();
        changes.file("etc/.wh.group", 0o644, b"");
        changes.directory("data", 0o755);
        changes.file("data/.wh..wh..opq", 0o644, b"");
        changes.file("data/new", 0o644, b"from the second layer\n");
        let (base, changes) = (busybox(), changes.finish());
        let (first, second) = (sha256(&base), sha256(&changes));
        let config = format!(
            r#"{{"architecture":"amd64","os":"linux","created":"2021-03-04T05:06:07Z",
            "config":{{"Cmd":["sh","-c","cat /data/*; ls /etc"],"Env":["PATH=/bin"],"Labels":{{"made":"elsewhere"}}}},
            "rootfs":{{"type":"layers","diff_ids":["sha256:{first}","sha256:{second}","sha256:{second}"]}}}}"#
        );
        Layers { base, changes, config }
    }

    /// `docker save` of 20.10: a directory for each layer, a link where one comes again.
    fn saved_by_docker_20(&self) -> Vec<u8> {
        let mut tar = Tar::default();
        let ids: Vec<String> = (0..3).map(|n| sha256(format!("chain {n}").as_bytes())).collect();
        for (n, id) in ids.iter().enumerate() {
            tar.directory(&format!("{id}/"), 0o755);
            tar.file(&format!("{id}/VERSION"), 0o644, b"1.0");
            tar.file(
                &format!("{id}/json"),
                0o644,
                format!(r#"{{"id":"{id}","os":"linux"}}"#).as_bytes(),
            );
            let name = format!("{id}/layer.tar");
            match n {
                0 => tar.file(&name, 0o644, &self.base),
                1 => tar.file(&name, 0o644, &self.changes),
                _ => tar.link(&name, &format!("../{}/layer.tar", ids[1])),
            }
        }
        let config = format!("{}.json", sha256(self.config.as_bytes()));
        tar.file(&config, 0o644, self.config.as_bytes());
        let layers = ids
            .iter()
            .map(|id| format!("\"{id}/layer.tar\""))
            .collect::<Vec<_>>()
            .join(",");
        let manifest = format!(r#"[{{"Config":"{config}","RepoTags":["example.org/old:20"],"Layers":[{layers}]}}]"#);
        tar.file("manifest.json", 0o644, manifest.as_bytes());
        tar.file(
            "repositories",
            0o644,
            format!(r#"{{"example.org/old":{{"20":"{}"}}}}"#, ids[2]).as_bytes(),
        );
        tar.finish()
    }

    /// `docker save` of 25 to 28: an OCI layout that is a docker archive, too.
    fn saved_by_docker_28(&self) -> Vec<u8> {
        let mut tar = Tar::default();
        let (base, changes, config) = (
            sha256(&self.base),
            sha256(&self.changes),
            sha256(self.config.as_bytes()),
        );
        let layer = |digest: &str, size: usize| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:{digest}","size":{size}}}"#
            )
        };
        let (first, second) = (layer(&base, self.base.len()), layer(&changes, self.changes.len()));
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{
            "mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{config}","size":{}}},"layers":[{first},{second},{second}]}}"#,
            self.config.len()
        );
        let digest = sha256(manifest.as_bytes());
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{
            "mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{digest}","size":{},
            "annotations":{{"io.containerd.image.name":"example.org/new:28","org.opencontainers.image.ref.name":"28"}}}}]}}"#,
            manifest.len()
        );
        let docker = format!(
            r#"[{{"Config":"blobs/sha256/{config}","RepoTags":["example.org/new:28"],
            "Layers":["blobs/sha256/{base}","blobs/sha256/{changes}","blobs/sha256/{changes}"],
            "LayerSources":{{"sha256:{base}":{first},"sha256:{changes}":{second}}}}}]"#
        );
        tar.directory("blobs/", 0o755);
        tar.directory("blobs/sha256/", 0o755);
        let blobs: [(&str, &[u8]); 4] = [
            (&base, &self.base),
            (&changes, &self.changes),
            (&config, self.config.as_bytes()),
            (&digest, manifest.as_bytes()),
        ];
        for (digest, bytes) in blobs {
            tar.file(&format!("blobs/sha256/{digest}"), 0o644, bytes);
        }
        tar.file("index.json", 0o644, index.as_bytes());
        tar.file("manifest.json", 0o644, docker.as_bytes());
        tar.file("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#);
        tar.file(
            "repositories",
            0o644,
            format!(r#"{{"example.org/new":{{"28":"{changes}"}}}}"#).as_bytes(),
        );
        tar.finish()
    }
}

/// The image is loaded, described and run; what the second layer took away is gone.
fn runs(berth: &Berth, archive: &[u8], name: &str) {
    let file = berth.path("archive.tar");
    std::fs::write(&file, archive).unwrap();
    assert_eq!(berth.run(&["load", "-i", &file]).ok(), format!("Loaded image: {name}"));
    assert_eq!(
        berth.inspect(name, "{{.Config.Labels.made}} {{.Created}}"),
        "elsewhere 2021-03-04T05:06:07Z"
    );
    assert_eq!(
        berth.run(&["run", "--rm", "--network", "none", name]).ok(),
        "from the second layer\nhostname\nhosts\nmtab\npasswd\nresolv.conf"
    );
}

#[test]
fn docker_save_of_20_10_is_loaded() {
    runs(
        &Berth::empty(),
        &Layers::new().saved_by_docker_20(),
        "example.org/old:20",
    );
}

#[test]
fn docker_save_of_28_is_loaded() {
    runs(
        &Berth::empty(),
        &Layers::new().saved_by_docker_28(),
        "example.org/new:28",
    );
}

#[test]
fn both_are_the_same_image() {
    let (berth, layers) = (Berth::empty(), Layers::new());
    runs(&berth, &layers.saved_by_docker_20(), "example.org/old:20");
    runs(&berth, &layers.saved_by_docker_28(), "example.org/new:28");
    let id = format!("sha256:{}", sha256(layers.config.as_bytes()));
    assert_eq!(berth.inspect("example.org/old:20", "{{.Id}}"), id);
    assert_eq!(berth.inspect("example.org/new:28", "{{.Id}}"), id);
}

#[test]
fn a_blob_that_is_not_what_its_name_says_is_refused() {
    let (berth, layers) = (Berth::empty(), Layers::new());
    let mut archive = layers.saved_by_docker_28();
    let words = b"from the second layer";
    let at = archive.windows(words.len()).position(|w| w == words).unwrap();
    archive[at] = b'F';
    let file = berth.path("archive.tar");
    std::fs::write(&file, archive).unwrap();
    berth
        .run(&["load", "-i", &file])
        .fails(1, &sha256(&layers.changes)[..12]);
    assert_eq!(berth.run(&["images", "-aq"]).ok(), "");
}

#[test]
fn a_cut_archive_is_refused() {
    let berth = Berth::empty();
    let file = berth.path("archive.tar");
    for archive in [Layers::new().saved_by_docker_20(), Layers::new().saved_by_docker_28()] {
        std::fs::write(&file, &archive[..archive.len() / 2]).unwrap();
        let ran = berth.run(&["load", "-i", &file]);
        assert_eq!(ran.code, 1, "{ran:?}");
        assert!(!ran.err.is_empty());
        assert_eq!(berth.run(&["images", "-aq"]).ok(), "");
    }
}

#[test]
fn what_buildah_writes_is_loaded_in_all_shapes() {
    let berth = Berth::empty();
    let (tree, oci, docker, layout) = (
        berth.path("tree.tar"),
        berth.path("oci.tar"),
        berth.path("docker.tar"),
        berth.path("layout"),
    );
    std::fs::write(&tree, busybox()).unwrap();
    let storage = [
        "--storage-driver",
        "vfs",
        "--root",
        &berth.path("storage"),
        "--runroot",
        &berth.path("runroot"),
    ]
    .map(String::from);
    let buildah = |arguments: &[&str]| {
        let output = Command::new("buildah")
            .args(&storage)
            .args(arguments)
            .output()
            .expect("buildah is installed");
        assert!(
            output.status.success(),
            "buildah {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let name = buildah(&["from", "scratch"]);
    buildah(&["add", &name, &tree, "/"]);
    buildah(&[
        "config",
        "--cmd",
        r#"["cat","/data/seed"]"#,
        "--env",
        "PATH=/bin",
        "--label",
        "made=by-buildah",
        &name,
    ]);
    for place in [
        format!("oci-archive:{oci}:example.org/b:1"),
        format!("docker-archive:{docker}:example.org/b:2"),
        format!("oci:{layout}:b"),
    ] {
        buildah(&["commit", "-q", &name, &place]);
    }
    buildah(&["rm", &name]);
    assert_eq!(berth.run(&["load", "-i", &oci]).ok(), "Loaded image: example.org/b:1");
    assert_eq!(
        berth.run(&["load", "-i", &docker]).ok(),
        "Loaded image: example.org/b:2"
    );
    let loaded = berth.run(&["load", "-i", &layout]).ok();
    let id = loaded.rsplit(' ').next().unwrap();
    for image in ["example.org/b:1", "example.org/b:2", id] {
        assert_eq!(berth.inspect(image, "{{.Config.Labels.made}}"), "by-buildah", "{image}");
        assert_eq!(
            berth.run(&["run", "--rm", "--network", "none", image]).ok(),
            "from the image",
            "{image}"
        );
    }
}
