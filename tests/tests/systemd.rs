//! `berth oci --systemd-cgroup`, labels of AppArmor, and version 2 of cgroups with all controllers: on a machine with systemd.

use berth_tests::bundle::Bundle;
use berth_tests::machine::run_with_systemd;
use serde_json::{Value, json};

/// A document, as a file of the machine; its root is `/b/rootfs` there.
fn document(name: &str, script: &str, change: impl FnOnce(&mut Value)) -> (String, Vec<u8>) {
    let mut bundle = Bundle::new();
    bundle.script(script);
    bundle.config["linux"]["cgroupsPath"] = json!(format!("machine.slice:test:{name}"));
    bundle.config["root"]["path"] = json!("/b/rootfs");
    let namespaces = bundle.config["linux"]["namespaces"].as_array_mut().expect("a list");
    namespaces.push(json!({ "type": "cgroup" }));
    change(&mut bundle.config);
    (
        format!("{name}.json"),
        serde_json::to_vec(&bundle.config).expect("the document"),
    )
}

const SCRIPT: &str = r#"
mkdir -p /b/rootfs && tar -C /b/rootfs -xf /busybox.tar
for file in /files/*.json; do name=$(basename $file .json); mkdir /b/$name; mv $file /b/$name/config.json; done
oci() { berth oci --systemd-cgroup "$@"; }
scope=/sys/fs/cgroup/machine.slice/test-limited.scope
pid() { oci state $1 | sed -n 's/.*"pid": \([0-9]*\).*/\1/p'; }

oci run -d -b /b/limited limited > /dev/null; echo "run: $?"
systemctl is-active test-limited.scope | sed 's/^/scope: /'
systemctl show -p MemoryMax -p TasksMax -p CPUQuotaPerSecUSec -p CPUWeight -p Slice -p Delegate test-limited.scope
cat /proc/$(pid limited)/cgroup
cd $scope; grep -H . memory.max memory.low memory.high pids.max cpu.max
oci update --memory 33554432 limited; echo "update: $?"
systemctl daemon-reload; systemctl show -p MemoryMax test-limited.scope | sed 's/^/reloaded: /'; cat memory.max | sed 's/^/reloaded: /'
oci exec limited cat /proc/self/cgroup | sed 's/^/exec: /'
oci exec limited cat /sys/fs/cgroup/pids.max | sed 's/^/inside: /'
oci exec --cap CAP_MKNOD limited sh -c 'mknod /kmsg c 1 11 && ! cat /kmsg && mknod /n c 1 3 && echo x > /n && echo "devices: restricted"'
oci pause limited; oci state limited | grep '"status"'; cat cgroup.freeze | sed 's/^/frozen: /'; oci resume limited
cd /; oci delete -f limited; echo "delete: $?"; systemctl is-active test-limited.scope | sed 's/^/after: /'; [ -e $scope ] || echo "after: no cgroup"

oci run -b /b/hungry hungry > /dev/null; echo "hungry: $?"
oci run -b /b/forks forks 2>&1 | grep -c "can't fork" | sed 's/^/forks: /'
oci run -b /b/bad bad; echo "bad: $?"
berth oci run -b /b/bad bad2; echo "plain: $?"
systemctl list-units --all --no-legend 'test-*' | sed 's/^/left: /'

printf 'profile berth-test flags=(attach_disconnected,mediate_deleted) { file, capability, deny /secret r, }' | apparmor_parser -K -r
echo mine > /b/rootfs/secret
oci run -b /b/confined confined 2>&1 | sed 's/^/confined: /'
oci run -b /b/unknown unknown; echo "unknown: $?"
oci run -d -b /b/free free > /dev/null; oci exec --apparmor berth-test free cat /proc/self/attr/current | sed 's/^/added: /'
oci exec free cat /proc/self/attr/current | sed 's/^/free: /'; oci delete -f free
mkdir -p /b/rootfs/proc/self/attr/apparmor; for file in exec apparmor/exec; do : > /b/rootfs/proc/self/attr/$file; chmod 666 /b/rootfs/proc/self/attr/$file; done
oci run -d -b /b/fake fake > /dev/null; echo "fake: $(cat /proc/$(pid fake)/attr/current)"
oci exec -d --pid-file /added --apparmor berth-test fake sleep 1000; echo "fake, added: $(cat /proc/$(cat /added)/attr/current)"
cat /b/rootfs/proc/self/attr/exec /b/rootfs/proc/self/attr/apparmor/exec | wc -c | sed 's/^/written to the fake: /'; oci delete -f fake
oci run -b /b/selinux selinux; echo "selinux: $?"
oci list -q | sed 's/^/left: /'; find /sys/fs/cgroup -name 'test-*' | sed 's/^/left: /'
"#;

