//! Control groups of other kinds than this host's, and kernels other than this host's: on machines of their own.

use berth_tests::machine::{Cgroups, run};

/// Each check of the script prints a line; a limit that acts is seen from inside and from outside.
const SCRIPT: &str = r#"
run() { berth run --rm --network none "$@"; }
berth import -c 'CMD ["sh"]' /busybox.tar busybox:test > /dev/null
echo "hello: $(run busybox:test echo hello)"
run --memory 32m busybox:test sh -c 'x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done'
echo "memory: $?"
run --memory 64m busybox:test sh -c 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2> /dev/null' | sed 's/^/limit: /'
run --pids-limit 5 busybox:test sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 60 & done; wait' 2>&1 | grep -c "can't fork" | sed 's/^/forks: /'
id=$(berth run -d --network none --cpus 0.5 busybox:test sh -c 'while :; do :; done')
cat $(find /sys/fs/cgroup -name "$id")/cpu.max $(find /sys/fs/cgroup -name "$id")/cpu.cfs_quota_us 2> /dev/null | sed 's/^/cpu: /'
pid=$(berth inspect -f '{{.State.Pid}}' $id)
took() { awk '{ printf "%d ", $14 }' /proc/$pid/stat; awk '{ print int($1 * 100) }' /proc/uptime; }
before=$(took); sleep 2; after=$(took)
echo "ticks: $((${after% *} - ${before% *})) $((${after#* } - ${before#* }))"
berth rm -f $id > /dev/null
id=$(berth run -d --network none --memory 16m busybox:test sh -c 'sleep 1; x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done')
berth wait $id | sed 's/^/waited: /'
echo "killed: $(berth inspect -f '{{.State.OOMKilled}}' $id)"
berth rm $id > /dev/null
run --userns host --cap-add MKNOD busybox:test sh -c 'mknod /tmp/kmsg c 1 11 && ! cat /tmp/kmsg 2> /dev/null && mknod /tmp/null c 1 3 && echo x > /tmp/null && echo "devices: restricted"'
run --privileged busybox:test sh -c 'dd if=/dev/kmsg of=/dev/null bs=8192 count=1 2> /dev/null && echo "privileged: may"'
find /sys/fs/cgroup -path '*/berth/*' -type d | sed 's/^/left: /'
"#;

fn check(suite: &str, cgroups: Cgroups, limit: &str, cpu: &str) {
    let out = run(suite, cgroups, SCRIPT).ok();
    for line in [
        "hello: hello",
        "memory: 137",
        limit,
        "forks: 1",
        cpu,
        "waited: 137",
        "killed: true",
        "devices: restricted",
        "privileged: may",
    ] {
        assert!(out.lines().any(|l| l == line), "{line:?} is not there:\n{out}");
    }
    assert!(!out.contains("left: "), "{out}");
    // Half of a processor, in the machine's own time: not three quarters.
    let ticks = out.lines().find_map(|l| l.strip_prefix("ticks: ")).unwrap();
    let (used, of) = ticks.split_once(' ').unwrap();
    assert!(
        used.parse::<u32>().unwrap() * 4 < of.parse::<u32>().unwrap() * 3,
        "{out}"
    );
}

#[test]
fn limits_act_where_there_is_version_2_alone() {
    check("trixie", Cgroups::V2, "limit: 67108864", "cpu: 50000 100000");
}

/// The last kernel of Debian whose version 1 has all controllers.
#[test]
fn limits_act_where_there_is_version_1_alone() {
    check("bookworm", Cgroups::V1, "limit: 67108864", "cpu: 50000");
}

/// Without idmapped mounts, without mount_setattr, without overlays in user namespaces: the layers' owners are shifted.
#[test]
fn the_oldest_kernel_does_without_what_newer_ones_have() {
    let script = r#"
berth import -c 'CMD ["sh"]' /busybox.tar busybox:test > /dev/null
run() { berth run --network none "$@"; }
run --rm busybox:test sh -c 'echo "$(id -u) $(stat -c %u:%g /bin/busybox) $(stat -c %u /) $(cat /proc/self/uid_map)" && touch /bin/new && stat -c %u /bin/new'
run --rm -u 33 busybox:test sh -c 'cat /data/seed || echo "not for 33"'
run --rm --read-only busybox:test sh -c 'touch /x || echo "read-only"'
run --rm busybox:test sh -c 'echo 1 > /proc/sys/kernel/domainname || echo "protected"; mount | grep " / "' 2>&1
mkdir -p /var/b && echo bound > /var/b/f && run --rm -v /var/b:/b:ro busybox:test sh -c 'cat /b/f; touch /b/x || echo "bound read-only"'
id=$(run -d --name kept busybox:test sh -c 'echo first > /tmp/kept; sleep 100')
berth exec kept sh -c 'until [ -s /tmp/kept ]; do sleep 0.1; done; cat /tmp/kept; mount | grep -c " /sys "'
berth restart -t 0 kept > /dev/null; berth exec kept cat /tmp/kept; berth rm -f kept > /dev/null
run -d --name memory --ipc shareable busybox:test sh -c 'echo "shared memory" > /dev/shm/f; sleep 100' > /dev/null
until berth exec memory test -s /dev/shm/f; do sleep 0.1; done
run --rm --ipc container:memory busybox:test cat /dev/shm/f; berth rm -f memory > /dev/null
run --rm --userns host busybox:test sh -c 'stat -c "host users %u" /bin/busybox'
run --rm --privileged busybox:test sh -c 'dd if=/dev/kmsg of=/dev/null bs=8192 count=1 2> /dev/null && echo "privileged: may"'
echo 0 > /proc/sys/user/max_user_namespaces
run --rm busybox:test echo mapped; echo "code: $?"
berth ps -aq
find /sys/fs/cgroup -path '*/berth/*' -type d
"#;
    let out = run("bullseye", Cgroups::V2, script).ok();
    let said = |words: &str| assert!(out.contains(words), "{words:?} is not there:\n{out}");
    said("0 0:0 0          0 1879048192     262144\n0\n");
    said("not for 33");
    said("read-only\n");
    said("protected");
    said("nodev");
    said("bound\n");
    said("bound read-only");
    said("first\n1\nfirst\n");
    said("shared memory\n");
    said("host users 0");
    said("privileged: may");
    said("see /proc/sys/user/max_user_namespaces");
    // Nothing is left: no container, no cgroup.
    assert!(out.ends_with("code: 125"), "{out}");
}
