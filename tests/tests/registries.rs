//! Registries that are slow, that lie, that want something first; and what is kept of a pull that broke off.

use berth_tests::registry::{Answer, Fake, MANIFEST, Registry, Spoilt, digest};
use berth_tests::{BUSYBOX, Berth, Tar, busybox, eventually};
use std::process::Command;
use std::time::{Duration, Instant};

/// A layer of so many bytes that nothing compresses.
fn large(bytes: usize) -> Vec<u8> {
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as u8
    })
    .take(bytes)
    .collect();
    let mut tar = Tar::default();
    tar.file("noise", 0o644, &noise);
    tar.finish()
}

fn nothing_of_it(berth: &Berth, why: &str) {
    assert_eq!(berth.run(&["images", "-aq"]).ok(), "", "{why}");
    let layers = std::fs::read_dir(berth.path("data/layers")).unwrap().flatten();
    assert_eq!(layers.filter(|e| e.file_name().len() == 64).count(), 0, "{why}");
}

#[test]
fn a_pull_that_was_killed_goes_on_where_it_was() {
    let tar = large(40 << 20);
    let (berth, spoilt) = (Berth::empty(), Spoilt::of(tar.clone(), &tar));
    let name = format!("{}/box:1", spoilt.fake.address);
    let part = berth.path(&format!(
        "data/spool/parts/{}",
        spoilt.layer.trim_start_matches("sha256:")
    ));
    let size = || std::fs::metadata(&part).map_or(0, |m| m.len());
    // The registry stops in the middle, and our program is killed while it waits.
    spoilt
        .fake
        .answer(&spoilt.blob(), Answer::ok("x", tar.clone()).cut(20 << 20, 1000));
    let mut child = berth.spawn(&["pull", &name]);
    eventually("half of it has come", || size() >= 20 << 20);
    child.kill().unwrap();
    child.wait().unwrap();
    nothing_of_it(&berth, "killed");
    assert!(size() >= 20 << 20, "what has come is kept");
    let kept = size();
    spoilt.fake.answer(&spoilt.blob(), Answer::ok("x", tar.clone()));
    spoilt.fake.requests.lock().unwrap().clear();
    spoilt.pull(&berth).ok();
    let ranges: Vec<String> = spoilt
        .fake
        .requests
        .lock()
        .unwrap()
        .iter()
        .filter(|r| r.contains(&spoilt.layer))
        .cloned()
        .collect();
    assert_eq!(ranges.len(), 1, "{ranges:?}");
    assert!(
        ranges[0].to_lowercase().contains(&format!("range: bytes={kept}-")),
        "{ranges:?}"
    );
    assert_eq!(size(), 0, "and goes when the layer is there");
    // What was kept is not the beginning of the layer (a power cut): all of it comes again.
    berth.run(&["rmi", &name]).ok();
    std::fs::write(&part, vec![0; 9 << 20]).unwrap();
    spoilt.pull(&berth).ok();
    assert_eq!(berth.run(&["system", "check"]).ok(), "Everything is as it came.");
}

#[test]
fn registries_that_lie_or_dawdle_are_left() {
    let spoilt = Spoilt::new();
    let slow = |answer: Answer| answer.drip(Duration::from_millis(50));
    let here = |path: &str| format!("http://{}/v2/{path}", spoilt.fake.address);
    let around = here("box/around");
    spoilt
        .fake
        .answer("box/around", Answer::status(307).header("Location", &around));
    spoilt.fake.answer(
        "box/metadata",
        Answer::status(307).header("Location", "file:///etc/passwd"),
    );
    let blob = spoilt.blob();
    let cases: Vec<(&str, &str, Answer, &str)> = vec![
        (
            "drips",
            &blob,
            slow(Answer::ok("x", spoilt.layer_bytes.clone())),
            "too slow",
        ),
        (
            "drips a manifest",
            "box/manifests/1",
            slow(Answer::ok(MANIFEST, spoilt.manifest())),
            "imeout",
        ),
        (
            "around in circles",
            &blob,
            Answer::status(307).header("Location", &around),
            "around in circles",
        ),
        (
            "to a file",
            &blob,
            Answer::status(307).header("Location", &here("box/metadata")),
            "get a blob",
        ),
        ("nowhere", &blob, Answer::status(307), "but not where"),
        (
            "a wrong length",
            &blob,
            Answer::ok("x", [spoilt.layer_bytes.clone(), vec![0; 512]].concat()),
            "longer than it should be",
        ),
        (
            "never again",
            "box/manifests/1",
            Answer::status(429).header("Retry-After", "3600"),
            "toomanyrequests",
        ),
        (
            "deep",
            "box/manifests/1",
            Answer::ok(MANIFEST, "[".repeat(3 << 20)),
            "read the manifest",
        ),
        (
            "a token from nowhere",
            "box/manifests/1",
            Answer::status(401).header("WWW-Authenticate", "Bearer realm=\"gopher://x\""),
            "plain HTTP",
        ),
    ];
    for (name, path, answer, words) in cases {
        let berth = Berth::empty();
        spoilt.good();
        spoilt.fake.answer(path, answer);
        let begun = Instant::now();
        let output = berth
            .command(&["pull", &format!("{}/box:1", spoilt.fake.address)])
            .env("BERTH_REGISTRY_TIMEOUT", "1")
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{name}: {err}");
        assert!(err.contains(words), "{name}: {err}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{name} takes for ever");
        nothing_of_it(&berth, name);
    }
}

