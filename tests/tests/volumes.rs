//! Bind mounts, volumes, tmpfs: owned as a Docker user expects, although nobody inside is who they seem.

use berth_tests::{BUSYBOX, Berth};
use std::os::unix::fs::MetadataExt;

#[test]
fn files_in_a_bind_mount_belong_to_whom_they_seem() {
    let berth = Berth::new();
    let dir = berth.path("host");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(format!("{dir}/before"), "x").unwrap();
    std::os::unix::fs::chown(format!("{dir}/before"), Some(1234), Some(5)).unwrap();
    let bind = format!("{dir}:/v");
    assert_eq!(
        berth.sh(
            &["-v", &bind],
            "stat -c %u:%g /v/before; echo x > /v/made; chown 77:88 /v/made"
        ),
        "1234:5"
    );
    let made = std::fs::metadata(format!("{dir}/made")).unwrap();
    assert_eq!(
        (made.uid(), made.gid()),
        (77, 88),
        "no host id of the container's range is on the disk"
    );
    assert_eq!(
        berth.sh(&["-u", "77", "-v", &bind], "echo y >> /v/made && cat /v/made"),
        "x\ny"
    );
    berth
        .busybox(&["-v", &format!("{dir}:/v:ro")], &["touch", "/v/x"])
        .fails(1, "Read-only file system");
    let file = format!("{dir}/before:/one/file");
    assert_eq!(berth.sh(&["-v", &file], "cat /one/file"), "x");
}

#[test]
fn a_read_only_tree_is_so_to_its_leaves() {
    let berth = Berth::new();
    let dir = berth.path("tree");
    std::fs::create_dir_all(format!("{dir}/sub")).unwrap();
    let flag = |options: &str| format!("type=bind,src={dir},dst=/v{options}");
    berth
        .busybox(&["--mount", &flag(",readonly")], &["touch", "/v/sub/x"])
        .fails(1, "Read-only");
    assert_eq!(berth.sh(&["--mount", &flag("")], "touch /v/sub/x && echo ok"), "ok");
}

#[test]
fn volumes_start_as_copies_of_the_image_and_stay() {
    let berth = Berth::new();
    assert_eq!(
        berth.sh(
            &["-v", "vol:/data"],
            "cat /data/seed; stat -c %a /data/seed; echo mine > /data/mine"
        ),
        "from the image\n640"
    );
    assert_eq!(berth.sh(&["-v", "vol:/data"], "cat /data/mine"), "mine");
    assert_eq!(
        berth.sh(&["--mount", "type=volume,src=bare,dst=/data,volume-nocopy"], "ls /data"),
        ""
    );
    assert_eq!(berth.run(&["volume", "ls", "-q"]).ok(), "bare\nvol");
    let mountpoint = berth.run(&["volume", "inspect", "-f", "{{.Mountpoint}}", "vol"]).ok();
    assert_eq!(std::fs::metadata(format!("{mountpoint}/mine")).unwrap().uid(), 0);
    let id = berth.start(&["-v", "vol:/data"], &["sleep", "60"]);
    berth
        .run(&["volume", "rm", "vol"])
        .fails(1, &format!("volume is in use - [{id}]"));
    berth.run(&["rm", "-f", &id]).ok();
    assert_eq!(berth.run(&["volume", "rm", "vol", "bare"]).ok(), "vol\nbare");
    berth.run(&["volume", "rm", "vol"]).fails(1, "no such volume");
}

/// What is in a volume does not lead out of it, whatever links are there.
#[test]
fn a_part_of_a_volume_is_mounted() {
    let berth = Berth::new();
    let fill =
        "mkdir /v/sub; echo hi > /v/sub/f; ln -s sub /v/in; ln -s /etc /v/out; ln -s ../../../../../../etc /v/up";
    berth.sh(&["-v", "vol:/v"], fill);
    let part = |path: &str| format!("type=volume,src=vol,dst=/m,volume-subpath={path}");
    for path in ["sub", "in", "./sub/"] {
        assert_eq!(
            berth.sh(&["--mount", &part(path)], "cat /m/f; echo $$ > /m/made"),
            "hi",
            "{path}"
        );
    }
    assert_eq!(berth.sh(&["--mount", &part("sub/f")], "cat /m"), "hi");
    assert_eq!(berth.sh(&["-v", "vol:/v"], "ls /v/sub"), "f\nmade");
    for (mount, words) in [
        (part("/sub"), "subpath must be a relative path within the volume"),
        (part("sub/../../x"), "subpath must be a relative path within the volume"),
        (part("out"), "path concatenation escapes the base directory"),
        (part("up"), "path concatenation escapes the base directory"),
        (part("nosuch"), "cannot access path"),
        (
            "type=volume,dst=/m,volume-subpath=x".into(),
            "must not set Subpath when using anonymous volumes",
        ),
        (
            "type=bind,src=/tmp,dst=/m,volume-subpath=x".into(),
            "cannot mix 'volume-*' options with mount type 'bind'",
        ),
    ] {
        berth.busybox(&["--mount", &mount], &["true"]).fails(125, words);
    }
    assert_eq!(berth.run(&["ps", "-aq"]).ok(), "");
    // Copied from while it is at rest, and handed on.
    berth
        .run(&["create", "--name", "has", "--mount", &part("sub"), BUSYBOX, "true"])
        .ok();
    berth.run(&["cp", "has:/m/f", &berth.path("copied")]).ok();
    assert_eq!(std::fs::read_to_string(berth.path("copied")).unwrap(), "hi\n");
    assert_eq!(berth.sh(&["--volumes-from", "has"], "cat /m/f"), "hi");
}

