//! Why containers end: the same sentence on standard error, in `why`, in `inspect` and in the event.

use berth_tests::{Berth, Tar, old};

/// An image with the program of `programs/deaths.c` and busybox as its shell.
fn berth() -> Berth {
    let berth = Berth::empty();
    let read = |path: &str| std::fs::read(path).unwrap();
    let mut tar = Tar::default();
    for dir in ["bin", "etc", "lib64", "opt"] {
        tar.directory(dir, 0o755);
    }
    tar.file("bin/deaths", 0o755, &old::deaths(berth.dir.path()));
    tar.file("bin/sh", 0o755, &read("/bin/busybox"));
    tar.link("bin/hostname", "sh");
    let mut foreign = read("/bin/busybox");
    foreign[18] = 183;
    tar.file("bin/foreign", 0o755, &foreign);
    for (path, content) in old::new_library(berth.dir.path()) {
        if path != "lib/libnew.so" {
            tar.file(path, 0o755, &content);
        }
    }
    tar.file("opt/libnew.so", 0o755, &old::faulty_library(berth.dir.path()));
    tar.file("bin/lost", 0o755, b"#!/no/such/interpreter\n");
    tar.file("bin/plain", 0o644, b"#!/bin/sh\n");
    std::fs::write(berth.path("image.tar"), tar.finish()).unwrap();
    berth.run(&["import", &berth.path("image.tar"), "deaths:1"]).ok();
    berth
}

/// Runs it; every place says the same.
#[track_caller]
fn dies(berth: &Berth, name: &str, flags: &[&str], command: &[&str], code: i32) -> String {
    let base = ["run", "--name", name, "--network", "none"];
    let ran = berth.run(&[&base[..], flags, &["deaths:1"], command].concat());
    assert_eq!(ran.code, code, "{ran:?}");
    let sentence = berth.inspect(name, "{{.State.Error}}");
    assert!(
        !sentence.is_empty() && ran.err.contains(&sentence),
        "{sentence:?} is not said: {ran:?}"
    );
    let told = berth.run(&["why", name]).ok();
    assert!(told.contains(&sentence), "{told}");
    if berth.inspect(name, "{{.State.Status}}") == "exited" {
        let filter = format!("container={name}");
        let events = berth
            .run(&[
                "events",
                "--since",
                "10m",
                "--until",
                "0s",
                "--filter",
                &filter,
                "--filter",
                "event=die",
                "--format",
                "json",
            ])
            .ok();
        let event: serde_json::Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
        assert_eq!(
            event["Actor"]["Attributes"]["why"],
            serde_json::json!(sentence),
            "{events}"
        );
    }
    sentence
}

#[test]
fn faults_are_told_with_their_function_and_are_no_vsyscalls() {
    let berth = berth();
    let sentence = dies(&berth, "aa", &[], &["/bin/deaths", "segv"], 139);
    assert!(
        sentence.contains("deaths was killed by SIGSEGV: it wrote to 0x10, a null pointer"),
        "{sentence}"
    );
    assert!(
        sentence.contains("in wander_off") && sentence.contains("of /bin/deaths"),
        "{sentence}"
    );
    assert!(sentence.contains("this is no call of the vsyscall page"), "{sentence}");
    // Below a shell: it is not the first process that died.
    let sentence = dies(&berth, "bb", &[], &["sh", "-c", "deaths segv; exit $?"], 139);
    assert!(
        sentence.contains("deaths (process ") && sentence.contains("in wander_off"),
        "{sentence}"
    );
    // In a library.
    let flags = ["-e", "LD_LIBRARY_PATH=/opt"];
    let sentence = dies(&berth, "lib", &flags, &["/bin/needs-new"], 139);
    assert!(
        sentence.contains("needs-new was killed by SIGSEGV: it wrote to 0x18, a null pointer"),
        "{sentence}"
    );
    assert!(
        sentence.contains("in answer") && sentence.contains("of /opt/libnew.so"),
        "{sentence}"
    );
    // The address is in the page, the instruction is not.
    let sentence = dies(&berth, "cc", &[], &["/bin/deaths", "reads-vsyscall"], 139);
    assert!(
        sentence.contains("it read 0xffffffffff600400") && sentence.contains("no call of the vsyscall page"),
        "{sentence}"
    );
    let sentence = dies(&berth, "dd", &[], &["/bin/deaths", "trap"], 132);
    assert!(
        sentence.contains("SIGILL: it ended itself with ud2, in give_up"),
        "{sentence}"
    );
}

