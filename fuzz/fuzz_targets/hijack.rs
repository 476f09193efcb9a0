//! Frames of monitors and what clients type, on connections that were taken over: to an end, and never more out than in.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| api::fuzzing::hijack(bytes));
