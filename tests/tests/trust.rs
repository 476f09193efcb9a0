//! Whom a registry is believed to be, who we are to it, and whose images are taken.

use berth_tests::Berth;
use berth_tests::registry::{Answer, Fake, MANIFEST, Proxy, Spoilt, digest};
use std::process::Command;

/// TLS in front of a registry, with a certificate of its own for `berth.test`.
struct Tls {
    child: std::process::Child,
    address: String,
    certificate: String,
}

/// CERTIFICATE KEY PORT: takes TLS off what comes, and passes it on.
const TLS: &str = "import ssl,socket,sys,threading\nc=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER);c.load_cert_chain(sys.argv[1],sys.argv[2])\n\
    s=socket.create_server(('127.0.0.1',0));print(s.getsockname()[1],flush=True)\n\
    def go(a,b):\n  try:\n    while d:=a.recv(65536): b.sendall(d)\n  except OSError: pass\n  finally:\n    for x in (a,b):\n      try: x.shutdown(2)\n      except OSError: pass\n\
    while True:\n  a,_=s.accept()\n  try:\n    a=c.wrap_socket(a,server_side=True);b=socket.create_connection(('127.0.0.1',int(sys.argv[3])))\n  except OSError: continue\n\
    \x20 for p in ((a,b),(b,a)): threading.Thread(target=go,args=p,daemon=True).start()\n";

impl Tls {
    fn before(registry: &Fake, berth: &Berth, name: &str, kind: &str) -> Self {
        let (key, certificate) = (berth.path(&format!("{name}.key")), berth.path(&format!("{name}.pem")));
        let made = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ];
        let names = [
            "-subj",
            "/CN=berth.test",
            "-addext",
            "subjectAltName=DNS:berth.test,DNS:localhost",
            "-addext",
            kind,
        ];
        openssl(&[&made[..], &names, &["-keyout", &key, "-out", &certificate]].concat());
        let port = registry.address.rsplit(':').next().unwrap();
        let mut child = Command::new("python3")
            .args(["-c", TLS, &certificate, &key, port])
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("python3 is installed");
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line).unwrap();
        Tls {
            child,
            address: format!("127.0.0.1:{}", line.trim()),
            certificate,
        }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `pull` through a proxy, which the environment names.
fn pull_through(berth: &Berth, proxy: &Proxy, name: &str, environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let url = format!("http://{}", proxy.address);
    let output = berth
        .command(&["pull", name])
        .env("HTTPS_PROXY", &url)
        .env("BERTH_CERTS", berth.path("certs"))
        .env("BERTH_REGISTRY_TIMEOUT", "5")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), err)
}

#[test]
fn tls_needs_an_authority_that_is_known() {
    let (berth, spoilt) = (Berth::empty(), Spoilt::new());
    let (one, other) = (
        Tls::before(&spoilt.fake, &berth, "one", "basicConstraints=CA:FALSE"),
        Tls::before(&spoilt.fake, &berth, "other", "basicConstraints=CA:TRUE"),
    );
    let proxy = Proxy::to(&one.address);
    let name = "berth.test:5443/box:1";
    let pull = || pull_through(&berth, &proxy, name, &[]);
    let (code, err) = pull();
    assert!(code == Some(1) && err.contains("certs.d"), "{err}");
    berth.has_no_image("an authority that nobody knows");
    let place = berth.path("certs/berth.test:5443");
    std::fs::create_dir_all(&place).unwrap();
    std::fs::copy(&one.certificate, format!("{place}/ca.crt")).unwrap();
    let (code, err) = pull();
    assert_eq!(code, Some(0), "{err}");
    berth.run(&["rmi", name]).ok();
    // It shows another certificate from now on.
    proxy.target.lock().unwrap().clone_from(&other.address);
    let (code, err) = pull();
    assert!(code == Some(1) && err.contains("make one for a server"), "{err}");
    berth.has_no_image("another certificate");
    let (code, err) = pull_through(
        &berth,
        &proxy,
        name,
        &[("BERTH_INSECURE_REGISTRIES", "berth.test:5443")],
    );
    assert_eq!(code, Some(0), "an insecure one may be anybody: {err}");
}

