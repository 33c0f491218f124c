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
mod stock;
#[cfg(test)]
mod tests;
mod tickets;
mod view;
mod work;
mod writer;

pub use backup::{backup, restore};
pub use changes::{ChangeItem, ChangeKind, ChangeValue};
pub use conflicts::{ConflictId, Flag, RecordKind};
pub use db::Db;
pub use entity::{Change, EntityQuery, EntityView};
pub use error::{Rejection, StoreError};
pub use handle::{Clock, Store, StoreEvent, StoreHealth, SystemEntropy};
pub use memory::Remember;
pub use reader::Reader;
pub use request::{Author, ClockAhead, Committed, Entropy, Executed, Now, Reply, Request, StoreOptions};
pub use stock::{StockCause, StockEntry};
pub use tickets::{TicketQuery, TicketView};
pub use view::{Cursor, LIMIT_MAX, Page};