#[test]
fn a_registry_that_asks_for_a_moment_gets_it() {
    let (berth, spoilt) = (Berth::empty(), Spoilt::new());
    let busy = Answer::status(429).header("Retry-After", "1");
    spoilt.fake.answer(
        "box/manifests/1",
        Answer::ok(MANIFEST, spoilt.manifest()).after(2, busy),
    );
    spoilt.fake.answer(
        &spoilt.blob(),
        Answer::ok("x", spoilt.layer_bytes.clone()).after(1, Answer::status(503)),
    );
    spoilt.pull(&berth).ok();
}

#[test]
fn layers_that_are_none_of_ours_are_named_before_anything_is_fetched() {
    let spoilt = Spoilt::new();
    let manifest = |kind: &str| {
        spoilt
            .manifest()
            .replace("application/vnd.oci.image.layer.v1.tar", kind)
    };
    for (kind, words) in [
        (
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "is foreign",
        ),
        (
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            "is foreign",
        ),
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", "is encrypted"),
        ("application/vnd.wasm.content.layer.v1+wasm", "is of the type"),
    ] {
        let berth = Berth::empty();
        spoilt
            .fake
            .answer("box/manifests/1", Answer::ok(MANIFEST, manifest(kind)));
        spoilt.fake.requests.lock().unwrap().clear();
        spoilt.pull(&berth).fails(1, words);
        assert_eq!(spoilt.fake.requests.lock().unwrap().len(), 1, "{kind}");
    }
}

#[test]
fn decompression_bombs_end_at_the_limit() {
    let mut tar = Tar::default();
    tar.file("zeros", 0o644, &vec![0; 64 << 20]);
    let tar = tar.finish();
    for program in ["gzip", "zstd"] {
        let berth = Berth::empty();
        let file = berth.path("bomb");
        std::fs::write(&file, &tar).unwrap();
        let packed = Command::new(program).args(["-c", "-1", &file]).output().unwrap().stdout;
        assert!(packed.len() < 1 << 20, "{program}");
        let spoilt = Spoilt::of(packed, &tar);
        let name = format!("{}/box:1", spoilt.fake.address);
        let output = berth
            .command(&["pull", &name])
            .env("BERTH_LAYER_LIMIT", "16m")
            .output()
            .unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            err.contains("unpacks to more than 16 MiB") && err.contains("hint: "),
            "{err}"
        );
        nothing_of_it(&berth, program);
        spoilt.pull(&berth).ok();
    }
}

