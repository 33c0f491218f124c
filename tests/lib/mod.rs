//! What the rigs share: an agent as a process, its local API as a client sees it, and waiting for what should come true.

mod agent;
pub(crate) mod http;
mod wait;

pub(crate) use agent::Agent;
pub(crate) use http::Http;
pub(crate) use wait::eventually;
