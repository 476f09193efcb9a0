//! Registries that are slow, that lie, that want something first; and what is kept of a pull or a push that broke off.

use berth_tests::registry::{Answer, Fake, MANIFEST, Registry, Spoilt};
use berth_tests::{BUSYBOX, Berth, Tar, eventually, noise};
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn a_pull_that_was_killed_goes_on_where_it_was() {
    let tar = noise(40 << 20);
    let (berth, spoilt) = (Berth::empty(), Spoilt::of(tar.clone(), &tar));
    let name = format!("{}/box:1", spoilt.fake.address);
    let part = berth.path(&format!(
        "data/spool/parts/{}",
        spoilt.layer.trim_start_matches("sha256:")
    ));
    let size = || std::fs::metadata(&part).map_or(0, |m| m.len());
    // Slow enough that it is worth keeping.
    let slow = Answer::ok("x", tar.clone()).pace(1 << 20, Duration::from_millis(120));
    // The registry stops in the middle, and our program is killed while it waits.
    spoilt.fake.answer(&spoilt.blob(), slow.clone().cut(20 << 20, 1000));
    let mut child = berth.spawn(&["pull", &name]);
    eventually("half of it has come", || size() >= 20 << 20);
    child.kill().unwrap();
    child.wait().unwrap();
    berth.has_no_image("killed");
    assert!(size() >= 20 << 20, "what has come is kept");
    let kept = size();
    spoilt.fake.answer(&spoilt.blob(), Answer::ok("x", tar.clone()));
    spoilt.fake.requests.lock().unwrap().clear();
    spoilt.pull(&berth).ok();
    let ranges: Vec<String> = spoilt
        .fake
        .requests
        .lock()
        .unwrap()
        .iter()
        .filter(|r| r.contains(&spoilt.layer))
        .cloned()
        .collect();
    assert_eq!(ranges.len(), 1, "{ranges:?}");
    assert!(
        ranges[0].to_lowercase().contains(&format!("range: bytes={kept}-")),
        "{ranges:?}"
    );
    assert_eq!(size(), 0, "and goes when the layer is there");
    // What was kept is not the beginning of the layer (a power cut): all of it comes again.
    berth.run(&["rmi", &name]).ok();
    std::fs::write(&part, vec![0; 9 << 20]).unwrap();
    spoilt.pull(&berth).ok();
    assert_eq!(berth.run(&["system", "check"]).ok(), "Everything is as it came.");
}

#[test]
fn registries_that_lie_or_dawdle_are_left() {
    let spoilt = Spoilt::new();
    let slow = |answer: Answer| answer.drip(Duration::from_millis(50));
    let here = |path: &str| format!("http://{}/v2/{path}", spoilt.fake.address);
    let around = here("box/around");
    spoilt
        .fake
        .answer("box/around", Answer::status(307).header("Location", &around));
    spoilt.fake.answer(
        "box/metadata",
        Answer::status(307).header("Location", "file:///etc/passwd"),
    );
    let blob = spoilt.blob();
    let cases: Vec<(&str, &str, Answer, &str)> = vec![
        (
            "drips",
            &blob,
            slow(Answer::ok("x", spoilt.layer_bytes.clone())),
            "too slow",
        ),
        (
            "drips a manifest",
            "box/manifests/1",
            slow(Answer::ok(MANIFEST, spoilt.manifest())),
            "imeout",
        ),
        (
            "around in circles",
            &blob,
            Answer::status(307).header("Location", &around),
            "around in circles",
        ),
        (
            "to a file",
            &blob,
            Answer::status(307).header("Location", &here("box/metadata")),
            "get a blob",
        ),
        ("nowhere", &blob, Answer::status(307), "but not where"),
        (
            "a wrong length",
            &blob,
            Answer::ok("x", [spoilt.layer_bytes.clone(), vec![0; 512]].concat()),
            "longer than it should be",
        ),
        (
            "never again",
            "box/manifests/1",
            Answer::status(429).header("Retry-After", "3600"),
            "toomanyrequests",
        ),
        (
            "deep",
            "box/manifests/1",
            Answer::ok(MANIFEST, "[".repeat(3 << 20)),
            "read the manifest",
        ),
        (
            "a token from nowhere",
            "box/manifests/1",
            Answer::status(401).header("WWW-Authenticate", "Bearer realm=\"gopher://x\""),
            "plain HTTP",
        ),
    ];
    for (name, path, answer, words) in cases {
        let berth = Berth::empty();
        spoilt.good();
        spoilt.fake.answer(path, answer);
        let begun = Instant::now();
        let output = berth
            .command(&["pull", &format!("{}/box:1", spoilt.fake.address)])
            .env("BERTH_REGISTRY_TIMEOUT", "1")
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{name}: {err}");
        assert!(err.contains(words), "{name}: {err}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{name} takes for ever");
        berth.has_no_image(name);
    }
}

