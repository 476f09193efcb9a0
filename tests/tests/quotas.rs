//! Limits for what root file systems and volumes may take, on file systems that can, and where it cannot.

use berth_tests::machine::{Machine, more_modules};
use berth_tests::{BUSYBOX, Berth};
use std::process::Command;

#[test]
fn root_file_systems_and_volumes_end_at_their_size() {
    let dir = tempfile::Builder::new()
        .prefix("berth-quota-")
        .tempdir_in("/var/tmp")
        .unwrap();
    let (disk, files) = (dir.path().join("disk"), dir.path().join("files"));
    std::fs::create_dir(&files).unwrap();
    let make = |path: &std::path::Path, bytes: u64, command: &mut Command| {
        std::fs::File::create(path).unwrap().set_len(bytes).unwrap();
        let made = command.arg(path).stdout(std::process::Stdio::null()).status();
        assert!(made.expect("e2fsprogs and xfsprogs are installed").success());
    };
    // One within the other.
    make(&files.join("xfs"), 400 << 20, Command::new("mkfs.xfs").arg("-q"));
    let ext4 = [
        "-q",
        "-t",
        "ext4",
        "-O",
        "project,quota",
        "-E",
        "quotatype=prjquota",
        "-d",
    ];
    make(&disk, 2 << 30, Command::new("mke2fs").args(ext4).arg(&files));
    let script = r#"
        umount /var; mount -t ext4 -o prjquota /dev/vda /var; mkdir -p /var/tmp /xfs
        for module in /files/more/*; do insmod $module; done
        mount -t xfs -o loop,prjquota /var/xfs /xfs
        sh /files/limits | sed 's/^/ext4 /'
        BERTH_DATA=/xfs/data BERTH_RUN=/run/on-xfs sh /files/limits | sed 's/^/xfs /'
    "#;
    let limits = r#"
        berth import -c 'CMD ["sh"]' /busybox.tar box:1 > /dev/null
        fill='dd if=/dev/zero of=$0 bs=1M count=20 2>&1 | grep -o "quota exceeded\|No space left"; stat -c %s $0 2> /dev/null || echo 0'
        run="berth run --rm --network none"
        echo "limited: $($run --storage-opt size=8m box:1 sh -c "$fill" /big | tr '\n' ' ')"
        echo "shown: $($run --storage-opt size=8m box:1 sh -c 'df -k / | tail -1' | awk '{ print $2 }')"
        echo "free: $($run box:1 sh -c "$fill" /big)"
        berth run -d --name two --network none --storage-opt size=8m box:1 sleep 100 > /dev/null
        echo "another: $(berth exec two sh -c "$fill" /tmp/big | tail -1)"
        berth restart -t 0 two > /dev/null
        echo "again: $(berth exec two sh -c "$fill" /tmp/more | tail -1)"
        berth rm -f two > /dev/null
        berth volume create -o size=4m small > /dev/null
        echo "volume: $($run -v small:/v box:1 sh -c "$fill" /v/big | tail -1)"
        echo "beside it: $($run -v small:/v box:1 sh -c "$fill" /big)"
        berth volume rm small > /dev/null; berth volume create small > /dev/null
        echo "unlimited: $($run -v small:/v box:1 sh -c "$fill" /v/big)"
    "#;
    let out = Machine {
        kept: Some(&disk),
        files: [more_modules("trixie"), vec![("limits".into(), limits.into())]].concat(),
        ..Machine::new("trixie")
    }
    .run(script)
    .ok();
    for system in ["ext4", "xfs"] {
        all_ended_at_their_size(system, &out);
    }
}

/// What [`root_file_systems_and_volumes_end_at_their_size`] found on one file system.
fn all_ended_at_their_size(system: &str, out: &str) {
    let said = |what: &str| {
        let line = out.lines().find_map(|l| l.strip_prefix(&format!("{system} {what}: ")));
        line.unwrap_or_else(|| panic!("{system} {what} is not told: {out}"))
            .to_owned()
    };
    let bytes = |what: &str| {
        let bytes = said(what);
        let bytes = bytes.trim().rsplit(' ').next().and_then(|b| b.parse::<u64>().ok());
        bytes.unwrap_or_else(|| panic!("{system} {what}: {out}"))
    };
    let near = |what: &str, size: u64| {
        let there = bytes(what);
        assert!(there <= size && there > size - (1 << 20), "{what}: {out}");
    };
    near("limited", 8 << 20);
    // xfs says of a full project what it says of a full disk.
    let words = ["quota exceeded", "No space left"][usize::from(system == "xfs")];
    assert!(said("limited").contains(words), "{out}");
    assert_eq!(said("shown"), "8192", "{out}");
    near("another", 8 << 20);
    assert!(bytes("again") < 1 << 20, "what was written before counts: {out}");
    near("volume", 4 << 20);
    for what in ["free", "beside it", "unlimited"] {
        assert_eq!(bytes(what), 20 << 20, "{what}: {out}");
    }
}

#[test]
fn what_cannot_be_limited_is_refused() {
    let berth = Berth::new();
    let create = |option: &str| berth.run(&["create", "--network", "none", "--storage-opt", option, BUSYBOX]);
    create("size=10m").fails(125, "cannot limit the size of directories");
    create("size=much").fails(125, "invalid size");
    create("size=0").fails(125, "a storage size of 0");
    create("dm.thing=1").fails(125, "unknown storage option: dm.thing");
    create("size").fails(125, "invalid storage option");
    assert_eq!(berth.run(&["ps", "-aq"]).ok(), "");
    let volume = |options: &[&str]| berth.run(&[&["volume", "create"], options, &["v1"]].concat());
    volume(&["-o", "size=10m"]).fails(1, "mounted with prjquota");
    volume(&["-o", "size=10m", "-o", "type=none", "-o", "o=bind", "-o", "device=/tmp"])
        .fails(1, "a volume of its own alone");
    assert_eq!(berth.run(&["volume", "ls", "-q"]).ok(), "");
}
