//! Names of containers and of the world outside, asked for with busybox, `dig` and the C library.

use berth_tests::names::{NOBODY, Server, address, dig, start, status, within};
use berth_tests::network::{World, inside};
use berth_tests::{BUSYBOX, Berth, eventually};

/// The process ids of an engine's name services.
fn services(berth: &Berth) -> Vec<i32> {
    let dir = berth.path("run");
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.starts_with("berth names ") && line.contains(&dir) {
            found.extend(process.file_name().to_str().and_then(|pid| pid.parse::<i32>().ok()));
        }
    }
    found
}

#[test]
fn containers_are_found_by_every_name_and_by_address_as_long_as_they_run() {
    let world = World::new();
    let berth = world.berth();
    let _nobody = Server::start(&berth, &world.client(), NOBODY, &[]);
    for network in ["app", "other"] {
        berth.run(&["network", "create", network]).ok();
    }
    let first = start(
        &berth,
        &[
            "--name",
            "first",
            "--hostname",
            "hosty",
            "--network",
            "app",
            "--network-alias",
            "svc",
        ],
    );
    let second = start(
        &berth,
        &["--name", "second", "--network", "app", "--network-alias", "svc"],
    );
    let alone = start(&berth, &["--name", "alone", "--network", "other"]);
    let plain = start(&berth, &["--name", "plain"]);
    let (one, two) = (address(&berth, "first", "app"), address(&berth, "second", "app"));
    let id = berth.inspect("first", "{{.Id}}")[..12].to_owned();
    for name in ["first", "FIRST", "first.app", "hosty", &id, "first."] {
        assert_eq!(dig(&second, name), one, "{name}");
    }
    assert_eq!(dig(&first, "second"), two, "who came later");
    assert_eq!(dig(&second, "+tcp first"), one);
    assert!(dig(&second, "AAAA first").starts_with("fd"), "its other address");
    assert_eq!(status(&second, "MX first"), "NOERROR");
    assert_eq!(dig(&second, "MX first"), "");
    assert_eq!(dig(&second, &format!("-x {one}")), "first.app.");
    assert_eq!(
        status(&second, &format!("-x {}", one.replace(".0.2", ".9.9"))),
        "NXDOMAIN"
    );
    // In turns.
    let orders: Vec<String> = (0..4).map(|_| dig(&second, "svc")).collect();
    assert!(orders.iter().all(|o| o.lines().count() == 2), "{orders:?}");
    let firsts: std::collections::HashSet<_> = orders.iter().map(|o| o.lines().next()).collect();
    assert_eq!(firsts.len(), 2, "{orders:?}");
    // The C library, and busybox.
    assert!(within(&second, "getent ahostsv4 first").ok().starts_with(&one));
    assert!(
        within(&second, &format!("getent hosts {one}"))
            .ok()
            .contains("first.app")
    );
    let ran = berth.run(&["exec", "second", "nslookup", "first"]).out;
    assert!(ran.contains(&format!("Address: {one}")), "{ran}");
    // Others do not find them.
    assert_ne!(status(&alone, "first"), "NOERROR");
    assert!(
        !std::fs::read_to_string(format!("/proc/{plain}/root/etc/resolv.conf"))
            .unwrap()
            .contains("127.0.0.11")
    );
    // What changes changes at once.
    berth.run(&["rename", "first", "renamed"]).ok();
    assert_eq!(
        (dig(&second, "renamed"), dig(&second, "first")),
        (one.clone(), String::new())
    );
    berth
        .run(&["network", "connect", "--alias", "late", "app", "plain"])
        .ok();
    assert_eq!(dig(&second, "late"), address(&berth, "plain", "app"));
    assert_eq!(dig(&plain, "renamed"), one, "who came to the network finds others");
    berth.run(&["network", "disconnect", "app", "plain"]).ok();
    assert_eq!(dig(&second, "late"), "");
    berth.run(&["stop", "-t", "0", "renamed"]).ok();
    assert_eq!((dig(&second, "renamed"), dig(&second, "svc")), (String::new(), two));
}

