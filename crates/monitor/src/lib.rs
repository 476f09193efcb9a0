//! The parent of one container. STUB: see contract.

/// Runs the monitor of container `id`; what `berth monitor` calls. Returns the process's exit code.
pub fn run(_roots: engine::Roots, _id: &str) -> i32 {
    todo!()
}
