//! Old programs run on kernels that they were not made for.

use berth_tests::machine::Machine;
use berth_tests::{Berth, Tar, old, place_fixture};

/// The old programs and what they need, alone.
fn image(berth: &Berth) -> String {
    let mut tar = Tar::default();
    for dir in ["bin", "lib", "lib64"] {
        tar.directory(dir, 0o755);
    }
    for (path, content) in old::programs(berth.dir.path()) {
        tar.file(path, 0o755, &content);
    }
    let path = berth.path("old.tar");
    std::fs::write(&path, tar.finish()).unwrap();
    path
}

/// The story that the project was begun for: where the kernel has no vsyscall page old programs die without a word, in
/// every engine; here they run, static and shared, as the first process and below others.
const STORY: &str = r#"
berth import -c 'CMD ["/bin/old-static"]' /files/old.tar old:1 > /dev/null
before=$(berth inspect -f '{{.Id}} {{.RootFS.Layers}}' old:1)
run() { berth run --rm --network none "$@" < /dev/null; }
for program in old-static old-shared; do
    run --compat=off old:1 /bin/$program; echo "$program off: $?"
    run old:1 /bin/$program; echo "$program: $?"
done
berth save old:1 > /tmp/saved.tar
berth rmi old:1 > /dev/null && berth load -i /tmp/saved.tar > /dev/null
[ "$before" = "$(berth inspect -f '{{.Id}} {{.RootFS.Layers}}' old:1)" ] && echo "the same image"
"#;

fn story(words: &str) -> String {
    let berth = Berth::empty();
    let tar = image(&berth);
    let machine = Machine {
        words,
        files: vec![("old.tar".into(), std::fs::read(tar).unwrap())],
        ..Machine::new("trixie")
    };
    machine.run(STORY).ok()
}

#[test]
fn without_a_vsyscall_page_old_programs_run_all_the_same() {
    let out = story("vsyscall=none");
    let said = |words: &str| assert!(out.contains(words), "{words:?} is not there:\n{out}");
    said("old-static was killed by SIGSEGV: it called gettimeofday at 0xffffffffff600000, in the vsyscall page");
    said("(in old_gettimeofday");
    said("old-static off: 139");
    said("old-shared off: 139");
    said("the time is right\nold-static: 0");
    said("the time is right\nold-shared: 0");
    said("mended for this kernel");
    said("/bin/old-static, /lib/libold.so");
    said("the same image");
}

#[test]
fn where_the_page_is_there_nothing_is_done() {
    let out = story("vsyscall=xonly");
    assert_eq!(out.matches("the time is right").count(), 4, "{out}");
    assert!(!out.contains("mended"), "{out}");
}

/// On this machine, whose kernel has the page: the copies are seen, the image's own files stay.
#[test]
fn copies_are_made_for_the_container_and_not_for_the_image() {
    let berth = Berth::new();
    let tar = image(&berth);
    berth.run(&["import", &tar, "old:1"]).ok();
    let layers = berth.inspect("old:1", "{{json .RootFS.Layers}}");
    let run = |flags: &[&str], program: &str| {
        berth.run(&[&["run", "--rm", "--network", "none"], flags, &["old:1", program]].concat())
    };
    let plain = run(&[], "/bin/old-static");
    assert_eq!((plain.code, plain.err.contains("mended")), (0, false), "{plain:?}");
    let patched = run(&["--compat=patch"], "/bin/old-shared");
    assert!(patched.err.contains("/bin/old-static, /lib/libold.so"), "{patched:?}");
    assert_eq!(patched.ok(), "the time is right");
    assert_eq!(berth.inspect("old:1", "{{json .RootFS.Layers}}"), layers);
    run(&["--compat=maybe"], "/bin/old-static").fails(125, "invalid compat mode \"maybe\"");
}

