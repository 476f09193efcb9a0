//! Layers: the rules of the OCI image specification ("Image Layer Filesystem Changeset") as a table, many of them, old
//! kernels, cut power.

use berth_tests::machine::Machine;
use berth_tests::{Berth, Tar, busybox};
use std::process::Command;
use std::time::Duration;

/// Puts an archive together as docker writes it: layers, bottom first.
fn archive(berth: &Berth, name: &str, layers: &[Vec<u8>]) -> String {
    let digest = |bytes: &[u8]| berth_tests::registry::digest(bytes);
    let ids: Vec<String> = layers.iter().map(|l| format!("\"{}\"", digest(l))).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["PATH=/bin"]}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        ids.join(",")
    );
    let mut tar = Tar::default();
    tar.file("config.json", 0o644, config.as_bytes());
    let mut names = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        tar.file(&format!("{number}.tar"), 0o644, layer);
        names.push(format!("\"{number}.tar\""));
    }
    let manifest = format!(
        r#"[{{"Config":"config.json","RepoTags":["{name}"],"Layers":[{}]}}]"#,
        names.join(",")
    );
    tar.file("manifest.json", 0o644, manifest.as_bytes());
    let path = berth.path("layers.tar");
    std::fs::write(&path, tar.finish()).unwrap();
    path
}

/// A layer: `dir/` a directory, `name=text` a file, `name->target` a symbolic link, `name=>target` a hard one.
fn layer(entries: &[&str]) -> Vec<u8> {
    let mut tar = Tar::default();
    for entry in entries {
        if let Some((name, target)) = entry.split_once("=>") {
            tar.hard_link(name, target);
        } else if let Some((name, target)) = entry.split_once("->") {
            tar.link(name, target);
        } else if let Some((name, text)) = entry.split_once('=') {
            tar.file(name, 0o644, text.as_bytes());
        } else {
            tar.directory(entry, 0o755);
        }
    }
    tar.finish()
}

#[test]
fn layers_add_replace_and_hide_by_the_specification() {
    let berth = Berth::empty();
    // What a lower layer has, what the next one says, what there is then (`find` below /t, contents after `=`).
    let table: &[(&str, &[&str], &[&str], &str)] = &[
        ("an addition", &["t/", "t/a=1"], &["t/b=2"], "a=1 b=2"),
        ("a replacement", &["t/", "t/a=1"], &["t/a=2"], "a=2"),
        ("a whiteout", &["t/", "t/a=1", "t/b=1"], &["t/.wh.a="], "b=1"),
        (
            "a whiteout of a directory",
            &["t/", "t/d/", "t/d/x=1"],
            &["t/.wh.d="],
            "",
        ),
        ("a whiteout of nothing", &["t/", "t/a=1"], &["t/.wh.b="], "a=1"),
        (
            "a whiteout hides what is below, not beside it",
            &["t/", "t/a=1"],
            &["t/a=2", "t/.wh.a="],
            "a=2",
        ),
        (
            "the same the other way round",
            &["t/", "t/a=1"],
            &["t/.wh.a=", "t/a=2"],
            "a=2",
        ),
        (
            "opaque",
            &["t/", "t/d/", "t/d/x=1", "t/d/e/", "t/d/e/y=1"],
            &["t/d/", "t/d/.wh..wh..opq=", "t/d/z=2"],
            "d/ d/z=2",
        ),
        (
            "opaque last",
            &["t/", "t/d/", "t/d/x=1"],
            &["t/d/", "t/d/z=2", "t/d/.wh..wh..opq="],
            "d/ d/z=2",
        ),
        (
            "opaque without its directory",
            &["t/", "t/d/", "t/d/x=1"],
            &["t/d/.wh..wh..opq="],
            "d/",
        ),
        (
            "opaque where there was nothing",
            &["t/"],
            &["t/d/", "t/d/.wh..wh..opq=", "t/d/z=2"],
            "d/ d/z=2",
        ),
        (
            "a directory stays merged",
            &["t/", "t/d/", "t/d/x=1"],
            &["t/d/", "t/d/y=2"],
            "d/ d/x=1 d/y=2",
        ),
        (
            "a directory becomes a file",
            &["t/", "t/d/", "t/d/x=1"],
            &["t/d=2"],
            "d=2",
        ),
        (
            "a file becomes a directory",
            &["t/", "t/d=1"],
            &["t/d/", "t/d/x=2"],
            "d/ d/x=2",
        ),
        (
            "a link becomes a directory",
            &["t/", "t/e/", "t/e/x=1", "t/d->e"],
            &["t/d/", "t/d/y=2"],
            "d/ d/y=2 e/ e/x=1",
        ),
        (
            "a directory becomes a link",
            &["t/", "t/d/", "t/d/x=1", "t/e/"],
            &["t/d->e"],
            "d->e e/",
        ),
        ("a hard link within a layer", &["t/"], &["t/a=1", "t/b=>t/a"], "a=1 b=1"),
        (
            "whiteout, then a directory of that name",
            &["t/", "t/d/", "t/d/x=1"],
            &["t/.wh.d=", "t/d/", "t/d/y=2"],
            "d/ d/y=2",
        ),
        (
            "notes of aufs",
            &["t/", "t/a=1"],
            &["t/.wh..wh.aufs=", "t/.wh..wh.plnk=", "t/.wh..wh.orph="],
            "a=1",
        ),
        (
            "a hidden parent",
            &["t/", "t/d/", "t/d/e/", "t/d/e/x=1"],
            &["t/.wh.d=", "t/d/e/y=2"],
            "d/ d/e/ d/e/y=2",
        ),
        (
            "no entry for the parent",
            &["t/"],
            &["t/new/deep/x=1"],
            "new/ new/deep/ new/deep/x=1",
        ),
    ];
    let look = "cd /t && find . -mindepth 1 | sort | while read -r f; do f=${f#./}; if [ -L \"$f\" ]; then echo \"$f->$(readlink \"$f\")\"; \
                elif [ -d \"$f\" ]; then echo \"$f/\"; else echo \"$f=$(cat \"$f\")\"; fi; done";
    for (what, below, above, expected) in table {
        let path = archive(&berth, "rules:1", &[busybox(), layer(below), layer(above)]);
        berth.run(&["load", "-i", &path]).ok();
        let seen = berth
            .run(&["run", "--rm", "--network", "none", "rules:1", "sh", "-c", look])
            .ok();
        assert_eq!(seen.lines().collect::<Vec<_>>().join(" "), *expected, "{what}");
    }
}