#[test]
fn mirrors_come_first_and_the_registry_after_them() {
    let (spoilt, mirror) = (Spoilt::new(), Fake::start());
    let name = format!("{}/box:1", spoilt.fake.address);
    let pull = |berth: &Berth, mirrors: &str| {
        let output = berth
            .command(&["pull", &name])
            .env("BERTH_REGISTRY_MIRRORS", mirrors)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let mirrors = format!("{}={}/cache", spoilt.fake.address, mirror.address);
    // The mirror has nothing of it.
    let berth = Berth::empty();
    pull(&berth, &mirrors);
    let asked: Vec<String> = mirror.requests.lock().unwrap().drain(..).collect();
    assert!(asked[0].starts_with("GET /v2/cache/box/manifests/1"), "{asked:?}");
    // It has the layer, and one of it that is another's.
    mirror.answer("cache/box/manifests/1", Answer::ok(MANIFEST, spoilt.manifest()));
    mirror.answer(
        &format!("cache/{}", spoilt.blob()),
        Answer::ok("x", spoilt.layer_bytes.clone()),
    );
    spoilt.fake.requests.lock().unwrap().clear();
    let berth = Berth::empty();
    pull(&berth, &format!("*={}/cache", mirror.address));
    let asked = spoilt.fake.requests.lock().unwrap();
    assert!(
        !asked
            .iter()
            .any(|r| r.contains("manifests") || r.contains(&spoilt.layer)),
        "{asked:?}"
    );
    assert_eq!(berth.inspect(&name, "{{index .RepoTags 0}}"), name);
}

#[test]
fn tls_needs_an_authority_that_is_known() {
    let (berth, spoilt) = (Berth::empty(), Spoilt::new());
    let (key, cert) = (berth.path("key.pem"), berth.path("cert.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=berth.test",
            "-addext",
            "subjectAltName=DNS:berth.test,DNS:localhost",
        ])
        .args(["-keyout", &key, "-out", &cert])
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    // TLS in front of the registry, by its proxy in Python.
    let script = "import ssl,socket,sys,threading\nc=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER);c.load_cert_chain(sys.argv[1],sys.argv[2])\n\
        s=socket.create_server(('127.0.0.1',0));print(s.getsockname()[1],flush=True)\n\
        def go(a,b):\n  try:\n    while d:=a.recv(65536): b.sendall(d)\n  except OSError: pass\n  finally:\n    for x in (a,b):\n      try: x.shutdown(2)\n      except OSError: pass\n\
        while True:\n  a,_=s.accept()\n  try:\n    a=c.wrap_socket(a,server_side=True);b=socket.create_connection(('127.0.0.1',int(sys.argv[3])))\n  except OSError: continue\n\
        \x20 for p in ((a,b),(b,a)): threading.Thread(target=go,args=p,daemon=True).start()\n";
    let port = spoilt.fake.address.rsplit(':').next().unwrap();
    let mut proxy = Command::new("python3")
        .args(["-c", script, &cert, &key, port])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("python3 is installed");
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(proxy.stdout.as_mut().unwrap()), &mut line).unwrap();
    let pull = |host: &str, insecure: &str| {
        let name = format!("{host}:{}/box:1", line.trim());
        let mut command = berth.command(&["pull", &name]);
        command
            .env("BERTH_CERTS", berth.path("certs"))
            .env("BERTH_INSECURE_REGISTRIES", insecure)
            .env("BERTH_REGISTRY_TIMEOUT", "5");
        let output = command.output().unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    // A name of this machine that is not on loopback, as far as the name tells.
    let host = String::from_utf8(Command::new("hostname").output().unwrap().stdout)
        .unwrap()
        .trim()
        .to_owned();
    let (code, err) = pull("localhost", "");
    assert_eq!(code, Some(0), "loopback may be anybody: {err}");
    let resolves = std::net::ToSocketAddrs::to_socket_addrs(&(host.as_str(), 1))
        .is_ok_and(|mut a| a.any(|a| a.ip().is_loopback()));
    if resolves && host.contains('.') {
        let (code, err) = pull(&host, "");
        assert!(code == Some(1) && err.contains("certs.d"), "{err}");
    }
    proxy.kill().unwrap();
    proxy.wait().unwrap();
}

#[test]
fn what_a_registry_has_is_not_sent_again() {
    let (berth, registry) = (Berth::new(), Registry::start());
    let (first, second) = (registry.name("one/box:1"), registry.name("two/box:1"));
    for name in [&first, &second] {
        berth.run(&["tag", BUSYBOX, name]).ok();
    }
    assert!(berth.run(&["push", &first]).ok().contains(": Pushed"));
    assert!(berth.run(&["push", &first]).ok().contains("Layer already exists"));
    let out = berth.run(&["push", &second]).ok();
    assert!(out.contains(": Mounted"), "{out}");
    // What somebody else pulled is mounted, too; and the manifest is there for skopeo.
    let other = Berth::empty();
    other.run(&["pull", "-q", &second]).ok();
    let third = registry.name("three/box:1");
    other.run(&["tag", &second, &third]).ok();
    assert!(other.run(&["push", &third]).ok().contains(": Mounted"));
    let found = Command::new("skopeo")
        .args(["inspect", "--tls-verify=false", &format!("docker://{third}")])
        .output()
        .unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    let manifest = berth.run(&["manifest", "inspect", &third]).ok();
    assert!(
        manifest.contains("\"mediaType\": \"application/vnd.oci.image.manifest.v1+json\""),
        "{manifest}"
    );
    let found = berth
        .run(&["search", "--format", "{{.Name}}", &registry.name("box")])
        .ok();
    assert!(found.contains(&registry.name("two/box")), "{found}");
}

#[test]
fn credentials_are_kept_where_docker_keeps_them() {
    let (berth, fake) = (Berth::empty(), Fake::start());
    fake.answer("", Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\""));
    let login = ["login", "-u", "me", "--password-stdin", &fake.address];
    berth.feed(&login, b"wrong\n").fails(1, "unauthorized");
    assert!(
        !std::path::Path::new(&berth.path(".docker/config.json")).exists(),
        "nothing is kept of what was refused"
    );
    fake.answer("", Answer::ok("application/json", "{}"));
    assert_eq!(berth.feed(&login, b"secret\n").ok(), "Login Succeeded");
    let config = std::fs::read_to_string(berth.path(".docker/config.json")).unwrap();
    assert!(
        config.contains(&fake.address) && config.contains("bWU6c2VjcmV0"),
        "{config}"
    );
    berth.run(&["login", "-u", "me", &fake.address]).fails(1, "non TTY");
    assert_eq!(
        berth.run(&["logout", &fake.address]).ok(),
        format!("Removing login credentials for {}", fake.address)
    );
    assert_eq!(
        berth.run(&["logout", &fake.address]).ok(),
        format!("Not logged in to {}", fake.address)
    );
    // A helper, as docker-credential-helpers defines them.
    let helper = berth.path("docker-credential-test");
    std::fs::write(&helper, format!("#!/bin/sh\ncat > {}/helper-$1\n", berth.path(""))).unwrap();
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(berth.path(".docker/config.json"), "{\"credsStore\":\"test\"}").unwrap();
    let path = format!("{}:{}", berth.path(""), std::env::var("PATH").unwrap());
    let mut child = berth
        .command(&login)
        .env("PATH", &path)
        .stdout(std::process::Stdio::null())
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"secret").unwrap();
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    let stored: serde_json::Value =
        serde_json::from_slice(&std::fs::read(berth.path("helper-store")).unwrap()).unwrap();
    assert_eq!(
        (stored["Username"].as_str(), stored["Secret"].as_str()),
        (Some("me"), Some("secret"))
    );
    assert!(
        !std::fs::read_to_string(berth.path(".docker/config.json"))
            .unwrap()
            .contains("bWU6")
    );
}