/// `uname` tells what was asked for, in every process, added ones too; other fields stay the container's.
#[test]
fn another_release_is_told_by_uname_and_nothing_else_changes() {
    let berth = Berth::new();
    let release = ["--kernel-release", "4.18.0-305.el8"];
    let script = "uname -r; sh -c 'uname -r -n'; hostname other; uname -n; uname -s -m";
    let host = std::process::Command::new("uname")
        .args(["-s", "-m"])
        .output()
        .unwrap()
        .stdout;
    let flags = [&release[..], &["--hostname", "box", "--cap-add", "SYS_ADMIN"]].concat();
    let out = berth.sh(&flags, script);
    let expected = format!(
        "4.18.0-305.el8\nbox 4.18.0-305.el8\nother\n{}",
        String::from_utf8_lossy(&host).trim()
    );
    assert_eq!(out, expected);
    for more in [
        &["--privileged"][..],
        &["--security-opt", "seccomp=unconfined"],
        &["-u", "1000", "--cap-drop", "ALL"],
    ] {
        assert_eq!(
            berth.sh(&[&release[..], more].concat(), "uname -r"),
            "4.18.0-305.el8",
            "{more:?}"
        );
    }
    let id = berth.start(&release, &["sleep", "60"]);
    assert_eq!(berth.run(&["exec", &id, "uname", "-r"]).ok(), "4.18.0-305.el8");
    assert_ne!(berth.sh(&[], "uname -r"), "4.18.0-305.el8");
    // Many at once, and some that are killed while they wait.
    let many = "for i in $(seq 40); do (uname -r; kill -9 $$) & done; for i in $(seq 40); do uname -r & done; wait";
    berth.busybox(&release, &["sh", "-c", many]);
    berth
        .busybox(&["--kernel-release", "new"], &["true"])
        .fails(125, "invalid kernel release");
    berth.run(&["rm", "-f", &id]).ok();
}

/// A profile of 2020 names faccessat2 and not clone3, which is older: what it does not know is not there, what it left out
/// on purpose is forbidden.
#[test]
fn calls_that_a_brought_profile_does_not_know_are_not_there() {
    let berth = Berth::new();
    let program = berth.path("errno");
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/errno.c");
    let made = std::process::Command::new("gcc")
        .args(["-static", "-O1", "-o", &program])
        .arg(source)
        .status();
    assert!(made.unwrap().success());
    let profile = berth.path("profile.json");
    let allowed = "[\"read\",\"write\",\"execve\",\"exit_group\",\"brk\",\"arch_prctl\",\"mmap\",\"mprotect\",\"readlink\",\"readlinkat\",\"fstat\",\
        \"newfstatat\",\"set_tid_address\",\"set_robust_list\",\"prlimit64\",\"getrandom\",\"ioctl\",\"prctl\",\"capset\",\"setresuid\",\"setresgid\",\
        \"setgroups\",\"chdir\",\"getcwd\",\"faccessat2\",\"close_range\",\"close\",\"fcntl\",\"futex\",\"munmap\",\"sendmsg\",\"openat\",\"open\"]";
    let json = format!(
        r#"{{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],"syscalls":[{{"names":{allowed},"action":"SCMP_ACT_ALLOW"}}]}}"#
    );
    std::fs::write(&profile, json).unwrap();
    let option = format!("seccomp={profile}");
    old::errno32(berth.dir.path());
    let asks = |program: &str| {
        let mount = format!("{}:/errno:ro", berth.path(program));
        let flags = [
            "--security-opt",
            &option,
            "--security-opt",
            "no-new-privileges",
            "-v",
            &mount,
        ];
        berth.busybox(&flags, &["/errno"]).ok()
    };
    assert_eq!(asks("errno"), "clone3 38\nstatx 38\nrseq 38\nmount 1\nptrace 1");
    // 32-bit programs have a table of their own.
    let narrow = asks("errno32");
    assert_eq!(
        narrow,
        "clone3 38\nclock_gettime64 38\nfutex_time64 38\nstatx 38\nmount 01"
    );
}

