//! Old programs run on kernels that they were not made for.

use berth_tests::machine::Machine;
use berth_tests::{Berth, Tar, old};

/// The old programs and what they need, alone.
fn image(berth: &Berth) -> String {
    let mut tar = Tar::default();
    for dir in ["bin", "lib", "lib64"] {
        tar.directory(dir, 0o755);
    }
    for (path, content) in old::programs(berth.dir.path()) {
        tar.file(path, 0o755, &content);
    }
    let path = berth.path("old.tar");
    std::fs::write(&path, tar.finish()).unwrap();
    path
}

/// The story that the project was begun for: where the kernel has no vsyscall page old programs die without a word, in
/// every engine; here they run, static and shared, as the first process and below others.
const STORY: &str = r#"
berth import -c 'CMD ["/bin/old-static"]' /files/old.tar old:1 > /dev/null
before=$(berth inspect -f '{{.Id}} {{.RootFS.Layers}}' old:1)
run() { berth run --rm --network none "$@" < /dev/null; }
for program in old-static old-shared; do
    run --compat=off old:1 /bin/$program; echo "$program off: $?"
    run old:1 /bin/$program; echo "$program: $?"
done
berth save old:1 > /tmp/saved.tar
berth rmi old:1 > /dev/null && berth load -i /tmp/saved.tar > /dev/null
[ "$before" = "$(berth inspect -f '{{.Id}} {{.RootFS.Layers}}' old:1)" ] && echo "the same image"
"#;

fn story(words: &str) -> String {
    let berth = Berth::empty();
    let tar = image(&berth);
    let machine = Machine {
        words,
        files: vec![("old.tar".into(), std::fs::read(tar).unwrap())],
        ..Machine::new("trixie")
    };
    machine.run(STORY).ok()
}

#[test]
fn without_a_vsyscall_page_old_programs_run_all_the_same() {
    let out = story("vsyscall=none");
    let said = |words: &str| assert!(out.contains(words), "{words:?} is not there:\n{out}");
    said("old-static was killed by SIGSEGV: it called gettimeofday at 0xffffffffff600000, in the vsyscall page");
    said("(in old_gettimeofday");
    said("old-static off: 139");
    said("old-shared off: 139");
    said("the time is right\nold-static: 0");
    said("the time is right\nold-shared: 0");
    said("mended for this kernel");
    said("/bin/old-static, /lib/libold.so");
    said("the same image");
}

#[test]
fn where_the_page_is_there_nothing_is_done() {
    let out = story("vsyscall=xonly");
    assert_eq!(out.matches("the time is right").count(), 4, "{out}");
    assert!(!out.contains("mended"), "{out}");
}

/// On this machine, whose kernel has the page: the copies are seen, the image's own files stay.
#[test]
fn copies_are_made_for_the_container_and_not_for_the_image() {
    let berth = Berth::new();
    let tar = image(&berth);
    berth.run(&["import", &tar, "old:1"]).ok();
    let layers = berth.inspect("old:1", "{{json .RootFS.Layers}}");
    let run = |flags: &[&str], program: &str| {
        berth.run(&[&["run", "--rm", "--network", "none"], flags, &["old:1", program]].concat())
    };
    let plain = run(&[], "/bin/old-static");
    assert_eq!((plain.code, plain.err.contains("mended")), (0, false), "{plain:?}");
    let patched = run(&["--compat=patch"], "/bin/old-shared");
    assert!(patched.err.contains("/bin/old-static, /lib/libold.so"), "{patched:?}");
    assert_eq!(patched.ok(), "the time is right");
    assert_eq!(berth.inspect("old:1", "{{json .RootFS.Layers}}"), layers);
    run(&["--compat=maybe"], "/bin/old-static").fails(125, "invalid compat mode \"maybe\"");
}
