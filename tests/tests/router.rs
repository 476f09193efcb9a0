//! The virtual router: shared networks, published ports, other firewalls beside ours, interfaces of the host's.

use berth_tests::network::World;
use berth_tests::{BUSYBOX, Berth, eventually};

/// Starts a container that stays.
fn start(berth: &Berth, flags: &[&str]) -> String {
    berth
        .run(&[&["run", "-d"], flags, &[BUSYBOX, "sleep", "1000"]].concat())
        .ok()
}

#[test]
fn networks_come_and_go_in_any_order() {
    let world = World::new();
    let berth = world.berth();
    berth
        .run(&["network", "create", "--subnet", "10.9.0.0/24", "one two"])
        .ok();
    berth.run(&["network", "create", "other"]).ok();
    start(&berth, &["--name", "web"]);
    let interfaces = || {
        let script = "ls /sys/class/net | grep -v -e lo | tr '\\n' ' '";
        berth.run(&["exec", "web", "sh", "-c", script]).ok()
    };
    // The numbers of interfaces that went do not come again, and names that are free do.
    for _ in 0..3 {
        berth.run(&["network", "connect", "one two", "web"]).ok();
        berth.run(&["network", "connect", "other", "web"]).ok();
        assert_eq!(interfaces(), "eth0 eth1 eth2");
        berth.run(&["network", "disconnect", "one two", "web"]).ok();
        assert_eq!(interfaces(), "eth0 eth2");
        berth.run(&["network", "disconnect", "other", "web"]).ok();
    }
    berth.run(&["network", "disconnect", "bridge", "web"]).ok();
    let flags = [
        "--ip",
        "10.9.0.24",
        "--link-local-ip",
        "169.254.8.8",
        "--driver-opt",
        "org.example.note=kept",
        "--driver-opt",
        "com.docker.network.endpoint.ifname=front",
        "--driver-opt",
        "com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1",
    ];
    berth
        .run(&[&["network", "connect"], &flags[..], &["one two", "web"]].concat())
        .ok();
    let out = berth
        .run(&["exec", "web", "ip", "-4", "addr", "show", "dev", "front"])
        .ok();
    assert!(out.contains("10.9.0.24/24") && out.contains("169.254.8.8/16"), "{out}");
    let martians = "/proc/sys/net/ipv4/conf/front/log_martians";
    assert_eq!(berth.run(&["exec", "web", "cat", martians]).ok(), "1");
    for option in ["ifname=a/b", "sysctls=net.ipv4.conf.eth0.forwarding=1", "nonsense=1"] {
        let option = format!("name=other,driver-opt=com.docker.network.endpoint.{option}");
        let ran = berth.run(&["run", "--rm", "--network", &option, BUSYBOX, "true"]);
        assert_eq!(ran.code, 125, "{ran:?}");
    }
}

#[test]
fn containers_share_the_network_of_another() {
    let world = World::new();
    let berth = world.berth();
    let id = start(&berth, &["--name", "web", "-p", "8080:80", "--hostname", "front"]);
    let mode = format!("container:{id}");
    // A user of its own may use low ports, ping, and, asked for it, change the network that is shared.
    let script = "hostname; ip -4 -o addr show dev eth0 | wc -l; ping -c1 -W2 10.77.0.2 | grep -c '1 packets received';
        ip address add 10.1.2.3/32 dev lo && echo changed; nc -l -p 80 -e echo shared";
    let flags = [
        "run",
        "-d",
        "--name",
        "side",
        "--network",
        "container:web",
        "--cap-add",
        "NET_ADMIN",
    ];
    berth.run(&[&flags[..], &[BUSYBOX, "sh", "-c", script]].concat()).ok();
    assert_eq!(berth.inspect("side", "{{.HostConfig.NetworkMode}}"), mode);
    eventually("it answers where the other one's port is published", || {
        world.ask(&world.client(), "10.77.1.2", 8080) == "shared"
    });
    let log = berth.run(&["logs", "side"]).ok();
    assert_eq!(log, "front\n1\n1\nchanged");
    // The other one's users are its own, too.
    let ids = |name: &str| {
        let pid = berth.inspect(name, "{{.State.Pid}}");
        std::fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap_or_default()
    };
    start(&berth, &["--name", "stays", "--network", &mode]);
    assert_eq!(ids("stays"), ids("web"));
    let user = ["run", "--rm", "--network", "container:web", "-u", "1000", BUSYBOX];
    let allowed = [
        "/proc/sys/net/ipv4/ip_unprivileged_port_start",
        "/proc/sys/net/ipv4/ping_group_range",
    ];
    let out = berth.run(&[&user[..], &["cat"], &allowed[..]].concat()).ok();
    assert!(out.starts_with("0\n0\t") && out.len() > 5, "as docker allows: {out}");
    // Its host ids are nobody else's as long as somebody has them.
    berth.run(&["rm", "-f", "web", "side"]).ok();
    start(&berth, &["--name", "new"]);
    assert_ne!(ids("stays"), ids("new"));
    berth
        .run(&["restart", "-t", "0", "stays"])
        .fails(1, "No such container");
    for (flags, words) in [
        (&["-h", "x"][..], "conflicting options: hostname and the network mode"),
        (&["--dns", "1.1.1.1"], "conflicting options: dns and the network mode"),
        (&["-p", "80:80"], "port publishing and the container type network mode"),
        (&["--expose", "80"], "port exposing and the container type network mode"),
        (
            &["--add-host", "a:1.2.3.4"],
            "custom host-to-IP mapping and the network mode",
        ),
        (&["--link", "new"], "container type network can't be used with links"),
    ] {
        let run = ["run", "--rm", "--network", "container:new"];
        berth
            .run(&[&run[..], flags, &[BUSYBOX, "true"]].concat())
            .fails(125, words);
    }
    let run = |mode: &str| berth.run(&["run", "--rm", "--network", mode, BUSYBOX, "true"]);
    run("container:").fails(125, "invalid container format container:<name|id>");
    run("container:nobody").fails(125, "joining network namespace of container: No such container: nobody");
    berth.run(&["stop", "-t", "0", "new"]).ok();
    run("container:new").fails(125, "cannot join network of a non running container");
    assert_eq!(berth.run(&["ps", "-aq"]).ok().lines().count(), 2);
}

