//! Handlers: each decodes, calls the engine, and encodes.

pub mod absent;
pub mod attach;
pub mod containers;
pub mod exec;
pub mod images;
pub mod system;
pub mod transfer;
pub mod volumes;
