//! What is on the disk: damage, bounds, images that are mounted.

use berth_tests::registry::{Spoilt, digest};
use berth_tests::{BUSYBOX, Berth, Tar, busybox};

#[test]
fn damage_is_found_and_that_alone_is_fetched_again() {
    let spoilt = Spoilt::new();
    let name = format!("{}/box:1", spoilt.fake.address);
    let berth = Berth::empty();
    spoilt.pull(&berth).ok();
    let tar = berth.path("own.tar");
    let mut own = Tar::default();
    own.file("own", 0o644, b"of no registry");
    std::fs::write(&tar, own.finish()).unwrap();
    let own = berth.run(&["import", &tar, "own:1"]).ok();
    assert_eq!(berth.run(&["system", "check"]).ok(), "Everything is as it came.");
    let layer = |id: &str| berth.path(&format!("data/layers/{}/fs", id.trim_start_matches("sha256:")));
    let fs = layer(&spoilt.diff_id);
    let seed = format!("{fs}/data/seed");
    type Damage<'a> = (&'a str, Box<dyn Fn() + 'a>, &'a str);
    let config = berth.path(&format!(
        "data/content/sha256/{}",
        digest(spoilt.config.as_bytes()).trim_start_matches("sha256:")
    ));
    let damages: Vec<Damage<'_>> = vec![
        (
            "content",
            Box::new(|| std::fs::write(&seed, "from the imagE\n").unwrap()),
            "data/seed: the content was changed",
        ),
        ("shorter", Box::new(|| std::fs::write(&seed, "x").unwrap()), "data/seed"),
        (
            "mode",
            Box::new(|| std::fs::set_permissions(&seed, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap()),
            "data/seed: its mode was changed",
        ),
        (
            "gone",
            Box::new(|| std::fs::remove_file(format!("{fs}/bin/ls")).unwrap()),
            "bin/ls: it is gone",
        ),
        (
            "recipe",
            Box::new(|| std::fs::write(format!("{fs}/../recipe"), "x").unwrap()),
            "read the layer",
        ),
        (
            "all",
            Box::new(|| std::fs::remove_dir_all(&fs).unwrap()),
            "it is not there",
        ),
        (
            "configuration",
            Box::new(|| std::fs::write(&config, "{}").unwrap()),
            "was damaged on disk",
        ),
    ];
    for (what, damage, words) in damages {
        damage();
        let ran = berth.run(&["system", "check"]);
        assert!(
            ran.code == 1 && ran.out.contains(words) && ran.out.contains(&name) && ran.out.ends_with(": damaged"),
            "{what}: {ran:?}"
        );
        spoilt.fake.requests.lock().unwrap().clear();
        let out = berth.run(&["system", "check", "--repair"]).ok();
        assert!(out.ends_with(": repaired") && out.lines().count() == 1, "{what}: {out}");
        assert_eq!(
            spoilt.fake.requests.lock().unwrap().len(),
            1,
            "{what}: one request, for what is damaged"
        );
        assert_eq!(
            berth.run(&["system", "check"]).ok(),
            "Everything is as it came.",
            "{what}"
        );
        assert_eq!(
            berth
                .run(&[
                    "run",
                    "--rm",
                    "--network",
                    "none",
                    &name,
                    "/bin/busybox",
                    "cat",
                    "/data/seed"
                ])
                .ok(),
            "from the image"
        );
    }
    let layers = berth.inspect("own:1", "{{index .RootFS.Layers 0}}");
    std::fs::write(format!("{}/own", layer(&layers)), "of a registry?").unwrap();
    let ran = berth.run(&["system", "check", "--repair"]);
    assert!(
        ran.code == 1 && ran.out.contains("not repaired (it did not come from a registry"),
        "{ran:?}"
    );
    berth.run(&["rmi", &own]).ok();
    assert_eq!(berth.run(&["system", "check"]).ok(), "Everything is as it came.");
}

#[test]
fn images_keep_the_bounds_that_are_set() {
    let berth = Berth::empty();
    let tar = berth.path("x.tar");
    for (number, size) in [(1, 3 << 20), (2, 3 << 20), (3, 3 << 20)] {
        let mut content = Tar::default();
        content.file("content", 0o644, &vec![number; size]);
        std::fs::write(&tar, content.finish()).unwrap();
        berth.run(&["import", &tar, &format!("n:{number}")]).ok();
    }
    let there = || {
        berth
            .run(&["images", "--format", "{{.Tag}}"])
            .ok()
            .lines()
            .map(String::from)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
            .join(" ")
    };
    // A container of the oldest: it is the one used last now.
    let id = berth.run(&["create", "--network", "none", "n:1", "x"]).ok();
    berth.run(&["rm", &id]).ok();
    assert!(
        berth
            .run(&["image", "prune", "-f", "--unused-for", "1h"])
            .ok()
            .contains("Total reclaimed space: 0B")
    );
    berth.run(&["image", "prune", "-f", "--max-used-space", "7m"]).ok();
    assert_eq!(there(), "1 3");
    berth.run(&["image", "mount", "n:3"]).ok();
    berth.run(&["image", "prune", "-f", "--max-used-space", "0"]).ok();
    assert_eq!(there(), "3", "what is mounted is used");
    berth.run(&["image", "unmount", "n:3"]).ok();
    // By the settings, after each pull.
    let spoilt = Spoilt::new();
    let name = format!("{}/box:1", spoilt.fake.address);
    let output = berth
        .command(&["pull", &name])
        .env("BERTH_IMAGES_MAX_SIZE", "3m")
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(
        berth.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok(),
        name
    );
}

#[test]
fn an_image_is_mounted_and_its_layers_are_shown() {
    let berth = Berth::new();
    let place = berth.run(&["image", "mount", BUSYBOX]).ok();
    assert_eq!(
        std::fs::read_to_string(format!("{place}/data/seed")).unwrap(),
        "from the image\n"
    );
    assert!(std::fs::write(format!("{place}/data/seed"), "x").is_err(), "to be read");
    assert_eq!(berth.run(&["image", "mount", BUSYBOX]).ok(), place, "once");
    assert!(berth.run(&["image", "mount"]).ok().ends_with(&place));
    berth.run(&["rmi", BUSYBOX]).fails(1, "image is mounted at");
    berth.run(&["image", "unmount", BUSYBOX]).ok();
    berth.run(&["image", "unmount", BUSYBOX]).fails(1, "is not mounted");
    let tree = berth.run(&["image", "tree", BUSYBOX]).ok();
    assert!(
        tree.contains("Tags:     [busybox:test]")
            && tree.contains("└── ID: ")
            && tree.ends_with("Top Layer of: [busybox:test]"),
        "{tree}"
    );
    assert!(!busybox().is_empty());
}
