//! What an image, or a process inside, does to make Berth hang, give way, or forget the others.

use std::process::Stdio;

use berth_tests::{BUSYBOX, Berth, Ran, Tar, busybox, eventually};

/// An archive as `docker save` makes one: the layer of [`busybox`], under a configuration of one's own.
fn image(berth: &Berth, name: &str, config: &str, layer: &[u8]) {
    let sum = |bytes: &[u8]| {
        let mut child = std::process::Command::new("sha256sum")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), bytes).unwrap();
        let out = child.wait_with_output().unwrap().stdout;
        String::from_utf8(out).unwrap()[..64].to_owned()
    };
    let document = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{config},"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}},
        "history":[{{"created_by":"RUN \u001b[31mx","comment":"\u001b[32mc"}}]}}"#,
        sum(layer)
    );
    let mut tar = Tar::default();
    let manifest = format!(r#"[{{"Config":"c.json","RepoTags":["{name}"],"Layers":["l.tar"]}}]"#);
    tar.file("manifest.json", 0o644, manifest.as_bytes());
    tar.file("c.json", 0o644, document.as_bytes());
    tar.file("l.tar", 0o644, layer);
    let file = berth.path("archive.tar");
    std::fs::write(&file, tar.finish()).unwrap();
    berth.run(&["load", "-i", &file]).ok();
}

/// The same layer with some files more.
fn layer(add: impl FnOnce(&mut Tar)) -> Vec<u8> {
    let mut bytes = busybox();
    // Without the two blocks that end it.
    bytes.truncate(bytes.len() - 1024);
    let mut more = Tar::default();
    add(&mut more);
    bytes.extend(more.finish());
    bytes
}

fn run(berth: &Berth, image: &str, script: &str) -> Ran {
    berth.run(&["run", "--rm", "--network", "none", image, "sh", "-c", script])
}

/// A process that joins belongs to the container's root as soon as it is inside, who may stop it before it is the command.
#[test]
fn who_is_stopped_on_the_way_in_holds_up_nobody_else() {
    let berth = Berth::new();
    let id = berth.start(&[], &["sh", "-c", "while :; do kill -STOP -1 2>/dev/null; done"]);
    let joining: Vec<_> = (0..12).map(|_| berth.spawn(&["exec", &id, "true"])).collect();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    berth.run(&["kill", &id]).ok();
    for child in joining {
        let code = child.wait_with_output().unwrap().status.code().unwrap();
        assert!([0, 1, 137].contains(&code), "{code}");
    }
    assert_eq!(berth.run(&["wait", &id]).ok(), "137");
}

