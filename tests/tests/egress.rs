//! Egress policies: what containers reach outside, by name and by address, and what is told of the rest.

use std::process::{Child, Stdio};

use berth_tests::names::{Server, address, dig, start, status, within};
use berth_tests::network::{World, inside};
use berth_tests::{BUSYBOX, Berth, eventually};

/// Programs on another host, until the test ends.
struct Others(Vec<Child>);

impl Drop for Others {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Two addresses, three ports each: the last one says what it hears. And a port of the host's own.
fn others(world: &World) -> Others {
    let client = world.client();
    world.on(&client, "ip address add 10.77.0.3/24 dev eth0").ok();
    let serve = |namespace: &str, port: &str, command: &[&str]| {
        let mut program = inside(namespace, "/bin/busybox");
        program.args(["nc", "-ll", "-p", port, "-e"]).args(command);
        program.stdin(Stdio::null()).spawn().expect("start busybox")
    };
    let list = vec![
        serve(&client, "80", &["echo", "hello"]),
        serve(&client, "81", &["echo", "hello"]),
        serve(&client, "7", &["cat"]),
        serve(&world.host(), "80", &["echo", "host"]),
    ];
    for (namespace, ports) in [(&client, vec![80, 81, 7]), (&world.host(), vec![80])] {
        for port in ports {
            let listens = || {
                !world
                    .on(namespace, &format!("ss -Hltn '( sport = {port} )'"))
                    .out
                    .is_empty()
            };
            eventually("it listens", listens);
        }
    }
    Others(list)
}

fn name_server(berth: &Berth, world: &World) -> Server {
    let records = ["--address=/api.example/10.77.0.2", "--address=/other.example/10.77.0.3"];
    Server::start(berth, &world.client(), "10.77.0.2", &records)
}

/// What a container hears from somebody outside; nothing, if it does not get there.
fn ask(berth: &Berth, name: &str, host: &str, port: u16) -> String {
    let script = format!("nc -w 1 {host} {port} < /dev/null 2> /dev/null");
    berth.run(&["exec", name, "sh", "-c", &script]).out
}

fn told(berth: &Berth) -> String {
    let format =
        "{{.Action}} {{.Actor.Attributes.destination}} {{.Actor.Attributes.protocol}} {{.Actor.Attributes.port}}";
    let flags = ["--filter", "event=egress_denied", "--format", format];
    berth
        .run(&[&["events", "--since", "1", "--until", "0s"], &flags[..]].concat())
        .ok()
}

#[test]
fn a_container_reaches_what_its_policy_says_and_nothing_else() {
    let world = World::new();
    let berth = world.berth();
    let (_others, _names) = (others(&world), name_server(&berth, &world));
    berth.run(&["network", "create", "app"]).ok();
    let flags = ["--network", "app", "--name", "held", "--egress", "api.example:80"];
    let pid = start(&berth, &[&flags[..], &["-p", "8080:90"]].concat());
    let serving = ["exec", "-d", "held", "nc", "-ll", "-p", "90", "-e", "echo", "served"];
    berth.run(&serving).ok();
    let near = start(&berth, &["--network", "app", "--name", "near"]);
    berth
        .run(&["exec", "-d", "near", "nc", "-ll", "-p", "90", "-e", "echo", "near"])
        .ok();
    assert_eq!(
        ask(&berth, "held", "10.77.0.2", 80),
        "",
        "an address that no name has led to"
    );
    assert_eq!(ask(&berth, "held", "api.example", 80), "hello");
    assert_eq!(ask(&berth, "held", "10.77.0.2", 81), "", "another port");
    assert_eq!(ask(&berth, "held", "10.77.0.3", 80), "", "another address");
    assert_eq!(status(&pid, "other.example"), "REFUSED");
    assert_eq!(status(&pid, "api.example"), "NOERROR");
    let gateway = berth.inspect("held", "{{(index .NetworkSettings.Networks \"app\").Gateway}}");
    assert_eq!(ask(&berth, "held", &gateway, 80), "", "this host");
    assert_eq!(ask(&berth, "held", "10.77.1.2", 80), "", "this host by its own address");
    let link = "ip -6 -o address show scope link | sed -n 's/.*berth-.*inet6 \\([^/]*\\).*/\\1/p'";
    let router = format!("nc -6 -w 1 {}%eth0 80 < /dev/null", world.on(&world.host(), link).ok());
    assert_eq!(
        within(&near, &router).out,
        "host",
        "who is not held reaches it by its address on the link"
    );
    assert_eq!(within(&pid, &router).out, "", "this host by its address on the link");
    assert_eq!(dig(&pid, "near"), address(&berth, "near", "app"));
    eventually("its neighbour", || ask(&berth, "held", "near", 90) == "near");
    eventually("who asks from outside is answered", || {
        world.ask(&world.client(), "10.77.1.2", 8080) == "served"
    });
    assert_eq!(ask(&berth, "near", "other.example", 80), "hello", "others are not held");
    eventually("all of it is told", || {
        let told = told(&berth);
        told.contains("egress_denied other.example dns") && told.contains("egress_denied 10.77.0.3 tcp 80")
    });
    let path = "{{index .HostConfig.Annotations \"berth.egress\"}}";
    assert_eq!(berth.inspect("held", path), "api.example:80");
}

#[test]
fn policies_change_while_containers_run() {
    let world = World::new();
    let berth = world.berth();
    let (_others, _names) = (others(&world), name_server(&berth, &world));
    // On the default network, where it asks the host's resolvers until then.
    let pid = start(&berth, &["--name", "held"]);
    assert_eq!(ask(&berth, "held", "10.77.0.3", 80), "hello");
    let talk = "while sleep 0.05; do echo x; done | nc 10.77.0.3 7 > /said";
    berth.run(&["exec", "-d", "held", "sh", "-c", talk]).ok();
    let said = || berth.run(&["exec", "held", "wc", "-c", "/said"]).out;
    eventually("it talks", || !said().is_empty() && !said().starts_with("0 "));
    berth.run(&["update", "--egress", "api.example", "held"]).ok();
    eventually("what it had begun is held, too", || {
        let before = said();
        std::thread::sleep(std::time::Duration::from_millis(300));
        before == said()
    });
    assert_eq!(ask(&berth, "held", "10.77.0.3", 80), "");
    assert_eq!(ask(&berth, "held", "api.example", 81), "hello", "all ports of a name");
    assert_eq!(status(&pid, "other.example"), "REFUSED");
    berth.run(&["update", "--egress", "10.77.0.3/32:80-81", "held"]).ok();
    assert_eq!(ask(&berth, "held", "10.77.0.2", 81), "", "what the name before led to");
    assert_eq!(ask(&berth, "held", "10.77.0.3", 81), "hello");
    assert_eq!(status(&pid, "api.example"), "REFUSED");
    berth.run(&["update", "--egress", "none", "held"]).ok();
    assert_eq!(ask(&berth, "held", "10.77.0.3", 81), "");
    berth.run(&["update", "--egress", "", "held"]).ok();
    assert_eq!(ask(&berth, "held", "api.example", 80), "hello");
    // A network's is that of all on it that have none of their own.
    berth.run(&["network", "create", "--egress", "none", "app"]).ok();
    start(&berth, &["--name", "one", "--network", "app"]);
    start(
        &berth,
        &["--name", "two", "--network", "app", "--egress", "api.example:80"],
    );
    assert_eq!(ask(&berth, "one", "10.77.0.3", 80), "");
    assert_eq!(ask(&berth, "two", "api.example", 80), "hello");
    berth.run(&["network", "update", "--egress", "10.77.0.3", "app"]).ok();
    assert_eq!(ask(&berth, "one", "10.77.0.3", 80), "hello");
    assert_eq!(ask(&berth, "two", "10.77.0.3", 80), "");
    let shown = berth.run(&["network", "inspect", "-f", "{{index .Options \"berth.egress\"}}", "app"]);
    assert_eq!(shown.ok(), "10.77.0.3");
    berth.run(&["rm", "-f", "held", "one", "two"]).ok();
    let tables = || world.on(&world.host(), "nft list tables").out;
    eventually("nothing is left of it", || !tables().contains("egress"));
}

#[test]
fn policies_hold_when_the_name_service_or_the_firewall_is_taken_away() {
    let world = World::new();
    let berth = world.berth();
    let (_others, _names) = (others(&world), name_server(&berth, &world));
    berth.run(&["network", "create", "app"]).ok();
    start(
        &berth,
        &["--name", "held", "--network", "app", "--egress", "api.example:80"],
    );
    let service = format!("berth names host --data {}", berth.path("data"));
    let pids = world.on(&world.host(), &format!("pgrep -f '^{service}'")).out;
    let pid = rustix::process::Pid::from_raw(pids.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(ask(&berth, "held", "10.77.0.3", 80), "");
    assert_eq!(ask(&berth, "held", "api.example", 80), "hello");
    world.on(&world.host(), "nft flush ruleset").ok();
    eventually("it is held again", || {
        let tables = world.on(&world.host(), "nft list tables").out;
        tables.contains("-egress") && tables.lines().count() >= 2
    });
    assert_eq!(ask(&berth, "held", "10.77.0.3", 80), "");
    assert_eq!(ask(&berth, "held", "api.example", 80), "hello");
}

#[test]
fn a_policy_that_nobody_could_be_held_to_is_refused() {
    let world = World::new();
    let berth = world.berth();
    berth
        .run(&["network", "create", "-d", "macvlan", "-o", "parent=eth0", "lan"])
        .ok();
    for (flags, words) in [
        (&["--egress", "http://x"][..], "invalid egress target \"http://x\""),
        (&["--egress", "10.0.0.0/33"], "invalid egress target"),
        (
            &["--egress", "none", "--network", "host"],
            "an egress policy and the network mode host",
        ),
        (
            &["--egress", "none", "--network", "lan"],
            "an egress policy on the network lan of the driver macvlan",
        ),
    ] {
        berth
            .run(&[&["run", "--rm"], flags, &[BUSYBOX, "true"]].concat())
            .fails(125, words);
    }
    berth
        .run(&["network", "create", "--egress", "x:0", "bad"])
        .fails(1, "invalid egress target");
    berth
        .run(&["network", "update", "--egress", "none", "lan"])
        .fails(1, "macvlan");
    // Nobody under a policy sends under another's address.
    let raw = |flags: &[&str]| {
        let script = "grep CapEff /proc/self/status";
        let ran = berth
            .run(&[&["run", "--rm"], flags, &[BUSYBOX, "sh", "-c", script]].concat())
            .ok();
        let set = ran.split_whitespace().nth(1).unwrap_or_default().to_owned();
        u64::from_str_radix(&set, 16).unwrap() & (1 << 13) != 0
    };
    assert!(raw(&[]) && !raw(&["--egress", "none"]));
}
