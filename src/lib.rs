//! tillmesh: the agent of a point-of-sale till. See the README for what it does; this page says how it is built.
//!
//! # Layout
//!
//! ```text
//! model      WHAT is replicated: ids, ops, registers, tickets, movements, version vector, clock       pure
//! sync       HOW it converges: replica, sessions, credit; handle(now, Input) -> Outputs               pure
//! wire       bytes <-> messages, limits                                                               pure
//! store      SQLite on its own threads: schema, op log, one repository per file
//! mesh       sockets: listener, dialler, link (WebSocket + Noise)
//! discovery  mDNS, static seeds, remembered addresses
//! api        local HTTP
//! board      status LED, sensors
//! config     ConfigManager: pos-config.json
//! app        composition root: opens, binds, spawns, stops
//! build      the build script: packs what the API serves now and then
//! ```
//!
//! POSPlus, the system whose tills this agent joins and replaces, goes through all of it: what it says (`model::posplus`), its messages
//! (`wire::posplus`), its connections (`mesh::posplus`), their meaning in the database (`store::posplus`), and the conversation with each of
//! its tills (`app::posplus`).
//!
//! # Arrows
//!
//! `model <- sync <- {wire, store}`, `{model, wire} <- mesh`; `discovery` and `board` know `model` and `config` alone; `app` knows
//! all, nobody knows `app`; `mesh` and `store` never know each other. Pure modules hold no runtime, database, socket, file, clock
//! or operating-system randomness: time and entropy are arguments. `tests/tidy.rs` enforces both.

#![forbid(unsafe_code)]

pub mod api;
pub mod app;
pub mod board;
pub mod config;
pub mod discovery;
pub mod mesh;
pub mod model;
pub mod store;
pub mod sync;
pub mod wire;
