//! Images: registries, archives, other people's tools.

use berth_tests::registry::{Answer, Fake, MANIFEST, Registry, Spoilt, digest};
use berth_tests::{BUSYBOX, Berth};
use std::process::Command;

/// A tool of somebody else's.
#[track_caller]
fn tool(name: &str, arguments: &[&str]) {
    let output = Command::new(name)
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("{name} is installed: {e}"));
    assert!(
        output.status.success(),
        "{name} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn says_hello(berth: &Berth, image: &str) {
    let ran = berth.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        image,
        "/bin/busybox",
        "echo",
        "hello",
    ]);
    assert_eq!(ran.ok(), "hello", "{image}");
}

#[test]
fn what_is_pushed_is_pulled() {
    let (berth, registry) = (Berth::new(), Registry::start());
    let name = registry.name("team/box:1");
    berth.run(&["tag", BUSYBOX, &name]).ok();
    let out = berth.run(&["push", &name]).ok();
    assert!(out.contains(": Pushed") && out.contains("1: digest: sha256:"), "{out}");
    assert!(berth.run(&["push", &name]).ok().contains("Layer already exists"));
    let id = berth.inspect(BUSYBOX, "{{.Id}}");
    let other = Berth::empty();
    let ran = other.run(&["run", "--rm", "--network", "none", &name, "echo", "pulled"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "pulled"), "{ran:?}");
    for words in [
        &format!("Unable to find image '{name}' locally"),
        "1: Pulling from team/box",
        "Pull complete",
        "Status: Downloaded newer image",
    ] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    assert_eq!(other.inspect(&name, "{{.Id}}"), id, "the same image");
    assert!(other.run(&["pull", &name]).ok().contains("Image is up to date"));
    let digest = other.inspect(&name, "{{index .RepoDigests 0}}");
    assert_eq!(other.inspect(&digest, "{{.Id}}"), id);
    tool(
        "skopeo",
        &["inspect", "--tls-verify=false", &format!("docker://{name}")],
    );
    other
        .run(&["pull", &registry.name("team/box:none")])
        .fails(1, "manifest unknown");
    other.run(&["pull", &registry.name("no/such")]).fails(1, "not found");
}

#[test]
fn two_pulls_at_once_both_succeed() {
    let (berth, registry) = (Berth::new(), Registry::start());
    let name = registry.name("box:1");
    berth.run(&["tag", BUSYBOX, &name]).ok();
    berth.run(&["push", "-q", &name]).ok();
    let other = Berth::empty();
    let children: Vec<_> = (0..4).map(|_| other.spawn(&["pull", "-q", &name])).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    says_hello(&other, &name);
}

#[test]
fn archives_go_round_in_all_shapes() {
    let berth = Berth::new();
    let (saved, oci, docker, layout) = (
        berth.path("saved.tar"),
        berth.path("oci.tar"),
        berth.path("docker.tar"),
        berth.path("layout"),
    );
    berth.run(&["tag", BUSYBOX, "example.org/box:1"]).ok();
    berth.run(&["save", "-o", &saved, "example.org/box:1"]).ok();
    tool(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            &format!("docker-archive:{saved}"),
            &format!("oci-archive:{oci}:example.org/box:2"),
        ],
    );
    tool(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            &format!("docker-archive:{saved}"),
            &format!("docker-archive:{docker}:example.org/box:3"),
        ],
    );
    tool(
        "skopeo",
        &[
            "--insecure-policy",
            "copy",
            &format!("docker-archive:{saved}"),
            &format!("oci:{layout}:tagged"),
        ],
    );
    tool(
        "umoci",
        &[
            "config",
            "--image",
            &format!("{layout}:tagged"),
            "--config.label",
            "made=by-umoci",
        ],
    );
    let id = berth.inspect(BUSYBOX, "{{.Id}}");
    let other = Berth::empty();
    assert_eq!(
        other.run(&["load", "-i", &saved]).ok(),
        "Loaded image: example.org/box:1"
    );
    assert_eq!(other.inspect("example.org/box:1", "{{.Id}}"), id);
    assert_eq!(
        other.feed(&["load"], &std::fs::read(&oci).unwrap()).ok(),
        "Loaded image: example.org/box:2"
    );
    assert_eq!(
        other.run(&["load", "-i", &docker]).ok(),
        "Loaded image: example.org/box:3"
    );
    let out = other.run(&["load", "-i", &layout]).ok();
    let umoci = out.strip_prefix("Loaded image ID: ").unwrap();
    assert_eq!(other.inspect(umoci, "{{.Config.Labels.made}}"), "by-umoci");
    for image in ["example.org/box:1", "example.org/box:2", "example.org/box:3", umoci] {
        says_hello(&other, image);
    }
    let again = other.path("again.tar");
    other.run(&["save", "-o", &again, "example.org/box:2"]).ok();
    tool(
        "skopeo",
        &["--insecure-policy", "inspect", &format!("docker-archive:{again}")],
    );
}

