//! Engines for blocking calls: one each, kept a while, because opening one reads the database's head.

use std::sync::Mutex;

use engine::{Engine, Roots};
use errdefs::Result;

/// Kept when nobody needs them.
const IDLE: usize = 4;
/// After so many calls an engine is opened anew: opening is when the database's log is taken in.
const CALLS: u32 = 200;

/// The engines that nobody uses at the moment.
pub struct Engines {
    /// Where their state is.
    pub roots: Roots,
    idle: Mutex<Vec<(Engine, u32)>>,
}

impl Engines {
    pub fn new(roots: Roots) -> Self {
        Engines {
            roots,
            idle: Mutex::default(),
        }
    }

    /// Calls with an engine that nobody else uses meanwhile. Blocks.
    pub fn with<T>(&self, call: impl FnOnce(&Engine) -> Result<T>) -> Result<T> {
        let idle = || self.idle.lock().unwrap_or_else(|e| e.into_inner());
        let kept = idle().pop();
        let (engine, calls) = match kept {
            Some(kept) => kept,
            None => (Engine::open(self.roots.clone())?, 0),
        };
        let result = call(&engine);
        let mut idle = idle();
        if idle.len() < IDLE && calls < CALLS {
            idle.push((engine, calls + 1));
        }
        result
    }
}
