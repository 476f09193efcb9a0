//! `berth` for a user who is not root: containers, images and volumes of his own, and a network that `pasta` carries.

use berth_tests::network::{World, shell};
use berth_tests::users::{Somebody, USER};
use berth_tests::{BUSYBOX, eventually};

/// What is not there any more once the user's last container is gone.
fn nothing_is_left(user: &Somebody) {
    eventually("the user's last process is gone", || {
        user.processes("berth").is_empty() && user.processes("pasta").is_empty()
    });
    let run = std::fs::read_dir(user.path("run/berth"))
        .expect("the user's directory")
        .flatten();
    let left: Vec<_> = run.map(|e| e.file_name()).filter(|name| name.len() == 64).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_user_runs_executes_copies_commits_and_removes() {
    let user = Somebody::new(true, None);
    let none = ["run", "--rm", "--network", "none"];
    let script =
        "id -u; cat /proc/self/uid_map | wc -l; touch /made; chown 33:34 /made; stat -c %u:%g /made; ls /dev/null";
    let ran = user.run(&[&none[..], &[BUSYBOX, "sh", "-c", script]].concat());
    assert_eq!(ran.out, "0\n2\n33:34\n/dev/null", "{ran:?}");
    let ran = user.run(
        &[
            &none[..],
            &[
                "-u",
                "www",
                "--hostname",
                "mine",
                BUSYBOX,
                "sh",
                "-c",
                "id -u; hostname; exit 7",
            ],
        ]
        .concat(),
    );
    assert_eq!((ran.code, ran.out.as_str()), (7, "33\nmine"), "{ran:?}");

    let flags = [
        "run",
        "-d",
        "--name",
        "one",
        "--network",
        "none",
        "-v",
        "kept:/data",
        "-v",
    ];
    let shared = format!("{}:/home", user.path("home"));
    user.run(&[&flags[..], &[&shared, BUSYBOX, "sleep", "1000"]].concat())
        .ok();
    assert!(user.run(&["ps"]).ok().contains("sleep 1000"));
    let script =
        "cat /data/seed; echo new > /data/new; echo hello > /home/from-inside; rm /bin/vi; mkdir /dir; echo x > /dir/x";
    assert_eq!(user.run(&["exec", "one", "sh", "-c", script]).ok(), "from the image");
    let owner = std::fs::metadata(user.path("home/from-inside")).expect("the file");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&owner), USER);
    assert!(user.run(&["diff", "one"]).ok().contains("D /bin/vi"));
    assert_eq!(user.run(&["cp", "one:/dir/x", "-"]).code, 0);
    user.run(&["commit", "one", "two:made"]).ok();
    user.run(&["stop", "-t", "0", "one"]).ok();
    user.run(&["start", "one"]).ok();
    assert_eq!(user.run(&["exec", "one", "cat", "/data/new", "/dir/x"]).ok(), "new\nx");
    user.run(&["rm", "-f", "one"]).ok();

    let ran = user.run(&[&none[..], &["two:made", "sh", "-c", "cat /dir/x; ls /bin/vi"]].concat());
    assert_eq!((ran.code, ran.out.as_str()), (1, "x"), "{ran:?}");
    let archive = format!("{}/two.tar", user.path("home"));
    user.run(&["save", "-o", &archive, "two:made"]).ok();
    user.run(&["rmi", "two:made"]).ok();
    user.run(&["load", "-i", &archive]).ok();
    assert!(user.run(&["images"]).ok().contains("two"));
    user.run(&["volume", "rm", "kept"]).ok();
    // A directory of a layer hides what is below it, by a mark that the user may set.
    user.run(&[
        "run",
        "--name",
        "hide",
        "--network",
        "none",
        "two:made",
        "sh",
        "-c",
        "rm -r /dir; mkdir /dir",
    ])
    .ok();
    user.run(&["commit", "hide", "three:made"]).ok();
    assert_eq!(user.run(&[&none[..], &["three:made", "ls", "/dir"]].concat()).ok(), "");
    user.run(&["rm", "hide"]).ok();
    nothing_is_left(&user);
}