/// Answers on port 80 with a word.
fn serve(berth: &Berth, flags: &[&str], word: &str) {
    let script = format!("nc -ll -p 80 -e echo {word}");
    let id = berth
        .run(&[&["run", "-d"], flags, &[BUSYBOX, "sh", "-c", &script]].concat())
        .ok();
    eventually("it listens", || {
        berth.run(&["exec", &id, "netstat", "-ltn"]).out.contains(":80 ")
    });
}

#[test]
fn other_firewalls_beside_ours_are_got_along_with() {
    let world = World::new();
    let berth = world.berth();
    let host = |script: &str| world.on(&world.host(), script).ok();
    // As Docker has them.
    let dockers = "for t in iptables-nft ip6tables-nft; do
            $t -P FORWARD DROP; $t -N DOCKER-USER; $t -A FORWARD -j DOCKER-USER; $t -A DOCKER-USER -j RETURN
        done";
    host(dockers);
    serve(&berth, &["--name", "web", "-p", "8080:80"], "hello");
    let ask = || world.ask(&world.client(), "10.77.1.2", 8080);
    assert_eq!(ask(), "hello");
    let ping = ["exec", "web", "ping", "-c1", "-W2", "10.77.0.2"];
    berth.run(&ping).ok();
    // What the other one refuses in so many words stays refused.
    host("iptables-nft -I DOCKER-USER -s 10.77.0.2 -p tcp -j DROP");
    assert_eq!(ask(), "");
    host("iptables-nft -D DOCKER-USER 1");
    assert_eq!(ask(), "hello");
    let own = || host("nft list ruleset").matches("berth").count();
    let before = own();
    host("nft flush ruleset");
    eventually("the firewall is back", || ask() == "hello");
    host(dockers);
    eventually("a way through who came later is there", || {
        ask() == "hello" && own() == before
    });
    berth.run(&["rm", "-f", "web"]).ok();
    // The default network went with its last container.
    berth.run(&["network", "prune", "-f"]).ok();
    eventually("nothing of ours is left in others' tables", || own() == 0);
    let left = host("iptables-nft -S FORWARD");
    assert_eq!(left, "-P FORWARD DROP\n-A FORWARD -j DOCKER-USER");
}

