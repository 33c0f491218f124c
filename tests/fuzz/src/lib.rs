//! What the fuzz targets share. See README.md.

mod bytes;
mod meter;
pub mod shop;

pub use bytes::{Bytes, piece};
pub use meter::Meter;
