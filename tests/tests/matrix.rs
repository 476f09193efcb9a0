//! Programs on kernels: what was predicted, what happens, what is mended. Boots each kernel in an emulator, with nothing on
//! it but Berth, and asks it there.
//!
//! `scripts/matrix` writes docs/kernel-matrix.md with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;

use berth_tests::machine::Machine;
use berth_tests::{Tar, busybox, fixtures, old, place_fixture};

/// A kernel: its name in the table, whose it is, words for it, the processor.
struct Column {
    name: &'static str,
    suite: &'static str,
    words: &'static str,
    processor: &'static str,
    /// What is done there before.
    setup: &'static str,
    /// Distributions that are tried on it: the newest on the oldest kernel, and the oldest on the newest.
    images: &'static [&'static str],
}

const fn column(name: &'static str, suite: &'static str, words: &'static str) -> Column {
    Column {
        name,
        suite,
        words,
        processor: "max",
        setup: "",
        images: &[],
    }
}

/// As Debian's qemu-user-static does when it is installed: for the whole host, opened at once (`F`).
const REGISTERED: &str = "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    printf %s ':qemu-aarch64:M::\\x7fELF\\x02\\x01\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x02\\x00\\xb7\\x00:\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\xfe\\xff\\xff\\xff:/var/qemu/qemu-aarch64-static:OCPF' > /proc/sys/fs/binfmt_misc/register
";

const COLUMNS: &[Column] = &[
    Column {
        images: &["sid"],
        ..column("5.10", "bullseye", "")
    },
    column("5.10 vsyscall=xonly", "bullseye", "vsyscall=xonly"),
    Column {
        images: &["trixie"],
        ..column("6.1", "bookworm", "")
    },
    Column {
        setup: REGISTERED,
        ..column("6.1 vsyscall=emulate, qemu registered", "bookworm", "vsyscall=emulate")
    },
    Column {
        images: &["bookworm"],
        ..column("6.12", "trixie", "vsyscall=none")
    },
    column("6.12 vsyscall=xonly", "trixie", "vsyscall=xonly"),
    column("6.12 vdso=0", "trixie", "vdso=0"),
    column("6.12 ia32_emulation=0", "trixie", "ia32_emulation=0"),
    Column {
        processor: "Nehalem",
        ..column("6.12, x86-64-v2", "trixie", "")
    },
    Column {
        images: &["bullseye"],
        ..column("7.3", "trixie-backports", "")
    },
    column("7.3 vsyscall=xonly", "trixie-backports", "vsyscall=xonly"),
];

/// A program: its name in the table, its image, its command.
struct Row {
    name: &'static str,
    image: &'static str,
    command: &'static str,
}

const ROWS: &[Row] = &[
    Row {
        name: "busybox 1.35, static",
        image: "busybox",
        command: "echo hello",
    },
    Row {
        name: "glibc 2.5 code, static",
        image: "old",
        command: "/bin/old-static",
    },
    Row {
        name: "glibc 2.12 code, in a library",
        image: "shared",
        command: "/bin/old-shared",
    },
    Row {
        name: "dumb-init 1.2.2 (glibc 2.5, static)",
        image: "dumb-init",
        command: "/bin/dumb-init /bin/true",
    },
    Row {
        name: "static, refuses kernels before 99.1",
        image: "refuses",
        command: "/bin/refuses",
    },
    Row {
        name: "32-bit x86, static",
        image: "small32",
        command: "/bin/small32",
    },
    Row {
        name: "built for x86-64-v3",
        image: "level3",
        command: "/bin/level3",
    },
    Row {
        name: "arm64, static",
        image: "arm64",
        command: "/bin/busybox true",
    },
    Row {
        name: "Debian 11 bullseye",
        image: "bullseye",
        command: DISTRIBUTION,
    },
    Row {
        name: "Debian 12 bookworm",
        image: "bookworm",
        command: DISTRIBUTION,
    },
    Row {
        name: "Debian 13 trixie",
        image: "trixie",
        command: DISTRIBUTION,
    },
    Row {
        name: "Debian sid",
        image: "sid",
        command: DISTRIBUTION,
    },
];
/// Shell, processes, times, users, threads.
const DISTRIBUTION: &str =
    "sh -c 'date +%Y > /dev/null && ls -l / | grep -q etc && id -u && perl -e \"print time() > 1e9\" && dpkg --audit'";