#[test]
fn systemd_makes_the_cgroups_and_security_modules_label_processes() {
    let limits = |config: &mut Value| {
        config["linux"]["resources"]["memory"] = json!({ "limit": 64 << 20, "reservation": 8 << 20 });
        config["linux"]["resources"]["cpu"] = json!({ "quota": 50000, "period": 100000, "shares": 512 });
        config["linux"]["resources"]["pids"] = json!({ "limit": 20 });
        config["linux"]["resources"]["unified"] = json!({ "memory.high": "50331648" });
    };
    let profile = |name: &'static str| move |config: &mut Value| config["process"]["apparmorProfile"] = json!(name);
    let whoami = "cat /proc/self/attr/current; cat /secret";
    let files = vec![
        document("limited", "sleep 1000", limits),
        document("hungry", "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done", |config| {
            config["linux"]["resources"]["memory"] = json!({ "limit": 16 << 20, "swap": 16 << 20 });
        }),
        document(
            "forks",
            "for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; wait",
            |config| {
                config["linux"]["resources"]["pids"] = json!({ "limit": 5 });
            },
        ),
        document("bad", "true", |config| {
            config["linux"]["cgroupsPath"] = json!("/a/path")
        }),
        document("confined", whoami, profile("berth-test")),
        document("unknown", whoami, profile("no-such-profile")),
        document("free", "sleep 1000", |_| ()),
        // CVE-2019-16884, CVE-2023-28642, CVE-2025-52881: a `/proc` of the image's gets no label.
        document("fake", "sleep 1000", |config| {
            config["process"]["apparmorProfile"] = json!("berth-test");
            let mounts = config["mounts"].as_array_mut().expect("a list");
            mounts.retain(|m| m["destination"] != "/proc");
            config["linux"]["maskedPaths"] = json!([]);
            config["linux"]["readonlyPaths"] = json!([]);
        }),
        document("selinux", "true", |config| {
            config["process"]["selinuxLabel"] = json!("a:b:c:s0")
        }),
    ];
    let out = run_with_systemd(files, SCRIPT).ok();
    for line in [
        "run: 0",
        "scope: active",
        "MemoryMax=67108864",
        "TasksMax=20",
        "CPUQuotaPerSecUSec=500ms",
        "Slice=machine.slice",
        "Delegate=yes",
        "0::/machine.slice/test-limited.scope",
        "memory.max:67108864",
        "memory.low:8388608",
        "memory.high:50331648",
        "pids.max:20",
        "cpu.max:50000 100000",
        "update: 0",
        // What systemd does not know it would take back.
        "reloaded: MemoryMax=33554432",
        "reloaded: 33554432",
        "exec: 0::/",
        "inside: 20",
        "devices: restricted",
        "  \"status\": \"paused\",",
        "frozen: 1",
        "delete: 0",
        "after: inactive",
        "after: no cgroup",
        "hungry: 137",
        "forks: 1",
        "bad: 1",
        "plain: 0",
        "confined: berth-test (enforce)",
        "confined: cat: can't open '/secret': Permission denied",
        "unknown: 1",
        "added: berth-test (enforce)",
        "free: unconfined",
        "fake: berth-test (enforce)",
        "fake, added: berth-test (enforce)",
        "written to the fake: 0",
        "selinux: 1",
    ] {
        assert!(out.lines().any(|l| l == line), "{line:?} is not there:\n{out}");
    }
    assert!(out.contains("expected to be of format \"slice:prefix:name\""), "{out}");
    assert!(out.contains("process.selinuxLabel: SELinux is not enabled"), "{out}");
    assert!(!out.contains("left: "), "{out}");
}
