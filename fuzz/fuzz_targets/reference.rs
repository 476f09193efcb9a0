//! Names of images: what is taken is taken again in its long form.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(reference) = image::Reference::parse(text) {
        assert_eq!(image::Reference::parse(&reference.canonical()).unwrap(), reference);
    }
});