const BIG: &[&str] = &["bullseye", "bookworm", "trixie", "sid"];

/// What became of one program on one kernel.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    /// Exit code of `berth compat`: 0 runs, 1 runs with what is done about it, 2 will not run.
    predicted: i32,
    /// With `--compat=off`.
    happened: i32,
    /// With what Berth does by itself.
    mended: i32,
}

impl Cell {
    /// Whether the prediction was right.
    fn holds(&self) -> bool {
        match self.predicted {
            0 => self.happened == 0 && self.mended == 0,
            // Also where only some path of it fails.
            1 => self.mended == 0,
            2 => self.happened != 0 && self.mended != 0,
            _ => false,
        }
    }

    fn text(&self) -> String {
        let predicted = match self.predicted {
            0 => "runs",
            1 => "needs help",
            2 => "fails",
            _ => "?",
        };
        match (self.happened, self.mended) {
            (0, 0) if self.predicted == 0 => "runs".into(),
            (0, 0) => format!("runs ({predicted} on some path)"),
            (code, 0) => format!("{predicted}: {code}, **mended**"),
            (code, _) => format!("{predicted}: {code}"),
        }
    }
}

fn tar(dirs: &[&str], files: Vec<(&str, Vec<u8>)>) -> Vec<u8> {
    let mut tar = Tar::default();
    dirs.iter().for_each(|dir| tar.directory(dir, 0o755));
    files.iter().for_each(|(path, content)| tar.file(path, 0o755, content));
    tar.finish()
}

/// The small images, by name.
fn images(work: &Path) -> Vec<(String, Vec<u8>)> {
    let mut old = old::programs(work);
    let statics = vec![old.remove(0)];
    let shell = std::fs::read("/bin/busybox").unwrap();
    let list = [
        ("busybox", busybox()),
        ("old", tar(&["bin"], statics)),
        ("shared", tar(&["bin", "lib", "lib64"], old)),
        (
            "dumb-init",
            tar(&["bin"], vec![("bin/dumb-init", old::dumb_init()), ("bin/true", shell)]),
        ),
        ("refuses", tar(&["bin"], vec![("bin/refuses", old::refuses(work))])),
        ("small32", tar(&["bin"], vec![("bin/small32", old::small32(work))])),
        (
            "level3",
            tar(&["bin", "lib", "lib/x86_64-linux-gnu", "lib64"], old::level3(work)),
        ),
    ];
    let foreign = std::fs::read(fixtures().join("foreign/busybox-arm64")).expect("scripts/foreign");
    let arm64 = ("arm64", tar(&["bin"], vec![("bin/busybox", foreign)]));
    list.into_iter()
        .chain([arm64])
        .map(|(name, tar)| (format!("{name}.tar"), tar))
        .collect()
}

/// Imports, predicts and runs; a line for each answer.
fn script(setup: &str, rows: &[&Row]) -> String {
    let mut script = format!(
        "mkdir -p /usr; ln -s /var/qemu /usr/bin\n{setup}\
         run() {{ berth run --rm --network none \"$@\" < /dev/null > /tmp/out 2>&1; }}\n",
    );
    for Row { image, command, .. } in rows {
        let tar = if BIG.contains(image) { "/var/images" } else { "/files" };
        let program = command.split(' ').next().unwrap();
        write!(
            script,
            "berth import -c 'ENTRYPOINT [\"{program}\"]' {tar}/{image}.tar {image} > /dev/null || echo \"import failed\"\n\
             berth compat {image} > /tmp/out 2>&1; echo \"cell {image} predicted $?\"; sed 's/^/# /' /tmp/out\n\
             run --compat=off --entrypoint '' {image} {command}; echo \"cell {image} happened $?\"; sed 's/^/# /' /tmp/out\n\
             run --entrypoint '' {image} {command}; echo \"cell {image} mended $?\"; sed 's/^/# /' /tmp/out\n\
             berth rmi {image} > /dev/null\n",
        )
        .unwrap();
    }
    script
}

