//! What the store is asked to do, and what it answers.

use std::path::PathBuf;

use jiff::tz::TimeZone;

use crate::model::amount::Quantity;
use crate::model::clock::ClockQuality;
use crate::model::close::{Close, Closes};
use crate::model::id::{Origin, TillId, Uuid};
use crate::model::movement::MovementKind;
use crate::model::op::{Head, OpBatch, Seq};
use crate::model::register::{EntityKind, Value};
use crate::model::ticket::{Refund, Sale};
use crate::model::vector::VersionVector;
use crate::sync::Taking;

use super::conflicts::ConflictId;
use super::entity::{Change, EntityView};
use super::error::StoreError;
use super::memory::Remember;
use super::posplus::{PosHeard, PosSaid};
use super::tickets::TicketView;

/// Where the database is, and who writes it.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The database file; made where it is not there. Its lock is the same name with `.lock` at the end.
    pub path: PathBuf,
    /// Who writes.
    pub author: Author,
    /// The highest level of ops that is applied: [`crate::model::level::LEVEL`], but in tests of mixed versions.
    pub level: u16,
}

/// The till that writes: what goes into every record that it makes.
#[derive(Clone, Debug)]
pub struct Author {
    /// Its id.
    pub till: TillId,
    /// Its static public key (X25519).
    pub public_key: [u8; 32],
    /// Its human id: the first part of ticket numbers.
    pub pos_id: String,
    /// Its human name.
    pub pos_name: String,
    /// The store's currency, ISO 4217.
    pub currency: [u8; 3],
    /// The store's time zone: when a business day begins.
    pub time_zone: TimeZone,
}

/// What the caller's clock says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// Milliseconds since 1970.
    pub wall_ms: u64,
    /// What that is worth.
    pub quality: ClockQuality,
}

/// Where random numbers come from: the system's in an agent, seeded ones in a simulation.
pub trait Entropy: Send {
    /// A random number.
    fn u64(&mut self) -> u64;
}

/// One thing to do. Each is done whole or not at all.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// Records a sale. Answered by [`Reply::Ticket`].
    Sell {
        /// The client's id: a repeated request is the same sale.
        id: Uuid,
        /// What was sold.
        sale: Sale,
    },
    /// Takes back some lines of a ticket. Answered by [`Reply::Refund`].
    Refund {
        /// The client's id.
        id: Uuid,
        /// The ticket.
        ticket: Uuid,
        /// Which lines (from 0), and how much of each.
        lines: Vec<(u32, Quantity)>,
        /// Why.
        reason: Option<String>,
    },
    /// Takes back all that is left of a ticket. Answered by [`Reply::Refund`].
    Cancel {
        /// The client's id; without one, an id that follows from the ticket's, so that a retry is safe.
        id: Option<Uuid>,
        /// The ticket.
        ticket: Uuid,
        /// Why.
        reason: Option<String>,
    },
    /// Moves stock. Answered by [`Reply::Stock`].
    Move {
        /// The client's id.
        id: Uuid,
        /// Of which product; it may be one that is not here.
        product: Uuid,
        /// Why.
        kind: MovementKind,
        /// How much, before the sign of the kind.
        quantity: Quantity,
        /// The client's reference.
        reference: Option<String>,
    },
    /// Changes a product, category or customer. Answered by [`Reply::Entity`].
    Edit {
        /// What it is.
        kind: EntityKind,
        /// Which one.
        id: Uuid,
        /// The change.
        change: Change,
    },
    /// Settles fields whose heads disagree, by an ordinary edit. Answered by [`Reply::Entity`].
    Resolve {
        /// Which conflict.
        conflict: ConflictId,
        /// The value that the field shall have.
        value: Value,
    },
    /// Admits a till to the roster, or tells its new name; nothing where it is known so. Answered by [`Reply::Done`].
    Admit {
        /// The till.
        till: TillId,
        /// Its static public key (X25519).
        public_key: [u8; 32],
        /// Its human id.
        pos_id: String,
        /// Its human name.
        pos_name: String,
    },
    /// Retires a till for good; nothing where it is retired. Answered by [`Reply::Done`].
    Retire {
        /// The till.
        till: TillId,
    },
    /// Leaves a remark for the shop; refused while a live till of the roster does not understand remarks. Answered by [`Reply::Done`].
    #[cfg(feature = "next")]
    Note {
        /// The client's id.
        id: Uuid,
        /// The text.
        text: String,
    },
    /// Applies another till's ops. Answered by [`Reply::Applied`] or [`Reply::NotContinuing`].
    Apply(OpBatch),
    /// Ends origins: their logs are cut there, and what is beyond goes on under the names of its branches. Known ends change nothing.
    /// Answered by [`Reply::Done`].
    End(Vec<Close>),
    /// Writes under a fresh origin from now on, if this one is still ours. Answered by [`Reply::Done`].
    LeaveOrigin(Origin),
    /// Takes something of a peer's snapshot in. Answered by [`Reply::Done`].
    Take {
        /// Tells this snapshot from those taken before: numbers grow.
        session: u64,
        /// What.
        what: Taking,
    },
    /// Authors up to so many uncovered rows. Answered by [`Reply::Adopted`].
    Adopt {
        /// At most so many.
        rows_max: usize,
    },
    /// Compacts up to so many ops that all live members hold. Answered by [`Reply::Compacted`].
    Compact {
        /// How long this database's agent has run in all, in milliseconds.
        run_ms: u64,
        /// At most so many.
        ops_max: usize,
    },
    /// Mends an op that the scrub found damaged, where it can be; else its log is compacted up to it, since the state has what it did.
    /// Answered by [`Reply::Done`].
    Mend {
        /// Whose log.
        origin: Origin,
        /// Its place there.
        seq: Seq,
    },
    /// Counts again how many of a product are in stock, where the scrub found that wrong. Answered by [`Reply::Done`].
    Recount {
        /// Which one.
        product: Uuid,
    },
    /// Takes in what a POSPlus till said. Answered by [`Reply::Posplus`].
    Posplus {
        /// Its `posId`.
        pos_id: String,
        /// What it said.
        said: PosSaid,
    },
    /// Keeps something that is this till's alone. Answered by [`Reply::Done`].
    Remember(Remember),
}