#[test]
fn proxies_of_the_environment_are_used_but_for_whom_they_are_not() {
    let (berth, spoilt) = (Berth::empty(), Spoilt::new());
    let proxy = Proxy::to(&spoilt.fake.address);
    let name = "berth.test:5000/box:1";
    let insecure = ("BERTH_INSECURE_REGISTRIES", "berth.test:5000");
    let (code, err) = pull_through(&berth, &proxy, name, &[insecure]);
    assert_eq!(code, Some(0), "{err}");
    let asked = proxy.asked.lock().unwrap().clone();
    assert!(asked[0].starts_with("CONNECT berth.test:5000"), "{asked:?}");
    berth.run(&["rmi", name]).ok();
    proxy.asked.lock().unwrap().clear();
    let (code, _) = pull_through(&berth, &proxy, name, &[insecure, ("NO_PROXY", "berth.test")]);
    assert_eq!(code, Some(1), "nobody has that name");
    // What is on this machine needs no proxy.
    spoilt.pull(&berth).ok();
    assert!(proxy.asked.lock().unwrap().is_empty());
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
    let script = berth.path("helper.sh");
    std::fs::write(&script, format!("#!/bin/sh\ncat > {}/helper-$1\n", berth.path(""))).unwrap();
    berth_tests::place_program(std::fs::File::open(script).unwrap(), &helper);
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

#[track_caller]
fn openssl(words: &[&str]) {
    let done = Command::new("openssl")
        .args(words)
        .output()
        .expect("openssl is installed");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Two keys, an image to be signed, and settings that ask for it.
struct Signer {
    berth: Berth,
    spoilt: Spoilt,
    key: String,
    /// The policy with the key that signs, and with another.
    with_key: String,
    with_other: String,
    /// Of the image's manifest.
    image: String,
    /// Of its repository.
    name: String,
}

impl Signer {
    fn new() -> Self {
        let (berth, spoilt) = (Berth::empty(), Spoilt::new());
        let (key, public, other) = (berth.path("key.pem"), berth.path("key.pub"), berth.path("other.pub"));
        for (private, public) in [(&berth.path("other.pem"), &other), (&key, &public)] {
            openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private]);
            openssl(&["ec", "-in", private, "-pubout", "-out", public]);
        }
        Signer {
            with_key: format!(r#"{{"cosign":["{public}"]}}"#),
            with_other: format!(r#"{{"cosign":["{other}"]}}"#),
            image: digest(spoilt.manifest().as_bytes()),
            name: format!("{}/box", spoilt.fake.address),
            berth,
            spoilt,
            key,
        }
    }

    /// In base64.
    fn signature(&self, text: &[u8]) -> String {
        let (payload, signature) = (self.berth.path("payload"), self.berth.path("signature"));
        std::fs::write(&payload, text).unwrap();
        openssl(&["dgst", "-sha256", "-sign", &self.key, "-out", &signature, &payload]);
        base64(&std::fs::read(&signature).unwrap())
    }

    /// A blob, and the manifest that has it.
    fn serve(&self, place: &str, kind: &str, blob: &str, annotations: &str) -> String {
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{0}","size":2}},
            "layers":[{{"mediaType":"{kind}","digest":"{1}","size":{2},"annotations":{annotations}}}]}}"#,
            digest(b"{}"),
            digest(blob.as_bytes()),
            blob.len(),
        );
        let fake = &self.spoilt.fake;
        for place in [place, &digest(manifest.as_bytes())] {
            fake.answer(
                &format!("box/manifests/{place}"),
                Answer::ok(MANIFEST, manifest.clone()),
            );
        }
        fake.answer(&format!("box/blobs/{}", digest(blob.as_bytes())), Answer::ok("x", blob));
        manifest
    }

    /// As cosign's signatures were first: beside the image.
    fn sign(&self, image: &str, name: &str) {
        let payload = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"{name}"}},"image":{{"docker-manifest-digest":"{image}"}},"type":"cosign container image signature"}},"optional":null}}"#
        );
        let annotations = format!(
            r#"{{"dev.cosignproject.cosign/signature":"{}"}}"#,
            self.signature(payload.as_bytes())
        );
        let place = format!("{}.sig", self.image.replace(':', "-"));
        let kind = "application/vnd.dev.cosign.simplesigning.v1+json";
        self.serve(&place, kind, &payload, &annotations);
    }

    /// A bundle that refers to the image; from a registry that lists what refers, or by the tag that stands for the list.
    fn bundle(&self, bundle: &str, listed: bool) {
        let manifest = self.serve("bundle", BUNDLE, bundle, "{}");
        let index = format!(
            r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{MANIFEST}","digest":"{}","size":{},"artifactType":"{BUNDLE}"}}]}}"#,
            digest(manifest.as_bytes()),
            manifest.len()
        );
        let (list, tag) = (
            format!("box/referrers/{}", self.image),
            format!("box/manifests/{}", self.image.replace(':', "-")),
        );
        let (there, away) = if listed { (list, tag) } else { (tag, list) };
        self.spoilt.fake.answer(&there, Answer::ok(INDEX, index));
        self.spoilt.fake.answer(&away, Answer::status(404));
    }

    /// What cosign writes now: a statement about the image, in an envelope.
    fn statement(&self, image: &str, predicate: &str) -> String {
        let statement = format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","subject":[{{"name":"","digest":{{"sha256":"{}"}}}}],"predicateType":"{predicate}","predicate":{{}}}}"#,
            image.trim_start_matches("sha256:")
        );
        let kind = "application/vnd.in-toto+json";
        let signed = format!("DSSEv1 {} {kind} {} {statement}", kind.len(), statement.len());
        format!(
            r#"{{"mediaType":"{BUNDLE}","verificationMaterial":{{"publicKey":{{"hint":"x"}}}},"dsseEnvelope":{{"payload":"{}","payloadType":"{kind}","signatures":[{{"sig":"{}"}}]}}}}"#,
            base64(statement.as_bytes()),
            self.signature(signed.as_bytes())
        )
    }

    fn pull(&self, rule: &str) -> (i32, String) {
        let settings = self.berth.path("registries.json");
        let policy = format!(
            r#"{{"policy":{{"default":"reject","{}":{rule}}}}}"#,
            self.spoilt.fake.address
        );
        std::fs::write(&settings, policy).unwrap();
        let output = self
            .berth
            .command(&["pull", &format!("{}:1", self.name)])
            .env("BERTH_REGISTRIES", &settings)
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    #[track_caller]
    fn refused(&self, rule: &str, words: &str) {
        let (code, err) = self.pull(rule);
        assert!(code == 1 && err.contains(words), "{rule}: {err}");
        self.berth.has_no_image(rule);
    }

    #[track_caller]
    fn taken(&self) {
        let (code, err) = self.pull(&self.with_key);
        assert_eq!(code, 0, "{err}");
        self.berth.run(&["rmi", &format!("{}:1", self.name)]).ok();
    }
}

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn base64(bytes: &[u8]) -> String {
    let mut child = Command::new("base64")
        .arg("-w0")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), bytes).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn what_the_policy_asks_for_is_signed_or_refused() {
    let signer = Signer::new();
    signer.refused("\"reject\"", "is refused by the policy");
    signer.refused(&signer.with_key, "there is no signature");
    signer.sign(&signer.image, "other.example/box");
    signer.refused(&signer.with_key, "under another name");
    signer.sign(&digest(b"another"), &signer.name);
    signer.refused(&signer.with_key, "another image");
    signer.sign(&signer.image, &signer.name);
    signer.refused(&signer.with_other, "none of its signatures");
    signer.taken();
}