#[test]
fn names_come_and_go() {
    let berth = Berth::new();
    berth.run(&["tag", BUSYBOX, "other:1"]).ok();
    assert_eq!(
        berth
            .run(&["images", "--format", "{{.Repository}}:{{.Tag}}"])
            .ok()
            .lines()
            .count(),
        2
    );
    assert_eq!(berth.run(&["rmi", "other:1"]).ok(), "Untagged: other:1");
    let id = berth.run(&["create", "--network", "none", BUSYBOX]).ok();
    berth.run(&["rmi", BUSYBOX]).fails(1, "(must force) - container");
    berth.run(&["rm", &id]).ok();
    let out = berth.run(&["rmi", BUSYBOX]).ok();
    assert!(out.starts_with("Untagged: busybox:test\nDeleted: sha256:"), "{out}");
    assert_eq!(berth.run(&["images", "-q"]).ok(), "");
    let layers = std::fs::read_dir(berth.path("data/layers"))
        .unwrap()
        .flatten()
        .filter(|e| e.file_name().len() == 64);
    assert_eq!(layers.count(), 0);
}

#[test]
fn a_registry_that_dies_in_the_middle_is_taken_up_again() {
    let (berth, spoilt) = (Berth::empty(), Spoilt::new());
    spoilt.fake.answer(
        &spoilt.blob(),
        Answer::ok("x", spoilt.layer_bytes.clone()).cut(100_000, 2),
    );
    spoilt.pull(&berth).ok();
    assert!(
        spoilt
            .fake
            .requests
            .lock()
            .unwrap()
            .iter()
            .any(|r| r.to_lowercase().contains("range: bytes="))
    );
    says_hello(&berth, &format!("{}/box:1", spoilt.fake.address));
}

#[test]
fn spoilt_images_are_refused_and_leave_nothing() {
    let spoilt = Spoilt::new();
    let blob = || spoilt.layer_bytes.clone();
    let mut flipped = blob();
    flipped[200_000] ^= 1;
    let schema1 = r#"{"schemaVersion":1,"name":"box","tag":"1","fsLayers":[],"history":[]}"#;
    let both = spoilt.manifest().replacen('{', r#"{"manifests":[],"#, 1);
    type Case<'a> = (&'a str, Vec<(String, Answer)>, &'a str);
    let cases: Vec<Case<'_>> = vec![
        (
            "wrong digest",
            vec![(spoilt.blob(), Answer::ok("x", flipped))],
            "has the digest",
        ),
        (
            "too short",
            vec![(spoilt.blob(), Answer::ok("x", blob()[..5000].to_vec()))],
            "byte",
        ),
        (
            "dies for ever",
            vec![(spoilt.blob(), Answer::ok("x", blob()).cut(0, 1000))],
            "broke off",
        ),
        (
            "no such blob",
            vec![(spoilt.blob(), Answer::status(404))],
            "the registry answered 404",
        ),
        (
            "another type",
            vec![("box/manifests/1".into(), Answer::ok("text/html", "<html>"))],
            "manifest",
        ),
        (
            "an artifact",
            vec![(
                "box/manifests/1".into(),
                Answer::ok(
                    "application/vnd.x",
                    r#"{"schemaVersion":2,"mediaType":"application/vnd.x"}"#,
                ),
            )],
            "is no image",
        ),
        (
            "types that differ",
            vec![(
                "box/manifests/1".into(),
                Answer::ok("application/vnd.oci.image.index.v1+json", spoilt.manifest()),
            )],
            "its registry says",
        ),
        (
            "both at once",
            vec![("box/manifests/1".into(), Answer::ok(MANIFEST, both))],
            "is not what its type",
        ),
        (
            "schema 1",
            vec![(
                "box/manifests/1".into(),
                Answer::ok("application/vnd.docker.distribution.manifest.v1+json", schema1),
            )],
            "schema version 1",
        ),
        (
            "huge",
            vec![("box/manifests/1".into(), Answer::ok(MANIFEST, vec![b' '; 5 << 20]))],
            "larger than 4 MiB",
        ),
        (
            "nobody may",
            vec![("box/manifests/1".into(), Answer::status(401))],
            "pull access denied",
        ),
        (
            "out of order",
            vec![("box/manifests/1".into(), Answer::status(500))],
            "answered 500",
        ),
    ];
    for (name, answers, words) in cases {
        let berth = Berth::empty();
        spoilt.good();
        answers
            .into_iter()
            .for_each(|(path, answer)| spoilt.fake.answer(&path, answer));
        let ran = spoilt.pull(&berth);
        assert_eq!(ran.code, 1, "{name}: {ran:?}");
        assert!(ran.err.contains(words), "{name}: {ran:?}");
        assert_eq!(berth.run(&["images", "-q"]).ok(), "", "{name}");
        let layers = std::fs::read_dir(berth.path("data/layers"))
            .unwrap()
            .flatten()
            .filter(|e| e.file_name().len() == 64);
        assert_eq!(layers.count(), 0, "{name}");
    }
}

