//! What a container changed: `diff`, `commit`, `export`; what an image is made of, and what takes the space.

use berth_tests::{BUSYBOX, Berth};
use std::process::Command;

/// Everything that a layer can hold, done by a container.
const WORK: &str = "
    echo new > /data/new; rm /data/seed; mkdir -p /a/b; echo deep > /a/b/c; ln /a/b/c /a/hard; ln -s b/c /a/soft
    chown 33:34 /a/b/c; chmod 4755 /a/b/c; mkfifo /a/fifo
    rm -r /etc; mkdir /etc; echo only > /etc/only
    mkdir /a/b/empty; touch -d '2001-02-03 04:05:06' /a/b/empty; chmod 700 /root; printf '\\377x' > /a/$(printf '\\377name')
";

fn worked(berth: &Berth) -> String {
    let id = berth
        .run(&["run", "-d", "--network", "none", BUSYBOX, "sh", "-c", WORK])
        .ok();
    assert_eq!(berth.run(&["wait", &id]).ok(), "0", "{}", berth.run(&["logs", &id]).err);
    id
}

#[test]
fn diff_is_dockers() {
    let berth = Berth::new();
    let id = worked(&berth);
    let changes = berth.run(&["diff", &id]).ok();
    let expected = "A /a
A /a/b
A /a/b/c
A /a/b/empty
A /a/fifo
A /a/hard
A /a/soft
A /a/\u{fffd}name
C /data
A /data/new
D /data/seed
C /etc
D /etc/group
A /etc/only
D /etc/passwd
C /root";
    assert_eq!(changes, expected);
    let untouched = berth.run(&["create", "--network", "none", BUSYBOX]).ok();
    assert_eq!(berth.run(&["diff", &untouched]).ok(), "");
    berth.run(&["diff", "nobody"]).fails(1, "No such container: nobody");
}

