//! The simulator: the replica and the store of whole shops in virtual time, with faults, seed by seed.
//!
//!   sim [--seeds N] [--from S]     so many seeds, the first of them S
//!   sim --seed S                   one, with its steps
//!   sim --minutes M                as many as fit
//!   sim --mutants                  each deliberate bug, until a seed notices it
//!   sim --mutant NAME              one of them
//!
//! Without arguments: 1,000 seeds, 20,000 where TILLMESH_FULL is set. Last line: `N passed, N failed`.

#![allow(clippy::print_stdout)]

mod books;
mod cards;
mod dump;
mod faults;
mod glue;
mod judge;
mod mutants;
mod net;
mod plan;
mod report;
mod rng;
mod suite;
mod trade;
#[path = "../vfs/mod.rs"]
mod vfs;
mod wires;
mod world;

use std::process::ExitCode;

use suite::Suite;

fn main() -> ExitCode {
    match Suite::from_args(std::env::args().skip(1)) {
        Ok(suite) => suite.run(),
        Err(error) => {
            println!("sim: {error}");
            ExitCode::from(2)
        }
    }
}
