//! Limits for what root file systems and volumes may take, on a file system that can, and where it cannot.

use berth_tests::machine::Machine;
use berth_tests::{BUSYBOX, Berth};
use std::process::Command;

#[test]
fn root_file_systems_and_volumes_end_at_their_size() {
    let dir = tempfile::Builder::new()
        .prefix("berth-quota-")
        .tempdir_in("/var/tmp")
        .unwrap();
    let disk = dir.path().join("disk");
    std::fs::File::create(&disk).unwrap().set_len(1 << 30).unwrap();
    let formatted = Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-O", "project,quota", "-E", "quotatype=prjquota"])
        .arg(&disk)
        .status();
    assert!(formatted.expect("e2fsprogs is installed").success());
    let script = r#"
        umount /var; mount -t ext4 -o prjquota /dev/vda /var; mkdir -p /var/tmp
        berth import -c 'CMD ["sh"]' /busybox.tar box:1 > /dev/null
        fill='dd if=/dev/zero of=$0 bs=1M count=20 2>&1 | grep -o "quota exceeded\|No space left"; stat -c %s $0'
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
        ..Machine::new("trixie")
    }
    .run(script)
    .ok();
    let said = |what: &str| {
        let line = out.lines().find_map(|l| l.strip_prefix(&format!("{what}: ")));
        line.unwrap_or_else(|| panic!("{what} is not told: {out}")).to_owned()
    };
    let bytes = |what: &str| said(what).trim().rsplit(' ').next().unwrap().parse::<u64>().unwrap();
    let near = |what: &str, size: u64| {
        let there = bytes(what);
        assert!(there <= size && there > size - (1 << 20), "{what}: {out}");
    };
    near("limited", 8 << 20);
    assert!(said("limited").contains("quota exceeded"), "{out}");
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
