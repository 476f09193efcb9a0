//! Files go in and out of containers, and nowhere else.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use berth_tests::{BUSYBOX, Berth, Tar, eventually};

fn tree(berth: &Berth) -> String {
    let dir = berth.path("src");
    std::fs::create_dir_all(format!("{dir}/sub")).unwrap();
    std::fs::write(format!("{dir}/f"), "one\n").unwrap();
    std::fs::write(format!("{dir}/sub/g"), "two\n").unwrap();
    symlink("f", format!("{dir}/l")).unwrap();
    std::fs::hard_link(format!("{dir}/f"), format!("{dir}/hard")).unwrap();
    std::os::unix::fs::chown(format!("{dir}/f"), Some(1234), Some(55)).unwrap();
    std::fs::set_permissions(format!("{dir}/f"), PermissionsExt::from_mode(0o4750)).unwrap();
    dir
}

#[test]
fn trees_go_in_and_come_out_as_they_are() {
    let berth = Berth::new();
    let source = tree(&berth);
    let script = "ln -s /vol /tmp/v; mkdir /tmp/dd; ln -s ../../etc /tmp/dd/e; sleep 60";
    berth.start(&["--name", "cc", "-v", "copied:/vol"], &["sh", "-c", script]);
    let inside = |script: &str| berth.run(&["exec", "cc", "sh", "-c", script]).ok();
    eventually("it is set up", || {
        berth.run(&["exec", "cc", "ls", "/tmp/dd/e"]).code == 0
    });
    berth.run(&["cp", &source, "cc:/tmp"]).ok();
    assert_eq!(
        inside("cd /tmp/src; find . | sort | tr '\\n' ' '"),
        ". ./f ./hard ./l ./sub ./sub/g"
    );
    assert_eq!(
        inside("cd /tmp/src; stat -c '%a %u %g %h' f; readlink l"),
        "4750 1234 55 2\nf"
    );
    // Where what there is decides the name.
    berth.run(&["cp", &source, "cc:/tmp/new"]).ok();
    berth.run(&["cp", &format!("{source}/."), "cc:/tmp/src/sub"]).ok();
    berth.run(&["cp", &format!("{source}/f"), "cc:/tmp/renamed"]).ok();
    berth.run(&["cp", &format!("{source}/f"), "cc:/tmp/v"]).ok();
    berth.run(&["cp", &format!("{source}/f"), "cc:/tmp/dd/e/zz"]).ok();
    assert_eq!(
        inside("ls /tmp/new/sub/g /tmp/src/sub/sub/g /tmp/renamed /vol/f /etc/zz | wc -l"),
        "5"
    );
    let put = |to: &str| berth.run(&["cp", &format!("{source}/f"), &format!("cc:{to}")]);
    put("/tmp/nodir/").fails(1, "no such directory");
    put("/no/dir/f").fails(1, "Could not find the file /no/dir in container cc");
    berth
        .run(&["cp", &source, "cc:/etc/passwd"])
        .fails(1, "cannot copy directory");
    // And out again.
    let out = berth.path("out");
    berth.run(&["cp", "cc:/tmp/src", &out]).ok();
    let meta = std::fs::metadata(format!("{out}/f")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.nlink()), (0o4750, 0, 2));
    assert_eq!(std::fs::read_link(format!("{out}/l")).unwrap().to_str(), Some("f"));
    berth.run(&["cp", "-a", "cc:/tmp/src/f", &berth.path("owned")]).ok();
    assert_eq!(std::fs::metadata(berth.path("owned")).unwrap().uid(), 1234);
    berth.run(&["cp", "-L", "cc:/tmp/v/f", &berth.path("followed")]).ok();
    assert_eq!(std::fs::read_to_string(berth.path("followed")).unwrap(), "one\n");
    let listed = berth.feed(&["cp", "cc:/tmp/src/sub/g", "-"], b"");
    assert!(listed.out.contains("two\n"));
    berth
        .run(&["cp", "cc:/nosuch", &out])
        .fails(1, "Could not find the file /nosuch in container cc");
    berth
        .run(&["cp", "cc:/a", "cc:/b"])
        .fails(1, "copying between containers is not supported");
    berth.run(&["rm", "-f", "cc"]).ok();
    berth.run(&["volume", "rm", "copied"]).ok();
}

