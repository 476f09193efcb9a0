//! Labels of SELinux, on a machine whose kernel has it: with the least of policies, and nothing enforced.

use berth_tests::bundle::Bundle;
use berth_tests::machine::Machine;
use serde_json::{Value, json};

const LABEL: &str = "system_u:system_r:container_t";
const MOUNTS: &str = "system_u:object_r:container_file_t";

fn document(name: &str, script: &str, change: impl FnOnce(&mut Value)) -> (String, Vec<u8>) {
    let mut bundle = Bundle::new();
    bundle.script(script);
    bundle.config["root"]["path"] = json!("/b/rootfs");
    bundle.config["process"]["noNewPrivileges"] = json!(false);
    change(&mut bundle.config);
    let text = serde_json::to_vec(&bundle.config).expect("the document");
    (format!("{name}.json"), text)
}

const SCRIPT: &str = r#"
mount -t selinuxfs selinuxfs /sys/fs/selinux && cat /files/policy > /sys/fs/selinux/load && echo "policy: loaded"
mkdir -p /b/rootfs /run && tar -C /b/rootfs -xf /busybox.tar
for file in /files/*.json; do name=$(basename $file .json); mkdir /b/$name; mv $file /b/$name/config.json; done
oci() { berth oci "$@"; }
pid() { oci state $1 | sed -n 's/.*"pid": \([0-9]*\).*/\1/p'; }
label() { tr -d '\000' < /proc/$1/attr/current; echo; }
oci run -b /b/labelled labelled < /dev/null 2>&1 | sed 's/^/labelled: /'
oci run -b /b/unknown unknown; echo "unknown: $?"
oci run -b /b/badmount badmount; echo "badmount: $?"
oci run -d -b /b/free free > /dev/null; echo "free: $(label $(pid free))"
oci exec --process-label system_u:system_r:container_t free sh -c 'tr -d "\000" < /proc/self/attr/current; echo' | sed 's/^/added: /'
oci delete -f free
mkdir -p /b/rootfs/proc/self/attr && : > /b/rootfs/proc/self/attr/exec && chmod 666 /b/rootfs/proc/self/attr/exec
oci run -d -b /b/fake fake > /dev/null; echo "fake: $(label $(pid fake))"
oci exec -d --pid-file /added --process-label system_u:system_r:container_t fake sleep 1000; echo "fake, added: $(label $(cat /added))"
echo "written to the fake: $(wc -c < /b/rootfs/proc/self/attr/exec)"
oci delete -f fake; oci list -q | sed 's/^/left: /'
"#;

/// CVE-2019-16884, CVE-2023-28642, CVE-2025-52881 too: a `/proc` of the image's gets no label.
#[test]
fn processes_and_mounts_have_the_selinux_labels_that_are_asked_for() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let work = tempfile::tempdir().expect("a directory");
    let policy = work.path().join("policy");
    let compiled = std::process::Command::new("checkpolicy")
        .args(["-U", "allow", "-o"])
        .arg(&policy)
        .arg(root.join("selinux/policy.conf"))
        .output()
        .expect("checkpolicy is installed");
    assert!(compiled.status.success(), "{compiled:?}");
    let show = "tr -d '\\000' < /proc/self/attr/current; echo; grep ' /dev/shm ' /proc/mounts";
    let labelled = |config: &mut Value| config["process"]["selinuxLabel"] = json!(LABEL);
    let machine = Machine {
        words: "lsm=selinux enforcing=0",
        files: vec![
            ("policy".into(), std::fs::read(&policy).expect("the policy")),
            document("labelled", show, |config| {
                labelled(config);
                config["linux"]["mountLabel"] = json!(MOUNTS);
            }),
            document("unknown", show, |config| {
                config["process"]["selinuxLabel"] = json!("a:b:c");
            }),
            document("badmount", show, |config| {
                config["linux"]["mountLabel"] = json!("a:b:c")
            }),
            document("free", "sleep 1000", |_| ()),
            document("fake", "sleep 1000", |config| {
                labelled(config);
                let mounts = config["mounts"].as_array_mut().expect("a list");
                mounts.retain(|m| m["destination"] != "/proc");
                config["linux"]["maskedPaths"] = json!([]);
                config["linux"]["readonlyPaths"] = json!([]);
            }),
        ],
        ..Machine::new("trixie")
    };
    let out = machine.run(SCRIPT).ok();
    for line in [
        "policy: loaded",
        &format!("labelled: {LABEL}"),
        "unknown: 1",
        "badmount: 1",
        "free: system_u:system_r:kernel_t",
        &format!("added: {LABEL}"),
        &format!("fake: {LABEL}"),
        &format!("fake, added: {LABEL}"),
        "written to the fake: 0",
    ] {
        assert!(out.lines().any(|l| l == line), "{line:?} is not there:\n{out}");
    }
    let mounted = out.lines().find(|l| l.starts_with("labelled: shm"));
    assert!(
        mounted.is_some_and(|l| l.contains(&format!("context={MOUNTS}"))),
        "{out}"
    );
    assert!(out.contains("process.selinuxLabel: \"a:b:c\""), "{out}");
    assert!(!out.contains("left: "), "{out}");
}