#[test]
fn outside_names_are_passed_on_and_those_of_internal_networks_are_not() {
    let world = World::new();
    let berth = world.berth();
    let long = format!("--txt-record=long.example,{}", vec!["x".repeat(200); 6].join(","));
    let records = ["--address=/api.example/10.77.0.2", &long];
    let server = Server::start(&berth, &world.client(), "10.77.0.2", &records);
    berth.run(&["network", "create", "app"]).ok();
    berth.run(&["network", "create", "--internal", "closed"]).ok();
    let flags = ["--dns-search", "example", "--dns-option", "timeout:3"];
    let pid = start(&berth, &[&["--network", "app"], &flags[..]].concat());
    let file = std::fs::read_to_string(format!("/proc/{pid}/root/etc/resolv.conf")).unwrap();
    assert_eq!(
        file,
        "nameserver 127.0.0.11\nsearch example\noptions timeout:3 ndots:0\n"
    );
    assert_eq!(dig(&pid, "api.example"), "10.77.0.2");
    assert_eq!(dig(&pid, "+tcp api.example"), "10.77.0.2");
    assert!(
        within(&pid, "getent ahostsv4 api").ok().starts_with("10.77.0.2"),
        "by search"
    );
    assert_eq!(status(&pid, "nothing.example"), "NXDOMAIN");
    // An answer too long for a datagram says so, and comes over a connection.
    let cut = within(&pid, "dig +noedns +ignore TXT long.example").ok();
    assert!(cut.contains("flags: qr aa tc") || cut.contains(" tc "), "{cut}");
    assert_eq!(dig(&pid, "+noedns TXT long.example").matches("xxxx").count() / 50, 6);
    let hidden = start(
        &berth,
        &[&["--name", "hidden", "--network", "closed"], &flags[..]].concat(),
    );
    assert_eq!(status(&hidden, "secret.example"), "SERVFAIL");
    assert_eq!(dig(&hidden, "hidden"), address(&berth, "hidden", "closed"));
    let asked = server.asked();
    assert!(asked.contains("api.example") && !asked.contains("secret"), "{asked}");
    // Nobody answers.
    drop(server);
    assert_eq!(status(&pid, "api.example"), "SERVFAIL");
    berth
        .run(&["run", "--rm", "--network", "app", "--dns", "127.0.0.1", BUSYBOX, "true"])
        .fails(125, "127.0.0.1");
}

#[test]
fn a_resolver_on_the_hosts_loopback_serves_containers_too() {
    let world = World::new();
    let berth = world.berth();
    let _server = Server::start(
        &berth,
        &world.host(),
        "127.0.0.53",
        &["--address=/api.example/10.77.0.2"],
    );
    let file = berth.path("resolv.conf");
    std::fs::write(&file, "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch example\n").unwrap();
    berth.run(&["network", "create", "app"]).ok();
    for (network, options) in [("bridge", "edns0 trust-ad ndots:0"), ("app", "edns0 trust-ad ndots:0")] {
        let mut command = inside(&world.host(), "unshare");
        let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        command
            .args(["-m", "sh", "-c", script, &file])
            .arg(berth_tests::program());
        command.args(["run", "--rm", "--network", network, BUSYBOX, "sh", "-c"]);
        command.arg("cat /etc/resolv.conf; nslookup -type=a api.example");
        command
            .env("BERTH_DATA", berth.path("data"))
            .env("BERTH_RUN", berth.path("run"));
        let out = command.output().expect("run berth");
        let out = String::from_utf8_lossy(&out.stdout).into_owned();
        let expected = format!("nameserver 127.0.0.11\nsearch example\noptions {options}\n");
        assert!(out.starts_with(&expected), "{network}: {out}");
        assert!(out.contains("10.77.0.2"), "{network}: {out}");
    }
}

#[test]
fn a_killed_name_service_is_back_at_once_and_one_that_nobody_needs_goes() {
    let world = World::new();
    let berth = world.berth();
    berth.run(&["network", "create", "app"]).ok();
    assert!(services(&berth).is_empty());
    let pid = start(&berth, &["--name", "first", "--network", "app"]);
    start(&berth, &["--name", "second", "--network", "app"]);
    let found = address(&berth, "second", "app");
    let before = services(&berth);
    assert_eq!(before.len(), 1, "one for all");
    for round in 0..5 {
        let killed = rustix::process::Pid::from_raw(services(&berth)[0]).unwrap();
        rustix::process::kill_process(killed, rustix::process::Signal::KILL).unwrap();
        assert_eq!(dig(&pid, "second"), found, "round {round}");
    }
    assert!(services(&berth).len() == 1 && services(&berth) != before);
    assert_eq!(dig(&pid, "first"), address(&berth, "first", "app"));
    berth.run(&["rm", "-f", "first", "second"]).ok();
    eventually("it goes", || services(&berth).is_empty());
    assert!(!std::path::Path::new(&berth.path("run/names.sock")).exists());
}

