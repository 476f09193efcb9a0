//! rpm's database in all its forms.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    compat::judge::rpm::headers(data, &mut |header| {
        let _ = header.label();
        header.files(&|_| true, &mut |path| assert!(path.len() <= 3 * data.len()));
    });
});