#[test]
fn gnu_tars_ways_all_come_back() {
    let berth = Berth::empty();
    let script = r#"
        mkdir -p tree/many && cd tree
        truncate -s 5M hole; printf end >> hole; truncate -s 1M empty; printf x | dd of=middle bs=1 seek=700000 conv=notrunc status=none; truncate -s 2M middle
        for i in $(seq 0 2 40); do printf "piece$i" | dd of=pieces bs=4096 seek=$((i*3)) conv=notrunc status=none; done
        printf text > "$(printf 'caf\351')"; ln pieces link; touch -d '1969-12-31 23:59:58.25' old; touch -d '2020-01-01 00:00:00.123456789' nano
    "#;
    let dir = berth.path("");
    let made = Command::new("sh")
        .args(["-ec", script])
        .current_dir(&dir)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for format in [
        "gnu",
        "pax",
        "pax --sparse-version=0.0",
        "pax --sparse-version=0.1",
        "oldgnu",
    ] {
        let tar = berth.path("tree.tar");
        let words = format!("tar --format={format} --sparse -C tree -cf tree.tar .");
        assert!(
            Command::new("sh")
                .args(["-c", &words])
                .current_dir(&dir)
                .status()
                .unwrap()
                .success()
        );
        let id = berth.run(&["import", &tar]).ok();
        let place = berth.run(&["image", "mount", &id]).ok();
        let compare = format!(
            "diff -r tree {place} && cd {place} && find . ! -path './many/*' -printf '%P %y %m %s %n %T@\\n' | sort"
        );
        let seen = Command::new("sh")
            .args(["-c", &compare])
            .current_dir(&dir)
            .output()
            .unwrap();
        assert!(
            seen.status.success(),
            "{format}: {}",
            String::from_utf8_lossy(&seen.stdout)
        );
        let mut seen = String::from_utf8_lossy(&seen.stdout).into_owned();
        let hole = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(format!("{place}/hole")).unwrap());
        assert!(hole < 100, "{format}: a file with holes stays one");
        if format.starts_with("pax") {
            let whole = Command::new("sh")
                .args([
                    "-c",
                    "cd tree && find . ! -path './many/*' -printf '%P %y %m %s %n %T@\\n' | sort",
                ])
                .current_dir(&dir)
                .output()
                .unwrap();
            let lines = |text: &str| {
                text.lines()
                    .filter(|l| l.starts_with("old ") || l.starts_with("nano ") || l.starts_with("link "))
                    .map(String::from)
                    .collect::<Vec<_>>()
            };
            assert_eq!(lines(&seen), lines(&String::from_utf8_lossy(&whole.stdout)), "{format}");
            seen.clear();
        }
        berth.run(&["image", "unmount", &id]).ok();
        // The layer's tar comes back byte by byte: that is what `save` and `check` read.
        assert_eq!(
            berth.run(&["system", "check"]).ok(),
            "Everything is as it came.",
            "{format}"
        );
        berth.run(&["rmi", &id]).ok();
    }
}

