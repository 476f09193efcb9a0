//! Tars that clients put into containers: whatever they say, nothing outside of the container's root is made or changed. Needs
//! root.
#![no_main]

use std::os::fd::AsFd;
use std::path::Path;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("in")).unwrap();
    std::fs::write(dir.path().join("outside"), "untouched").unwrap();
    std::os::unix::fs::symlink("..", root.join("in/up")).unwrap();
    std::os::unix::fs::symlink(dir.path(), root.join("in/out")).unwrap();
    let Ok(plain) = image::decompress(Box::new(std::io::Cursor::new(bytes.to_vec()))) else {
        return;
    };
    // What a few bytes become when they are decompressed has an end elsewhere.
    let mut plain = std::io::Read::take(plain, 16 << 20);
    let handle = std::fs::File::open(&root).unwrap();
    let unpack = snapshot::Unpack {
        root: handle.as_fd(),
        path: Path::new("/in"),
        ids: None,
        owner: (bytes.len() % 2 == 0).then_some((1, 2)),
        keep_kinds: bytes.len() % 3 == 0,
    };
    let _ = unpack.unpack(&mut plain);
    assert_eq!(std::fs::read(dir.path().join("outside")).unwrap(), b"untouched");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
});
