//! The answer to a call that a seccomp filter passes on: what `/proc` has of its process is anybody's, and so are the names. It has
//! the kernel's layout, whatever they are.
#![no_main]

use runtime::uname;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let machine = uname::machine(&text, bytes);
    let mut parts = bytes.split(|byte| *byte == 0);
    let mut next = || parts.next().unwrap_or_default();
    let structure = uname::lay_out([next(), next(), next(), next(), machine, next()]);
    assert_eq!(structure.len(), 390);
    assert!(structure.chunks(65).all(|field| field[64] == 0));
});
