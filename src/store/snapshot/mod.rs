//! Snapshots: the state, table by table, in parts that two tills compare.

pub(super) mod uncovered;