#[test]
fn who_has_no_ids_but_his_own_is_told_what_he_lacks() {
    let user = Somebody::new(false, None);
    let ran = user.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        BUSYBOX,
        "sh",
        "-c",
        "id -u; cat /proc/self/uid_map | wc -l",
    ]);
    assert_eq!(ran.out, "0\n1", "{ran:?}");
    let (owned, dir) = (user.path("owned.tar"), user.path("owned"));
    shell(&format!(
        "mkdir {dir}; touch {dir}/file; chown 33:34 {dir}/file; tar -C {dir} -cf {owned} ."
    ));
    let err = user.run(&["import", &owned, "other:owned"]).fails(1, "file");
    assert!(err.contains("33:34") && err.contains("usermod --add-subuids"), "{err}");
    user.run(&["run", "--rm", "-m", "100m", "--network", "none", BUSYBOX, "true"])
        .fails(125, "cgroup");
    nothing_is_left(&user);
}

/// A server that tells who asks.
const WHO: &str = "nc -ll -p 80 -e sh -c 'read x; netstat -tn'";

#[test]
fn published_ports_of_a_user_show_the_clients_real_address() {
    let world = World::new();
    let user = Somebody::new(true, Some(world.host()));
    let flags = [
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "8080:80",
        "-p",
        "[::1]:8081:80",
        "-p",
        "127.0.0.1:8082:80",
        "-p",
        "8053:53/udp",
    ];
    user.run(
        &[
            &flags[..],
            &["-p", "9000-9002:90-92", "-p", "80", BUSYBOX, "sh", "-c", WHO],
        ]
        .concat(),
    )
    .ok();
    let (client, host) = (world.client(), world.host());
    // Older pastas finish a handshake only when the client says something.
    let from = |namespace: &str, address: &str, port: u16| {
        world
            .on(namespace, &format!("echo asks | nc -w 10 {address} {port}"))
            .out
    };
    eventually("the server answers", || !from(&host, "127.0.0.1", 8080).is_empty());
    eventually("who asks is seen by his own address", || {
        from(&client, "10.77.1.2", 8080).contains("10.77.0.2")
    });
    eventually("by IPv6, too", || from(&client, "fd77:1::2", 8080).contains("fd77::2"));
    assert!(!from(&host, "::1", 8081).is_empty() && !from(&host, "127.0.0.1", 8082).is_empty());
    assert!(from(&client, "10.77.1.2", 8082).is_empty(), "only the host itself may");
    let pid = user.run(&["inspect", "--format", "{{.State.Pid}}", "web"]).ok();
    let inside = format!("nsenter -t {pid} -n");
    let script = format!("{inside} timeout 60 nc -u -l -n -v 53 2>&1 | head -2");
    let mut server = std::process::Command::new("sh");
    server.args(["-c", &script]).stdout(std::process::Stdio::piped());
    let server = server.spawn().expect("start nc");
    let listening = || shell(&format!("{inside} ss -Hlun sport = 53"));
    eventually("it listens", || !listening().is_empty());
    eventually("a datagram arrives", || {
        world.on(&client, "echo hi | nc -u -w 1 10.77.1.2 8053");
        listening().is_empty()
    });
    let heard = server.wait_with_output().expect("wait for nc").stdout;
    let heard = String::from_utf8_lossy(&heard);
    assert!(heard.contains("10.77.0.2"), "{heard}");
    let ports = user.run(&["port", "web"]).ok();
    for line in [
        "80/tcp -> 0.0.0.0:8080",
        "80/tcp -> [::1]:8081",
        "53/udp -> 0.0.0.0:8053",
        "92/tcp -> 0.0.0.0:9002",
    ] {
        assert!(ports.contains(line), "{line} in {ports}");
    }
    let chosen = user
        .run(&[
            "inspect",
            "--format",
            "{{len (index .NetworkSettings.Ports \"80/tcp\")}}",
            "web",
        ])
        .ok();
    assert_eq!(
        chosen, "6",
        "two of 8080, two of a free one, and two addresses: {ports}"
    );

    // Taken, by whom; and what a user may not.
    let refused = |flag: &[&str], words: &str| {
        let err = user
            .run(&[&["run", "--rm"], flag, &[BUSYBOX, "true"]].concat())
            .fails(125, words);
        err.lines().last().unwrap_or_default().to_owned()
    };
    assert_eq!(
        refused(&["-p", "8080:1"], "port is already allocated"),
        "hint: port 8080/tcp is published by container web"
    );
    let holder = world.on(&host, "nc -l 8090 < /dev/null > /dev/null 2>&1 & echo $!");
    eventually("the port is taken", || {
        !world.on(&host, "ss -Hltn sport = 8090").out.is_empty()
    });
    refused(&["-p", "8090:1"], "address already in use");
    world.on(&host, &format!("kill {}", holder.out));
    assert!(refused(&["-p", "80:80"], "permission denied").contains("ip_unprivileged_port_start"));
    for flags in [
        &["--network", "bridge"][..],
        &["--network", "other"],
        &["--mac-address", "02:42:00:00:00:01"],
        &["--link", "web"],
        &["-p", "90:90/sctp"],
    ] {
        assert!(
            refused(flags, "needs root").contains("pasta (the default)"),
            "{flags:?}"
        );
    }
    user.run(&["network", "create", "mine"]).fails(1, "needs root");
    user.run(&["network", "disconnect", "pasta", "web"])
        .fails(1, "needs root");

    // Out, too; and the ports are free the moment that the container ended.
    world.on(&client, "nc -l 7000 < /dev/null > /dev/null 2>&1 & echo started");
    user.run(&[
        "exec",
        "web",
        "sh",
        "-c",
        "while ! nc -w 2 10.77.0.2 7000 < /dev/null; do sleep 0.1; done",
    ])
    .ok();
    user.run(&["rm", "-f", "web"]).ok();
    user.run(&["run", "--rm", "-p", "8080:80", BUSYBOX, "true"]).ok();
    nothing_is_left(&user);
}