#[test]
fn credentials_go_to_nobody_else() {
    let (berth, spoilt, other) = (Berth::empty(), Spoilt::new(), Fake::start());
    other.answer("elsewhere", Answer::ok("x", spoilt.layer_bytes.clone()));
    let place = format!("http://{}/v2/elsewhere", other.address);
    spoilt
        .fake
        .answer(&spoilt.blob(), Answer::status(307).header("Location", &place));
    let challenge = Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\"");
    spoilt.fake.answer("box/manifests/1", challenge.clone());
    std::fs::create_dir(berth.path(".docker")).unwrap();
    let config = format!(
        r#"{{"auths":{{"{}":{{"username":"me","password":"secret"}}}}}}"#,
        spoilt.fake.address
    );
    std::fs::write(berth.path(".docker/config.json"), config).unwrap();
    spoilt.pull(&berth).fails(1, "unauthorized");
    let asked = spoilt
        .fake
        .requests
        .lock()
        .unwrap()
        .iter()
        .any(|r| r.to_lowercase().contains("authorization: basic"));
    assert!(asked, "the registry itself gets them");
    spoilt
        .fake
        .answer("box/manifests/1", Answer::ok(MANIFEST, spoilt.manifest()));
    spoilt.pull(&berth).ok();
    let requests = other.requests.lock().unwrap();
    assert!(
        !requests.is_empty() && !requests.iter().any(|r| r.to_lowercase().contains("authorization")),
        "{requests:?}"
    );
}

#[test]
fn an_image_for_another_processor_is_named() {
    let (berth, spoilt) = (Berth::empty(), Spoilt::new());
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"{MANIFEST}","digest":"{}","size":{},
        "platform":{{"os":"linux","architecture":"s390x"}}}}]}}"#,
        digest(spoilt.manifest().as_bytes()),
        spoilt.manifest().len()
    );
    spoilt.fake.answer(
        "box/manifests/1",
        Answer::ok("application/vnd.oci.image.index.v1+json", index),
    );
    let err = spoilt.pull(&berth).fails(1, "no matching manifest for linux/");
    assert!(err.contains("hint: it has: linux/s390x"), "{err}");
}

#[test]
fn a_root_file_system_is_imported_from_a_url() {
    let (berth, fake) = (Berth::empty(), Fake::start());
    fake.answer("tree.tar", Answer::ok("application/x-tar", berth_tests::busybox()));
    let to = format!("http://{}/v2/tree.tar", fake.address);
    fake.answer("moved", Answer::status(302).header("Location", &to));
    let from = format!("http://{}/v2/moved", fake.address);
    berth.run(&["import", &from, "fetched:1"]).ok();
    says_hello(&berth, "fetched:1");
    assert_eq!(
        berth.inspect("fetched:1", "{{.Comment}}"),
        format!("Imported from {from}")
    );
    let nothing = format!("http://{}/v2/nothing", fake.address);
    berth.run(&["import", &nothing]).fails(1, "answered 404");
}