#[test]
fn a_registry_that_asks_for_a_moment_gets_it() {
    let (berth, spoilt) = (Berth::empty(), Spoilt::new());
    let busy = Answer::status(429).header("Retry-After", "1");
    spoilt.fake.answer(
        "box/manifests/1",
        Answer::ok(MANIFEST, spoilt.manifest()).after(2, busy),
    );
    spoilt.fake.answer(
        &spoilt.blob(),
        Answer::ok("x", spoilt.layer_bytes.clone()).after(1, Answer::status(503)),
    );
    spoilt.pull(&berth).ok();
}

#[test]
fn layers_that_are_none_of_ours_are_named_before_anything_is_fetched() {
    let spoilt = Spoilt::new();
    let manifest = |kind: &str| {
        spoilt
            .manifest()
            .replace("application/vnd.oci.image.layer.v1.tar", kind)
    };
    for (kind, words) in [
        (
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "is foreign",
        ),
        (
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "is foreign",
        ),
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "is encrypted"),
        ("application/vnd.wasm.content.layer.v1+wasm", "is of the type"),
    ] {
        let berth = Berth::empty();
        spoilt
            .fake
            .answer("box/manifests/1", Answer::ok(MANIFEST, manifest(kind)));
        spoilt.fake.requests.lock().unwrap().clear();
        spoilt.pull(&berth).fails(1, words);
        assert_eq!(spoilt.fake.requests.lock().unwrap().len(), 1, "{kind}");
    }
}

#[test]
fn decompression_bombs_end_at_the_limit() {
    let mut tar = Tar::default();
    tar.file("zeros", 0o644, &vec![0; 64 << 20]);
    let tar = tar.finish();
    for program in ["gzip", "zstd"] {
        let berth = Berth::empty();
        let file = berth.path("bomb");
        std::fs::write(&file, &tar).unwrap();
        let packed = Command::new(program).args(["-c", "-1", &file]).output().unwrap().stdout;
        assert!(packed.len() < 1 << 20, "{program}");
        let spoilt = Spoilt::of(packed, &tar);
        let name = format!("{}/box:1", spoilt.fake.address);
        let output = berth
            .command(&["pull", &name])
            .env("BERTH_LAYER_LIMIT", "16m")
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            err.contains("unpacks to more than 16 MiB") && err.contains("hint: "),
            "{err}"
        );
        berth.has_no_image(program);
        spoilt.pull(&berth).ok();
    }
}

