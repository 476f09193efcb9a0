//! Images for several platforms: one name, one index.

use berth_tests::api::Api;
use berth_tests::registry::Registry;
use berth_tests::{Berth, Tar, busybox};
use std::process::Command;

/// What skopeo says; it is a stranger to whatever wrote it.
#[track_caller]
fn skopeo(arguments: &[&str]) -> String {
    let output = Command::new("skopeo")
        .arg("--insecure-policy")
        .args(arguments)
        .output()
        .expect("skopeo is installed");
    assert!(
        output.status.success(),
        "skopeo {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A manifest or index as the registry has it.
#[track_caller]
fn raw(name: &str) -> serde_json::Value {
    let text = skopeo(&["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]);
    serde_json::from_str(&text).unwrap()
}

fn digest_of(name: &str) -> String {
    let name = format!("docker://{name}");
    skopeo(&["inspect", "--format", "{{.Digest}}", "--tls-verify=false", &name])
}

/// Architectures of an index.
fn architectures(index: &serde_json::Value) -> Vec<String> {
    let manifests = index["manifests"].as_array().expect("an index").iter();
    manifests
        .map(|m| m["platform"]["architecture"].as_str().unwrap().to_owned())
        .collect()
}

/// `box:1` in the registry: for this machine, and for another; put together by `manifest create` and pushed.
fn two_platforms(registry: &Registry) {
    let berth = Berth::empty();
    let mut other = Tar::default();
    other.file("only-arm", 0o644, b"for another machine");
    let all = registry.name("box:1");
    let mut names = Vec::new();
    for (platform, tar) in [("linux/amd64", busybox()), ("linux/arm64", other.finish())] {
        let file = berth.path("tree.tar");
        std::fs::write(&file, tar).unwrap();
        let name = registry.name(&format!("box:{}", platform.trim_start_matches("linux/")));
        berth.run(&["import", "--platform", platform, &file, &name]).ok();
        berth.run(&["push", "-q", &name]).ok();
        names.push(name);
    }
    let (create, arm) = (["manifest", "create", &all], &names[1]);
    assert_eq!(
        berth.run(&[&create[..], &[&names[0], arm]].concat()).ok(),
        format!("Created manifest list {all}")
    );
    berth.run(&[&create[..], &[arm]].concat()).fails(1, "--amend");
    berth.run(&[&create[..], &["--amend", arm]].concat()).ok();
    berth.run(&["manifest", "annotate", "--variant", "v8", &all, arm]).ok();
    let shown = berth.run(&["manifest", "inspect", &all]).ok();
    assert!(
        shown.contains("\"variant\": \"v8\"") && shown.contains("\"amd64\""),
        "{shown}"
    );
    let pushed = berth.run(&["manifest", "push", "--purge", &all]).ok();
    berth.run(&["manifest", "rm", &all]).fails(1, "No such manifest");
    assert_eq!(digest_of(&all).trim(), pushed);
    // From another repository of the same registry, too: what it lacks is brought there.
    let copy = registry.name("copy:1");
    berth.run(&["manifest", "create", &copy, &names[0], arm]).ok();
    berth.run(&["manifest", "push", &copy]).ok();
    assert_eq!(architectures(&raw(&copy)), ["amd64", "arm64"]);
    berth.run(&["manifest", "rm", &copy]).ok();
    let verbose = berth.run(&["manifest", "inspect", "-v", &all]).ok();
    let verbose: serde_json::Value = serde_json::from_str(&verbose).unwrap();
    assert_eq!(verbose[1]["Descriptor"]["platform"]["variant"], "v8");
    assert!(verbose[0]["OCIManifest"]["layers"][0]["digest"].is_string());
}

/// A store with both images of `box:1`.
fn with_both(registry: &Registry) -> (Berth, String) {
    let (berth, name) = (Berth::empty(), registry.name("box:1"));
    berth.run(&["pull", "-q", "--platform", "linux/arm64", &name]).ok();
    assert_eq!(
        berth.inspect(&name, "{{.Architecture}}"),
        "arm64",
        "the only one that is here"
    );
    berth.run(&["pull", "-q", &name]).ok();
    (berth, name)
}

fn architecture(berth: &Berth, name: &str, platform: &str) -> String {
    let words = [
        "image",
        "inspect",
        "--format",
        "{{.Architecture}}",
        "--platform",
        platform,
    ];
    berth.run(&[&words[..], &[name]].concat()).ok()
}

#[test]
fn a_name_stands_for_images_of_several_platforms() {
    let registry = Registry::start();
    two_platforms(&registry);
    let (berth, name) = with_both(&registry);
    assert_eq!(berth.inspect(&name, "{{.Architecture}}"), "amd64", "this machine's");
    assert_eq!(architecture(&berth, &name, "linux/arm64"), "arm64");
    berth
        .run(&["image", "inspect", "--platform", "linux/s390x", &name])
        .fails(1, "does not match the specified platform (linux/s390x)");
    let out = berth
        .run(&[
            "run",
            "--rm",
            "--network",
            "none",
            &name,
            "/bin/busybox",
            "echo",
            "hello",
        ])
        .ok();
    assert_eq!(out, "hello");
    let listed = berth.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok();
    assert_eq!(listed, name, "listed once");
    let tree = berth.run(&["images", "--tree"]).ok();
    assert!(
        tree.contains("├─ linux/amd64") && tree.contains("└─ linux/arm64"),
        "{tree}"
    );
    // Both are still there, and are what the registry has: one question tells.
    for platform in ["linux/amd64", "linux/arm64"] {
        let out = berth.run(&["pull", "--platform", platform, &name]).ok();
        assert!(out.contains("Image is up to date"), "{out}");
    }
    berth.run(&["image", "prune", "-f"]).ok();
    assert_eq!(
        architecture(&berth, &name, "linux/arm64"),
        "arm64",
        "what has a name is not dangling"
    );
    berth.run(&["rmi", "--platform", "linux/amd64", &name]).ok();
    assert_eq!(berth.inspect(&name, "{{.Architecture}}"), "arm64", "the name stays");
    berth.run(&["pull", "-q", &name]).ok();
    berth.run(&["rmi", &name]).ok();
    assert_eq!(berth.run(&["images", "-aq"]).ok(), "");
    for dir in ["data/content/sha256", "data/layers"] {
        let left = std::fs::read_dir(berth.path(dir)).unwrap().flatten();
        assert_eq!(left.filter(|e| e.file_name().len() == 64).count(), 0, "{dir}");
    }
}

#[test]
fn an_index_is_pushed_whole_if_all_of_it_is_there() {
    let registry = Registry::start();
    two_platforms(&registry);
    let (berth, name) = with_both(&registry);
    let (whole, part, half) = (
        registry.name("whole:1"),
        registry.name("part:1"),
        registry.name("half:1"),
    );
    for target in [&whole, &part, &half] {
        berth.run(&["tag", &name, target]).ok();
    }
    assert!(berth.run(&["push", &whole]).ok().contains("Mounted"));
    assert_eq!(digest_of(&whole), digest_of(&name), "the same index");
    berth.run(&["push", "-q", "--platform", "linux/arm64", &part]).ok();
    assert_eq!(raw(&part)["mediaType"], "application/vnd.oci.image.manifest.v1+json");
    let config = skopeo(&["inspect", "--config", "--tls-verify=false", &format!("docker://{part}")]);
    assert!(config.contains("arm64"), "{config}");
    berth.run(&["rmi", "-f", "--platform", "linux/arm64", &name]).ok();
    let out = berth.run(&["push", &half]).ok();
    assert!(out.contains("Not all multiplatform-content is present"), "{out}");
    assert!(raw(&half).get("manifests").is_none());
}

#[test]
fn archives_have_one_platform_or_several() {
    let registry = Registry::start();
    two_platforms(&registry);
    let (berth, name) = with_both(&registry);
    let (both, one) = (berth.path("both.tar"), berth.path("one.tar"));
    berth.run(&["save", "-o", &both, &name]).ok();
    berth
        .run(&["save", "-o", &one, "--platform", "linux/arm64", &name])
        .ok();
    berth
        .run(&["save", "-o", &one, "--platform", "linux/s390x", &name])
        .fails(1, "does not match");
    // skopeo takes all of it, and what older programs read is this machine's.
    let copy = format!("docker://{}", registry.name("saved:1"));
    let from = format!("oci-archive:{both}");
    skopeo(&["copy", "-q", "--all", "--dest-tls-verify=false", &from, &copy]);
    assert_eq!(architectures(&raw(&registry.name("saved:1"))), ["amd64", "arm64"]);
    let config = skopeo(&["inspect", "--config", &format!("docker-archive:{both}")]);
    assert!(config.contains("amd64"), "{config}");
    let load = |flags: &[&str], file: &str| {
        let berth = Berth::empty();
        let ran = berth.run(&[&["load", "-i", file], flags].concat());
        (berth, ran)
    };
    let (other, ran) = load(&[], &both);
    assert_eq!(ran.ok(), format!("Loaded image: {name}"));
    assert_eq!(other.inspect(&name, "{{.Architecture}}"), "amd64");
    assert_eq!(architecture(&other, &name, "linux/arm64"), "arm64");
    let (other, ran) = load(&["--platform", "linux/arm64"], &both);
    ran.ok();
    assert_eq!(other.inspect(&name, "{{.Architecture}}"), "arm64");
    let (other, ran) = load(&[], &one);
    ran.ok();
    assert_eq!(other.inspect(&name, "{{.Architecture}}"), "arm64");
    let (_, ran) = load(&["--platform", "linux/s390x"], &both);
    ran.fails(1, "requested platform(s) (linux/s390x) not found");
    // And as skopeo writes them.
    let layout = berth.path("layout");
    let to = format!("oci:{layout}:{name}");
    skopeo(&[
        "copy",
        "-q",
        "--all",
        "--src-tls-verify=false",
        &format!("docker://{name}"),
        &to,
    ]);
    let (other, ran) = load(&[], &layout);
    let loaded = ran.ok();
    let id = loaded.lines().last().unwrap().rsplit(' ').next().unwrap();
    assert_eq!(other.inspect(id, "{{.Os}}"), "linux");
    assert_eq!(
        other.run(&["images", "-q"]).ok().lines().count(),
        if loaded.contains("ID") { 2 } else { 1 }
    );
}

#[test]
fn dockers_client_names_platforms() {
    let registry = Registry::start();
    two_platforms(&registry);
    let (api, name) = (Api::with(Berth::empty(), &[]), registry.name("box:1"));
    let docker = |words: &[&str]| api.docker_28(words);
    for platform in ["linux/arm64", "linux/amd64"] {
        docker(&["pull", "-q", "--platform", platform, &name]).ok();
    }
    let inspect = ["image", "inspect", "-f", "{{.Architecture}}", "--platform"];
    let architecture = |platform| docker(&[&inspect[..], &[platform, &name]].concat());
    assert_eq!(architecture("linux/arm64").ok(), "arm64");
    assert_eq!(architecture("linux/amd64").ok(), "amd64");
    architecture("linux/s390x").fails(1, "does not match the specified platform");
    let history = |platform| docker(&["history", "-q", "--no-trunc", "--platform", platform, &name]);
    assert_ne!(history("linux/arm64").ok(), history("linux/amd64").ok());
    history("linux/s390x").fails(1, "does not match the specified platform");
    // One of them leaves and comes back.
    let file = api.berth.path("one.tar");
    docker(&["save", "-o", &file, "--platform", "linux/arm64", &name]).ok();
    docker(&["save", "-o", &file, "--platform", "linux/s390x", &name]).fails(1, "does not match");
    let part = registry.name("docker-pushed:1");
    docker(&["tag", &name, &part]).ok();
    docker(&["push", "-q", "--platform", "linux/arm64", &part]).ok();
    let config = skopeo(&["inspect", "--config", "--tls-verify=false", &format!("docker://{part}")]);
    assert!(config.contains("arm64"), "{config}");
    docker(&["rmi", "-f", &name, &part]).ok();
    docker(&["load", "-q", "-i", &file, "--platform", "linux/amd64"]).fails(1, "not found");
    docker(&["load", "-q", "-i", &file, "--platform", "linux/arm64"]).ok();
    assert_eq!(
        docker(&["image", "inspect", "-f", "{{.Architecture}}", &name]).ok(),
        "arm64"
    );
    docker(&["create", "--platform", "linux/s390x", "--pull", "never", &name, "x"]).fails(1, "");
    assert_eq!(docker(&["ps", "-aq"]).ok(), "");
}

#[test]
fn all_tags_come_and_go_at_once() {
    let (registry, berth) = (Registry::start(), Berth::new());
    let repository = registry.name("many/tags");
    for tag in ["1", "2", "3"] {
        berth
            .run(&["tag", berth_tests::BUSYBOX, &format!("{repository}:{tag}")])
            .ok();
    }
    let out = berth.run(&["push", "--all-tags", &repository]).ok();
    assert!(out.contains("3: digest: sha256:"), "{out}");
    berth
        .run(&["push", "-a", &format!("{repository}:1")])
        .fails(1, "tag can't be used with --all-tags/-a");
    let other = Berth::empty();
    other.run(&["pull", "-q", "-a", &repository]).ok();
    let tags = other.run(&["images", "--format", "{{.Tag}}"]).ok();
    let mut tags: Vec<&str> = tags.lines().collect();
    tags.sort();
    assert_eq!(tags, ["1", "2", "3"]);
    berth
        .run(&["push", "-a", &registry.name("no/such")])
        .fails(1, "does not exist locally");
}
