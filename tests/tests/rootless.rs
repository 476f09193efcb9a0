//! `berth oci` for a user who is not root: with subordinate ids, and with no id but its own.

use berth_tests::bundle::Bundle;
use berth_tests::users::{self, SUBORDINATE, USER};
use serde_json::json;

/// A bundle of the user's, and what it maps.
fn bundle(with_ids: bool) -> Bundle {
    let etc = tempfile::Builder::new()
        .prefix("berth-etc-")
        .tempdir_in("/var/tmp")
        .expect("a directory")
        .keep();
    users::provide(&etc, with_ids);
    let program = etc.join("berth").display().to_string();
    let words = [users::words(&etc), vec![program, "oci".into()]].concat();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut bundle = Bundle::of(&words);
    let owned = std::process::Command::new("chown")
        .args(["-R", "4711:4711"])
        .arg(bundle.dir.path())
        .status();
    assert!(owned.expect("start chown").success());
    let linux = &mut bundle.config["linux"];
    let list = |own: u32| match with_ids {
        true => json!([
            { "containerID": 0, "hostID": own, "size": 1 },
            { "containerID": 1, "hostID": SUBORDINATE, "size": 65535 },
        ]),
        false => json!([{ "containerID": 0, "hostID": own, "size": 1 }]),
    };
    linux["uidMappings"] = list(USER);
    linux["gidMappings"] = list(USER);
    linux["resources"] = json!({});
    linux["namespaces"]
        .as_array_mut()
        .expect("a list")
        .push(json!({ "type": "user" }));
    let mounts = bundle.config["mounts"].as_array_mut().expect("a list");
    mounts.retain(|m| m["destination"] != "/sys/fs/cgroup");
    for mount in mounts {
        if let Some(options) = mount["options"].as_array_mut().filter(|_| !with_ids) {
            options.retain(|o| o != "gid=5");
        }
    }
    bundle
}

#[test]
fn a_user_runs_execs_stops_and_removes_containers() {
    for with_ids in [true, false] {
        let mut bundle = bundle(with_ids);
        let etc = bundle.etc();
        let ran = bundle
            .script("id -u; cat /proc/self/uid_map | wc -l; touch /made; stat -c %u /made; hostname")
            .run();
        let lines = if with_ids { 2 } else { 1 };
        assert_eq!(ran.out, format!("0\n{lines}\n0\nberth"), "{with_ids}: {ran:?}");
        let made = std::fs::metadata(bundle.path("rootfs/made")).expect("the file");
        assert_eq!(std::os::unix::fs::MetadataExt::uid(&made), USER);
        if with_ids {
            bundle.config["process"]["user"] = json!({ "uid": 33, "gid": 34, "additionalGids": [44] });
            let ran = bundle.script("id -u; id -g; id -G").run();
            assert_eq!(ran.out, "33\n34\n34 44", "{ran:?}");
            bundle.config["process"]["user"] = json!({ "uid": 0, "gid": 0 });
        }
        let id = Bundle::id();
        bundle.args(&["sleep", "100"]);
        bundle.detached(&["create", &id]).ok();
        assert!(bundle.do_(&["state", &id]).ok().contains("created"));
        bundle.do_(&["start", &id]).ok();
        let ran = bundle.do_(&["exec", &id, "sh", "-c", "ps -o args | sed -n 2p; exit 7"]);
        assert_eq!((ran.code, ran.out.as_str()), (7, "sleep 100"), "{with_ids}: {ran:?}");
        bundle.do_(&["exec", &id, "/nosuch"]).fails(255, "no such file");
        bundle.do_(&["kill", &id, "KILL"]).ok();
        berth_tests::eventually("it stops", || bundle.do_(&["state", &id]).out.contains("stopped"));
        bundle.do_(&["delete", &id]).ok();
        assert!(bundle.leftovers().is_empty());
        std::fs::remove_dir_all(etc).expect("remove");
    }
}

#[test]
fn a_user_gets_no_ids_that_are_not_its_own_and_no_limits_that_cannot_be() {
    let mut bundle = bundle(true);
    let etc = bundle.etc();
    bundle.args(&["true"]);
    let right = bundle.config.clone();
    bundle.config["linux"]["uidMappings"][1]["hostID"] = json!(800_000);
    bundle.run().fails(1, "newuidmap");
    bundle.config = right.clone();
    bundle.config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
    bundle.run().fails(1, "newuidmap");
    bundle.config = right;
    bundle.config["linux"]["resources"] = json!({ "pids": { "limit": 10 } });
    bundle.run().fails(1, "cgroup");
    assert!(bundle.leftovers().is_empty());
    std::fs::remove_dir_all(etc).expect("remove");
}
