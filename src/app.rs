//! Composition root: opens, binds, spawns, stops. It knows all parts; no part knows it.

mod alerts;
mod board;
mod boot;
pub mod cli;
mod clock;
mod doctor;
mod driver;
mod life;
pub mod logging;
mod machine;
mod posplus;
mod run;
mod shop;
pub mod update;

pub use run::{RunOptions, run};
