//! Containers on networks: between each other, to outside, from outside.

use berth_tests::network::World;
use berth_tests::{BUSYBOX, Berth, eventually};

/// Answers whoever connects with a word.
fn serve(port: u16, word: &str) -> String {
    format!("nc -ll -p {port} -e echo {word}")
}

/// Starts a container on a network that answers on port 80.
fn server(berth: &Berth, flags: &[&str]) -> String {
    let script = serve(80, "hello");
    let id = berth
        .run(&[&["run", "-d"], flags, &[BUSYBOX, "sh", "-c", &script]].concat())
        .ok();
    eventually("it listens", || {
        berth
            .run(&["exec", &id, "sh", "-c", "netstat -ltn"])
            .out
            .contains(":80 ")
    });
    id
}

fn address(berth: &Berth, name: &str, network: &str) -> String {
    berth.inspect(
        name,
        &format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}"),
    )
}

#[test]
fn the_default_network_leads_out_and_has_dockers_name() {
    let world = World::new();
    let berth = world.berth();
    let out = berth
        .run(&[
            "run",
            "--rm",
            BUSYBOX,
            "sh",
            "-c",
            "ip route; ping -c1 -W2 10.77.0.2; cat /etc/hosts",
        ])
        .ok();
    assert!(out.contains("default via 172.17.0.1 dev eth0"), "{out}");
    assert!(out.contains("1 packets received"), "{out}");
    assert!(out.contains("172.17.0.1\thost.docker.internal"), "{out}");
    let names = berth.run(&["network", "ls", "--format", "{{.Name}} {{.Driver}}"]).ok();
    assert_eq!(names, "bridge bridge\nhost host\nnone null");
}

#[test]
fn published_ports_are_reached_from_everywhere() {
    let world = World::new();
    let berth = world.berth();
    server(&berth, &["--name", "web", "-p", "8080:80", "-p", "127.0.0.1:8081:80"]);
    assert_eq!(berth.run(&["port", "web", "80"]).ok(), "0.0.0.0:8080\n127.0.0.1:8081");
    let (client, host) = (world.client(), world.host());
    assert_eq!(world.ask(&client, "10.77.1.2", 8080), "hello", "from another host");
    assert_eq!(
        world.ask(&host, "10.77.1.2", 8080),
        "hello",
        "from this host by address"
    );
    assert_eq!(
        world.ask(&host, "127.0.0.1", 8080),
        "hello",
        "from this host by loopback"
    );
    assert_eq!(world.ask(&host, "127.0.0.1", 8081), "hello", "published there alone");
    assert_eq!(world.ask(&client, "10.77.1.2", 8081), "", "published on loopback alone");
    let inside = |script: &str| berth.run(&["run", "--rm", BUSYBOX, "sh", "-c", script]).out;
    assert_eq!(
        inside("nc -w 2 10.77.1.2 8080"),
        "hello",
        "from another container by the host's address"
    );
    let own = berth.run(&["exec", "web", "sh", "-c", "nc -w 2 10.77.1.2 8080"]).out;
    assert_eq!(own, "hello", "from itself by the host's address");
    let listed = berth.run(&["ps", "--format", "{{.Ports}}"]).ok();
    assert_eq!(listed, "0.0.0.0:8080->80/tcp, 127.0.0.1:8081->80/tcp");
}