#[test]
fn last_words_are_understood() {
    let berth = berth();
    let sentence = dies(&berth, "old", &[], &["/bin/deaths", "too-old"], 139);
    assert!(
        sentence.starts_with("the program's C library refuses this kernel's release"),
        "{sentence}"
    );
    assert!(
        berth
            .run(&["why", "old"])
            .ok()
            .contains("hint: berth run --kernel-release")
    );
    // What is only likely is told to who asks.
    let ran = berth.run(&[
        "run",
        "--name",
        "ro",
        "--read-only",
        "--network",
        "none",
        "deaths:1",
        "sh",
        "-c",
        "echo > /x",
    ]);
    assert!(ran.code == 1 && !ran.err.contains("berth:"), "{ran:?}");
    assert_eq!(berth.inspect("ro", "{{.State.Error}}"), "");
    assert!(
        berth
            .run(&["why", "ro"])
            .ok()
            .contains("most likely: it wrote below a path that is mounted read-only")
    );
    let ran = berth.run(&["run", "--name", "plain", "--network", "none", "deaths:1", "/bin/deaths"]);
    assert_eq!((ran.code, ran.err.contains("berth: ")), (3, false), "{ran:?}");
    assert!(berth.run(&["why", "plain"]).ok().contains("the command said so itself"));
}

#[test]
fn limits_filters_and_missing_interpreters_are_named() {
    let berth = berth();
    let eat = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done";
    let sentence = dies(&berth, "big", &["--memory", "16m"], &["sh", "-c", eat], 137);
    assert!(
        sentence.starts_with("the container was killed for lack of memory by the limit of its own cgroup, 16 MiB: sh"),
        "{sentence}"
    );
    let profile = berth.path("profile.json");
    let json =
        r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["sethostname"],"action":"SCMP_ACT_KILL_PROCESS"}]}"#;
    std::fs::write(&profile, json).unwrap();
    let option = format!("seccomp={profile}");
    let sentence = dies(&berth, "sys", &["--security-opt", &option], &["hostname", "x"], 159);
    assert!(
        sentence.contains("hostname was killed by SIGSYS: its seccomp profile kills who calls sethostname"),
        "{sentence}"
    );
    let sentence = dies(&berth, "lost", &[], &["/bin/lost"], 127);
    assert!(sentence.contains("no such file or directory"), "{sentence}");
    assert!(
        berth
            .run(&["why", "lost"])
            .ok()
            .contains("its interpreter /no/such/interpreter is not in the image")
    );
    let sentence = dies(&berth, "machine", &[], &["/bin/foreign"], 126);
    assert!(sentence.contains("exec format error"), "{sentence}");
    assert!(
        berth
            .run(&["why", "machine"])
            .ok()
            .contains("the program is for another processor (arm64)")
    );
    let sentence = dies(&berth, "library", &[], &["/bin/needs-new"], 127);
    assert!(
        sentence.starts_with("the dynamic loader could not load a library") && sentence.contains("libnew.so"),
        "{sentence}"
    );
    let sentence = dies(&berth, "mode", &[], &["/bin/plain"], 126);
    assert!(sentence.contains("permission denied"), "{sentence}");
    assert!(berth.run(&["why", "mode"]).ok().contains("has no execute bit"));
}

/// Which call was refused, by whom: from its last words likely, from a tracer for sure.
#[test]
fn refused_calls_are_named() {
    let berth = berth();
    let why = |name: &str, flags: &[&str], way: &str| {
        let base = ["run", "--name", name, "--network", "none"];
        let ran = berth.run(&[&base[..], flags, &["deaths:1", "/bin/deaths", way]].concat());
        assert_eq!(ran.code, 4, "{ran:?}");
        (berth.run(&["why", name]).ok(), ran.err)
    };
    let (told, err) = why("said", &[], "mount");
    assert!(
        told.contains("most likely: it called mount, which was answered with EPERM by its seccomp profile"),
        "{told}"
    );
    assert!(
        told.contains("which allows it to who has CAP_SYS_ADMIN") && told.contains("--compat=trace"),
        "{told}"
    );
    assert!(!err.contains("berth:"), "{err}");
    // The capability without the profile: then it is the kernel.
    let open = ["--security-opt", "seccomp=unconfined"];
    let (told, _) = why("kernel", &open, "mount");
    assert!(
        told.contains("answered with EPERM by the kernel: it takes CAP_SYS_ADMIN"),
        "{told}"
    );
    let (told, _) = why("quiet", &["--compat=trace"], "mount-quietly");
    assert!(
        told.contains("most likely: deaths called mount, which was answered with EPERM by its seccomp"),
        "{told}"
    );
    let sentence = |name: &str| berth.inspect(name, "{{.State.Error}}");
    let (_, err) = why("sure", &["--compat=trace"], "mount");
    assert!(
        err.contains(&sentence("sure")) && sentence("sure").starts_with("deaths called mount, which was"),
        "{err}"
    );
    let (told, _) = why("enosys", &["--compat=trace"], "unknown");
    assert!(
        told.contains("system call 1000") && told.contains("answered with ENOSYS"),
        "{told}"
    );
    // It costs time, and changes nothing: children, signals, other users, exit codes.
    let script = "trap 'echo caught' USR1; kill -USR1 $$; (sh -c 'exit 7'; echo $?) & wait; echo hello > /x; exit 5";
    let ran = berth.run(&[
        "run",
        "--rm",
        "--compat=trace",
        "--network",
        "none",
        "deaths:1",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!((ran.code, ran.out.as_str()), (5, "caught\n7"), "{ran:?}");
}
