//! What `berth compat` foretells, and that hostile files are told of and do no harm.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use berth_tests::api::Api;
use berth_tests::browser::Browser;
use berth_tests::registry::Registry;
use berth_tests::{BUSYBOX, Berth, Tar, old};
use serde_json::Value;

/// The old programs alone, the static one as the command.
fn old_image(berth: &Berth) {
    let mut tar = Tar::default();
    for dir in ["bin", "lib", "lib64"] {
        tar.directory(dir, 0o755);
    }
    for (path, content) in old::programs(berth.dir.path()) {
        tar.file(path, 0o755, &content);
    }
    let path = berth.path("old.tar");
    std::fs::write(&path, tar.finish()).unwrap();
    berth
        .run(&["import", "-c", "CMD [\"/bin/old-static\"]", &path, "old:1"])
        .ok();
}

fn json(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

/// Exit code and document of one subject.
fn judge(berth: &Berth, flags: &[&str]) -> (i32, Value) {
    let ran = berth.run(&[&["compat", "--format", "json"], flags].concat());
    (ran.code, json(&ran.out))
}

fn findings(document: &Value) -> Vec<Value> {
    document["subjects"][0]["verdicts"][0]["findings"]
        .as_array()
        .unwrap()
        .clone()
}

#[test]
fn an_image_of_today_runs_here() {
    let berth = Berth::new();
    let (code, document) = judge(&berth, &[BUSYBOX]);
    assert_eq!(
        (code, document["schema"].as_u64(), document["status"].as_str()),
        (0, Some(1), Some("runs"))
    );
    assert_eq!(document["subjects"][0]["verdicts"][0]["entry"][0], "/bin/busybox");
    assert!(document["hosts"][0]["probed"].as_bool().unwrap());
    let screen = berth.run(&["compat", BUSYBOX]).ok();
    assert!(
        screen.starts_with("busybox:test: runs\n") && screen.lines().count() < 25,
        "{screen}"
    );
    // A second look reads what was kept beside the layer.
    let layers = std::path::PathBuf::from(berth.path("data/layers"));
    let kept = std::fs::read_dir(layers)
        .unwrap()
        .flatten()
        .filter(|e| e.path().join("facts.json").is_file())
        .count();
    assert_eq!(kept, 1);
}

#[test]
fn calls_of_the_vsyscall_page_are_told_with_their_place_and_remedy() {
    let berth = Berth::empty();
    old_image(&berth);
    let (code, document) = judge(&berth, &["--vsyscall", "none", "old:1"]);
    assert_eq!(code, 1, "{document}");
    let finding = &findings(&document)[0];
    assert_eq!(
        (finding["cause"].as_str(), finding["sure"].as_str()),
        (Some("vsyscall"), Some("on-start")),
        "{finding}"
    );
    assert_eq!(finding["file"], "/bin/old-static");
    assert_eq!(finding["symptom"]["exit-code"].as_u64(), Some(139));
    assert_eq!(finding["remedy"]["kind"], "patched-copies");
    assert_eq!(judge(&berth, &["--vsyscall", "xonly", "old:1"]).0, 0);
    // The one that has it in a library: found through what it loads.
    let (code, document) = judge(&berth, &["--vsyscall", "none", "--program", "/bin/old-shared", "old:1"]);
    let finding = &findings(&document)[0];
    assert_eq!(
        (code, finding["file"].as_str(), finding["sure"].as_str()),
        (1, Some("/lib/libold.so"), Some("on-start"))
    );
}

#[test]
fn containers_directories_archives_programs_and_whole_stores_are_judged() {
    let berth = Berth::new();
    old_image(&berth);
    let none = ["compat", "--vsyscall", "none"];
    let with = |words: &[&str]| berth.run(&[&none[..], words].concat());
    let id = berth.start(&[], &["sleep", "100"]);
    let there = "cp /bin/busybox /bin/mine && chmod 700 /bin/mine";
    berth.run(&["exec", &id, "sh", "-c", there]).ok();
    let (code, document) = judge(&berth, &["--program", "/bin/mine", &id]);
    assert_eq!(
        (code, document["subjects"][0]["verdicts"][0]["entry"][0].as_str()),
        (0, Some("/bin/mine"))
    );

    let archive = berth.path("saved.tar");
    berth.run(&["save", "-o", &archive, "old:1"]).ok();
    assert_eq!(with(&[&archive]).code, 1);
    let tree = berth.path("tree");
    std::fs::create_dir_all(format!("{tree}/bin")).unwrap();
    std::fs::copy("/bin/busybox", format!("{tree}/bin/sh")).unwrap();
    assert_eq!(with(&[&tree]).code, 0);
    assert_eq!(with(&["/bin/busybox"]).code, 0);
    let all = with(&["--all", "--kernel", "5.10", "--kernel", "6.12"]);
    assert_eq!(all.code, 1, "{all:?}");
    assert!(
        all.out
            .lines()
            .any(|l| l.starts_with("old:1") && l.matches("mended").count() == 2),
        "{all:?}"
    );
    with(&["no-such-thing"]).fails(125, "No such image, container, directory or archive");
    with(&["--cpu", "x86-64-v9", BUSYBOX]).fails(125, "hint: known are x86-64-v1");
    with(&[]).fails(125, "requires at least 1 argument");
}

/// What an image can be made of, and what is foretold of it elsewhere.
#[test]
fn the_catalogue_is_told_of_images_that_have_it() {
    let berth = Berth::empty();
    let root = berth.path("root");
    let file = |path: &str, content: &[u8]| {
        let path = format!("{root}/{path}");
        std::fs::create_dir_all(std::path::Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    };
    let busybox = std::fs::read("/bin/busybox").unwrap();
    file("bin/sh", &busybox);
    let mut arm = busybox.clone();
    arm[18] = 183;
    file("bin/arm", &arm);
    let mut narrow = busybox[..4096].to_vec();
    (narrow[4], narrow[18]) = (1, 3);
    file("bin/cut", &busybox[..5000]);
    file("bin/script", b"#!/opt/perl -w\n");
    file("usr/bin/old-python", b"#!/usr/bin/env python9\n");
    file("lib/modules/4.4.0/modules.dep", b"");
    let shared = std::fs::read("/bin/ls").unwrap();
    file("bin/ls", &shared);
    let causes = |flags: &[&str]| -> (i32, Vec<(String, String)>) {
        let (code, document) = judge(&berth, &[flags, &[&root]].concat());
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        (
            code,
            findings(&document)
                .iter()
                .map(|f| (text(&f["cause"]), text(&f["file"])))
                .collect(),
        )
    };
    let has = |found: &[(String, String)], cause: &str, file: &str| {
        assert!(
            found.contains(&(cause.into(), file.into())),
            "{cause} {file}: {found:?}"
        );
    };
    let (code, found) = causes(&[]);
    assert_eq!(code, 0, "{found:?}");
    has(&found, "architecture", "/bin/arm");
    has(&found, "not-analysed", "/bin/cut");
    has(&found, "interpreter-missing", "/bin/ls");
    has(&found, "kernel-modules", "/lib/modules/4.4.0/modules.dep");
    for (program, cause, code) in [
        ("/bin/arm", "architecture", 2),
        ("/bin/ls", "interpreter-missing", 2),
        ("/bin/cut", "not-analysed", 1),
    ] {
        let (found_code, found) = causes(&["--program", program]);
        assert_eq!(found_code, code, "{program}: {found:?}");
        has(&found, cause, program);
    }
    let (code, found) = causes(&["--page-size", "64k", "--program", "/bin/sh"]);
    let aligned = found.iter().any(|(cause, _)| cause == "page-size");
    assert_eq!(code, if aligned { 2 } else { 0 }, "{found:?}");
    assert_eq!(causes(&["--arch", "arm64", "--program", "/bin/arm"]).0, 0);
    let (code, found) = causes(&["--arch", "arm64", "--program", "/bin/sh"]);
    assert_eq!(code, 2, "{found:?}");
}

/// A program whose notes have four gigabytes as its headers say, and one whose first note says that of itself.
fn lying_notes() -> (Vec<u8>, Vec<u8>) {
    let program = std::fs::read("/bin/busybox").unwrap();
    let word = |at: usize, size: usize| {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(&program[at..at + size]);
        u64::from_le_bytes(bytes) as usize
    };
    let headers = (0..word(56, 2)).map(|index| word(32, 8) + index * word(54, 2));
    let notes = headers
        .into_iter()
        .find(|at| word(*at, 4) == 4)
        .expect("busybox has notes");
    let (mut outside, mut inside) = (program.clone(), program.clone());
    outside[notes + 32..notes + 40].copy_from_slice(&(4u64 << 30).to_le_bytes());
    let first = word(notes + 8, 8);
    inside[first + 4..first + 8].fill(0xff);
    (outside, inside)
}

/// Links that lead in circles and outside, pipes, names of hell, headers that lie: told of or passed over, in bounded time.
#[test]
fn hostile_trees_are_analysed_all_the_same() {
    let berth = Berth::empty();
    let root = berth.path("root");
    std::fs::create_dir_all(format!("{root}/bin")).unwrap();
    std::fs::create_dir_all(format!("{root}/etc/ld.so.conf.d")).unwrap();
    symlink("loop2", format!("{root}/bin/loop1")).unwrap();
    symlink("loop1", format!("{root}/bin/loop2")).unwrap();
    symlink("../../../../../../bin/bash", format!("{root}/bin/outside")).unwrap();
    symlink("/", format!("{root}/bin/root")).unwrap();
    Command::new("mkfifo").arg(format!("{root}/bin/pipe")).status().unwrap();
    let executable = |name: &str, content: &[u8]| {
        let path = format!("{root}/bin/{name}");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    };
    executable("self", b"#!/bin/self\n");
    executable("sh", b"#!/bin/other\n");
    executable("other", b"#!/bin/sh\n");
    executable("empty", b"");
    executable("magic", b"\x7fELF");
    executable("\n\x1b[31mred", b"\x7fELF\x02\x01\x01");
    std::fs::write(
        format!("{root}/etc/ld.so.conf"),
        "include /etc/ld.so.conf\ninclude ld.so.conf.d/*\n/../../lib\n",
    )
    .unwrap();
    // Program headers without end; notes that are said to have four gigabytes, and that do.
    let mut lies = std::fs::read("/bin/busybox").unwrap();
    lies[56..58].copy_from_slice(&[0xfe, 0xff]);
    executable("lies", &lies);
    // Its interpreter is itself.
    let mut cycle = std::fs::read("/bin/ls").unwrap();
    let place = cycle
        .windows(15)
        .position(|w| w == b"/lib64/ld-linux")
        .expect("an interpreter");
    cycle[place..place + 11].copy_from_slice(b"/bin/cycle\0");
    executable("cycle", &cycle);
    let (notes, note) = lying_notes();
    executable("notes", &notes);
    executable("note", &note);
    let large = std::fs::File::create(format!("{root}/bin/large")).unwrap();
    std::os::unix::fs::FileExt::write_at(&large, &notes, 0).unwrap();
    large.set_len(5 << 30).unwrap();
    let huge = std::fs::File::create(format!("{root}/bin/huge")).unwrap();
    huge.set_len(40 << 30).unwrap();
    std::os::unix::fs::FileExt::write_at(&huge, b"\x7fELF\x02\x01\x01", 0).unwrap();
    let (code, document) = judge(&berth, &[&root]);
    assert!((0..=2).contains(&code));
    let told: Vec<String> = findings(&document)
        .iter()
        .filter(|f| f["cause"] == "not-analysed")
        .map(|f| f["asks"].as_str().unwrap().to_owned())
        .collect();
    for name in ["/bin/magic", "/bin/huge", "/bin/lies", "/bin/large"] {
        let words = format!("could not analyse {name}: ");
        assert!(told.iter().any(|t| t.starts_with(&words)), "{name}: {told:#?}");
    }
    for program in [
        "/bin/cycle",
        "/bin/note",
        "/bin/notes",
        "/bin/self",
        "/bin/sh",
        "/bin/loop1",
        "/bin/outside",
        "/bin/root",
        "/bin/pipe",
        "/nothing",
    ] {
        let (code, _) = judge(&berth, &["--program", program, &root]);
        assert!((0..=2).contains(&code), "{program}");
    }
    let screen = berth.run(&["compat", &root]);
    assert!(
        !screen.out.contains('\x1b') && !screen.err.contains("panicked"),
        "{screen:?}"
    );
}

#[test]
fn who_makes_a_container_of_it_is_told_before() {
    let berth = Berth::new();
    let mut program = std::fs::read("/bin/busybox").unwrap();
    program[18] = 183;
    let mut tar = Tar::default();
    tar.directory("bin", 0o755);
    tar.file("bin/foreign", 0o755, &program);
    let path = berth.path("foreign.tar");
    std::fs::write(&path, tar.finish()).unwrap();
    berth
        .run(&["import", "-c", "CMD [\"/bin/foreign\"]", &path, "foreign:1"])
        .ok();
    let ran = berth.run(&["create", "foreign:1"]);
    let lines: Vec<&str> = ran
        .err
        .lines()
        .filter(|l| l.contains("WARNING: /bin/foreign will not run here"))
        .collect();
    assert!(
        lines.len() == 1 && lines[0].contains("arm64") && ran.code == 0,
        "{ran:?}"
    );
    // Nothing when all is well.
    let quiet = berth.run(&["create", "--network", "none", BUSYBOX]);
    assert_eq!((quiet.code, quiet.err.as_str()), (0, ""));
    // Over the API as well: when it is pulled, and in the answer to who makes one.
    let registry = Registry::start();
    let name = registry.name("foreign:1");
    berth.run(&["tag", "foreign:1", &name]).ok();
    berth.run(&["push", &name]).ok();
    let word = "WARNING: /bin/foreign will not run here";
    let pulled = berth.run(&["pull", &name]);
    assert!(pulled.err.contains(word), "{pulled:?}");
    let api = Api::with(berth, &[]);
    assert!(api.docker(&["pull", &name]).ok().contains(word));
    let created = api.docker(&["create", "--network", "none", &name]);
    assert!(created.err.contains(word), "{created:?}");
    assert!(
        !api.docker(&["create", "--network", "none", BUSYBOX])
            .err
            .contains("WARNING")
    );
}

#[test]
fn info_shows_what_the_kernel_gives() {
    let berth = Berth::empty();
    let text = berth.run(&["info", "--kernel"]).ok();
    for word in [
        "vsyscall",
        "ia32",
        "x32",
        "cgroup",
        "overlay",
        "idmapped mounts",
        "user namespaces",
        "seccomp",
        "processor level",
        "nf_tables",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let list = json(&berth.run(&["info", "--kernel", "--format", "json"]).ok());
    let release = list.as_array().unwrap().iter().find(|f| f["Name"] == "kernel").unwrap()["Value"].clone();
    assert_eq!(
        release.as_str().unwrap(),
        String::from_utf8(Command::new("uname").arg("-r").output().unwrap().stdout)
            .unwrap()
            .trim()
    );
}

/// On a phone's screen: the page is a table, its reasons open on a click, nothing is wider than the screen but the table in its
/// own frame, and it loads nothing.
#[test]
fn the_page_works_in_a_browser() {
    let berth = Berth::new();
    old_image(&berth);
    let kernels = ["5.10", "6.1", "6.12", "7.3"]
        .map(|kernel| ["--kernel", kernel])
        .concat();
    let page = berth.run(&[&["compat", "--all", "--format", "html"], &kernels[..]].concat());
    assert_eq!(page.code, 1);
    let path = berth.path("page.html");
    std::fs::write(&path, page.out).unwrap();
    let mut browser = Browser::on_a_phone(&path);
    browser.says("Will they run? 2 images");
    let text = browser.text();
    assert!(
        text.contains("old:1") && text.contains("Linux 5.10") && text.contains("Linux 7.3"),
        "{text}"
    );
    assert!(!text.contains("vsyscall page"), "{text}");
    browser.click("mended");
    browser.says("calls the vsyscall page");
    assert_eq!(
        browser.evaluate("document.querySelectorAll('.why.open, [aria-expanded=true]').length"),
        2
    );
    // The screen has 390 points; letters and buttons are as large as fingers and eyes need them.
    let shown = "(() => { const of = q => document.querySelector(q); const reasons = of('.why.open div').getBoundingClientRect(); \
        return [innerWidth, document.documentElement.scrollWidth <= innerWidth, reasons.left >= 0 && reasons.right <= innerWidth, \
        parseFloat(getComputedStyle(of('.why.open dd')).fontSize) >= 14, of('button').getBoundingClientRect().height >= 38, \
        performance.getEntriesByType('resource').length].join(' ') })()";
    assert_eq!(browser.evaluate(shown), "390 true true true true 0");
    browser.click("mended");
    assert_eq!(browser.evaluate("document.querySelectorAll('.why.open').length"), 0);
}

/// Who is no root, and may not read some of the files, is told which; the rest is judged.
#[test]
fn files_without_permission_are_named() {
    let berth = Berth::empty();
    let place = |path: &str| berth.path(path);
    let root = place("root");
    std::fs::create_dir_all(format!("{root}/bin")).unwrap();
    std::fs::create_dir_all(format!("{root}/closed")).unwrap();
    let busybox = std::fs::File::open("/bin/busybox").unwrap();
    for name in ["sh", "secret"] {
        berth_tests::place_program(
            busybox.try_clone().unwrap(),
            std::path::Path::new(&format!("{root}/bin/{name}")),
        );
    }
    let mode = |path: &str, mode: u32| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    mode(&format!("{root}/bin/secret"), 0o700);
    mode(&format!("{root}/closed"), 0o700);
    mode(berth.dir.path().to_str().unwrap(), 0o755);
    berth_tests::place_program(
        std::fs::File::open(berth_tests::program()).unwrap(),
        std::path::Path::new(&place("berth")),
    );
    let own = place("own");
    std::fs::create_dir(&own).unwrap();
    mode(&own, 0o777);
    let judged = |words: &[&str]| {
        let done = Command::new("setpriv")
            .args(["--reuid", "4712", "--regid", "4712", "--clear-groups"])
            .arg(place("berth"))
            .args(["compat", "--format", "json"])
            .args(words)
            .env("BERTH_DATA", format!("{own}/data"))
            .env("BERTH_RUN", format!("{own}/run"))
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&done.stderr);
        assert!(!told.contains("panicked"), "{told}");
        (done.status.code(), json(&String::from_utf8_lossy(&done.stdout)))
    };
    let (code, document) = judged(&[&root]);
    let told: Vec<String> = findings(&document)
        .iter()
        .map(|f| f["asks"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(code, Some(0), "{told:#?}");
    for name in ["/bin/secret", "/closed"] {
        let words = format!("could not analyse {name}: ");
        let there = told
            .iter()
            .any(|t| t.starts_with(&words) && t.contains("ermission denied"));
        assert!(there, "{name}: {told:#?}");
    }
    assert_eq!(judged(&["--program", "/bin/sh", &root]).0, Some(0));
}