#[test]
fn damage_is_found_and_that_alone_is_fetched_again() {
    let spoilt = Spoilt::new();
    let name = format!("{}/box:1", spoilt.fake.address);
    let berth = Berth::empty();
    spoilt.pull(&berth).ok();
    let tar = berth.path("own.tar");
    let mut own = Tar::default();
    own.file("own", 0o644, b"of no registry");
    std::fs::write(&tar, own.finish()).unwrap();
    let own = berth.run(&["import", &tar, "own:1"]).ok();
    assert_eq!(berth.run(&["system", "check"]).ok(), "Everything is as it came.");
    let layer = |id: &str| berth.path(&format!("data/layers/{}/fs", id.trim_start_matches("sha256:")));
    let fs = layer(&spoilt.diff_id);
    let seed = format!("{fs}/data/seed");
    type Damage<'a> = (&'a str, Box<dyn Fn() + 'a>, &'a str);
    let config = berth.path(&format!(
        "data/content/sha256/{}",
        digest(spoilt.config.as_bytes()).trim_start_matches("sha256:")
    ));
    let damages: Vec<Damage<'_>> = vec![
        (
            "content",
            Box::new(|| std::fs::write(&seed, "from the imagE\n").unwrap()),
            "the content of a file was changed",
        ),
        ("shorter", Box::new(|| std::fs::write(&seed, "x").unwrap()), "data/seed"),
        (
            "mode",
            Box::new(|| std::fs::set_permissions(&seed, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap()),
            "data/seed: its mode was changed",
        ),
        (
            "gone",
            Box::new(|| std::fs::remove_file(format!("{fs}/bin/ls")).unwrap()),
            "bin/ls: it is gone",
        ),
        (
            "recipe",
            Box::new(|| std::fs::write(format!("{fs}/../recipe"), "x").unwrap()),
            "read the layer",
        ),
        (
            "all",
            Box::new(|| std::fs::remove_dir_all(&fs).unwrap()),
            "it is not there",
        ),
        (
            "configuration",
            Box::new(|| std::fs::write(&config, "{}").unwrap()),
            "was damaged on disk",
        ),
    ];
    for (what, damage, words) in damages {
        damage();
        let ran = berth.run(&["system", "check"]);
        assert!(
            ran.code == 1 && ran.out.contains(words) && ran.out.contains(&name) && ran.out.ends_with(": damaged"),
            "{what}: {ran:?}"
        );
        spoilt.fake.requests.lock().unwrap().clear();
        let out = berth.run(&["system", "check", "--repair"]).ok();
        assert!(out.ends_with(": repaired") && out.lines().count() == 1, "{what}: {out}");
        assert_eq!(
            spoilt.fake.requests.lock().unwrap().len(),
            1,
            "{what}: one request, for what is damaged"
        );
        assert_eq!(
            berth.run(&["system", "check"]).ok(),
            "Everything is as it came.",
            "{what}"
        );
        assert_eq!(
            berth
                .run(&[
                    "run",
                    "--rm",
                    "--network",
                    "none",
                    &name,
                    "/bin/busybox",
                    "cat",
                    "/data/seed"
                ])
                .ok(),
            "from the image"
        );
    }
    let layers = berth.inspect("own:1", "{{index .RootFS.Layers 0}}");
    std::fs::write(format!("{}/own", layer(&layers)), "of a registry?").unwrap();
    let ran = berth.run(&["system", "check", "--repair"]);
    assert!(
        ran.code == 1 && ran.out.contains("not repaired (it did not come from a registry"),
        "{ran:?}"
    );
    berth.run(&["rmi", &own]).ok();
    assert_eq!(berth.run(&["system", "check"]).ok(), "Everything is as it came.");
}

