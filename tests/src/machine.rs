//! A machine of its own, with another kernel or other control groups: QEMU, one of the kernels of `scripts/kernels`, and
//! nothing on it but busybox and Berth.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::{Ran, busybox, fixtures, program};

/// Emulated processors are slow, and the tests beside it are busy, too.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs before the script: file systems, modules, and a root that can be left (pivot_root(2) cannot leave the first one).
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t tmpfs -o mode=755 root /root
cd /
/bin/busybox cp -a bin modules files script busybox.tar setup /root/
/bin/busybox mkdir /root/proc /root/dev /root/sys /root/tmp /root/run /root/etc
/bin/busybox mount --move /dev /root/dev
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /setup
"#;

const SETUP: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm /var /root /usr
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
for module in /modules/*; do insmod $module || echo "insmod $module failed" > /dev/console; done
mount -t ext4 /dev/vda /var
mkdir -p /var/tmp
ip link set lo up
CGROUPS
stty -F /dev/ttyS1 raw
sh /script < /dev/null > /dev/ttyS1 2>&1
echo "exit:$?" > /dev/ttyS1
sync
poweroff -f
"#;

/// The same for a machine whose disk is a distribution with systemd: it is process 1, and runs the script as a service, first of
/// all.
const INIT_OF_SYSTEMD: &str = r#"#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for module in /modules/*; do /bin/busybox insmod $module; done
/bin/busybox mount -t ext4 /dev/vda /root
cd /
/bin/busybox cp bin/berth bin/busybox /root/usr/local/bin/
/bin/busybox cp -a files script busybox.tar /root/
/bin/busybox stty -F /dev/ttyS1 raw
/bin/busybox mount --move /dev /root/dev
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /lib/systemd/systemd
"#;

const SERVICE: &str = r#"[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
Environment=PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
ExecStart=/bin/sh -c 'sh /script < /dev/null > /dev/ttyS1 2>&1; echo exit:$? > /dev/ttyS1; sync; poweroff -ff'
"#;

/// How the machine's control groups are mounted.
#[derive(Clone, Copy)]
pub enum Cgroups {
    /// Version 2 alone, as on today's distributions.
    V2,
    /// Version 1 alone.
    V1,
    /// Version 2 alone, by systemd: the machine's disk is the distribution that it is of.
    Systemd,
}

impl Cgroups {
    fn mounts(self) -> &'static str {
        match self {
            Cgroups::Systemd => "",
            Cgroups::V2 => "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
            Cgroups::V1 => {
                "mount -t tmpfs cgroups /sys/fs/cgroup; for c in cpu memory pids devices freezer cpuset; do \
                 mkdir /sys/fs/cgroup/$c; mount -t cgroup -o $c cgroup /sys/fs/cgroup/$c || rmdir /sys/fs/cgroup/$c; done"
            }
        }
    }
}

/// A machine.
#[derive(Clone)]
pub struct Machine<'a> {
    /// Of Debian: whose kernel it has.
    pub suite: &'a str,
    pub cgroups: Cgroups,
    /// More words for the kernel.
    pub words: &'a str,
    /// QEMU's name of its processor.
    pub processor: &'a str,
    /// More files, by their paths below `/files`.
    pub files: Vec<(String, Vec<u8>)>,
    /// What is on its disk, which is `/var`: for files that are too big to be in memory.
    pub disk: Option<&'a Path>,
    /// A disk that is there when the machine is gone, and may be another's afterwards.
    pub kept: Option<&'a Path>,
    /// Power is cut so long after the script has printed its first line.
    pub cut: Option<Duration>,
}

impl<'a> Machine<'a> {
    /// With version 2 of control groups and every feature of a processor.
    pub fn new(suite: &'a str) -> Self {
        Machine {
            suite,
            cgroups: Cgroups::V2,
            words: "",
            processor: "max",
            files: Vec::new(),
            disk: None,
            kept: None,
            cut: None,
        }
    }
}

/// Runs a shell script on a machine with Debian's trixie, systemd and AppArmor (`scripts/fixtures`).
pub fn run_with_systemd(files: Vec<(String, Vec<u8>)>, script: &str) -> Ran {
    let disk = tempfile::Builder::new()
        .prefix("berth-systemd-")
        .tempdir_in("/var/tmp")
        .expect("a directory");
    let unpacked = Command::new("tar")
        .args(["-xpf"])
        .arg(fixtures().join("systemd.tar"))
        .arg("-C")
        .arg(disk.path())
        .status();
    assert!(unpacked.expect("start tar").success(), "scripts/fixtures");
    let write = |path: &str, text: &str| std::fs::write(disk.path().join(path), text).expect(path);
    write("etc/systemd/system/berth-script.service", SERVICE);
    // Without one it is a first boot, which takes its time.
    write("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    let machine = Machine {
        cgroups: Cgroups::Systemd,
        words: "systemd.unit=berth-script.service systemd.show_status=0",
        files,
        disk: Some(disk.path()),
        ..Machine::new("trixie")
    };
    machine.run(script)
}

/// Runs a shell script on a machine with the kernel of a suite of Debian. `berth` is on its path, the image that most
/// tests use is `/busybox.tar`, and its standard output and error are one.
pub fn run(suite: &str, cgroups: Cgroups, script: &str) -> Ran {
    let machine = Machine {
        cgroups,
        ..Machine::new(suite)
    };
    machine.run(script)
}

/// The modules of a suite's kernel that are not loaded everywhere, as files `more/NN-NAME.ko` in the order to load them.
pub fn more_modules(suite: &str) -> Vec<(String, Vec<u8>)> {
    let dir = fixtures().join("kernels").join(suite).join("more");
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}: scripts/kernels", dir.display()));
    let file = |entry: std::fs::DirEntry| {
        let content = std::fs::read(entry.path()).expect("read a module");
        (format!("more/{}", entry.file_name().display()), content)
    };
    entries.flatten().map(file).collect()
}

impl Machine<'_> {
    /// As [`run`].
    pub fn run(&self, script: &str) -> Ran {
        boot(self, script)
    }
}

fn boot(machine: &Machine<'_>, script: &str) -> Ran {
    let Machine {
        suite,
        words,
        processor,
        ..
    } = machine;
    let kernel = fixtures().join("kernels").join(suite);
    assert!(kernel.is_dir(), "{} is not there: scripts/kernels", kernel.display());
    let work = tempfile::Builder::new()
        .prefix("berth-machine-")
        .tempdir_in("/var/tmp")
        .expect("a directory");
    let path = |name: &str| work.path().join(name);
    std::fs::write(path("initramfs"), initramfs(&kernel, work.path(), machine, script)).expect("write the initramfs");
    let place = machine.kept.map_or_else(|| path("disk"), Path::to_owned);
    if !place.exists() {
        make_disk(machine, &place);
    }
    let mut emulator = Command::new("qemu-system-x86_64")
        .args([
            "-M", "q35", "-accel", "tcg", "-cpu", processor, "-m", "1024", "-smp", "1",
        ])
        .args(["-display", "none", "-nic", "none", "-no-reboot", "-monitor", "none"])
        .args([
            "-append",
            &format!("console=ttyS0 quiet panic=-1 no_timer_check rdinit=/init {words}"),
        ])
        .arg("-kernel")
        .arg(kernel.join("vmlinuz"))
        .arg("-initrd")
        .arg(path("initramfs"))
        .args(["-drive", &format!("file={},format=raw,if=virtio", place.display())])
        .args(["-serial", &format!("file:{}", path("console").display())])
        .args(["-serial", &format!("file:{}", path("out").display())])
        .stdin(Stdio::null())
        .spawn()
        .expect("qemu-system-x86 is installed");
    let deadline = Instant::now() + PATIENCE;
    let mut begun = None;
    while emulator.try_wait().expect("wait for the machine").is_none() {
        if let Some(after) = machine.cut
            && std::fs::read(path("out")).is_ok_and(|out| out.contains(&b'\n'))
            && begun.get_or_insert_with(Instant::now).elapsed() > after
        {
            emulator.kill().expect("cut the machine's power");
        }
        if Instant::now() > deadline {
            emulator.kill().expect("stop the machine");
            emulator.wait().expect("wait for the machine");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let text = |name: &str| String::from_utf8_lossy(&std::fs::read(path(name)).unwrap_or_default()).replace('\r', "");
    let out = text("out");
    if machine.cut.is_some() {
        return Ran {
            code: -1,
            out,
            err: text("console"),
        };
    }
    let Some((out, code)) = out.trim_end().rsplit_once("exit:") else {
        panic!("the machine died: {out}\n--- console:\n{}", text("console"));
    };
    Ran {
        code: code.parse().expect("an exit code"),
        out: out.trim_end().to_owned(),
        err: text("console"),
    }
}

/// With what is to be on it.
fn make_disk(machine: &Machine<'_>, place: &Path) {
    let disk = std::fs::File::create(place).expect("make a disk");
    disk.set_len(4 << 30).expect("make a disk");
    let content: Vec<&std::ffi::OsStr> = machine
        .disk
        .iter()
        .flat_map(|dir| ["-d".as_ref(), dir.as_os_str()])
        .collect();
    let formatted = Command::new("mke2fs")
        .args(["-q", "-t", "ext4"])
        .args(content)
        .arg(place)
        .status();
    assert!(formatted.expect("e2fsprogs is installed").success());
}

fn initramfs(kernel: &Path, work: &Path, machine: &Machine<'_>, script: &str) -> Vec<u8> {
    let small = work.join("berth");
    let stripped = Command::new("strip").arg("-o").arg(&small).arg(program()).status();
    assert!(stripped.expect("strip is installed").success());
    let read = |path: &Path| std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut archive = Archive::default();
    for dir in ["bin", "proc", "dev", "root", "modules", "files"] {
        archive.directory(dir);
    }
    let init = match machine.cgroups {
        Cgroups::Systemd => INIT_OF_SYSTEMD,
        _ => INIT,
    };
    archive.file("init", init.as_bytes());
    archive.file("setup", SETUP.replace("CGROUPS", machine.cgroups.mounts()).as_bytes());
    archive.file("script", script.as_bytes());
    archive.file("bin/busybox", &read(Path::new("/bin/busybox")));
    archive.file("bin/berth", &read(&small));
    archive.file("busybox.tar", &busybox());
    for (name, content) in &machine.files {
        if let Some((dir, _)) = name.split_once('/') {
            archive.directory(&format!("files/{dir}"));
        }
        archive.file(&format!("files/{name}"), content);
    }
    let mut modules: Vec<_> = std::fs::read_dir(kernel.join("modules"))
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .collect();
    modules.sort();
    for module in modules {
        archive.file(
            &format!("modules/{}", module.file_name().unwrap().display()),
            &read(&module),
        );
    }
    archive.finish()
}

/// cpio, in the kernel's form (Documentation/driver-api/early-userspace/buffer-format.rst).
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn directory(&mut self, name: &str) {
        self.entry(name, 0o040_755, b"");
    }

    fn file(&mut self, name: &str, content: &[u8]) {
        self.entry(name, 0o100_755, content);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, b"");
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        // inode, mode, owner, group, links, time, size, device twice, special device twice, length of the name, checksum
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            content.len() as u32,
            0,
            0,
            0,
            0,
            name.len() as u32 + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