#[test]
fn a_host_that_was_no_router_becomes_one_for_containers_alone() {
    let world = World::new();
    let berth = world.berth();
    let (host, client, router) = (world.host(), world.client(), world.router());
    let on = |namespace: &str, script: &str| world.on(namespace, script);
    // A second way to the client, through the host.
    on(&host, &format!("ip link add back type veth peer name back netns {client} && ip link set back up && ip addr add 10.99.0.1/24 dev back")).ok();
    on(&client, "ip link set back up && ip addr add 10.99.0.2/24 dev back").ok();
    on(&router, "ip route add 10.99.0.0/24 via 10.77.1.2").ok();
    let through = || on(&router, "ping -c1 -W1 10.99.0.2").code == 0;
    let forwarding = "/proc/sys/net/ipv4/ip_forward";
    on(&host, &format!("echo 1 > {forwarding}")).ok();
    assert!(through(), "the test's own way works");
    on(
        &host,
        &format!("echo 0 > {forwarding}; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding"),
    )
    .ok();
    serve(&berth, &["--name", "web", "-p", "8080:80"], "hello");
    assert_eq!(world.ask(&client, "10.77.1.2", 8080), "hello");
    assert_eq!(world.ask(&client, "10.99.0.1", 8080), "hello", "by the other interface");
    assert!(!through(), "the host passes nothing on for others");
    berth.run(&["rm", "-f", "web"]).ok();
    berth.run(&["network", "prune", "-f"]).ok();
    eventually("it is no router any more", || {
        on(&host, &format!("cat {forwarding}")).out == "0" && world.left() == ["back"]
    });
    // One that is a router already stays one.
    on(&host, &format!("echo 1 > {forwarding}")).ok();
    serve(&berth, &["--name", "web"], "hello");
    assert!(through());
    berth.run(&["rm", "-f", "web"]).ok();
    berth.run(&["network", "prune", "-f"]).ok();
    assert_eq!(on(&host, &format!("cat {forwarding}")).out, "1");
}

#[test]
fn a_port_that_the_host_refuses_is_refused_although_it_is_published() {
    let world = World::new();
    let berth = world.berth();
    let host = |script: &str| world.on(&world.host(), script).ok();
    // One firewall as iptables makes it, one of nftables with its own sets and maps.
    host(
        "iptables-nft -A INPUT -i lo -j ACCEPT; iptables-nft -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
        iptables-nft -N in; iptables-nft -A INPUT -p tcp -j in
        iptables-nft -A in -p tcp -m multiport --dports 8080,8081 -m comment --comment x -j ACCEPT
        iptables-nft -A in -j LOG; iptables-nft -P INPUT DROP
        nft -f - << 'END'
table inet mine {
    set bad { type ipv4_addr; flags interval; elements = { 10.77.0.0/25 } }
    chain guard { tcp dport { 8081, 8083 } ip saddr @bad counter reject; }
    chain input {
        type filter hook input priority 10; policy accept;
        ct state vmap { established : accept, new : jump guard }
    }
}
END",
    );
    let publish = ["-p", "8080:80", "-p", "8081:80", "-p", "8082:80"];
    serve(&berth, &[&["--name", "web"], &publish[..]].concat(), "hello");
    let ask = |port: u16| world.ask(&world.client(), "10.77.1.2", port);
    assert_eq!(ask(8080), "hello", "both firewalls let it through");
    assert_eq!(ask(8081), "", "the second one refuses it");
    assert_eq!(ask(8082), "", "the first one has nothing for it");
    assert_eq!(
        world.ask(&world.host(), "127.0.0.1", 8082),
        "hello",
        "from the host itself"
    );
    // Rules that change, change what is refused.
    host("nft delete element inet mine bad { 10.77.0.0/25 }");
    eventually("it is let through", || ask(8081) == "hello");
    host("iptables-nft -I in -p tcp --dport 8080 -j REJECT");
    eventually("it is refused", || ask(8080).is_empty());
    // Those that come later are asked about as well, and who wants Docker's way gets it.
    serve(&berth, &["--name", "late", "-p", "8083:80"], "late");
    assert_eq!(ask(8083), "");
    let option = "berth.network.host_firewall=bypass";
    berth.run(&["network", "create", "-o", option, "dockers"]).ok();
    serve(
        &berth,
        &["--name", "open", "--network", "dockers", "-p", "8084:80"],
        "open",
    );
    assert_eq!(ask(8084), "open");
    assert_eq!(ask(8083), "");
    host("iptables-nft -P INPUT ACCEPT");
    eventually("there is no refusal left", || ask(8083) == "late");
    berth.run(&["rm", "-f", "web", "late", "open"]).ok();
    berth.run(&["network", "rm", "dockers"]).ok();
    eventually("nothing is left of ours", || {
        !host("nft list ruleset").contains("berth")
    });
}

