//! Every row of what is known to go wrong is found in a file that has it; and files have names of packages.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use berth_tests::{Berth, old};
use serde_json::Value;

/// A root that is filled file by file.
struct Root(PathBuf);

impl Root {
    fn new(berth: &Berth) -> Self {
        let root = Root(berth.dir.path().join("root"));
        root.put("bin/sh", &std::fs::read("/bin/busybox").unwrap());
        root
    }

    fn put(&self, path: &str, content: &[u8]) {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// A program that has these texts in it, and calls these functions.
    fn program(&self, path: &str, texts: &[&str], calls: &[&str], flags: &[&str]) {
        let out = self.0.join(path);
        std::fs::create_dir_all(out.parent().unwrap()).unwrap();
        let mut source = String::new();
        for (index, text) in texts.iter().enumerate() {
            source.push_str(&format!("const char text{index}[] = \"\\000{text}\";\n"));
        }
        calls
            .iter()
            .for_each(|call| source.push_str(&format!("void {call}(void);\n")));
        let body: String = calls.iter().map(|call| format!("{call}();")).collect();
        source.push_str(&format!("void _start(void) {{ {body} for (;;); }}\n"));
        let file = self.0.with_extension("c");
        std::fs::write(&file, source).unwrap();
        let done = Command::new("gcc")
            .args(["-O1", "-nostdlib", "-fno-builtin", "-fcf-protection=none", "-o"])
            .args([&out, &file])
            .args(["-Wl,--unresolved-symbols=ignore-all"])
            .args(flags)
            .output()
            .expect("gcc is installed");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn findings(&self, berth: &Berth, flags: &[&str]) -> Vec<Value> {
        let root = self.0.display().to_string();
        let ran = berth.run(&[&["compat", "--format", "json"], flags, &[&root]].concat());
        let document: Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
        document["subjects"][0]["verdicts"][0]["findings"]
            .as_array()
            .unwrap()
            .clone()
    }
}

/// Cause, file, what is supposed of the host, words of the finding.
const ROWS: &[(&str, &str, &[&str], &str)] = &[
    ("old-format", "/bin/aout", &[], "a.out"),
    ("old-format", "/bin/oabi", &[], "ARM OABI"),
    ("old-format", "/bin/setup.exe", &[], "Windows' (PE)"),
    ("old-format", "/bin/tool", &[], "macOS' (Mach-O)"),
    ("architecture", "/bin/x32", &[], "x32"),
    ("architecture", "/bin/small32", &["--ia32", "off"], "386"),
    ("page-size", "/bin/jemalloc", &["--page-size", "64k"], "jemalloc"),
    ("page-size", "/bin/narrow", &["--page-size", "16k"], "aligned to 4096"),
    ("packed", "/bin/packed", &["--vsyscall", "none"], "packed by UPX"),
    (
        "vsyscall",
        "/bin/old-static",
        &["--vsyscall", "none"],
        "calls the vsyscall page",
    ),
    ("kernel-too-old", "/bin/refuses", &[], "99.1"),
    ("library-abi", "/lib/libnew.so", &[], "99.1"),
    ("cpu-level", "/bin/level", &["--cpu", "x86-64-v2"], "x86-64-v3"),
    (
        "seccomp-eperm",
        "/bin/threads",
        &["--engine-seccomp", "docker-20.10"],
        "pthread_create",
    ),
    (
        "time64",
        "/lib/libc.so.6",
        &["--engine-seccomp", "docker-19.03"],
        "clock_gettime64",
    ),
    ("kernel-release", "/bin/parses", &[], "2.6."),
    ("systemd-too-old", "/old/systemd", &["--cgroup", "v2"], "systemd 215"),
    ("systemd-too-new", "/new/systemd", &["--cgroup", "v1"], "systemd 258"),
    ("cgroup-reader", "/usr/jre/release", &["--cgroup", "v2"], "1.8.0_121"),
    ("kernel-modules", "/lib/modules/4.4.0/modules.dep", &[], "4.4.0"),
    ("removed", "/bin/removed", &[], "/proc/bus/usb/devices"),
    (
        "open-files",
        "/bin/python2.7",
        &["--program", "/bin/python2.7"],
        "each file that could be open",
    ),
    ("interpreter-missing", "/bin/lost", &[], "/lib/none.so"),
    (
        "library-missing",
        "/bin/loads",
        &["--program", "/bin/loads"],
        "libnone.so",
    ),
    (
        "new-call",
        "/bin/calls",
        &["--program", "/bin/calls", "--kernel", "4.4"],
        "rseq (4.18)",
    ),
    ("not-analysed", "/bin/cut", &[], "cut off"),
];

fn fill(root: &Root, work: &Path) {
    let busybox = std::fs::read("/bin/busybox").unwrap();
    let mut aout = [0; 64];
    aout[..4].copy_from_slice(&[0o13, 1, 100, 0]);
    root.put("bin/aout", &aout);
    let mut windows = [0; 256];
    windows[..2].copy_from_slice(b"MZ");
    (windows[60], windows[64 + 92]) = (64, 3);
    windows[64..66].copy_from_slice(b"PE");
    root.put("bin/setup.exe", &windows);
    root.put("bin/tool", &[&b"\xcf\xfa\xed\xfe"[..], &[0; 64]].concat());
    let small = old::small32(work);
    root.put("bin/small32", &small);
    let mut changed = small.clone();
    changed[18] = 62;
    root.put("bin/x32", &changed);
    changed[18] = 40;
    changed[36..40].fill(0);
    root.put("bin/oabi", &changed);
    root.put("bin/cut", &busybox[..5000]);
    root.put("bin/old-static", &old::programs(work).remove(0).1);
    root.put("bin/refuses", &old::refuses(work));
    // No sections, and the packer's word.
    let mut packed = busybox.clone();
    packed[60..62].fill(0);
    packed.extend(b"UPX!");
    root.put("bin/packed", &packed);
    root.put("usr/jre/release", b"JAVA_VERSION=\"1.8.0_121\"\n");
    root.put("lib/modules/4.4.0/modules.dep", b"");
    for (path, content) in old::new_library(work) {
        root.put(path, &content);
    }
    root.put("bin/calls", &old::with_libc("errno", work));
}

fn compile(root: &Root) {
    let dynamic = ["-fPIE", "-pie"];
    let fixed = ["-static", "-no-pie"];
    root.program(
        "bin/jemalloc",
        &["<jemalloc>: Unsupported system page size"],
        &[],
        &fixed,
    );
    root.program(
        "bin/narrow",
        &[],
        &[],
        &[&fixed[..], &["-Wl,-z,max-page-size=4096"]].concat(),
    );
    root.program("bin/level", &[], &[], &[&dynamic[..], &["-Wl,-z,x86-64-v3"]].concat());
    root.program("old/systemd", &["systemd 215"], &[], &fixed);
    root.program("new/systemd", &["systemd 258"], &[], &fixed);
    root.program("bin/removed", &["/proc/bus/usb/devices"], &[], &fixed);
    root.program("bin/python2.7", &[], &[], &fixed);
    root.program(
        "bin/lost",
        &[],
        &[],
        &[&dynamic[..], &["-Wl,--dynamic-linker=/lib/none.so"]].concat(),
    );
    let path = |name: &str| root.0.join(name).display().to_string();
    let functions = ["-Wl,--defsym,pthread_create=_start", "-Wl,--defsym,uname=_start"];
    let libc = ["-m32", "-shared", "-fPIC", "-Wl,-soname,libc.so.6"];
    root.program(
        "lib/libc.so.6",
        &["GNU C Library stable release version 2.36.\\n"],
        &[],
        &libc,
    );
    root.program(
        "lib64/libc.so.6",
        &["GNU C Library stable release version 2.36.\\n"],
        &[],
        &[&libc[1..], &functions].concat(),
    );
    let libc = path("lib/libc.so.6");
    let narrow = ["-m32", "-no-pie", "-Wl,--no-as-needed", &libc];
    root.program("bin/narrow-time", &[], &[], &narrow);
    let libc = path("lib64/libc.so.6");
    let threads = [&dynamic[..], &["-Wl,--no-as-needed", &libc]].concat();
    root.program("bin/threads", &[], &["pthread_create"], &threads);
    root.program("bin/parses", &["2.6.32"], &["uname"], &threads);
    let none = root.0.with_file_name("libnone.so");
    let shared = ["-shared", "-fPIC", "-Wl,-soname,libnone.so", "-Wl,--no-as-needed"];
    root.program("../libnone.so", &[], &[], &shared);
    let loads = [&dynamic[..], &["-Wl,--no-as-needed", none.to_str().unwrap()]].concat();
    root.program("bin/loads", &[], &[], &loads);
}

#[test]
fn every_row_is_found_in_a_file_that_has_it() {
    let berth = Berth::empty();
    let root = Root::new(&berth);
    fill(&root, berth.dir.path());
    compile(&root);
    let mut judged: HashMap<&[&str], Vec<Value>> = HashMap::new();
    for (cause, file, flags, words) in ROWS {
        let found = judged.entry(flags).or_insert_with(|| root.findings(&berth, flags));
        let hit = |f: &&Value| {
            f["cause"] == *cause && f["file"] == *file && f["asks"].as_str().is_some_and(|asks| asks.contains(words))
        };
        let finding = found
            .iter()
            .find(hit)
            .unwrap_or_else(|| panic!("{cause} of {file} with {flags:?}: {found:#?}"));
        for field in ["lacks", "advice"] {
            assert_ne!(finding[field], "", "{finding}");
        }
        assert_ne!(finding["symptom"]["message"], "", "{finding}");
    }
}

/// What programs load without naming it counts for those that usually load it: language extensions, modules of NSS.
#[test]
fn what_is_loaded_by_name_alone_is_looked_at() {
    let berth = Berth::empty();
    let root = Root::new(&berth);
    let new = ["-shared", "-fPIC", "-Wl,-z,x86-64-v3"];
    let fixed = ["-static", "-no-pie"];
    root.program("bin/perl", &[], &[], &fixed);
    root.program("usr/lib/perl5/auto/Fast.so", &[], &[], &new);
    root.program("usr/lib/other/fast.so", &[], &[], &new);
    let sure = |image: &str| -> Vec<(String, String)> {
        let ran = berth.run(&["compat", "--format", "json", "--cpu", "x86-64-v1", image]);
        let document: Value = serde_json::from_str(&ran.out).unwrap();
        let verdict = &document["subjects"][0]["verdicts"][0];
        let found = verdict["findings"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|f| f["cause"] == "cpu-level");
        let mut list: Vec<_> = found
            .map(|f| {
                (
                    f["file"].as_str().unwrap().to_owned(),
                    f["sure"].as_str().unwrap().to_owned(),
                )
            })
            .collect();
        list.push((ran.code.to_string(), verdict["looked-at"].to_string()));
        list
    };
    let tar = berth.path("root.tar");
    let done = Command::new("tar")
        .arg("-cf")
        .arg(&tar)
        .arg("-C")
        .arg(&root.0)
        .arg(".")
        .status();
    assert!(done.unwrap().success());
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let (own, other) = ("/usr/lib/perl5/auto/Fast.so", "/usr/lib/other/fast.so");
    berth.run(&["import", "-c", "CMD [\"perl\"]", &tar, "perl:1"]).ok();
    berth.run(&["import", "-c", "CMD [\"sh\"]", &tar, "sh:1"]).ok();
    assert_eq!(
        sure("perl:1"),
        [pair(own, "on-some-path"), pair(other, "unlikely"), pair("1", "2")]
    );
    assert_eq!(
        sure("sh:1"),
        [pair(other, "unlikely"), pair(own, "unlikely"), pair("0", "2")]
    );
}

/// Packages as rpm itself writes them down, or reads them: SQLite by rpm, Berkeley DB by that one's own loader.
#[test]
fn files_are_named_with_their_package() {
    let berth = Berth::empty();
    let root = Root::new(&berth);
    let work = berth.dir.path();
    let old = old::programs(work).remove(0).1;
    let sources = work.join("SOURCES");
    std::fs::create_dir_all(&sources).unwrap();
    std::fs::write(sources.join("old"), &old).unwrap();
    // So many files that the header does not fit into a page.
    let spec = "Name: oldtool\nVersion: 1.2\nRelease: 3.el6\nSummary: x\nLicense: x\nSource0: old\n%description\nx\n%install\n\
        mkdir -p %{buildroot}/usr/bin %{buildroot}/usr/share/old\ncp %{SOURCE0} %{buildroot}/usr/bin/old-static\n\
        for i in $(seq 400); do echo $i > %{buildroot}/usr/share/old/$i; done\n\
        %files\n%attr(755, root, root) /usr/bin/old-static\n/usr/share/old\n";
    std::fs::write(work.join("old.spec"), spec).unwrap();
    let define = |name: &str, value: &str| ["--define".to_owned(), format!("{name} {value}")];
    let top = define("_topdir", work.to_str().unwrap());
    let plain = define("__os_install_post", "%{nil}");
    let run = |program: &str, words: &[&str], defines: &[String]| {
        let done = Command::new(program)
            .args(defines)
            .args(words)
            .current_dir(work)
            .output();
        let done = done.unwrap_or_else(|e| panic!("{program}: {e}"));
        assert!(
            done.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        done.stdout
    };
    let debug = define("debug_package", "%{nil}");
    run("rpmbuild", &["-bb", "old.spec"], &[top, plain, debug].concat());
    let package = work
        .join("RPMS/x86_64/oldtool-1.2-3.el6.x86_64.rpm")
        .display()
        .to_string();
    let place = root.0.display().to_string();
    let named = |form: &str| {
        let found = root.findings(&berth, &["--vsyscall", "none"]);
        let finding = found
            .iter()
            .find(|f| f["file"] == "/usr/bin/old-static")
            .expect("a finding");
        let version = match form {
            "apk" => "1.2-r3",
            "dpkg" => "1.2-3+deb6u1",
            _ => "1.2-3.el6",
        };
        assert_eq!(finding["package"], format!("oldtool {version}"), "{form}: {finding}");
    };
    let database = root.0.join("var/lib/rpm");
    let path = define("_dbpath", "/var/lib/rpm");
    run(
        "rpm",
        &["--root", &place, "-i", "--nodeps", "--noscripts", "--force", &package],
        &path,
    );
    named("SQLite");
    // The same header in a database of Berkeley's, as CentOS up to 8 has it.
    let dump = "import sqlite3, sys\nprint('VERSION=3\\nformat=bytevalue\\ntype=hash\\nHEADER=END')\n\
        for n, b in sqlite3.connect(sys.argv[1]).execute('select hnum, blob from Packages'): print(' %s\\n %s' % (n.to_bytes(4, 'little').hex(), b.hex()))\n\
        print('DATA=END')";
    let text = run(
        "python3",
        &["-c", dump, database.join("rpmdb.sqlite").to_str().unwrap()],
        &[],
    );
    std::fs::write(work.join("dump"), text).unwrap();
    std::fs::remove_dir_all(&database).unwrap();
    std::fs::create_dir_all(&database).unwrap();
    run(
        "db_load",
        &["-f", "dump", database.join("Packages").to_str().unwrap()],
        &[],
    );
    named("Berkeley DB");
    // Alpine's list is a text.
    std::fs::remove_dir_all(&database).unwrap();
    root.put(
        "lib/apk/db/installed",
        b"P:musl\nV:1.2.5-r1\nF:lib\nR:ld-musl.so.1\n\nP:oldtool\nV:1.2-r3\nF:usr\nF:usr/bin\nR:old-static\n",
    );
    named("apk");
    // dpkg's are two: who has which files, and in which version.
    std::fs::remove_dir_all(root.0.join("lib/apk")).unwrap();
    root.put(
        "var/lib/dpkg/status",
        b"Package: oldtool\nStatus: install ok installed\nVersion: 1.2-3+deb6u1\n\n",
    );
    root.put("var/lib/dpkg/info/oldtool.list", b"/.\n/usr/bin\n/usr/bin/old-static\n");
    named("dpkg");
}