/// Files that came later and children of children: what no changed copy reaches.
#[test]
fn a_supervisor_answers_what_copies_cannot_reach() {
    let berth = Berth::empty();
    let program = old::programs(berth.dir.path()).remove(0).1;
    let mut deaths = Tar::default();
    deaths.file("deaths", 0o755, &old::deaths(berth.dir.path()));
    let machine = Machine {
        words: "vsyscall=none",
        files: vec![("old-static".into(), program), ("deaths.tar".into(), deaths.finish())],
        ..Machine::new("trixie")
    };
    let script = r#"
berth import -c 'CMD ["sh"]' /busybox.tar busybox:test > /dev/null
run() { berth run --rm --network none -v /files:/later:ro "$@" < /dev/null; }
run busybox:test sh -c '/later/old-static; echo "alone: $?"'
run --compat=supervise busybox:test sh -c '/later/old-static; echo "watched: $?"; (cp /later/old-static /tmp/x; sh -c "/tmp/x; /tmp/x" & wait)'
run --compat=supervise -u 1000 busybox:test sh -c 'for i in $(seq 30); do /later/old-static & done; wait' | sort | uniq -c
run --compat=supervise --init busybox:test /later/old-static; echo "first: $?"
run --compat=supervise busybox:test sh -c 'sh -c "kill -STOP \$\$; echo went on" & p=$!; while kill -CONT $p; do sleep 0.2; done 2> /dev/null & wait $p; sh -c "trap \"echo caught\" USR1; kill -USR1 \$\$; kill -SEGV \$\$"; exit $?'; echo "own fault: $?"
id=$(berth run -d --network none --compat=supervise -v /files:/later:ro busybox:test sleep 100)
berth exec $id /later/old-static; echo "added: $?"
berth rm -f $id > /dev/null
berth import /files/deaths.tar deaths:1 > /dev/null; run deaths:1 /deaths avx512; echo "not of this processor: $?"
for i in $(seq 100); do ps | grep -q '[b]erth' || break; sleep 0.2; done
ps | grep '[b]erth' | sed 's/^/left: /'
"#;
    let out = machine.run(script).ok();
    let said = |words: &str| assert!(out.contains(words), "{words:?} is not there:\n{out}");
    said("alone: 139");
    said("the time is right\nwatched: 0\nthe time is right\nthe time is right");
    said("30 the time is right");
    said("the time is right\nfirst: 0");
    said("went on\ncaught\n");
    said("own fault: 139");
    said("the time is right\nadded: 0");
    // The emulator has no AVX-512.
    said(
        "deaths was killed by SIGILL: the instruction vpaddd belongs to avx512f (x86-64-v4), which this processor does not have",
    );
    said("in use_avx512 of /deaths");
    said("not of this processor: 132");
    assert!(!out.contains("left: "), "{out}");
}

/// As if on an older kernel: what came later is not there, in every way into the container.
#[test]
fn as_an_older_kernel_newer_calls_are_not_there() {
    let berth = Berth::new();
    let program = berth.path("errno");
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("programs/errno.c");
    let made = std::process::Command::new("gcc")
        .args(["-static", "-O1", "-o", &program])
        .arg(source)
        .status();
    assert!(made.unwrap().success());
    let mount = format!("{program}:/errno:ro");
    let errno = |flags: &[&str]| berth.busybox(&[flags, &["-v", &mount]].concat(), &["/errno"]).ok();
    // 14 is EFAULT: the call is there and looks at its arguments.
    assert_eq!(
        errno(&["--privileged"]),
        "clone3 22\nstatx 14\nrseq 22\nmount 14\nptrace 0"
    );
    let as_old = errno(&["--privileged", "--as-kernel", "4.10"]);
    assert_eq!(as_old, "clone3 38\nstatx 38\nrseq 38\nmount 14\nptrace 0");
    assert!(errno(&["--as-kernel", "4.14"]).contains("statx 14\nrseq 38"));
    assert_eq!(berth.sh(&["--as-kernel", "5.10"], "uname -r"), "5.10.0");
    assert_eq!(
        berth.sh(
            &["--as-kernel", "5.10", "--kernel-release", "5.10.0-28-amd64"],
            "uname -r"
        ),
        "5.10.0-28-amd64"
    );
    berth
        .busybox(&["--as-kernel", "99.1"], &["true"])
        .fails(125, "nothing can run on it as if on 99.1");
}

