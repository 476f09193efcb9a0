//! What the tests of several modules share.

use crate::{Digest, Store};

/// A layer of these files, set-user-ID all of them; `-> NAME` is a hard link.
pub fn layer(store: &Store, files: &[(&str, &str)]) -> Digest {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o4755);
        header.set_uid(5);
        header.set_gid(6);
        header.set_mtime(1_000_000_000);
        match text.strip_prefix("-> ") {
            Some(target) => {
                header.set_entry_type(tar::EntryType::Link);
                header.set_size(0);
                tar.append_link(&mut header, name, target).unwrap();
            }
            None => tar.append_data(&mut header, name, text.as_bytes()).unwrap(),
        }
    }
    store.apply(&mut &tar.into_inner().unwrap()[..], None).unwrap().diff_id
}