/// The answer to a request that was done.
#[derive(Clone, PartialEq, Debug)]
pub enum Reply {
    /// The sale is stored.
    Ticket {
        /// The ticket.
        view: Box<TicketView>,
        /// Whether it is new; `false` for a repeated request.
        created: bool,
    },
    /// The refund or cancellation is stored.
    Refund {
        /// The ticket, after it.
        view: Box<TicketView>,
        /// The refund.
        refund: Box<Refund>,
        /// Whether it is new; `false` for a repeated request.
        created: bool,
    },
    /// Stock has moved.
    Stock {
        /// Of which product.
        product: Uuid,
        /// What is in stock now.
        stock: Quantity,
        /// Whether the movement is new; `false` for a repeated request.
        created: bool,
    },
    /// The entity is as wanted.
    Entity(Box<EntityView>),
    /// The ops are stored, and those that this version knows have been folded into the state.
    Applied {
        /// Whose log.
        origin: Origin,
        /// Where it stands now.
        head: Head,
        /// How many of the ops are held.
        held: usize,
    },
    /// The ops do not continue the log: nothing was stored.
    NotContinuing {
        /// Whose log.
        origin: Origin,
        /// Where it stands.
        head: Head,
    },
    /// Rows were authored.
    Adopted {
        /// How many are still uncovered.
        left: u64,
    },
    /// Ops were compacted.
    Compacted {
        /// How many.
        ops: usize,
        /// Whether more can be, now.
        more: bool,
    },
    /// A POSPlus till's words are taken in.
    Posplus(Box<PosHeard>),
    /// Done, nothing to tell.
    Done,
}

/// What came of one commit.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Executed {
    /// One per request, in their order.
    pub replies: Vec<Result<Reply, StoreError>>,
    /// What else the commit changed.
    pub committed: Committed,
}

/// What a commit changed, for those who watch.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Committed {
    /// Own ops that it appended, in order.
    pub local: Option<OpBatch>,
    /// Logs of others that it moved, and where they stand now.
    pub heads: Vec<(Origin, Head)>,
    /// The newest change cursor.
    pub last_change: u64,
    /// Whether a till was admitted, renamed or retired.
    pub roster: bool,
    /// Tills whose clock is too far ahead of ours, which is trusted.
    pub ahead: Vec<ClockAhead>,
    /// How many ops it holds because this version cannot apply them.
    pub held: usize,
    /// The origin that this database writes under from now on, where that changed: see [`super::Db`].
    pub origin: Option<Origin>,
    /// All logs, where one was cut, renamed or put in.
    pub logs: Option<LogsNow>,
}

/// All logs after a change that was more than growth.
#[derive(Clone, PartialEq, Debug)]
pub struct LogsNow {
    /// Where each stands.
    pub vector: VersionVector,
    /// Which origins have ended.
    pub closes: Closes,
}

/// A log that carries times too far in the future.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockAhead {
    /// Whose log.
    pub origin: Origin,
    /// The till, where an op of that time says so.
    pub till: Option<TillId>,
    /// The greatest such time, in milliseconds since 1970.
    pub at_ms: u64,
}