/// One kernel; cells by the names of images.
fn fill(column: &Column, files: &[(String, Vec<u8>)], disk: &Path) -> BTreeMap<&'static str, Cell> {
    let wanted = |row: &&Row| !BIG.contains(&row.image) || column.images.contains(&row.image);
    let rows: Vec<&Row> = ROWS.iter().filter(wanted).collect();
    let machine = Machine {
        words: column.words,
        processor: column.processor,
        files: files.to_vec(),
        disk: Some(disk),
        ..Machine::new(column.suite)
    };
    let out = machine.run(&script(column.setup, &rows)).ok();
    let mut cells: BTreeMap<&'static str, Cell> = BTreeMap::new();
    for line in out.lines().filter_map(|line| line.strip_prefix("cell ")) {
        let words: Vec<&str> = line.split(' ').collect();
        let row = rows.iter().find(|row| row.image == words[0]).expect("a row");
        let (cell, code) = (cells.entry(row.image).or_default(), words[2].parse().expect("a code"));
        match words[1] {
            "predicted" => cell.predicted = code,
            "happened" => cell.happened = code,
            _ => cell.mended = code,
        }
    }
    eprintln!("{}: {cells:?}", column.name);
    assert_eq!(cells.len(), rows.len(), "{}:\n{out}", column.name);
    if let Some((name, cell)) = cells.iter().find(|(_, cell)| !cell.holds()) {
        panic!("{name} on {}: {cell:?}:\n{out}", column.name);
    }
    cells
}

/// As Markdown.
fn table(filled: &[BTreeMap<&'static str, Cell>]) -> String {
    let mut text = String::from("| |");
    COLUMNS.iter().for_each(|c| write!(text, " {} |", c.name).unwrap());
    text.push_str("\n|---|");
    COLUMNS.iter().for_each(|_| text.push_str("---|"));
    for row in ROWS {
        write!(text, "\n| {} |", row.name).unwrap();
        for cells in filled {
            let cell = cells.get(row.image).map_or("-".into(), Cell::text);
            write!(text, " {cell} |").unwrap();
        }
    }
    text.push('\n');
    text
}

const HEAD: &str = "# Programs on kernels\n\n\
    Written by `scripts/matrix`: each kernel was booted in an emulator, and Berth was asked there what will become of each image (`berth compat`), ran it \
    without help (`--compat=off`) and with what it does by itself. Kernels are Debian's cloud kernels; where nothing is said they have no vsyscall page. \
    qemu-user is installed, and nothing is registered with binfmt_misc where nothing is said.\n\n\
    A cell reads: `runs`; or what was predicted, the exit code that came, and whether Berth mends it. A dash was not tried.\n\n";

#[test]
fn no_cell_is_predicted_wrong_and_remedies_turn_red_cells_green() {
    let work = tempfile::Builder::new()
        .prefix("berth-matrix-")
        .tempdir_in("/var/tmp")
        .unwrap();
    let files = images(work.path());
    let disk = work.path().join("disk");
    std::fs::create_dir_all(disk.join("images")).unwrap();
    let qemu = fixtures().join("foreign/qemu");
    std::fs::create_dir_all(disk.join("qemu")).unwrap();
    for entry in std::fs::read_dir(qemu).expect("scripts/foreign").flatten() {
        std::fs::copy(entry.path(), disk.join("qemu").join(entry.file_name())).unwrap();
    }
    let used = |image: &&&str| COLUMNS.iter().any(|c| c.images.contains(image));
    for image in BIG.iter().filter(used) {
        place_fixture(&format!("{image}.tar"), &disk.join("images"));
    }
    let filled: Vec<Mutex<BTreeMap<&'static str, Cell>>> = COLUMNS.iter().map(|_| Mutex::default()).collect();
    let next = Mutex::new(0..COLUMNS.len());
    // Two at a time: an emulator uses one processor.
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(index) = { next.lock().unwrap().next() } {
                    *filled[index].lock().unwrap() = fill(&COLUMNS[index], &files, &disk);
                }
            });
        }
    });
    let filled: Vec<_> = filled.into_iter().map(|cells| cells.into_inner().unwrap()).collect();
    let table = table(&filled);
    println!("{table}");
    let mended = filled
        .iter()
        .flat_map(|c| c.values())
        .filter(|c| c.happened != 0 && c.mended == 0)
        .count();
    assert!(mended >= 12, "only {mended} cells are mended");
    if std::env::var_os("BERTH_MATRIX").is_some() {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kernel-matrix.md");
        std::fs::write(docs, format!("{HEAD}{table}")).unwrap();
    }
}
