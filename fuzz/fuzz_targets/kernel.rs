//! Files of the kernel: of processes (`/proc/PID/{stat,status,mountinfo}`, `/proc/stat`) and of cgroups (`memory.events`,
//! `cgroup.procs`, `io.stat`, `cpu.stat`, `pids.max`...). In a container of others they may be anybody's.
#![no_main]

use runtime::{kernel_files as files, mountinfo};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let _ = (files::number(&text), files::named(&text, "oom_kill"), files::numbers(&text));
    let _ = (files::resident(&text), files::processors(&text));
    assert!(files::pids(&text).len() <= bytes.len());
    let io = files::io_of_version_1(&text).into_iter().chain(files::io_of_version_2(&text));
    assert!(io.filter(|io| io.operation != "read" && io.operation != "write").count() == 0);
    for field in [0, 1, 2, 3, 4, 22, 39, usize::MAX] {
        let _ = files::stat(&text, field);
    }
    for mounted in mountinfo::parse(&text) {
        assert!(mounted.place.as_os_str().len() <= text.len());
        let _ = mounted.controllers();
    }
});
