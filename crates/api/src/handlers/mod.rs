//! Handlers: each decodes, calls the engine, and encodes.

pub mod absent;
pub mod archive;
pub mod attach;
pub mod containers;
pub mod events;
pub mod exec;
pub mod images;
pub mod networks;
pub mod registries;
pub mod stats;
pub mod system;
pub mod transfer;
pub mod volumes;
