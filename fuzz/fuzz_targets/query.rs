//! Paths, queries, filters and bodies of API requests: read, or refused, to an end.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        api::fuzzing::query(text);
    }
    api::fuzzing::body(bytes);
});
