//! The board under the till: its status LED, its sensors, and how it is told apart. Its file says where they are: `board/README.md`.

pub mod judge;
mod known;
pub mod lamp;
pub mod led;
pub mod pattern;
pub mod profile;
pub mod sensors;
pub mod supervisor;
mod system;

pub use known::Board;
pub use system::System;