/// Static programs that would refuse this kernel see one that they take; what is asked for by hand counts more.
#[test]
fn a_program_that_refuses_this_kernel_is_told_of_another() {
    let berth = Berth::empty();
    let mut tar = Tar::default();
    tar.directory("bin", 0o755);
    tar.file("bin/refuses", 0o755, &old::refuses(berth.dir.path()));
    let path = berth.path("refuses.tar");
    std::fs::write(&path, tar.finish()).unwrap();
    berth
        .run(&["import", "-c", "CMD [\"/bin/refuses\"]", &path, "refuses:1"])
        .ok();
    let run = |flags: &[&str]| berth.run(&[&["run", "--network", "none"], flags, &["refuses:1"]].concat());
    run(&["--rm", "--compat=off"]).fails(134, "FATAL: kernel too old");
    run(&["--rm", "--kernel-release", "3.10"]).fails(134, "FATAL: kernel too old");
    let ran = run(&["--name", "mended"]);
    assert!(
        ran.err
            .contains("uname tells release 99.1, below which /bin/refuses refuses to run"),
        "{ran:?}"
    );
    assert_eq!(ran.ok(), "new enough");
    assert!(
        berth
            .run(&["why", "mended"])
            .ok()
            .contains("remedy: uname tells release 99.1")
    );
}

/// On a host that has version 2 alone an old systemd gets the one hierarchy of version 1 that it needs; on the host it is
/// mounted nowhere, and gone afterwards, also if the monitor was killed.
#[test]
fn an_old_systemd_has_a_hierarchy_of_its_own() {
    let berth = Berth::empty();
    let mut tar = Tar::default();
    for dir in ["lib", "lib/systemd", "bin", "sbin"] {
        tar.directory(dir, 0o755);
    }
    tar.file("lib/systemd/systemd", 0o755, &old::systemd(berth.dir.path()));
    tar.link("sbin/init", "../lib/systemd/systemd");
    tar.file("bin/busybox", 0o755, &std::fs::read("/bin/busybox").unwrap());
    let disk = berth.dir.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    place_fixture("old-systemd.tar", &disk);
    let machine = Machine {
        files: vec![("old.tar".into(), tar.finish())],
        disk: Some(&disk),
        ..Machine::new("trixie-backports")
    };
    let script = r#"
berth import -c 'CMD ["/lib/systemd/systemd"]' /files/old.tar old:1 > /dev/null
berth compat old:1 | grep Berth
run() { berth run --network none "$@" < /dev/null; }
run --rm --compat=off old:1; echo "alone: $?"
run --rm old:1; echo "mended: $?"
run --rm old:1 /sbin/init; echo "by its link: $?"
run --rm --privileged old:1; echo "host's users: $?"
run --rm --memory 32m --read-only old:1; echo "limited: $?"
run --rm old:1 /bin/busybox ls /sys/fs/cgroup/systemd; echo "another command: $?"
grep -c name=systemd /proc/self/cgroup
id=$(run -d --entrypoint /lib/systemd/systemd old:1); berth wait $id; berth rm $id > /dev/null
id=$(run -d old:1 /lib/systemd/systemd stay); until berth logs $id | grep -q services; do sleep 0.2; done
monitor=$(ps | grep '[b]erth monitor' | awk '{print $1}'); kill -9 $monitor; while [ -e /proc/$monitor ]; do sleep 0.1; done
berth ps -a --format '{{.Status}}' | sed 's/^/killed: /'; berth rm -f $id > /dev/null
berth import -c 'CMD ["/sbin/init"]' -c 'STOPSIGNAL 37' /var/old-systemd.tar real:1 > /dev/null
id=$(run -dt -e container=docker --annotation berth.old-systemd=true --tmpfs /sys/fs/cgroup/unified --tmpfs /run --tmpfs /run/lock real:1)
until berth exec $id systemctl is-system-running --wait > /tmp/state 2>&1 || ! berth exec $id true; do
    grep -q -e degraded -e maintenance /tmp/state && break; sleep 1
done
echo "real: $(cat /tmp/state)"; berth exec $id systemctl is-active multi-user.target | sed 's/^/real multi-user: /'
berth exec $id systemctl --version | head -n 1; berth exec $id cat /proc/1/cgroup | sed 's/^/real init: /'
berth exec $id cat /proc/self/cgroup | sed 's/^/real exec: /'
berth stop -t 60 $id > /dev/null; berth inspect -f '{{.State.ExitCode}}' $id | sed 's/^/real end: /'; berth rm $id > /dev/null
grep name=systemd /proc/mounts; cat /proc/self/cgroup | sed 's/^/left: /'
"#;
    let out = machine.run(script).ok();
    let said = |words: &str| assert!(out.contains(words), "{words:?} is not there:\n{out}");
    said("the container has a cgroup hierarchy name=systemd of its own");
    said("Failed to mount cgroup");
    said("alone: 1");
    said("services in /system.slice\nmended: 0");
    said("services in /system.slice\nby its link: 0");
    said("services in /system.slice\nhost's users: 0");
    said("services in /system.slice\nlimited: 0");
    said("another command: 1");
    said("killed: Exited (137)");
    // The oldest systemd of Debian is younger than 226: where it sees no version 2 it does as those before it.
    for words in [
        "real: running",
        "real multi-user: active",
        "systemd 247 ",
        "real end: 0",
    ] {
        said(words);
    }
    let place = |of: &str, path: &str| {
        out.lines()
            .any(|l| l.starts_with(of) && l.ends_with(&format!(":name=systemd:{path}")))
    };
    assert!(
        place("real init: ", "/init.scope") && place("real exec: ", "/"),
        "{out}"
    );
    let left: Vec<&str> = out.lines().filter(|l| l.starts_with("left: ")).collect();
    assert_eq!(left, ["left: 0::/"], "{out}");
}