#[test]
fn bundles_sign_images_and_statements_about_them_do_not() {
    let signer = Signer::new();
    let signs = "https://sigstore.dev/cosign/sign/v1";
    for listed in [true, false] {
        signer.bundle(&signer.statement(&digest(b"another"), signs), listed);
        signer.refused(&signer.with_key, "another image");
        signer.bundle(&signer.statement(&signer.image, "https://spdx.dev/Document"), listed);
        signer.refused(&signer.with_key, "does not sign it");
        signer.bundle(&signer.statement(&signer.image, signs), listed);
        signer.refused(&signer.with_other, "none of its signatures");
        signer.taken();
        // Of the manifest itself.
        let signature = signer.signature(signer.spoilt.manifest().as_bytes());
        let message = |signature: &str| {
            format!(
                r#"{{"mediaType":"{BUNDLE}","messageSignature":{{"messageDigest":{{"algorithm":"SHA2_256"}},"signature":"{signature}"}}}}"#
            )
        };
        signer.bundle(&message(&signature), listed);
        signer.taken();
        signer.bundle(&message(&signer.signature(b"something else")), listed);
        signer.refused(&signer.with_key, "none of its signatures");
        for broken in [
            "{}",
            "[",
            r#"{"dsseEnvelope":{"payload":"!","payloadType":"","signatures":[]}}"#,
        ] {
            signer.bundle(broken, listed);
            signer.refused(&signer.with_key, "is not signed as the policy");
        }
        let found = signer
            .berth
            .run(&["image", "referrers", &format!("{}:1", signer.name)])
            .ok();
        assert!(found.contains(BUNDLE), "{found}");
        let words = [
            "image",
            "referrers",
            "--artifact-type",
            "application/other",
            "--format",
            "{{.Digest}}",
        ];
        let name = format!("{}:1", signer.name);
        assert_eq!(signer.berth.run(&[&words[..], &[&name]].concat()).ok(), "");
    }
}
