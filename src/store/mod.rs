//! SQLite: one writer, readers that never wait for it, one repository per file.
//!
//! # Layers
//!
//! [`Db`] is the synchronous core: [`Db::execute`] does many requests in one transaction, each in its own savepoint, told the time and
//! given its randomness by the caller. [`Store`] puts it on a thread, gathers what waits into one commit, and answers when that is on
//! the disk. [`Reader`] reads on a connection of its own; what it can read stands in each repository's file.
//!
//! # Invariants
//!
//! - Appending an op, folding it into the state and moving the log's head are one transaction, with `synchronous=FULL`. Nothing is
//!   answered, told or sent before that commit.
//! - The state is the join of the ops that are here: local and remote ops are folded by the same code, and what is stored says nothing
//!   of the order or the log in which they came, but for places in lists.
//! - Logs are dense from 1: only what continues a head exactly, by number and hash, is stored. What this version cannot apply is held,
//!   and passed on as it came.
//! - No log goes beyond the end of its origin, and no origin is written under that has ended or goes further elsewhere. Ops that all live
//!   members hold are compacted; their running hashes never are, so that any place of any log can be compared for good.
//! - After any rollback, what is kept in memory (heads, numbers, rows of products) is read again. The database is the truth.
//! - A failing disk is not remembered: every request tries again.

mod backup;
mod categories;
mod changes;
mod conflicts;
mod counted;
mod counts;
mod customers;
mod db;
mod digest;
mod entity;
mod error;
mod fields;
mod handle;
mod leftover;
mod logs;
mod memory;
#[cfg(feature = "next")]
mod notes;
mod posplus;
mod products;
mod reader;
mod record;
mod recount;
mod refunds;
mod request;
mod roster;
mod schema;
mod scrub;
mod search;
mod snapshot;
mod stock;
#[cfg(test)]
mod tests;
mod tickets;
mod view;
mod work;
mod writer;

pub use backup::{backup, go_back, restore, verify};
pub use changes::{ChangeItem, ChangeKind, ChangeValue};
pub use conflicts::{Code, ConflictId, ConflictView, NotAConflictId, RecordKind, Says, Settle, Side};
pub use counts::Counts;
pub use db::Db;
pub use entity::{Change, EntityQuery, EntityView};
pub use error::{Rejection, StoreError};
pub use fields::{
    CODE_CHARS_MAX, EMAIL_CHARS_MAX, EXTRA, EXTRA_BYTES_MAX, EXTRA_NAME_BYTES_MAX, Field, FieldType, NAME_CHARS_MAX,
    NOTES_CHARS_MAX, fields,
};
pub use handle::{Clock, Store, StoreEvent, StoreHealth, SystemEntropy};
pub use leftover::{left_behind, take_over};
pub use logs::{KEEP_MS, LAPSE_MS, LogSizes, OpsRead};
pub use memory::{Remember, RememberedPeer, read_note, read_writer};
pub use posplus::{PosHeard, PosNews, PosOutbox, PosRows, PosSaid, PosStock};
pub use reader::Reader;
pub use request::{Author, ClockAhead, Committed, Entropy, Executed, LogsNow, Now, Reply, Request, StoreOptions};
pub use roster::{Admitted, RosterEntry};
pub use schema::VERSION as SCHEMA_VERSION;
pub use scrub::{Damage, ScrubPlace, ScrubStep};
pub use snapshot::SnapshotGiver;
pub use stock::{StockCause, StockEntry};
pub use tickets::{DaySales, TicketQuery, TicketView};
pub use view::{Cursor, LIMIT_MAX, Page};