#[test]
fn containers_at_rest_have_their_files_and_volumes_too() {
    let berth = Berth::new();
    berth
        .run(&[
            "create",
            "--name",
            "rest",
            "--network",
            "none",
            "-u",
            "www",
            "-v",
            "kept:/vol",
            BUSYBOX,
            "ls",
            "-ln",
            "/vol",
            "/x",
        ])
        .ok();
    std::fs::write(berth.path("f"), "text").unwrap();
    let file = berth.path("f");
    berth.run(&["cp", &file, "rest:/vol/in-volume"]).ok();
    berth.run(&["cp", "-a", &file, "rest:/x"]).ok();
    berth.run(&["cp", "rest:/etc/passwd", &berth.path("passwd")]).ok();
    assert!(std::fs::read_to_string(berth.path("passwd")).unwrap().contains("www"));
    assert!(std::path::Path::new(&berth.path("data/volumes/kept/_data/in-volume")).exists());
    let volume = std::fs::metadata(berth.path("data/volumes/kept/_data/in-volume")).unwrap();
    assert_eq!(volume.uid(), 0, "ids on the disk are those inside");
    let run = berth.run(&["start", "-a", "rest"]).ok();
    assert!(
        run.contains("33       34               4 ") && run.contains("/x"),
        "{run}"
    );
    assert!(
        run.contains("0        0                4 ") && run.contains("in-volume"),
        "{run}"
    );
    berth.run(&["rm", "rest"]).ok();
    berth
        .run(&[
            "create",
            "--name",
            "ro",
            "--network",
            "none",
            "--read-only",
            BUSYBOX,
            "true",
        ])
        .ok();
    berth
        .run(&["cp", &file, "ro:/x"])
        .fails(1, "container rootfs is marked read-only");
    berth.start(&["--name", "ro2", "--read-only"], &["sleep", "60"]);
    berth.run(&["cp", &file, "ro2:/x"]).fails(1, "marked read-only");
    berth.run(&["volume", "rm", "kept"]).ok();
}

#[test]
fn links_lead_out_of_no_container_and_into_no_host() {
    let berth = Berth::new();
    let secret = berth.path("secret");
    std::fs::write(&secret, "of the host").unwrap();
    let victim = berth.path("victim");
    std::fs::create_dir(&victim).unwrap();
    // A container whose processes turn links round all the time (CVE-2018-15664), with names that exist on the host.
    let script = format!(
        "mkdir -p {dir}; ln -s {dir} /tmp/a; ln -s / /tmp/b; ln -s {secret} /tmp/leak; ln -s /proc/1/root /tmp/magic; echo ok > /ready; \
         while :; do mv -T /tmp/a /tmp/c; mv -T /tmp/b /tmp/a; mv -T /tmp/c /tmp/b; done",
        dir = victim
    );
    berth.start(&["--name", "evil"], &["sh", "-c", &script]);
    eventually("it is set up", || {
        berth.run(&["exec", "evil", "ls", "/ready"]).code == 0
    });
    std::fs::write(berth.path("f"), "text").unwrap();
    for _ in 0..20 {
        berth.run(&["cp", &berth.path("f"), &format!("evil:/tmp/a{victim}/f")]);
        berth.run(&["cp", &berth.path("f"), "evil:/tmp/a/f"]);
    }
    assert_eq!(
        std::fs::read_dir(&victim).unwrap().count(),
        0,
        "it was written to the host"
    );
    berth
        .run(&["cp", "-L", "evil:/tmp/leak", &berth.path("got")])
        .fails(1, "");
    berth
        .run(&["cp", "evil:/tmp/magic/etc/passwd", &berth.path("got")])
        .fails(1, "");
    // A tar in which a link comes first and a file through it second.
    let mut tar = Tar::default();
    tar.link("up", &victim);
    tar.file("up/evil", 0o644, b"x");
    let tar = tar.finish();
    berth.feed(&["cp", "-", "evil:/root"], &tar);
    assert_eq!(
        std::fs::read_dir(&victim).unwrap().count(),
        0,
        "it was written to the host"
    );
    // The same, the other way: what comes out stays in its directory.
    let hostile = berth.path("hostile");
    std::fs::create_dir_all(format!("{hostile}/d")).unwrap();
    symlink(&victim, format!("{hostile}/d/link")).unwrap();
    let made = Command::new("tar")
        .args(["-C", &hostile, "-cf", &berth.path("h.tar"), "d"])
        .status()
        .unwrap();
    assert!(made.success());
    berth.feed(&["cp", "-", "evil:/root"], &std::fs::read(berth.path("h.tar")).unwrap());
    let out = berth.path("out");
    std::fs::create_dir(&out).unwrap();
    berth.run(&["cp", "evil:/root/d", &out]).ok();
    assert!(std::fs::symlink_metadata(format!("{out}/d/link")).unwrap().is_symlink());
    berth.run(&["rm", "-f", "evil"]).ok();
}