#[test]
fn networks_are_isolated_from_each_other_and_from_outside() {
    let world = World::new();
    let berth = world.berth();
    berth.run(&["network", "create", "one"]).ok();
    berth.run(&["network", "create", "--internal", "closed"]).ok();
    server(&berth, &["--name", "web"]);
    server(&berth, &["--name", "hidden", "--network", "closed"]);
    let (web, hidden) = (address(&berth, "web", "bridge"), address(&berth, "hidden", "closed"));
    let from = |network: &str, to: &str| {
        berth
            .run(&[
                "run",
                "--rm",
                "--network",
                network,
                BUSYBOX,
                "sh",
                "-c",
                &format!("nc -w 2 {to} 80"),
            ])
            .out
    };
    assert_eq!(from("bridge", &web), "hello");
    assert_eq!(from("one", &web), "", "another network");
    assert_eq!(from("closed", &hidden), "hello");
    assert_eq!(from("bridge", &hidden), "");
    let out = berth
        .run(&["exec", "hidden", "sh", "-c", "ip route; ping -c1 -W1 10.77.0.2"])
        .out;
    assert!(!out.contains("default") && !out.contains("1 packets received"), "{out}");
    // A neighbour who knows the address and routes to it.
    world
        .on(&world.router(), &format!("ip route add {web}/32 via 10.77.1.2"))
        .ok();
    assert_eq!(world.ask(&world.client(), &web, 80), "");
}

#[test]
fn a_running_container_comes_to_networks_and_leaves_them() {
    let world = World::new();
    let berth = world.berth();
    berth
        .run(&["network", "create", "--subnet", "10.9.0.0/24", "--label", "k=v", "two"])
        .ok();
    server(&berth, &["--name", "web"]);
    berth
        .run(&["network", "connect", "--ip", "10.9.0.77", "two", "web"])
        .ok();
    assert_eq!(address(&berth, "web", "two"), "10.9.0.77");
    let ask = [
        "run",
        "--rm",
        "--network",
        "two",
        BUSYBOX,
        "sh",
        "-c",
        "nc -w 2 10.9.0.77 80",
    ];
    assert_eq!(berth.run(&ask).out, "hello");
    berth
        .run(&["network", "rm", "two"])
        .fails(1, "network two has active endpoints (name:\"web\"");
    berth.run(&["network", "disconnect", "bridge", "web"]).ok();
    let route = berth.run(&["exec", "web", "ip", "route"]).ok();
    assert!(route.contains("default via 10.9.0.1"), "{route}");
    berth.run(&["network", "disconnect", "two", "web"]).ok();
    assert_eq!(berth.run(&ask).out, "");
    berth
        .run(&["network", "disconnect", "two", "web"])
        .fails(1, "is not connected to network two");
    assert_eq!(
        berth.run(&["network", "ls", "-q", "--filter", "label=k=v"]).ok().len(),
        12
    );
    assert_eq!(berth.run(&["network", "prune", "-f"]).ok(), "Deleted Networks:\ntwo");
}

#[test]
fn with_the_last_network_everything_goes() {
    let world = World::new();
    let berth = world.berth();
    berth.run(&["network", "create", "one"]).ok();
    server(&berth, &["--name", "web", "--network", "one", "-p", "8080:80"]);
    berth.run(&["run", "--rm", BUSYBOX, "true"]).ok();
    assert!(
        world.left().iter().any(|l| l.starts_with("table inet berth")),
        "{:?}",
        world.left()
    );
    berth.run(&["rm", "-f", "web"]).ok();
    berth.run(&["network", "rm", "one"]).ok();
    eventually("nothing is left", || world.left().is_empty());
}

#[test]
fn ipv6_works_on_networks_of_ones_own_at_once() {
    let world = World::new();
    let berth = world.berth();
    berth.run(&["network", "create", "six"]).ok();
    eventually("the host itself reaches the client", || {
        world.on(&world.host(), "ping -6 -c1 -W1 fd77::2").code == 0
    });
    let script = "ip -6 addr show dev eth0 scope global; ping -6 -c1 -W2 fd77::2";
    let out = berth
        .run(&["run", "--rm", "--network", "six", BUSYBOX, "sh", "-c", script])
        .ok();
    assert!(out.contains("inet6 fd") && !out.contains("tentative"), "{out}");
    assert!(out.contains("1 packets received"), "{out}");
    let script = "nc -ll -p 80 -e echo six";
    let id = berth
        .run(&[
            "run",
            "-d",
            "--network",
            "six",
            "-p",
            "8080:80",
            BUSYBOX,
            "sh",
            "-c",
            script,
        ])
        .ok();
    eventually("it listens", || {
        berth.run(&["exec", &id, "netstat", "-ltn"]).out.contains(":80 ")
    });
    assert_eq!(world.ask(&world.client(), "fd77:1::2", 8080), "six");
    assert_eq!(world.ask(&world.host(), "fd77:1::2", 8080), "six");
    assert_eq!(world.ask(&world.host(), "127.0.0.1", 8080), "six");
}

