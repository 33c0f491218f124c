//! The board side of the agent: its LED, its sensors, its unit, and what becomes of the LED when the agent is no more. Real agents, in a
//! folder that stands for `/`.
//!
//! Needs cc, device-tree-compiler and systemd's tools; `tests/run board` installs them. Two tests need root, for a mount of the agent's
//! own: without it they say so and pass, except in CI (`CI=true`), where they fail.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are tests too: what they unwrap fails them")]

/// Leaves the test where it is not run by root.
macro_rules! needs_root {
    () => {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "CI must run this as root");
            // Not `eprintln!`, which the harness would swallow.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED: not root\n");
            return;
        }
    };
}
#[path = "../lib/mod.rs"]
mod lib;

mod card;
mod goodbye;
mod led;
mod leds;
mod overlays;
mod sensors;
mod service;
mod unit;