#[test]
fn every_form_of_publishing_leads_in_with_the_clients_address() {
    let world = World::new();
    let berth = world.berth();
    let (client, host) = (world.client(), world.host());
    // Whether packets that a bridge passes on come through the firewall, too.
    let through = |on: bool| {
        let script = "for f in iptables ip6tables; do echo ON > /proc/sys/net/bridge/bridge-nf-call-$f; done";
        world.on(&host, &script.replace("ON", if on { "1" } else { "0" })).ok();
    };
    through(false);
    eventually("the host itself reaches the client", || {
        world.on(&host, "ping -6 -c1 -W1 fd77::2").code == 0
    });
    berth.run(&["network", "create", "six"]).ok();
    let flags = [
        "--network",
        "six",
        "--expose",
        "83",
        "-P",
        "-p",
        "80",
        "-p",
        "127.0.0.1:8086:80",
        "-p",
        "8000-8002:80-82",
        "-p",
        "8053:53/udp",
        "-p",
        "8132:80/sctp",
    ];
    let script = "nc -ll -p 81 -e echo two & nc -ll -p 83 -e echo three & nc -ll -p 80 -e netstat -tn";
    let run = [
        &["run", "-d", "--name", "web"],
        &flags[..],
        &[BUSYBOX, "sh", "-c", script],
    ]
    .concat();
    berth.run(&run).ok();
    eventually("all listen", || {
        let list = berth.run(&["exec", "web", "netstat", "-ltun"]).out;
        [":80 ", ":81 ", ":83 "].iter().all(|port| list.contains(port))
    });
    let published = |port: &str| -> Vec<u16> {
        let list = berth.run(&["port", "web", port]).ok();
        list.lines()
            .filter_map(|l| l.rsplit(':').next()?.parse().ok())
            .collect()
    };
    let ephemeral = published("80").into_iter().find(|p| *p >= 32_768).unwrap();
    assert!(
        world.ask(&client, "10.77.1.2", ephemeral).contains(":80 "),
        "any free port"
    );
    let any = published("83").into_iter().find(|p| *p >= 32_768).unwrap();
    assert_eq!(world.ask(&client, "10.77.1.2", any), "three", "all that are exposed");
    assert_eq!(world.ask(&client, "10.77.1.2", 8001), "two", "a range");
    // Each client is seen by its own address.
    for (address, client_address) in [("10.77.1.2", "10.77.0.2:"), ("fd77:1::2", "fd77::2:")] {
        let seen = world.ask(&client, address, 8000);
        assert!(seen.contains(client_address), "{address}: {seen}");
    }
    assert!(
        world.ask(&host, "127.0.0.1", 8086).contains(":80 "),
        "published at 127.0.0.1"
    );
    let own = |address: &str| {
        let script = format!("nc -w 2 {address} 8001");
        berth.run(&["exec", "web", "sh", "-c", &script]).out
    };
    for on in [false, true] {
        through(on);
        assert_eq!(own("10.77.1.2"), "two", "from itself: {on}");
        assert_eq!(own("fd77:1::2"), "two", "from itself over IPv6: {on}");
    }
    let refused = berth.run(&[
        "run",
        "--rm",
        "--network",
        "six",
        "-p",
        "[::1]:8087:80",
        BUSYBOX,
        "true",
    ]);
    refused.fails(125, "to publish a port at ::1: not supported yet");
    let namespace = format!("--net=/proc/{}/ns/net", berth.inspect("web", "{{.State.Pid}}"));
    let mut server = std::process::Command::new("nsenter");
    server
        .args([&namespace, "nc", "-u", "-l", "53"])
        .stdin(std::process::Stdio::piped());
    let mut server = server.stdout(std::process::Stdio::null()).spawn().unwrap();
    std::io::Write::write_all(server.stdin.as_mut().unwrap(), b"udp\n").unwrap();
    eventually("it is asked over UDP", || {
        world.on(&client, "echo x | nc -u -w 1 10.77.1.2 8053").out == "udp"
    });
    server.kill().and_then(|()| server.wait()).unwrap();
    let maps = world.on(&host, "nft list ruleset").ok();
    assert!(maps.contains("sctp . 8132"), "{maps}");
    // The next one of a range that is free.
    let free = [
        "run",
        "-d",
        "--name",
        "next",
        "-p",
        "8000-8009:80",
        BUSYBOX,
        "sleep",
        "1000",
    ];
    berth.run(&free).ok();
    assert_eq!(berth.run(&["port", "next", "80"]).ok(), "0.0.0.0:8003");
    let error = berth.run(&["run", "--rm", "-p", "8000-8001:80", BUSYBOX, "true"]);
    error.fails(125, "port is already allocated");
}

