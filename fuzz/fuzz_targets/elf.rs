//! Everything that reads a file of an image: headers, facts, call sites, the graph of its functions.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = compat::scan::bytes("/usr/lib/libc.so.6", true, data);
    if let Ok(elf) = compat::elf::Elf::parse(data) {
        compat::vsyscall::find(&elf);
        let _ = compat::syscalls::graph_of(data);
    }
});
