//! Archives of images: manifests, indexes and configurations of all shapes.
#![no_main]

use std::io::Read;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let dir = tempfile::tempdir().unwrap();
    if let Ok(found) = image::archive::open_stream(&mut &bytes[..], dir.path(), &image::Platform::host()) {
        for layer in found.iter().flat_map(|f| &f.layers) {
            let _ = layer.open().map(|mut l| l.read_to_end(&mut Vec::new()));
        }
    }
});
