//! SQLite: one writer, readers that never wait for it, one repository per file.

mod backup;
mod categories;
mod changes;
mod conflicts;
mod counted;
mod counts;
mod customers;
mod db;
mod entity;
mod error;
mod fields;
mod handle;
mod memory;
mod oplog;
mod products;
mod reader;
mod record;
mod refunds;
mod request;
mod roster;
mod schema;
mod search;
mod stock;
#[cfg(test)]
mod tests;
mod tickets;
mod view;
mod work;
mod writer;

pub use backup::{backup, restore};
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
pub use memory::{Remember, RememberedPeer};
pub use reader::Reader;
pub use request::{Author, ClockAhead, Committed, Entropy, Executed, Now, Reply, Request, StoreOptions};
pub use roster::{Admitted, RosterEntry};
pub use stock::{StockCause, StockEntry};
pub use tickets::{TicketQuery, TicketView};
pub use view::{Cursor, LIMIT_MAX, Page};