#[test]
fn the_files_of_an_image_are_mounted() {
    let berth = Berth::new();
    let mut tar = berth_tests::Tar::default();
    tar.directory("data", 0o755);
    tar.file("data/f", 0o640, b"of the image\n");
    std::fs::write(berth.path("files.tar"), tar.finish()).unwrap();
    berth.run(&["import", &berth.path("files.tar"), "files:1"]).ok();
    let whole = "type=image,src=files:1,dst=/i";
    let seen = berth.sh(
        &["--mount", whole],
        "cat /i/data/f; stat -c '%u %a' /i/data/f; touch /i/x 2>&1; grep -c ' /i overlay ro,nodev' /proc/mounts",
    );
    assert_eq!(seen, "of the image\n0 640\ntouch: /i/x: Read-only file system\n1");
    let part = |path: &str| format!("{whole},image-subpath={path}");
    assert_eq!(berth.sh(&["--mount", &part("data")], "cat /i/f"), "of the image");
    let flags = ["--userns", "host", "--mount", &part("data/f")];
    assert_eq!(berth.sh(&flags, "cat /i"), "of the image");
    for (mount, words) in [
        (part("nosuch"), "cannot access path files:1/nosuch"),
        (part("../x"), "subpath must be a relative path within the image"),
        ("type=image,dst=/i".into(), "field Source must not be empty"),
        ("type=image,src=nosuch,dst=/i".into(), "No such image: nosuch"),
    ] {
        berth.busybox(&["--mount", &mount], &["true"]).fails(125, words);
    }
    // It is in use, by name and by id.
    berth
        .run(&[
            "create",
            "--name",
            "has",
            "--network",
            "none",
            "--mount",
            whole,
            BUSYBOX,
            "cat",
            "/i/data/f",
        ])
        .ok();
    berth.run(&["rmi", "files:1"]).fails(1, "is using its referenced image");
    berth.run(&["image", "prune", "-af"]).ok();
    assert_eq!(berth.run(&["start", "-a", "has"]).ok(), "of the image");
    berth.run(&["cp", "has:/i/data/f", &berth.path("copied")]).ok();
    assert_eq!(std::fs::read_to_string(berth.path("copied")).unwrap(), "of the image\n");
    berth.run(&["rm", "has"]).ok();
    berth.run(&["rmi", "files:1"]).ok();
}

#[test]
fn anonymous_volumes_go_with_their_container() {
    let berth = Berth::new();
    berth.sh(&["-v", "/data"], "ls /data/seed");
    assert_eq!(berth.run(&["volume", "ls", "-q"]).ok(), "");
    berth.run(&[
        "run",
        "--name",
        "kept",
        "--network",
        "none",
        "-v",
        "/data",
        BUSYBOX,
        "true",
    ]);
    assert_eq!(berth.run(&["volume", "ls", "-q"]).ok().len(), 64);
    berth.run(&["rm", "-v", "kept"]).ok();
    assert_eq!(berth.run(&["volume", "ls", "-q"]).ok(), "");
}

#[test]
fn links_in_the_image_lead_nowhere() {
    let berth = Berth::new();
    let outside = berth.path("outside");
    std::fs::create_dir(&outside).unwrap();
    let mut tar = berth_tests::Tar::default();
    tar.directory("bin", 0o755);
    tar.file("bin/busybox", 0o755, &std::fs::read("/bin/busybox").unwrap());
    tar.link("proc", &outside);
    tar.link("dev", &outside);
    tar.link("etc", "/../../../../../../../../../../var/tmp");
    tar.link("escape", &outside);
    let image = berth.path("hostile.tar");
    std::fs::write(&image, tar.finish()).unwrap();
    berth.run(&["import", &image, "hostile:1"]).ok();
    berth.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "-v",
        "/bin:/escape/in",
        "hostile:1",
        "/bin/busybox",
        "true",
    ]);
    assert_eq!(
        std::fs::read_dir(&outside).unwrap().count(),
        0,
        "nothing was made on the host"
    );
    assert!(!std::path::Path::new("/var/tmp/resolv.conf").exists());
}