#[test]
fn mirrors_come_first_and_the_registry_after_them() {
    let (spoilt, mirror) = (Spoilt::new(), Fake::start());
    let name = format!("{}/box:1", spoilt.fake.address);
    let pull = |berth: &Berth, mirrors: &str| {
        let output = berth
            .command(&["pull", &name])
            .env("BERTH_REGISTRY_MIRRORS", mirrors)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let mirrors = format!("{}={}/cache", spoilt.fake.address, mirror.address);
    // The mirror has nothing of it.
    let berth = Berth::empty();
    pull(&berth, &mirrors);
    let asked: Vec<String> = mirror.requests.lock().unwrap().drain(..).collect();
    assert!(asked[0].starts_with("GET /v2/cache/box/manifests/1"), "{asked:?}");
    // It has the layer, and one of it that is another's.
    mirror.answer("cache/box/manifests/1", Answer::ok(MANIFEST, spoilt.manifest()));
    mirror.answer(
        &format!("cache/{}", spoilt.blob()),
        Answer::ok("x", spoilt.layer_bytes.clone()),
    );
    spoilt.fake.requests.lock().unwrap().clear();
    let berth = Berth::empty();
    pull(&berth, &format!("*={}/cache", mirror.address));
    let asked = spoilt.fake.requests.lock().unwrap();
    assert!(
        !asked
            .iter()
            .any(|r| r.contains("manifests") || r.contains(&spoilt.layer)),
        "{asked:?}"
    );
    assert_eq!(berth.inspect(&name, "{{index .RepoTags 0}}"), name);
}

#[test]
fn what_a_registry_has_is_not_sent_again() {
    let (berth, registry) = (Berth::new(), Registry::start());
    let (first, second) = (registry.name("one/box:1"), registry.name("two/box:1"));
    for name in [&first, &second] {
        berth.run(&["tag", BUSYBOX, name]).ok();
    }
    assert!(berth.run(&["push", &first]).ok().contains(": Pushed"));
    assert!(berth.run(&["push", &first]).ok().contains("Layer already exists"));
    let out = berth.run(&["push", &second]).ok();
    assert!(out.contains(": Mounted"), "{out}");
    // What somebody else pulled is mounted, too; and the manifest is there for skopeo.
    let other = Berth::empty();
    other.run(&["pull", "-q", &second]).ok();
    let third = registry.name("three/box:1");
    other.run(&["tag", &second, &third]).ok();
    assert!(other.run(&["push", &third]).ok().contains(": Mounted"));
    let found = Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", &format!("docker://{third}")])
        .output()
        .unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let manifest = berth.run(&["manifest", "inspect", &third]).ok();
    assert!(
        manifest.contains("\"mediaType\": \"application/vnd.oci.image.manifest.v1+json\""),
        "{manifest}"
    );
    let found = berth
        .run(&["search", "--format", "{{.Name}}", &registry.name("box")])
        .ok();
    assert!(found.contains(&registry.name("two/box")), "{found}");
}

/// A registry that takes uploads and breaks the first off in the middle: tests/clients/uploads.py.
struct Uploads {
    child: std::process::Child,
    address: String,
    /// What it wrote down of each request.
    log: String,
}

impl Uploads {
    fn start(berth: &Berth, cut: usize, resumes: bool) -> Self {
        let log = berth.path("uploads.log");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/uploads.py");
        let mut child = Command::new("python3")
            .args([
                script,
                &log,
                &cut.to_string(),
                if resumes { "resumes" } else { "forgets" },
            ])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let mut port = String::new();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut out, &mut port).unwrap();
        Uploads {
            child,
            address: format!("127.0.0.1:{}", port.trim()),
            log,
        }
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_upload_that_broke_off_goes_on_where_it_was() {
    let (tar, size, cut) = (noise(6 << 20), 6 << 20, 3 << 20);
    for resumes in [true, false] {
        let berth = Berth::empty();
        let registry = Uploads::start(&berth, cut, resumes);
        let (file, name) = (berth.path("x.tar"), format!("{}/box:1", registry.address));
        std::fs::write(&file, &tar).unwrap();
        berth.run(&["import", &file, &name]).ok();
        berth.run(&["push", "-q", &name]).ok();
        let log = std::fs::read_to_string(&registry.log).unwrap();
        let sent: usize = log
            .lines()
            .filter_map(|l| l.strip_prefix("PATCH ")?.split(' ').next()?.parse::<usize>().ok())
            .sum();
        let limit = if resumes {
            size + (1 << 20)
        } else {
            size + cut + (1 << 20)
        };
        assert!(sent < limit, "{sent} bytes were sent for {size}: {log}");
        let ranges = log.lines().filter(|l| l.starts_with("PATCH ") && !l.ends_with("None"));
        assert_eq!(ranges.count() > 0, resumes, "{log}");
        assert!(
            log.contains("PUT blob as its digest says") && log.contains("PUT manifest"),
            "{log}"
        );
    }
}