#[test]
fn a_directory_of_a_hundred_thousand_files_is_unpacked_and_packed() {
    let berth = Berth::empty();
    let mut many = Tar::default();
    for number in 0..100_000 {
        many.file(&format!("many/file{number:06}"), 0o644, b"");
    }
    let path = archive(&berth, "many:1", &[busybox(), many.finish()]);
    berth.run(&["load", "-i", &path]).ok();
    let count = [
        "run",
        "--name",
        "count",
        "--network",
        "none",
        "many:1",
        "sh",
        "-c",
        "rm /many/file000001; touch /many/x; ls /many | wc -l",
    ];
    assert_eq!(berth.run(&count).ok(), "100000");
    assert_eq!(
        berth.run(&["diff", "count"]).ok(),
        "C /many\nD /many/file000001\nA /many/x"
    );
    assert_eq!(berth.run(&["system", "check"]).ok(), "Everything is as it came.");
}

#[test]
fn hundreds_of_layers_run() {
    let berth = Berth::empty();
    let mut layers = vec![busybox()];
    layers.extend((0..400).map(|n| layer(&[&format!("l/{n}=x")])));
    let path = archive(&berth, "many:1", &layers);
    berth.run(&["load", "-i", &path]).ok();
    let out = berth.run(&[
        "run",
        "--rm",
        "--network",
        "none",
        "many:1",
        "sh",
        "-c",
        "ls /l | wc -l; echo new > /l/0; cat /l/0",
    ]);
    assert_eq!(out.ok(), "400\nnew");
}

/// 6.1: overlayfs is told all layers at once there.
#[test]
fn many_layers_run_on_an_old_kernel() {
    let script = r#"
        berth import -c 'CMD ["sh"]' /busybox.tar n:0 > /dev/null
        for i in 1 2 3 4 5 6 7; do
            berth run --name made --network none n:$((i-1)) sh -c "echo $i > /data/$i; rm -f /data/$((i-2))"
            berth commit made n:$i > /dev/null; berth rm made > /dev/null
        done
        berth run --rm --network none n:7 sh -c 'cat /data/*' | tr '\n' ' '
        berth create --name last --network none n:7 true > /dev/null; berth export last | tar -t | grep -c '^data/'; berth diff last; berth rm last > /dev/null
        berth system check
    "#;
    let out = Machine::new("bookworm").run(script).ok();
    assert_eq!(out, "6 7 from the image 4\nEverything is as it came.");
}

#[test]
fn an_image_is_there_whole_or_not_at_all_after_the_power_was_cut() {
    let dir = tempfile::Builder::new()
        .prefix("berth-power-")
        .tempdir_in("/var/tmp")
        .unwrap();
    let disk = dir.path().join("disk");
    let fill = r#"
        mkdir -p /tmp/f; echo begun
        i=$(berth images -q | wc -l)
        while :; do
            i=$((i+1)); echo $i > /tmp/f/number; head -c 300000 /dev/urandom > /tmp/f/noise; tar -C /tmp/f -cf /tmp/t.tar .
            berth import /tmp/t.tar n:$i > /dev/null && echo "done $i"
            [ $((i % 4)) = 3 ] && berth rmi n:$((i-1)) > /dev/null && echo "removed $((i-1))"
        done
    "#;
    let look = r#"
        berth system check; echo "code: $?"
        berth images --format '{{.Tag}}' | sort -n | tr '\n' ' '; echo
        berth import -c 'CMD ["sh"]' /busybox.tar box:1 > /dev/null && berth run --rm --network none box:1 echo runs
        berth rmi box:1 > /dev/null; ls /var/lib/berth/layers/staging | wc -l
    "#;
    let mut expected: Vec<u32> = Vec::new();
    // Moments that differ from run to run, and still say where they were when they fail.
    let chance = u64::from(std::process::id()) % 700;
    for round in 0..2u64 {
        let cut = Duration::from_millis(1500 + chance + round * 900);
        let machine = Machine {
            kept: Some(&disk),
            cut: Some(cut),
            ..Machine::new("trixie")
        };
        let told = machine.run(fill).out;
        let number = |line: &str, word: &str| {
            line.trim()
                .strip_prefix(word)
                .and_then(|n| n.trim().parse::<u32>().ok())
        };
        // The last line may be half.
        for line in told.split_inclusive('\n').filter(|l| l.ends_with('\n')) {
            expected.extend(number(line, "done"));
            if let Some(gone) = number(line, "removed") {
                expected.retain(|n| *n != gone);
            }
        }
        let machine = Machine {
            kept: Some(&disk),
            ..Machine::new("trixie")
        };
        let out = machine.run(look).ok();
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(
            &lines[..2],
            ["Everything is as it came.", "code: 0"],
            "cut after {cut:?}: {out}"
        );
        let there: Vec<u32> = lines[2].split_whitespace().filter_map(|n| n.parse().ok()).collect();
        for number in &expected {
            assert!(
                there.contains(number),
                "image {number} was there, and is lost: cut after {cut:?}: {out}\n{told}"
            );
        }
        assert_eq!(&lines[3..], ["runs", "0"], "cut after {cut:?}: {out}");
        expected = there;
    }
}
