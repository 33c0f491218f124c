//! What has gone between this till and others since the agent started: for `/v1/status` and `/metrics`.

use std::collections::BTreeMap;

use serde::Serialize;

/// Counts since the agent started; they never go down.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Traffic {
    /// Links that became ready for messages.
    pub links_made: u64,
    /// Links that ended, whatever the cause.
    pub links_lost: u64,
    /// Ops that this till wrote.
    pub ops_written: u64,
    /// Ops of other tills that this one stored.
    pub ops_applied: u64,
    /// Connections accepted from the network, whatever became of them.
    pub accepted: u64,
    /// Addresses dialled.
    pub dials: u64,
    /// Of them those that did not answer.
    pub dials_failed: u64,
    /// Connections that did not become links, by cause.
    pub refused: BTreeMap<String, u64>,
    /// Bytes of messages sent to other tills.
    pub bytes_sent: u64,
    /// Bytes of messages received from them.
    pub bytes_received: u64,
}
