//! Bad input: a message that names the thing, a hint where one is known, the right code, nothing left behind.

use berth_tests::{BUSYBOX, Berth, Tar};

#[test]
fn bad_requests_are_named() {
    let berth = Berth::new();
    let table: &[(&[&str], i32, &str)] = &[
        (&["nosuch"], 127, "exec: \"nosuch\": executable file not found in $PATH"),
        (&["/no/such"], 127, "no such file or directory"),
        (&["/etc/passwd"], 126, "permission denied"),
        (&["/etc"], 126, "is a directory"),
    ];
    for (command, code, words) in table {
        berth.busybox(&[], command).fails(*code, words);
    }
    berth
        .run(&["run", "--network", "nosuch", BUSYBOX, "true"])
        .fails(125, "network nosuch not found");
    let flags: &[(&[&str], i32, &str)] = &[
        (&["-v", "rel/path:/x"], 125, "use absolute path"),
        (
            &["--mount", "type=bind,src=/no/such,dst=/x"],
            125,
            "bind source path does not exist: /no/such",
        ),
        (&["-v", "/a:/b", "-v", "/c:/b"], 125, "Duplicate mount point: /b"),
        (
            &["-u", "nosuch"],
            125,
            "unable to find user nosuch: no matching entries in passwd file",
        ),
        (&["-u", "0:nosuch"], 125, "unable to find group nosuch"),
        (&["--memory", "lots"], 125, "invalid size: 'lots'"),
        (&["--memory", "1m"], 125, "Minimum memory limit allowed is 6MB"),
        (&["--cpus", "1000"], 125, "range of CPUs is from 0.01"),
        (&["--cap-add", "nosuch"], 125, "unknown capability: \"CAP_NOSUCH\""),
        (&["--ulimit", "nofile=100000000"], 125, "the hard limit here is"),
        (&["--ulimit", "x=1"], 125, "invalid ulimit type: x"),
        (&["--stop-signal", "NOSUCH"], 125, "invalid signal: NOSUCH"),
        (
            &["--restart", "always"],
            125,
            "conflicting options: cannot specify both --restart and --rm",
        ),
        (&["-w", "rel"], 125, "needs to be an absolute path"),
        (
            &["--security-opt", "seccomp=/no/such"],
            125,
            "opening seccomp profile (/no/such) failed",
        ),
        (&["--publish", "80:x"], 125, "invalid containerPort: x"),
        (&["--gpus", "all"], 125, "could not select device driver"),
        (&["--nosuch"], 125, "unknown flag: --nosuch"),
        (&["--name", "bad/name"], 125, "Invalid container name (bad/name)"),
        (&["-e", "=x"], 125, "invalid environment variable: =x"),
        (
            &["--platform", "linux/s390x", "--pull", "never"],
            125,
            "does not match the specified platform",
        ),
        (
            &["--sysctl", "kernel.panic=1"],
            125,
            "is not in a separate kernel namespace",
        ),
        (&["-it"], 1, "the input device is not a TTY"),
    ];
    for (flags, code, words) in flags {
        berth.busybox(flags, &["true"]).fails(*code, words);
        assert_eq!(berth.run(&["ps", "-aq"]).ok(), "", "{flags:?} left a container behind");
    }
}

#[test]
fn missing_interpreters_and_foreign_programs_are_explained() {
    let berth = Berth::new();
    let script = "printf '#!/no/such/sh\\n' > /s; chmod +x /s; printf 'echo' > /n; chmod +x /n; cp /bin/busybox /f; printf '\\267' | dd of=/f bs=1 seek=18 conv=notrunc 2>/dev/null";
    berth.start(
        &["--name", "box"],
        &["sh", "-c", &format!("{script}; touch /ready; sleep 60")],
    );
    berth_tests::eventually("it is ready", || berth.run(&["exec", "box", "ls", "/ready"]).code == 0);
    let err = berth
        .run(&["exec", "box", "/s"])
        .fails(127, "exec /s: no such file or directory");
    assert!(
        err.contains("hint: the file is there, but its interpreter /no/such/sh is not in the image"),
        "{err}"
    );
    berth.run(&["exec", "box", "/n"]).fails(126, "exec format error");
    let err = berth.run(&["exec", "box", "/f"]).fails(126, "exec format error");
    assert!(err.contains("another processor (arm64)"), "{err}");
}