#[test]
fn images_keep_the_bounds_that_are_set() {
    let berth = Berth::empty();
    let tar = berth.path("x.tar");
    for (number, size) in [(1, 3 << 20), (2, 3 << 20), (3, 3 << 20)] {
        let mut content = Tar::default();
        content.file("content", 0o644, &vec![number; size]);
        std::fs::write(&tar, content.finish()).unwrap();
        berth.run(&["import", &tar, &format!("n:{number}")]).ok();
    }
    let there = || {
        berth
            .run(&["images", "--format", "{{.Tag}}"])
            .ok()
            .lines()
            .map(String::from)
            .collect::<std::collections::BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>()
            .join(" ")
    };
    // A container of the oldest: it is the one used last now.
    let id = berth.run(&["create", "--network", "none", "n:1", "x"]).ok();
    berth.run(&["rm", &id]).ok();
    assert!(
        berth
            .run(&["image", "prune", "-f", "--unused-for", "1h"])
            .ok()
            .contains("Total reclaimed space: 0B")
    );
    berth.run(&["image", "prune", "-f", "--max-used-space", "7m"]).ok();
    assert_eq!(there(), "1 3");
    berth.run(&["image", "mount", "n:3"]).ok();
    berth.run(&["image", "prune", "-f", "--max-used-space", "0"]).ok();
    assert_eq!(there(), "3", "what is mounted is used");
    berth.run(&["image", "unmount", "n:3"]).ok();
    // By the settings, after each pull.
    let spoilt = Spoilt::new();
    let name = format!("{}/box:1", spoilt.fake.address);
    let output = berth
        .command(&["pull", &name])
        .env("BERTH_IMAGES_MAX_SIZE", "3m")
        .output()
        .unwrap();
    assert!(output.status.success());
    assert_eq!(
        berth.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok(),
        name
    );
}