#[test]
fn bad_input_is_refused_and_nothing_is_half_done() {
    let world = World::new();
    let berth = world.berth();
    berth.run(&["network", "create", "--subnet", "10.9.0.0/24", "a"]).ok();
    for (flags, words) in [
        (
            &["--subnet", "10.9.0.128/25", "b"][..],
            "Pool overlaps with other one on this address space",
        ),
        (&["--subnet", "10.77.1.0/25", "b"], "which this host has a route to"),
        (&["--subnet", "10.8.0.1/24", "b"], "it should be 10.8.0.0/24"),
        (
            &["--subnet", "10.8.0.0/24", "--gateway", "10.7.0.1", "b"],
            "no matching subnet for gateway 10.7.0.1",
        ),
        (&["-d", "nonsense", "b"], "plugin \"nonsense\" not found"),
        (
            &["-d", "macvlan", "-o", "parent=none0", "b"],
            "the host has no interface none0",
        ),
        (&["a"], "network with name a already exists"),
        (&["host"], "operation is not permitted on predefined host network"),
        (&["x/y"], "invalid network name"),
    ] {
        berth.run(&[&["network", "create"], flags].concat()).fails(1, words);
    }
    berth
        .run(&["network", "rm", "bridge"])
        .fails(1, "bridge is a pre-defined network and cannot be removed");
    berth
        .run(&["network", "rm", "none-such"])
        .fails(1, "network none-such not found");
    server(
        &berth,
        &["--name", "web", "--network", "a", "--ip", "10.9.0.9", "-p", "8080:80"],
    );
    for (flags, words) in [
        (&["--network", "none-such"][..], "network none-such not found"),
        (
            &["--network", "a", "--ip", "10.8.0.9"],
            "no configured subnet contains IP address 10.8.0.9",
        ),
        (
            &["--network", "a", "--ip", "10.9.0.9"],
            "Address already in use\nhint: 10.9.0.9 is that of container web",
        ),
        (
            &["--ip", "172.17.0.9"],
            "user specified IP address is supported on user defined networks only",
        ),
        (
            &["-p", "8080:80"],
            "port is already allocated\nhint: port 8080/tcp is published by container web",
        ),
        (
            &["-p", "1-2:80-82"],
            "invalid ranges specified for container and host Ports: 80-82 and 1-2",
        ),
        (&["-p", "10.1.2.3:80:80"], "10.1.2.3 is no address of this host"),
    ] {
        let ran = berth.run(&[&["run", "--rm"], flags, &[BUSYBOX, "true"]].concat());
        assert_eq!(ran.code, 125, "{flags:?}: {ran:?}");
        ran.fails(125, words);
    }
    let listener = world
        .on(&world.host(), "nc -l 9999 < /dev/null > /dev/null 2>&1 & echo $!")
        .ok();
    eventually("it listens", || {
        world.on(&world.host(), "ss -ltn").out.contains(":9999")
    });
    let error = berth
        .run(&["run", "--rm", "-p", "9999:80", BUSYBOX, "true"])
        .fails(125, "address already in use");
    assert!(error.contains(&format!("nc (process {listener})")), "{error}");
    world.on(&world.host(), &format!("kill {listener}")).ok();
    assert_eq!(berth.run(&["ps", "-aq"]).ok().lines().count(), 1);
}