#[test]
fn images_that_are_none_are_named() {
    let berth = Berth::empty();
    berth
        .run(&["run", "--pull", "never", "nosuch:1"])
        .fails(125, "No such image: nosuch:1");
    berth.run(&["run", "UPPER"]).fails(125, "must be lowercase");
    berth.run(&["run", "a b"]).fails(125, "invalid reference format");
    berth.run(&["rmi", "nosuch"]).fails(1, "No such image: nosuch:latest");
    berth
        .run(&["tag", "nosuch", "x"])
        .fails(1, "No such image: nosuch:latest");
    berth
        .run(&["push", "nosuch"])
        .fails(1, "An image does not exist locally with the tag: nosuch");
    berth.run(&["pull", "127.0.0.1:1/x"]).fails(1, "127.0.0.1:1");
    let text = berth.path("text");
    std::fs::write(&text, "no tar").unwrap();
    berth.run(&["load", "-i", &text]).fails(1, "");
    berth.run(&["import", &text]).fails(1, "unexpected end of the stream");
    let mut tar = Tar::default();
    tar.file("../climbs", 0o644, b"x");
    std::fs::write(&text, tar.finish()).unwrap();
    berth.run(&["import", &text]).fails(1, "climbs out");
    let mut tar = Tar::default();
    tar.hard_link("l", "../../../etc/passwd");
    std::fs::write(&text, tar.finish()).unwrap();
    berth.run(&["import", &text]).fails(1, "which it is a hard link to");
    assert_eq!(berth.run(&["images", "-q"]).ok(), "");
}

#[test]
fn commands_that_are_none_are_named() {
    let berth = Berth::empty();
    berth.run(&["nosuch"]).fails(1, "unknown command: nosuch");
    berth.run(&["build", "."]).fails(125, "build: not supported yet");
    berth.run(&["compose", "up"]).fails(125, "compose: not supported yet");
    berth.run(&["ps", "--nosuch"]).fails(125, "unknown flag: --nosuch");
    berth.run(&["rm"]).fails(1, "'berth rm' requires at least 1 argument");
    berth.run(&["ps", "--format", "{{.ID"]).fails(1, "unclosed action");
    assert!(berth.run(&["--help"]).ok().contains("Create and run a new container"));
    assert!(berth.run(&["run", "--help"]).ok().contains("--memory"));
    assert!(berth.run(&["completion", "bash"]).ok().contains("berth"));
}

/// The second archive is small and its layer is not: a decompression bomb is a full disk.
#[test]
fn a_full_disk_is_said_and_nothing_stays() {
    let berth = Berth::new();
    let shell = |line: &str| {
        let status = std::process::Command::new("sh").args(["-ec", line]).status().unwrap();
        assert!(status.success(), "{line}");
    };
    let bomb = berth.path("bomb.tar.gz");
    let zeros = berth.path("zeros");
    shell(&format!(
        "truncate -s 300M {zeros}; tar -C / -c {zeros} 2>/dev/null | gzip -1 > {bomb}; rm {zeros}"
    ));
    assert!(std::fs::metadata(&bomb).unwrap().len() < 4 << 20);
    let small = berth.path("small");
    std::fs::create_dir(&small).unwrap();
    for (size, archive) in [("1500k", berth.path("busybox.tar")), ("20m", bomb)] {
        shell(&format!("mount -t tmpfs -o size={size} x {small}"));
        let ran = berth
            .command(&["import", &archive, "x:1"])
            .env("BERTH_DATA", format!("{small}/data"))
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&ran.stderr).into_owned();
        let staging = std::fs::read_dir(format!("{small}/data/layers/staging")).map_or(0, Iterator::count);
        shell(&format!("umount {small}"));
        assert_eq!(ran.status.code(), Some(1));
        assert!(
            err.contains("no space left on device") && err.contains("hint:"),
            "{err}"
        );
        assert_eq!(staging, 0);
    }
}

#[test]
fn without_root_it_says_so() {
    // The program itself must be within reach of nobody for this to mean something.
    let copy = format!("/var/tmp/berth-nobody-{}", std::process::id());
    berth_tests::place_program(std::fs::File::open(berth_tests::program()).unwrap(), &copy);
    let ran = std::process::Command::new("setpriv")
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            &copy,
            "run",
            BUSYBOX,
            "true",
        ])
        .output()
        .unwrap();
    std::fs::remove_file(&copy).unwrap();
    let err = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(125), "{err}");
    assert!(err.contains("hint: Berth needs root"), "{err}");
}