#[test]
fn a_committed_image_is_the_container_again() {
    let berth = Berth::new();
    let id = worked(&berth);
    let image = berth
        .run(&[
            "commit",
            "-a",
            "me",
            "-m",
            "a word",
            "-c",
            "CMD [\"cat\", \"/a/hard\"]",
            "-c",
            "ENV X=1",
            &id,
            "made:1",
        ])
        .ok();
    assert_eq!(berth.inspect("made:1", "{{.Id}}"), image);
    assert_eq!(
        berth.inspect(
            "made:1",
            "{{.Author}} {{.Comment}} {{len .RootFS.Layers}} {{index .Config.Env 0}}"
        ),
        "me a word 2 X=1"
    );
    assert_eq!(berth.run(&["run", "--rm", "--network", "none", "made:1"]).ok(), "deep");
    let look = "ls -A /data /etc /a; stat -c '%u %g %a %h %Y' /a/b/c /a/b/empty /root; readlink /a/soft; cat /a/*name";
    let run = |image: &str, command: &str| {
        berth
            .run(&["run", "--rm", "--network", "none", image, "sh", "-c", command])
            .ok()
    };
    let (before, after) = (run(BUSYBOX, &format!("{WORK}{look}")), run("made:1", look));
    // Berth's own layer gives every container a link `mtab`, also where its base's was taken away.
    let without_now = |text: &str| {
        text.lines()
            .filter(|l| !l.starts_with("0 0 700") && *l != "mtab")
            .map(|l| {
                l.rsplit_once(' ')
                    .map_or(l, |(head, time)| {
                        if time.len() == 10 && time > "1100000000" {
                            head
                        } else {
                            l
                        }
                    })
                    .to_owned()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(without_now(&before), without_now(&after));
    let history = berth
        .run(&["history", "--format", "{{.ID}}|{{.CreatedBy}}|{{.Comment}}", "made:1"])
        .ok();
    let lines: Vec<_> = history.lines().collect();
    assert!(
        lines[0].starts_with(&image[7..19]) && lines[0].ends_with("|a word"),
        "{history}"
    );
    assert!(lines[1].starts_with("<missing>|"), "{history}");
    // Nothing changed: no layer, but a line of history.
    let idle = berth.run(&["create", "--network", "none", "made:1"]).ok();
    berth.run(&["commit", &idle, "same:1"]).ok();
    assert_eq!(berth.inspect("same:1", "{{len .RootFS.Layers}}"), "2");
    assert_eq!(berth.run(&["history", "-q", "same:1"]).ok().lines().count(), 3);
    berth.run(&["commit", &id, "Bad:1"]).fails(1, "must be lowercase");
}

#[test]
fn capabilities_of_a_container_are_an_images() {
    let berth = Berth::new();
    let id = berth.start(&[], &["sleep", "1000"]);
    let pid = berth.inspect(&id, "{{.State.Pid}}");
    // busybox has no setcap: the kernel is asked from within the container's user namespace.
    let script = "import os; os.setxattr('/bin/busybox', 'security.capability', bytes.fromhex('0100000200200000000000000000000000000000'))";
    let root = format!("/proc/{pid}/root");
    let done = Command::new("nsenter")
        .args([
            "-t",
            &pid,
            "-U",
            "--",
            "python3",
            "-c",
            &script.replace("/bin/busybox", &format!("{root}/bin/busybox")),
        ])
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    berth.run(&["commit", &id, "caps:1"]).ok();
    assert_eq!(
        berth.inspect(&id, "{{.State.Status}}"),
        "running",
        "it was frozen for a moment only"
    );
    let tar = berth.path("caps.tar");
    berth.run(&["save", "-o", &tar, "caps:1"]).ok();
    let found = std::fs::read(&tar).unwrap();
    let record = b"SCHILY.xattr.security.capability=\x01\x00\x00\x02\x00\x20";
    assert!(
        found.windows(record.len()).any(|w| w == record),
        "a capability without a user namespace's root"
    );
    berth.run(&["rm", "-f", &id]).ok();
}

#[test]
fn an_export_is_a_whole_root() {
    let berth = Berth::new();
    let id = worked(&berth);
    let tar = berth.path("root.tar");
    berth.run(&["export", "-o", &tar, &id]).ok();
    let list = Command::new("tar")
        .args(["--numeric-owner", "-tvf", &tar])
        .output()
        .unwrap();
    assert!(list.status.success(), "{list:?}");
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    for words in [
        "-rwsr-xr-x 33/34",
        "a/hard link to a/b/c",
        "bin/busybox",
        "etc/only",
        "proc/",
        ".dockerenv",
    ] {
        assert!(list.contains(words), "{words}: {list}");
    }
    assert!(!list.contains("data/seed") && !list.contains("etc/passwd"), "{list}");
    // A running container, to standard output; and back.
    let running = berth.start(&[], &["sh", "-c", "echo here > /data/now; sleep 1000"]);
    berth_tests::eventually("it has written", || {
        berth.run(&["diff", &running]).out.contains("A /data/now")
    });
    let bytes = berth.command(&["export", &running]).output().unwrap().stdout;
    berth.run(&["rm", "-f", &running]).ok();
    std::fs::write(&tar, bytes).unwrap();
    berth.run(&["import", &tar, "again:1"]).ok();
    assert_eq!(
        berth
            .run(&["run", "--rm", "--network", "none", "again:1", "cat", "/data/now"])
            .ok(),
        "here"
    );
}

#[test]
fn prune_takes_what_nothing_needs() {
    let berth = Berth::new();
    let import = |label: &str, name: &str| {
        let tar = berth.path("busybox.tar");
        let mut words = vec!["import", "-c", label, &tar];
        words.extend((!name.is_empty()).then_some(name));
        berth.run(&words).ok()
    };
    let dangling = import("LABEL n=1", "");
    let kept = import("LABEL n=2", "");
    import("LABEL n=3", "named:1");
    let used = berth.run(&["create", "--network", "none", BUSYBOX]).ok();
    let out = berth
        .run(&["image", "prune", "-f", "--filter", "label!=n=2", "--filter", "until=0s"])
        .ok();
    assert!(
        out.starts_with(&format!("Deleted Images:\ndeleted: {dangling}\n")),
        "{out}"
    );
    assert!(
        out.ends_with("Total reclaimed space: 0B"),
        "the layer is another image's: {out}"
    );
    berth.run(&["inspect", &kept]).ok();
    assert_eq!(
        berth.run(&["image", "prune", "-f", "--filter", "until=10h"]).ok(),
        "Total reclaimed space: 0B"
    );
    berth
        .run(&["image", "prune", "-f", "--filter", "color=red"])
        .fails(1, "invalid filter 'color'");
    let asked = berth.feed(&["image", "prune"], b"n\n");
    assert!(
        asked.out.contains("all dangling images") && berth.run(&["inspect", &kept]).code == 0,
        "{asked:?}"
    );
    let out = berth.run(&["image", "prune", "-a", "-f"]).ok();
    assert!(out.contains("untagged: named:1") && out.contains(&kept), "{out}");
    assert_eq!(berth.run(&["images", "--format", "{{.Repository}}"]).ok(), "busybox");
    berth.run(&["rm", &used]).ok();
    let out = berth.run(&["image", "prune", "-a", "-f"]).ok();
    assert!(out.contains("untagged: busybox:test") && !out.ends_with(" 0B"), "{out}");
}

#[test]
fn df_is_what_du_says() {
    let berth = Berth::new();
    berth
        .run(&[
            "run",
            "--network",
            "none",
            "-v",
            "vol:/v",
            BUSYBOX,
            "sh",
            "-c",
            "echo x > /v/x; dd if=/dev/zero of=/big bs=1M count=3",
        ])
        .ok();
    let id = worked(&berth);
    berth.run(&["commit", &id, "second:1"]).ok();
    let out = berth.run(&["system", "df", "-v"]).ok();
    let du = Command::new("du")
        .args(["-s", "-B1", &berth.path("data")])
        .output()
        .unwrap();
    let du: f64 = String::from_utf8_lossy(&du.stdout)
        .split('\t')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let said = out.rsplit("as du counts: ").next().unwrap().trim();
    let said: f64 = said.trim_end_matches("MB").parse::<f64>().unwrap() * 1e6;
    // Three digits are shown, and the log of the database grows by the very question.
    assert!((said - du).abs() < 60_000.0, "{said} {du}: {out}");
    let table = berth
        .run(&["system", "df", "--format", "{{.Type}} {{.TotalCount}} {{.Active}}"])
        .ok();
    assert_eq!(
        table,
        "Images 2 1\nContainers 2 0\nLocal Volumes 1 1\nBuild Cache 0 0\nOther 0 0"
    );
    let json = berth.run(&["system", "df", "-v", "--format", "json"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["Images"][0]["SharedSize"], json["Images"][1]["SharedSize"]);
}
