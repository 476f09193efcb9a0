//! Seccomp profiles: each becomes a program that the kernel takes, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::LinuxSeccomp;

fuzz_target!(|bytes: &[u8]| {
    let Ok(filter) = serde_json::from_slice::<LinuxSeccomp>(bytes) else { return };
    if let Ok(length) = runtime::seccomp::length_of(&filter) {
        assert!(length <= 4096);
    }
});
