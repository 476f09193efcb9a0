//! The patcher: no file grows or shrinks, and one that is mended once is not mended again.
#![no_main]

use compat::{Version, mend::Plan};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let plan = Plan {
        vsyscall: true,
        notes: Some(Version(5, 10, 0)),
        ..Plan::default()
    };
    let mut bytes = data.to_vec();
    let changes = plan.apply(&mut bytes);
    assert_eq!(bytes.len(), data.len());
    assert!(changes.iter().any(|change| change.changes()) || bytes == data);
});
