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
run --pids-limit 5 busybox:test sh -c 'for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; wait' 2>&1 | grep -c "can't fork" | sed 's/^/forks: /'
id=$(berth run -d --network none --cpus 0.5 busybox:test sh -c 'while :; do :; done')
cat $(find /sys/fs/cgroup -name "$id")/cpu.max $(find /sys/fs/cgroup -name "$id")/cpu.cfs_quota_us 2> /dev/null | sed 's/^/cpu: /'
before=$(cat /proc/$(berth inspect -f '{{.State.Pid}}' $id)/stat | cut -d' ' -f14); sleep 2
after=$(cat /proc/$(berth inspect -f '{{.State.Pid}}' $id)/stat | cut -d' ' -f14)
echo "ticks: $((after - before))"
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
    // Half of a processor for two seconds, at a hundred ticks a second.
    let ticks = out.lines().find_map(|l| l.strip_prefix("ticks: ")).unwrap();
    assert!(ticks.parse::<u32>().unwrap() < 150, "{out}");
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

#[test]
fn an_old_kernel_is_named_and_what_helps() {
    let script = r#"
berth import -c 'CMD ["sh"]' /busybox.tar busybox:test > /dev/null
berth run --rm --network none busybox:test echo mapped; echo "code: $?"
berth run --rm --network none --userns host busybox:test echo unmapped; echo "code: $?"
echo 0 > /proc/sys/user/max_user_namespaces
berth run --rm --network none busybox:test echo mapped; echo "code: $?"
berth ps -aq
find /sys/fs/cgroup -path '*/berth/*' -type d
"#;
    let out = run("bullseye", Cgroups::V2, script).ok();
    let said = |words: &str| assert!(out.contains(words), "{words:?} is not there:\n{out}");
    said("berth: idmap the layers (mount_setattr): function not implemented\nhint: the file system of");
    said("berth: attach the layers: function not implemented\nhint: this kernel is too old for it");
    said("see /proc/sys/user/max_user_namespaces");
    assert_eq!(out.matches("code: 125").count(), 3, "{out}");
    // Nothing is left: no container, no cgroup.
    assert!(out.ends_with("code: 125"), "{out}");
}