#[test]
fn interfaces_of_the_hosts_are_shared_or_the_missing_module_is_named() {
    let world = World::new();
    let berth = world.berth();
    world.on(&world.host(), "ip addr flush dev eth0 scope global").ok();
    for (driver, option) in [("macvlan", "macvlan_mode=bridge"), ("ipvlan", "ipvlan_mode=l2")] {
        let flags = [
            "--subnet",
            "10.77.1.0/24",
            "--gateway",
            "10.77.1.1",
            "--ip-range",
            "10.77.1.64/28",
            "-o",
            "parent=eth0",
            "-o",
            option,
        ];
        berth
            .run(&[&["network", "create", "-d", driver], &flags[..], &[driver]].concat())
            .ok();
        let run = [
            "run",
            "--rm",
            "--network",
            driver,
            BUSYBOX,
            "ping",
            "-c1",
            "-W2",
            "10.77.0.2",
        ];
        let ran = berth.run(&run);
        match ran.code {
            0 => assert!(ran.out.contains("1 packets received"), "{ran:?}"),
            _ => {
                _ = ran.fails(
                    125,
                    &format!("hint: this kernel has no {driver}: its module is called {driver}"),
                )
            }
        }
        berth.run(&["network", "rm", driver]).ok();
    }
}

#[test]
fn addresses_run_out_come_back_and_leave_the_hosts_routes_alone() {
    let world = World::new();
    let berth = world.berth();
    world.on(&world.host(), "ip route add 172.17.0.0/16 via 10.77.1.1").ok();
    start(&berth, &["--name", "web"]);
    let address = "{{(index .NetworkSettings.Networks \"bridge\").IPAddress}}";
    assert_eq!(
        berth.inspect("web", address),
        "172.18.0.2",
        "the first pool is on the host's way"
    );
    let small = [
        "network",
        "create",
        "--subnet",
        "10.9.0.0/29",
        "--aux-address",
        "x=10.9.0.2",
        "small",
    ];
    berth.run(&small).ok();
    let given: Vec<String> = (0..4)
        .map(|n| {
            let name = format!("c{n}");
            start(&berth, &["--name", &name, "--network", "small"]);
            berth.inspect(&name, "{{(index .NetworkSettings.Networks \"small\").IPAddress}}")
        })
        .collect();
    assert_eq!(given, ["10.9.0.3", "10.9.0.4", "10.9.0.5", "10.9.0.6"]);
    let more = || {
        berth.run(&[
            "run",
            "--rm",
            "--network",
            "small",
            BUSYBOX,
            "ip",
            "-4",
            "addr",
            "show",
            "dev",
            "eth0",
        ])
    };
    more().fails(
        125,
        "no available IPv4 addresses on this network's address pools: small",
    );
    // One that is killed gives nothing back, and its address is free all the same.
    let pid = rustix::process::Pid::from_raw(berth.monitor("c1")).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert!(more().ok().contains("10.9.0.4/29"));
}

#[test]
fn whoever_is_killed_leaves_no_network_behind() {
    let world = World::new();
    let berth = world.berth();
    berth.run(&["network", "create", "app"]).ok();
    for n in 0..3 {
        let (name, port) = (format!("c{n}"), format!("{}:80", 8080 + n));
        serve(&berth, &["--name", &name, "--network", "app", "-p", &port], "hello");
    }
    let dir = berth.path("");
    let ours = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let of_the_engine = |path: &std::path::Path| {
            let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
            line.starts_with(b"berth\0") && String::from_utf8_lossy(&line).contains(&dir)
        };
        let numbers = processes.filter(|p| of_the_engine(&p.path())).map(|p| p.file_name());
        numbers.filter_map(|n| n.to_str()?.parse().ok()).collect::<Vec<i32>>()
    };
    // The firewall's keeper and the name service among them.
    assert!(ours().len() >= 5, "{:?}", ours());
    for pid in ours() {
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    eventually("all are at rest", || {
        berth.run(&["ps", "-q"]).out.is_empty() && berth.run(&["ps", "-aq"]).out.lines().count() == 3
    });
    serve(&berth, &["--name", "next", "--network", "app", "-p", "8080:80"], "next");
    assert_eq!(world.ask(&world.client(), "10.77.1.2", 8080), "next");
    let maps = world.on(&world.host(), "nft list ruleset").ok();
    assert!(!maps.contains("8081") && !maps.contains("8082"), "{maps}");
    let veths = || world.left().iter().filter(|l| l.starts_with("veth")).count();
    eventually("the interfaces of the dead are gone", || veths() == 1);
    world.on(&world.host(), "nft flush ruleset").ok();
    eventually("there is a keeper again", || {
        world.ask(&world.client(), "10.77.1.2", 8080) == "next"
    });
    berth.run(&["rm", "-f", "next"]).ok();
    berth.run(&["network", "rm", "app"]).ok();
    eventually("nothing is left", || world.left().is_empty());
}