#[test]
fn an_image_is_mounted_and_its_layers_are_shown() {
    let berth = Berth::new();
    let place = berth.run(&["image", "mount", BUSYBOX]).ok();
    assert_eq!(
        std::fs::read_to_string(format!("{place}/data/seed")).unwrap(),
        "from the image\n"
    );
    assert!(std::fs::write(format!("{place}/data/seed"), "x").is_err(), "to be read");
    assert_eq!(berth.run(&["image", "mount", BUSYBOX]).ok(), place, "once");
    assert!(berth.run(&["image", "mount"]).ok().ends_with(&place));
    berth.run(&["rmi", BUSYBOX]).fails(1, "image is mounted at");
    berth.run(&["image", "unmount", BUSYBOX]).ok();
    berth.run(&["image", "unmount", BUSYBOX]).fails(1, "is not mounted");
    let tree = berth.run(&["image", "tree", BUSYBOX]).ok();
    assert!(
        tree.contains("Tags:     [busybox:test]")
            && tree.contains("└── ID: ")
            && tree.ends_with("Top Layer of: [busybox:test]"),
        "{tree}"
    );
    assert!(!busybox().is_empty());
}

#[test]
fn what_the_policy_asks_for_is_signed_or_refused() {
    let (berth, spoilt) = (Berth::empty(), Spoilt::new());
    let (key, public, other) = (berth.path("key.pem"), berth.path("key.pub"), berth.path("other.pub"));
    let openssl = |words: &[&str]| {
        let done = Command::new("openssl")
            .args(words)
            .output()
            .expect("openssl is installed");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    for (private, public) in [(&berth.path("other.pem"), &other), (&key, &public)] {
        openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private]);
        openssl(&["ec", "-in", private, "-pubout", "-out", public]);
    }
    let image = digest(spoilt.manifest().as_bytes());
    let name = format!("{}/box", spoilt.fake.address);
    let sign = |image: &str, name: &str| {
        let payload = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"{name}"}},"image":{{"docker-manifest-digest":"{image}"}},"type":"cosign container image signature"}},"optional":null}}"#
        );
        std::fs::write(berth.path("payload"), &payload).unwrap();
        openssl(&[
            "dgst",
            "-sha256",
            "-sign",
            &key,
            "-out",
            &berth.path("signature"),
            &berth.path("payload"),
        ]);
        let signature = Command::new("base64")
            .args(["-w0", &berth.path("signature")])
            .output()
            .unwrap()
            .stdout;
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{0}","size":2}},
            "layers":[{{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json","digest":"{1}","size":{2},
            "annotations":{{"dev.cosignproject.cosign/signature":"{3}"}}}}]}}"#,
            digest(b"{}"),
            digest(payload.as_bytes()),
            payload.len(),
            String::from_utf8(signature).unwrap()
        );
        let place = self::digest(spoilt.manifest().as_bytes()).replace(':', "-");
        spoilt
            .fake
            .answer(&format!("box/manifests/{place}.sig"), Answer::ok(MANIFEST, manifest));
        spoilt.fake.answer(
            &format!("box/blobs/{}", digest(payload.as_bytes())),
            Answer::ok("x", payload),
        );
    };
    let pull = |rule: &str| {
        let settings = berth.path("registries.json");
        std::fs::write(
            &settings,
            format!(
                r#"{{"policy":{{"default":"reject","{}":{rule}}}}}"#,
                spoilt.fake.address
            ),
        )
        .unwrap();
        let output = berth
            .command(&["pull", &format!("{name}:1")])
            .env("BERTH_REGISTRIES", &settings)
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (with_key, with_other) = (
        format!(r#"{{"cosign":["{public}"]}}"#),
        format!(r#"{{"cosign":["{other}"]}}"#),
    );
    let refused = |rule: &str, words: &str| {
        let (code, err) = pull(rule);
        assert!(code == 1 && err.contains(words), "{rule}: {err}");
        nothing_of_it(&berth, rule);
    };
    refused("\"reject\"", "is refused by the policy");
    refused(&with_key, "there is no signature");
    sign(&image, "other.example/box");
    refused(&with_key, "under another name");
    sign(&digest(b"another"), &name);
    refused(&with_key, "another image");
    sign(&image, &name);
    refused(&with_other, "none of its signatures");
    let (code, err) = pull(&with_key);
    assert_eq!(code, 0, "{err}");
}