/// A library that asks for a kernel that is not there: its loader passes it by, but for a copy that asks for none.
#[test]
fn a_library_that_refuses_this_kernel_is_mended() {
    let berth = Berth::empty();
    let mut tar = Tar::default();
    for dir in ["bin", "lib", "lib64"] {
        tar.directory(dir, 0o755);
    }
    for (path, content) in old::new_library(berth.dir.path()) {
        tar.file(path, 0o755, &content);
    }
    let path = berth.path("new.tar");
    std::fs::write(&path, tar.finish()).unwrap();
    berth
        .run(&["import", "-c", "CMD [\"/bin/needs-new\"]", &path, "new:1"])
        .ok();
    let layers = berth.inspect("new:1", "{{json .RootFS.Layers}}");
    let run = |flags: &[&str]| berth.run(&[&["run", "--rm", "--network", "none"], flags, &["new:1"]].concat());
    run(&["--compat=off"]).fails(127, "libnew.so: cannot open shared object file");
    let ran = run(&[]);
    assert!(
        ran.err.contains("mended for this kernel") && ran.err.contains("/lib/libnew.so"),
        "{ran:?}"
    );
    assert_eq!(ran.ok(), "the library is there");
    assert_eq!(berth.inspect("new:1", "{{json .RootFS.Layers}}"), layers);
    let judged = berth.run(&["compat", "new:1"]);
    assert!(
        judged.code == 1 && judged.out.contains("a copy of the library without the note"),
        "{judged:?}"
    );
    // An image that is made of a container is foretold as well.
    berth
        .run(&["create", "--name", "made", "--network", "none", "new:1"])
        .ok();
    berth.run(&["commit", "made", "new:2"]).ok();
    let ran = berth.run(&["run", "--rm", "--network", "none", "new:2"]);
    assert!(ran.err.contains("mended for this kernel"), "{ran:?}");
    assert_eq!(ran.ok(), "the library is there");
}
