//! Layers: tars with whiteouts, links and holes, compressed or not. What is taken comes back byte by byte, and nothing is made
//! outside of the store. Needs root.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let dir = tempfile::tempdir().unwrap();
    let mut store = snapshot::Store::open(&dir.path().join("layers")).unwrap();
    store.limit_layers(64 << 20);
    let Ok(mut plain) = image::decompress(Box::new(std::io::Cursor::new(bytes.to_vec()))) else {
        return;
    };
    if let Ok(layer) = store.apply(&mut plain, None) {
        store.write_tar(&layer.diff_id, &mut std::io::sink()).unwrap();
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
});
