//! Filters of system calls: what runc and docker decide, Berth decides.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use berth_tests::Berth;
use berth_tests::bundle::Bundle;
use rustix::event::{PollFd, PollFlags};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::{Value, json};
use sys::seccomp::Answer;

/// Debian's.
const RUNC: &str = "/usr/sbin/runc";
const MKDIR: i32 = 83;
const EXDEV: i32 = 18;

/// Whoever answers for passed on calls: takes one listener, fails each mkdir with EXDEV and lets all else go on; what the
/// runtime said of the process.
fn agent(socket: &Path) -> std::thread::JoinHandle<Value> {
    let listening = UnixListener::bind(socket).expect("listen");
    std::thread::spawn(move || {
        let (connection, _) = listening.accept().expect("accept");
        let (mut bytes, mut fds) = ([0; 65536], Vec::new());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let got =
            rustix::net::recvmsg(&connection, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC).expect("receive");
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        let said: Value = serde_json::from_slice(&bytes[..got.bytes]).expect("a process's state");
        assert_eq!(fds.len(), 1, "{said}");
        std::thread::spawn(move || answer(&fds.remove(0)));
        said
    })
}

fn answer(listener: &OwnedFd) {
    loop {
        let mut fds = [PollFd::new(listener, PollFlags::IN)];
        let _ = rustix::event::poll(&mut fds, None);
        if fds[0].revents().contains(PollFlags::HUP) {
            // All processes of the filter are gone.
            return;
        }
        // One that was interrupted asks again.
        let Ok(call) = sys::seccomp::receive(listener.as_fd()) else {
            continue;
        };
        let answer = match call.number {
            MKDIR => Answer::Errno(EXDEV),
            _ => Answer::Continue,
        };
        if sys::seccomp::waits(listener.as_fd(), call.id) {
            let _ = sys::seccomp::answer(listener.as_fd(), call.id, answer);
        }
    }
}

fn profile(bundle: &mut Bundle, calls: &[&str]) {
    let socket = bundle.path("agent");
    bundle.config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": socket,
        "listenerMetadata": "for the agent",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [{ "names": calls, "action": "SCMP_ACT_NOTIFY" }],
    });
}

#[test]
fn calls_that_a_filter_passes_on_are_answered_by_its_listener() {
    let berth = berth_tests::program().display().to_string();
    for runtime in [&[berth.as_str(), "oci"][..], &[RUNC]] {
        for no_new_privileges in [false, true] {
            let mut bundle = Bundle::of(runtime);
            bundle.config["process"]["noNewPrivileges"] = json!(no_new_privileges);
            profile(&mut bundle, &["mkdir", "execve", "openat", "close"]);
            let socket = bundle.path("agent");
            let said = agent(&socket);
            let ran = bundle.script("mkdir /made; echo $?").run();
            assert!(ran.err.contains("Invalid cross-device link"), "{runtime:?}: {ran:?}");
            assert_eq!(ran.out, "1", "{runtime:?}: {ran:?}");
            let said = said.join().expect("the agent");
            assert_eq!(said["fds"], json!(["seccompFd"]), "{runtime:?}: {said}");
            assert_eq!(said["metadata"], "for the agent", "{runtime:?}: {said}");
            assert_eq!(said["state"]["bundle"], json!(bundle.dir.path()), "{runtime:?}: {said}");
            assert!(said["pid"].as_i64().is_some_and(|pid| pid > 1), "{runtime:?}: {said}");

            // An added process has a listener of its own; so has a made container that is started.
            std::fs::remove_file(&socket).expect("the socket");
            let said = agent(&socket);
            let id = Bundle::id();
            bundle.args(&["sleep", "100"]);
            bundle.detached(&["create", &id]).ok();
            bundle.do_(&["start", &id]).ok();
            let first = said.join().expect("the agent");
            std::fs::remove_file(&socket).expect("the socket");
            let said = agent(&socket);
            let ran = bundle.do_(&["exec", &id, "mkdir", "/made"]);
            assert!(ran.err.contains("Invalid cross-device link"), "{runtime:?}: {ran:?}");
            let second = said.join().expect("the agent");
            assert_eq!(first["state"]["pid"], second["state"]["pid"], "{runtime:?}");
            assert_ne!(first["pid"], second["pid"], "{runtime:?}");
            bundle.do_(&["delete", "--force", &id]).ok();
        }
    }
}

/// What each call gets, as `scripts/seccomp-table` prints it; what is not there is allowed.
fn table(text: &str) -> BTreeMap<String, String> {
    let verdict = |line: &str| line.find(" ERRNO ").or_else(|| line.rfind(' '));
    text.lines()
        .filter_map(|line| verdict(line).map(|at| (line[..at].to_owned(), line[at + 1..].to_owned())))
        .collect()
}

/// `tests/seccomp/docker.txt` is what `scripts/seccomp-table` printed of a container of Docker 28.5 without flags, with
/// libseccomp 2.6.
#[test]
fn every_call_gets_what_docker_gives_it_or_enosys_on_purpose() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let berth = Berth::new();
    let id = berth.start(&[], &["sleep", "100"]);
    let pid = berth.inspect(&id, "{{.State.Pid}}");
    let ran = Command::new("python3")
        .arg(root.join("scripts/seccomp-table"))
        .arg(&pid)
        .output()
        .expect("start python");
    assert!(ran.status.success(), "{ran:?}");
    let ours = table(&String::from_utf8_lossy(&ran.stdout));
    let theirs = table(&std::fs::read_to_string(root.join("tests/seccomp/docker.txt")).expect("docker's"));
    assert!(
        ours.len() > 600 && theirs.len() > 600,
        "{} {}",
        ours.len(),
        theirs.len()
    );
    let of = |table: &BTreeMap<String, String>, call: &str| table.get(call).map_or("ALLOW".to_owned(), String::clone);
    let calls: BTreeSet<&String> = ours.keys().chain(theirs.keys()).collect();
    for call in calls {
        let (own, docker) = (of(&ours, call), of(&theirs, call));
        // A call that the profile does not know is one that programs have a way without. x32 is not there at all.
        let unknown = own == "ERRNO ENOSYS" && (docker == "ERRNO EPERM" || call.starts_with("x32 "));
        assert!(own == docker || unknown, "{call}: docker {docker}, berth {own}");
    }
}

#[test]
fn what_cannot_be_passed_on_is_refused_and_nothing_is_made() {
    for (calls, change, words) in [
        (&["write"][..], None, "cannot be used for the write syscall"),
        (
            &["mkdir"],
            Some(("defaultAction", json!("SCMP_ACT_NOTIFY"))),
            "cannot be used as default action",
        ),
        (&["mkdir"], Some(("listenerPath", json!(""))), "listenerPath"),
        (
            &["mkdir"],
            Some(("listenerPath", json!("/no/such/socket"))),
            "listenerPath",
        ),
    ] {
        let mut bundle = Bundle::new();
        profile(&mut bundle, calls);
        if let Some((name, value)) = change {
            bundle.config["linux"]["seccomp"][name] = value;
        }
        bundle.args(&["true"]).run().fails(1, words);
        assert!(bundle.leftovers().is_empty());
    }
}