#[test]
fn what_was_killed_leaves_nothing_of_a_user() {
    let world = World::new();
    let user = Somebody::new(true, Some(world.host()));
    let start = |name: &str| {
        user.run(&["run", "-d", "--name", name, "-p", "8080:80", BUSYBOX, "sleep", "1000"])
            .ok()
    };
    start("one");
    let kill = |pids: Vec<i32>| {
        pids.iter().for_each(|pid| {
            _ = std::process::Command::new("kill")
                .args(["-9", &pid.to_string()])
                .status()
        })
    };
    assert_eq!(user.processes("pasta").len(), 1);
    kill(user.processes("berth monitor"));
    eventually("pasta goes with the monitor", || user.processes("pasta").is_empty());
    assert!(user.run(&["ps", "-a"]).ok().contains("Exited (137)"));
    user.run(&["start", "one"]).ok();
    // Without pasta the container has no network, and goes as any other.
    kill(user.processes("pasta"));
    user.run(&["exec", "one", "true"]).ok();
    user.run(&["restart", "-t", "0", "one"]).ok();
    assert_eq!(user.processes("pasta").len(), 1);
    user.run(&["rm", "-f", "one"]).ok();
    nothing_is_left(&user);
    // Where there is no pasta its package is named.
    std::fs::write(user.path("no-pasta"), "").expect("write");
    let err = user
        .run(&["run", "--rm", BUSYBOX, "true"])
        .fails(125, "the program pasta");
    assert!(err.contains("install the package passt"), "{err}");
    user.run(&["run", "--rm", "--network", "host", BUSYBOX, "true"]).ok();
    nothing_is_left(&user);
}