#[test]
fn a_container_may_have_a_name_server_of_its_own() {
    let world = World::new();
    let berth = world.berth();
    berth.run(&["network", "create", "app"]).ok();
    let pid = start(&berth, &["--name", "dns", "--network", "app"]);
    let mut command = std::process::Command::new("nsenter");
    command.args(["-t", &pid, "-n", "dnsmasq"]);
    // At all addresses.
    let _server = Server::begin(&berth, command, &["--address=/own.example/10.1.2.3"]);
    assert_eq!(dig(&pid, "dns"), address(&berth, "dns", "app"));
    assert_eq!(dig(&pid, "@127.0.0.1 +noedns own.example"), "10.1.2.3");
    assert_eq!(dig(&pid, "@127.0.0.1 +tcp own.example"), "10.1.2.3");
}

#[test]
fn links_are_lines_on_the_default_network_and_names_on_others() {
    let world = World::new();
    let berth = world.berth();
    let _nobody = Server::start(&berth, &world.client(), NOBODY, &[]);
    berth.run(&["network", "create", "app"]).ok();
    start(
        &berth,
        &["--name", "one", "-e", "FOO=bar", "--expose", "80", "--expose", "81/udp"],
    );
    start(&berth, &["--name", "two", "--network", "app"]);
    let ping = |flags: &[&str]| {
        let ran = berth.run(&[&["run", "--rm"], flags, &[BUSYBOX, "ping", "-c1", "-W2", "db"]].concat());
        assert!(ran.out.contains("1 packets received"), "{flags:?}: {ran:?}");
    };
    ping(&["--link", "one:db"]);
    let linked = ["run", "--rm", "--name", "xx", "--link", "one:my-db", BUSYBOX, "env"];
    let env = berth.run(&linked).ok();
    let one = address(&berth, "one", "bridge");
    for variable in [
        format!("MY_DB_PORT=tcp://{one}:80"),
        format!("MY_DB_PORT_81_UDP=udp://{one}:81"),
        format!("MY_DB_PORT_80_TCP_ADDR={one}"),
        "MY_DB_PORT_80_TCP_PROTO=tcp".into(),
        "MY_DB_NAME=/xx/my-db".into(),
        "MY_DB_ENV_FOO=bar".into(),
    ] {
        assert!(env.lines().any(|line| line == variable), "{variable}: {env}");
    }
    // The one that is linked to comes back under another address.
    start(&berth, &["--name", "linked", "--link", "one:db"]);
    berth.run(&["stop", "-t", "0", "one"]).ok();
    start(&berth, &["--name", "between"]);
    berth.run(&["start", "one"]).ok();
    let now = address(&berth, "one", "bridge");
    assert_ne!(now, one);
    let hosts = berth.run(&["exec", "linked", "cat", "/etc/hosts"]).ok();
    let line = hosts.lines().find(|l| l.split_whitespace().nth(1) == Some("db"));
    assert!(
        line.is_some_and(|l| l.starts_with(&format!("{now}\t"))),
        "{now}: {hosts}"
    );
    berth.run(&["create", "--name", "idle", BUSYBOX, "true"]).ok();
    for (flags, words) in [
        (
            &["--name", "xx", "--link", "idle:db"][..],
            "Cannot link to a non running container: /idle AS /xx/db",
        ),
        (
            &["--link", "none:db"],
            "could not get container for none: No such container: none",
        ),
        (&["--link", "two:db"], "not attached to default bridge network"),
        (&["--link", "one:a:b"], "bad format for links: one:a:b"),
        (
            &["--network", "host", "--link", "one:a"],
            "host type networking can't be used with links",
        ),
    ] {
        berth
            .run(&[&["run", "--rm"], flags, &[BUSYBOX, "true"]].concat())
            .fails(125, words);
    }
    ping(&["--network", "app", "--link", "two:db"]);
    let other = start(&berth, &["--network", "app"]);
    assert_eq!(dig(&other, "db"), "", "for who asked alone");
}