#[test]
fn what_a_killed_monitor_had_is_free_again() {
    let world = World::new();
    let berth = world.berth();
    berth.run(&["network", "create", "--subnet", "10.9.0.0/24", "a"]).ok();
    let flags = ["--network", "a", "--ip", "10.9.0.9", "-p", "8080:80"];
    server(&berth, &[&["--name", "first"], &flags[..]].concat());
    let pid = rustix::process::Pid::from_raw(berth.monitor("first")).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("it is at rest", || {
        berth.inspect("first", "{{.State.Status}}") == "exited"
    });
    server(&berth, &[&["--name", "second"], &flags[..]].concat());
    assert_eq!(world.ask(&world.client(), "10.77.1.2", 8080), "hello");
}

#[test]
fn a_restarted_container_keeps_its_address_and_its_ports() {
    let world = World::new();
    let berth = world.berth();
    let script = "echo up; nc -l -p 80 -e echo hello";
    berth
        .run(&[
            "run",
            "-d",
            "--name",
            "web",
            "--restart",
            "always",
            "-p",
            "8080:80",
            BUSYBOX,
            "sh",
            "-c",
            script,
        ])
        .ok();
    let first = address(&berth, "web", "bridge");
    for _ in 0..3 {
        eventually("it answers", || {
            world.ask(&world.client(), "10.77.1.2", 8080) == "hello"
        });
    }
    eventually("it has its address", || address(&berth, "web", "bridge") == first);
    berth.run(&["stop", "-t", "0", "web"]).ok();
    assert_eq!(address(&berth, "web", "bridge"), "");
    berth.run(&["start", "web"]).ok();
    eventually("it answers", || {
        world.ask(&world.client(), "10.77.1.2", 8080) == "hello"
    });
}

#[test]
fn the_documented_firewall_is_one_that_nft_reads_and_the_kernel_has() {
    let world = World::new();
    let berth = world.berth();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/firewall.nft");
    let chains = |table: &str| {
        let list = world.on(&world.host(), &format!("nft list table inet {table}")).ok();
        list.split("\tchain ").skip(1).collect::<Vec<_>>().join("")
    };
    world.on(&world.host(), &format!("nft -f {golden}")).ok();
    berth.run(&["run", "--rm", BUSYBOX, "true"]).ok();
    let tables = world.on(&world.host(), "nft list tables").ok();
    let own = tables
        .lines()
        .find_map(|l| l.strip_prefix("table inet berth-"))
        .unwrap();
    assert_eq!(chains(&format!("berth-{own}")), chains("berth"));
    world.on(&world.host(), "nft delete table inet berth").ok();
}

#[test]
fn ten_thousand_published_ports_are_elements_and_no_rules() {
    let world = World::new();
    let berth = world.berth();
    berth.run(&["run", "--rm", BUSYBOX, "true"]).ok();
    let count = |words: &str| {
        world
            .on(&world.host(), &format!("nft list ruleset | grep -c '{words}'"))
            .out
    };
    let before = count("@");
    let script = "ulimit -S -n 1024; exec \"$0\" \"$@\"";
    let mut command = berth_tests::network::inside(&world.host(), "sh");
    command.args(["-c", script]).arg(berth_tests::program());
    command.args(["run", "-d", "--name", "many", "-p", "20000-29999:10000-19999", BUSYBOX]);
    command.args(["nc", "-ll", "-p", "19999", "-e", "echo", "last"]);
    command
        .env("BERTH_DATA", berth.path("data"))
        .env("BERTH_RUN", berth.path("run"));
    assert!(command.status().unwrap().success());
    assert_eq!(count("@"), before, "no rule more");
    eventually("the last one answers", || {
        world.ask(&world.client(), "10.77.1.2", 29_999) == "last"
    });
    assert_eq!(berth.run(&["port", "many", "10000"]).ok(), "0.0.0.0:20000");
    berth.run(&["rm", "-f", "many"]).ok();
    eventually("all are gone", || count("tcp . 2") == "0");
}
