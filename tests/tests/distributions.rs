//! Real distributions: pushed into a real registry, pulled, and run on this kernel.

use berth_tests::registry::Registry;
use berth_tests::{Berth, fixtures};
use std::process::Command;

fn runs(suite: &str, version: &str) {
    let (maker, registry) = (Berth::empty(), Registry::start());
    let tar = fixtures().join(format!("{suite}.tar"));
    let name = registry.name(&format!("debian:{suite}"));
    maker.run(&["import", tar.to_str().unwrap(), &name]).ok();
    maker.run(&["push", "-q", &name]).ok();
    let berth = Berth::empty();
    let script = ". /etc/os-release; echo ${VERSION_ID:-none}; uname -r";
    let kernel = String::from_utf8(Command::new("uname").arg("-r").output().unwrap().stdout).unwrap();
    let out = berth
        .run(&["run", "--rm", "--network", "none", &name, "sh", "-c", script])
        .ok();
    assert_eq!(out, format!("{version}\n{}", kernel.trim()));
    let script = "dpkg --audit; stat -c %a /usr/bin/passwd; su -s /bin/sh www-data -c 'id -u; passwd -S www-data | cut -d\" \" -f1'; \
        ln /etc/hostname /tmp/x 2>/dev/null; perl -e 'print 6*7, \"\\n\"'";
    // passwd -S reads /etc/shadow for its caller, which takes its setuid bit.
    let out = berth
        .run(&["run", "--rm", "--network", "none", &name, "sh", "-c", script])
        .ok();
    assert_eq!(out, "4755\n33\nwww-data\n42", "{suite}");
    // The world's mirrors are asked: they may be busy, or just changing.
    let script = "for attempt in 1 2 3 4; do \
        apt-get -o Acquire::Check-Valid-Until=false -o Acquire::Retries=3 -qq update && \
        apt-get -o Acquire::Retries=3 -qq install -y --no-install-recommends bc >/dev/null 2>&1 && break; sleep 10; done; \
        echo 6*7 | bc; dpkg --audit";
    let out = berth
        .run(&["run", "--rm", "--network", "host", &name, "sh", "-c", script])
        .ok();
    assert_eq!(out, "42", "{suite}");
}

#[test]
fn bullseye_runs() {
    runs("bullseye", "11");
}

#[test]
fn bookworm_runs() {
    runs("bookworm", "12");
}

#[test]
fn trixie_runs() {
    runs("trixie", "13");
}

#[test]
fn sid_runs() {
    runs("sid", "none");
}

#[test]
fn hard_links_setuid_bits_and_capabilities_survive() {
    let berth = Berth::empty();
    let dir = berth.path("tree");
    std::fs::create_dir_all(format!("{dir}/bin")).unwrap();
    std::fs::copy("/bin/busybox", format!("{dir}/bin/busybox")).unwrap();
    let sh = |script: &str| assert!(Command::new("sh").args(["-ec", script]).status().unwrap().success());
    sh(&format!(
        "cd {dir}; for a in sh id stat cat ls; do ln bin/busybox bin/$a; done; mkdir suid caps; cp bin/busybox suid; chmod 4755 suid/busybox; cp bin/busybox caps; \
         python3 -c \"import os,struct; os.setxattr('caps/busybox','security.capability',struct.pack('<5I',0x2000001,1<<13,0,0,0))\"; \
         tar --xattrs --xattrs-include='*' --format=pax -C . -cf {dir}.tar ."
    ));
    berth.run(&["import", &format!("{dir}.tar"), "attributes:1"]).ok();
    let run = |arguments: &[&str]| {
        berth
            .run(&[&["run", "--rm", "--network", "none", "-u", "1000"], arguments].concat())
            .ok()
    };
    assert_eq!(
        run(&["attributes:1", "/bin/stat", "-c", "%h %a", "/bin/sh", "/suid/busybox"]),
        "6 755\n1 4755"
    );
    assert!(run(&["attributes:1", "/caps/busybox", "cat", "/proc/self/status"]).contains("CapEff:\t0000000000002000"));
    let plain = run(&[
        "--security-opt",
        "no-new-privileges",
        "attributes:1",
        "/caps/busybox",
        "cat",
        "/proc/self/status",
    ]);
    assert!(plain.contains("CapEff:\t0000000000000000"), "{plain}");
}
