//! What can be written in a config.json: namespaces, mount options, mappings, filters. The program's own tests do the same for a
//! few thousand documents (crates/berth/src/oci/document.rs).
#![no_main]

use libfuzzer_sys::fuzz_target;
use oci_spec::runtime::Spec;

fuzz_target!(|bytes: &[u8]| {
    let Ok(spec) = serde_json::from_slice::<Spec>(bytes) else { return };
    let Some(linux) = spec.linux() else { return };
    if let Some(filter) = linux.seccomp() {
        let _ = runtime::seccomp::length_of(filter);
    }
    let _ = linux.uid_mappings().as_ref().map(|list| runtime::check_mappings("linux.uidMappings", list));
    let _ = linux.rootfs_propagation().as_deref().map(runtime::is_propagation);
    for name in linux.sysctl().iter().flat_map(|settings| settings.keys()) {
        let _ = runtime::is_namespaced(name);
    }
});