/// Nor does a container that froze itself, which `--privileged` lets it.
#[test]
fn a_container_that_froze_itself_can_be_killed() {
    let berth = Berth::new();
    let freeze = "f=$(find /sys/fs/cgroup -name cgroup.freeze | head -n 1); echo ready; echo 1 > $f; sleep 60";
    let id = berth.start(&["--privileged"], &["sh", "-c", freeze]);
    eventually("it is frozen", || berth.run(&["logs", &id]).out.contains("ready"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    let joining = berth.spawn(&["exec", &id, "true"]);
    std::thread::sleep(std::time::Duration::from_millis(200));
    berth.run(&["rm", "-f", &id]).ok();
    assert_ne!(joining.wait_with_output().unwrap().status.code(), Some(0));
}

/// Volumes that an image asks for: nothing takes the place of the root or of `/proc`.
#[test]
fn an_images_volumes_do_not_cover_the_root_or_proc() {
    let berth = Berth::empty();
    for (number, place) in ["/", "//", "/proc", "/proc/sys"].into_iter().enumerate() {
        let name = format!("volumes:{number}");
        image(
            &berth,
            &name,
            &format!(r#"{{"Volumes":{{"{place}":{{}}}}}}"#),
            &busybox(),
        );
        run(&berth, &name, "true").fails(125, if number < 2 { "can't be '/'" } else { "/proc" });
    }
    assert_eq!(berth.run(&["volume", "ls", "-q"]).ok(), "");
}

/// CVE-2025-31133: what hides others is the null device, not what the image has by its name.
#[test]
fn masks_are_no_links_of_the_images() {
    let berth = Berth::empty();
    let layer = layer(|tar| {
        tar.directory("dev", 0o755);
        tar.link("dev/null", "/proc/keys");
    });
    image(&berth, "null:1", r#"{"Volumes":{"/dev":{}}}"#, &layer);
    let ran = run(&berth, "null:1", "cat /proc/keys");
    assert_ne!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("/dev/null is not the null device"), "{ran:?}");
}

/// Whoever has a volume while it is filled may put links in the place of what was just made.
#[test]
fn filling_a_volume_follows_no_link() {
    let berth = Berth::empty();
    let outside = berth.path("outside");
    std::fs::write(&outside, "kept").unwrap();
    std::os::unix::fs::chown(&outside, Some(0), Some(0)).unwrap();
    let before = std::fs::metadata(&outside).unwrap();
    let many = layer(|tar| {
        tar.directory("vol", 0o777);
        for n in 0..2000 {
            tar.file(&format!("vol/f{n}"), 0o6777, b"x");
        }
    });
    image(&berth, "many:1", "{}", &many);
    berth.run(&["volume", "create", "shared"]).ok();
    let data = berth.path("data/volumes/shared/_data");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // As the container that shares it would; from here it is quicker.
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for entry in std::fs::read_dir(&data).into_iter().flatten().flatten() {
                    if std::fs::remove_file(entry.path()).is_ok() {
                        let _ = std::os::unix::fs::symlink(&outside, entry.path());
                    }
                }
            }
        });
        for _ in 0..5 {
            let name = [
                "run",
                "--rm",
                "--network",
                "none",
                "-v",
                "shared:/vol",
                "many:1",
                "true",
            ];
            berth.run(&name);
            for entry in std::fs::read_dir(&data).unwrap().flatten() {
                let _ = std::fs::remove_file(entry.path());
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let after = std::fs::metadata(&outside).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((after.mode(), after.nlink()), (before.mode(), before.nlink()));
    berth.run(&["volume", "rm", "shared"]).ok();
}

/// Directories too deep for a path, in a container and then in an image.
#[test]
fn what_is_too_deep_to_name_is_counted_and_removed() {
    let berth = Berth::new();
    let dig = "cd /tmp; i=0; while [ $i -lt 310 ]; do mkdir dddddddddddd && cd dddddddddddd || break; i=$((i+1)); done; echo done";
    let id = berth.start(&[], &["sh", "-c", dig]);
    assert_eq!(berth.run(&["wait", &id]).ok(), "0");
    berth.run(&["system", "df"]).ok();
    berth.run(&["commit", &id, "deep:1"]).ok();
    berth.run(&["ps", "-as"]).ok();
    berth.run(&["rm", "-f", &id]).ok();
    berth.run(&["system", "df", "-v"]).ok();
    berth.run(&["rmi", "deep:1"]).ok();
}

/// Names and notes of images and containers in everything that is printed.
#[test]
fn nothing_that_is_listed_steers_the_terminal() {
    let berth = Berth::empty();
    let config = r#"{"Cmd":["true"],"Labels":{"k\u001b[31m":"v\u001b]0;x\u0007"},"User":"u\u001b[31m"}"#;
    image(&berth, "esc:1", config, &busybox());
    berth
        .run(&[
            "create",
            "--name",
            "esc",
            "--network",
            "none",
            "-u",
            "0",
            "esc:1",
            "sh",
            "-c",
            "touch /a$(printf '\\033')b",
        ])
        .ok();
    berth.run(&["start", "-a", "esc"]).ok();
    run(&berth, "esc:1", "true").fails(125, "unable to find user u");
    let said = [
        &["history", "esc:1"][..],
        &[
            "history",
            "--no-trunc",
            "--format",
            "{{.CreatedBy}} {{.Comment}}",
            "esc:1",
        ],
        &["ps", "-a", "--format", "{{.Labels}} {{.Command}}"],
        &["ps", "-a", "--format", "table {{.Labels}}"],
        &["diff", "esc"],
        &["events", "--since", "1h", "--until", "0s"],
        &[
            "events",
            "--since",
            "1h",
            "--until",
            "0s",
            "--format",
            "{{.Actor.Attributes}}",
        ],
        &["run", "--rm", "--network", "none", "esc:1", "true"],
    ];
    for words in said {
        let ran = berth.run(words);
        assert!(!ran.out.is_empty() || !ran.err.is_empty(), "{words:?}");
        assert!(
            !ran.out.contains('\u{1b}') && !ran.err.contains('\u{1b}'),
            "{words:?}: {ran:?}"
        );
    }
}

/// One container whose record is damaged (by a power cut, a full disk) does not hide the others.
#[test]
fn a_damaged_container_is_shown_as_dead_and_can_be_removed() {
    let berth = Berth::new();
    let create = |name: &str| {
        berth
            .run(&["create", "--name", name, "--network", "none", BUSYBOX])
            .ok()
    };
    let (damaged, other) = (create("damaged"), create("other"));
    let record = berth.path(&format!("data/containers/{damaged}/container.json"));
    std::fs::write(record, "{").unwrap();
    let shown = berth
        .run(&["ps", "-a", "--format", "{{.Names}} {{.State}} {{.Status}}"])
        .ok();
    assert_eq!(shown, "other created Created\ndamaged dead Dead");
    assert_eq!(
        berth.run(&["ps", "-aq", "--no-trunc", "--filter", "status=dead"]).ok(),
        damaged
    );
    assert_eq!(berth.run(&["ps", "-q"]).ok(), "");
    berth.run(&["start", "damaged"]).fails(1, "container.json");
    assert_eq!(berth.sh(&[], "echo fine"), "fine");
    berth.run(&["rm", "damaged"]).ok();
    assert_eq!(berth.run(&["ps", "-aq", "--no-trunc"]).ok(), other);
}

/// A volume of a name that was used before is empty, also when the removal of the old one was cut short.
#[test]
fn a_removed_volume_never_comes_back() {
    let berth = Berth::new();
    for round in 0..12 {
        berth.sh(&["-v", "again:/v"], "for n in $(seq 300); do echo x > /v/$n; done");
        let mut child = berth.spawn(&["volume", "rm", "again"]);
        std::thread::sleep(std::time::Duration::from_millis(1 + round));
        let _ = child.kill();
        let _ = child.wait();
        let there = !berth.run(&["volume", "ls", "-q"]).ok().is_empty();
        let files = berth.sh(&["-v", "again:/v"], "ls /v | wc -l");
        assert!(there && files == "300" || files == "0", "{there} {files}");
        berth.run(&["volume", "rm", "again"]).ok();
    }
}

/// CVE-2022-36109: a user's own group is among its further ones, so that no program takes it away.
#[test]
fn the_own_group_stays_among_the_further_ones() {
    let berth = Berth::new();
    let groups = ["sh", "-c", "awk '/^Groups/{$1=\"\"; print $0}' /proc/self/status"];
    let id = berth.start(&[], &["sleep", "60"]);
    for (user, expected) in [("1000:1000", "1000"), ("www", "34 44"), ("0", "0"), ("www:44", "44")] {
        assert_eq!(berth.busybox(&["-u", user], &groups).ok().trim(), expected, "{user}");
        let added = berth.run(&[&["exec", "-u", user, &id], &groups[..]].concat());
        assert_eq!(added.ok().trim(), expected, "{user}");
    }
}

/// On a full disk the container that filled it can be removed, and then there is room again.
#[test]
fn who_filled_the_disk_can_be_removed() {
    let berth = Berth::new();
    let small = berth.path("small");
    std::fs::create_dir(&small).unwrap();
    let shell = |line: &str| {
        let status = std::process::Command::new("sh").args(["-ec", line]).status().unwrap();
        assert!(status.success(), "{line}");
    };
    shell(&format!("mount -t tmpfs -o size=16m x {small}"));
    let run = |arguments: &[&str]| {
        let mut command = berth.command(arguments);
        let output = command.env("BERTH_DATA", format!("{small}/data")).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        berth.remember(&text);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), text, err)
    };
    let fill = "dd if=/dev/zero of=/f bs=64k 2>/dev/null; echo full; while :; do echo xxxxxxxx > /g; sleep 0.01; done";
    let said = [
        run(&["import", &berth.path("busybox.tar"), BUSYBOX]),
        run(&[
            "run",
            "-d",
            "--name",
            "big",
            "--network",
            "none",
            BUSYBOX,
            "sh",
            "-c",
            fill,
        ]),
    ];
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let full = || run(&["create", "--network", "none", BUSYBOX, "true"]).0 != Some(0);
    while !full() && std::time::Instant::now() < deadline {}
    let removed = run(&["rm", "-f", "big"]);
    for id in run(&["ps", "-aq"]).1.split_whitespace() {
        run(&["rm", "-f", id]);
    }
    let after = run(&["run", "--rm", "--network", "none", BUSYBOX, "echo", "room"]);
    shell(&format!("umount -l {small}"));
    assert!(said.iter().all(|s| s.0 == Some(0)), "{said:?}");
    assert_eq!(removed.0, Some(0), "{removed:?}");
    assert_eq!((after.0, after.1.as_str()), (Some(0), "room"), "{after:?}");
}