/// A kernel that does not know a call answers ENOSYS: what cannot be done without it is named, with a hint, and nothing
/// stays; what can is done. `machines.rs` runs on a kernel that is old indeed.
#[test]
fn what_an_older_kernel_lacks_is_named() {
    let berth = Berth::new();
    let without = berth.path("without");
    berth_tests::old::with_libc("without", berth.dir.path());
    let run = |call: u32| {
        let mut command = std::process::Command::new(&without);
        command.args([&call.to_string(), "--"]).arg(berth_tests::program());
        command.args(["run", "--rm", "--network", "none", BUSYBOX, "echo", "works"]);
        for (variable, dir) in [("BERTH_DATA", "data"), ("BERTH_RUN", "run")] {
            command.env(variable, berth.path(dir));
        }
        berth.ran(command)
    };
    for (call, words) in [
        (428, "open the layers (open_tree): function not implemented"),
        (429, "attach the root file system: function not implemented"),
        (430, "function not implemented"),
        (
            435,
            "make the container's first process (clone3): function not implemented",
        ),
        (437, "make the mount point: function not implemented"),
        (155, "change the root (pivot_root): function not implemented"),
        (317, "install the seccomp filter: function not implemented"),
    ] {
        let err = run(call).fails(125, words);
        assert!(err.contains("hint: this kernel "), "{call}: {err}");
        assert_eq!(berth.run(&["ps", "-aq"]).ok(), "", "{call}");
    }
    // mount_setattr (5.12), close_range (5.9), faccessat2 (5.8), statmount (6.8), epoll_pwait2 (5.11).
    for call in [442, 436, 439, 457, 441] {
        assert_eq!(run(call).ok(), "works", "{call}");
    }
}

/// What docker 28 says to the same words.
#[test]
fn words_and_codes_are_dockers() {
    let berth = Berth::new();
    let file = berth.path("variables");
    std::fs::write(&file, "A B=1\n").unwrap();
    let said = berth.busybox(&["--env-file", &file], &["true"]);
    said.fails(
        125,
        &format!("invalid env file ({file}): variable 'A B' contains whitespaces"),
    );
    std::fs::write(&file, "=x\n").unwrap();
    let said = berth.busybox(&["--env-file", &file], &["true"]);
    said.fails(
        125,
        &format!("invalid env file ({file}): no variable name on line '=x'"),
    );
    berth
        .busybox(&["--restart", "always"], &["true"])
        .fails(125, "conflicting options: cannot specify both --restart and --rm");
    assert_eq!(berth.busybox(&["-w", "/a/../b"], &["pwd"]).ok(), "/b");
    berth
        .run(&["ps", "-a", "--filter", "status=bogus"])
        .fails(1, "invalid value for state (bogus): must be one of created, running");
    berth
        .run(&["kill", "nosuch"])
        .fails(1, "cannot kill container: nosuch: No such container: nosuch");
    berth
        .run(&["volume", "create", "x"])
        .fails(1, "volume name is too short");
    let id = berth.start(&[], &["sleep", "60"]);
    berth
        .run(&["exec", "-u", "nosuch", &id, "id"])
        .fails(1, "unable to find user nosuch");
    berth
        .run(&["exec", "-w", "/nosuch", &id, "pwd"])
        .fails(127, "no such file or directory");
    berth
        .run(&["exec", "-w", "relative", &id, "pwd"])
        .fails(128, "Cwd must be an absolute path");
    assert_eq!(berth.run(&["logs", "--tail", "bogus", &id]).ok(), "");
    assert_eq!(berth.busybox(&["--hostname", "a/b"], &["hostname"]).ok(), "a/b");
    berth
        .run(&["exec", "--nosuch", &id, "pwd"])
        .fails(125, "unknown flag: --nosuch");
    let help = berth.run(&["run", "--help"]).ok();
    assert!(!help.contains('\u{1b}') && help.contains("Usage:"), "{help}");
    assert!(berth.run(&["volume"]).ok().contains("create"));
}
