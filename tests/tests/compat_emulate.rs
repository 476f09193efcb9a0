//! Programs for other machines run in qemu-user, and the host's binfmt_misc has no part in it.

use std::process::Command;

use berth_tests::{Berth, Ran, Tar, fixtures};

/// Berth on a host that has qemu-user, without installing it: it is mounted where programs are, for this command alone.
fn with_qemu(berth: &Berth, arguments: &[&str]) -> Ran {
    let qemu = fixtures().join("foreign/qemu");
    assert!(qemu.is_dir(), "{} is not there: scripts/foreign", qemu.display());
    let plain = berth.command(arguments);
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount --bind \"$0\" /usr/local/bin && exec \"$@\"")
        .arg(&qemu)
        .arg(plain.get_program())
        .args(plain.get_args());
    for (name, value) in plain.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    berth.ran(command)
}

/// An image of Debian's busybox for arm64.
fn foreign() -> Berth {
    let berth = Berth::empty();
    let program = std::fs::read(fixtures().join("foreign/busybox-arm64")).expect("scripts/foreign");
    let mut tar = Tar::default();
    for dir in ["bin", "etc"] {
        tar.directory(dir, 0o755);
    }
    tar.file("bin/busybox", 0o755, &program);
    for name in ["sh", "uname", "sleep", "id"] {
        tar.link(&format!("bin/{name}"), "busybox");
    }
    tar.file("bin/su", 0o4755, &program);
    tar.file(
        "etc/passwd",
        0o644,
        b"root::0:0::/:/bin/sh\nuser::1000:1000::/:/bin/sh\n",
    );
    let path = berth.path("image.tar");
    std::fs::write(&path, tar.finish()).unwrap();
    let import = [
        "import",
        "--platform",
        "linux/arm64",
        "-c",
        "CMD [\"sh\"]",
        &path,
        "foreign:1",
    ];
    berth.run(&import).ok();
    berth
}

fn registered() -> Vec<String> {
    let list = std::fs::read_dir("/proc/sys/fs/binfmt_misc")
        .into_iter()
        .flatten()
        .flatten();
    let mut names: Vec<String> = list.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn foreign_programs_run_in_qemu_user_where_it_is_installed() {
    let berth = foreign();
    let before = registered();
    let run = |flags: &[&str], command: &[&str]| {
        with_qemu(
            &berth,
            &[&["run", "--rm", "--network", "none"], flags, &["foreign:1"], command].concat(),
        )
    };
    let ran = run(&[], &["sh", "-c", "uname -m; sh -c 'uname -m; id -u'"]);
    assert!(ran.err.contains("programs for arm64 run in qemu-aarch64"), "{ran:?}");
    assert_eq!(ran.ok(), "aarch64\naarch64\n0");
    // Programs have their own names and rights, and nobody in there changes what interprets them.
    assert_eq!(
        run(&["-u", "1000"], &["su", "-c", "id -u; uname -m"]).ok(),
        "0\naarch64"
    );
    let write = "echo > /proc/sys/fs/binfmt_misc/register";
    assert_eq!(run(&["--cap-add", "ALL"], &["sh", "-c", write]).code, 1);
    // A process that is added.
    let start = [
        "run",
        "-d",
        "--network",
        "none",
        "--name",
        "added",
        "foreign:1",
        "sleep",
        "100",
    ];
    with_qemu(&berth, &start).ok();
    assert_eq!(berth.run(&["exec", "added", "uname", "-m"]).ok(), "aarch64");
    assert!(
        berth
            .run(&["why", "added"])
            .ok()
            .contains("remedy: programs for arm64 run in qemu-aarch64")
    );
    berth.run(&["rm", "-f", "added"]).ok();
    // Not where nobody wants it, nor where users, and with them binfmt_misc, are the host's.
    for flags in [&["--compat=off"][..], &["--privileged"], &["--userns=host"]] {
        run(flags, &["uname", "-m"]).fails(126, "exec format error");
    }
    let asked = ["--privileged", "--annotation", "berth.emulate=arm64"];
    run(&asked, &["uname", "-m"]).fails(125, "interpreters take a user namespace of the container's own");
    assert_eq!(registered(), before);
}

#[test]
fn who_has_no_qemu_user_is_told_which_package_has_it() {
    let berth = foreign();
    let judged = |flags: &[&str]| {
        let ran = with_qemu(
            &berth,
            &[&["compat", "--format", "json"], flags, &["foreign:1"]].concat(),
        );
        let document: serde_json::Value = serde_json::from_str(&ran.out).expect("a document");
        let finding = document["subjects"][0]["verdicts"][0]["findings"][0].clone();
        (ran.code, finding["remedy"].clone(), finding["advice"].clone())
    };
    let (code, remedy, advice) = judged(&[]);
    assert_eq!(advice, "take the image for amd64");
    assert_eq!((code, &remedy["by-itself"]), (1, &true.into()), "{remedy}");
    // One binfmt_misc for all.
    let (code, remedy, advice) = judged(&["--kernel", "6.1"]);
    let registers = "register qemu-aarch64 with the host's binfmt_misc, as it takes before Linux 6.7: systemctl restart systemd-binfmt";
    assert!(advice.as_str().is_some_and(|a| a.contains(registers)), "{advice}");
    assert_eq!(
        (code, &remedy["installed"], &remedy["by-itself"]),
        (2, &true.into(), &false.into()),
        "{remedy}"
    );
    // Without it `create` says the same.
    let made = berth.run(&["create", "--network", "none", "foreign:1"]);
    let line = made
        .err
        .lines()
        .find(|line| line.contains("will not run here"))
        .unwrap_or_else(|| panic!("{made:?}"));
    assert!(
        line.ends_with("install qemu-user-static on the host, which registers itself there"),
        "{line}"
    );
    let tar = berth.path("busybox.tar");
    std::fs::write(&tar, berth_tests::busybox()).unwrap();
    berth.run(&["import", "-c", "CMD [\"sh\"]", &tar, "own:1"]).ok();
    let told = berth.run(&["compat", "--arch", "arm64", "own:1"]);
    assert!(
        told.code == 2 && told.out.contains("apt-get install qemu-user-static"),
        "{told:?}"
    );
}
