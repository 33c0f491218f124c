//! How tills converge. Pure: [`Replica::handle`] takes the time and one [`Input`], and answers with [`Output`]s for the composition root
//! to carry out. What the simulator runs and what a till runs is this same code.
//!
//! # The protocol in short
//!
//! 1. On a new link each side says what it has ([`Message::Have`]), then **pulls** what it lacks: [`Message::Want`] opens a stream of one
//!    origin's ops from one source, bounded by credit that [`Message::Credit`] refills as the receiver commits.
//! 2. A till **pushes** its own new ops to every peer that stands at its head. Ops of others are announced and pulled, so a full mesh
//!    carries each op once per link and a partial mesh relays.
//! 3. Only the op after the head is accepted, and only on the same running hash. What is at or below the head is compared, then dropped;
//!    what is beyond is asked for. No gap is ever stored.
//!
//! 4. Ends of origins go before the heads that build on them ([`Message::Closes`]). Heads that differ at one place are narrowed down by
//!    [`Message::Probe`], until one side knows where the branches part and closes the origin there.
//! 5. What members hold is passed on ([`Message::Acks`]), each member's newest word of itself: for tills that never meet.
//! 6. Who is asked for compacted ops says so ([`Message::Below`]). The asker takes a snapshot: it asks ([`SnapshotAsk`]), compares part by
//!    part what the giver has with its own rows, and takes those that differ; then the hashes of logs, then all heads at once. What it has
//!    taken compares equal with the next giver, so a cut costs only the comparison.
//! 7. Now and then tills tell what their state adds up to ([`Message::Digest`]); those that hold the same ops compare.
//!
//! # Invariants
//!
//! **Two phases.** Nothing is announced, pushed or acknowledged before the input that says it is durable ([`Input::Committed`],
//! [`Input::Applied`]).
//!
//! **A `Have` is an acknowledgement.** It names durable heads only, so it serves a direct peer as its ack: there is no message for it.
//!
//! **Bounded.** For a peer at most [`WINDOW_BYTES`] are in flight by pull and [`WINDOW_BYTES`] by push; a peer that does not keep up stops
//! being pushed to and finds out by `Have` that it must pull. Nothing is queued for it.
//!
//! **A fork is seen wherever both branches meet.** Every head that a peer tells at or below ours is compared with our hash at that place, and
//! every batch with the hash before it. A mismatch is narrowed down with [`Message::Probe`] to the last place that both branches share;
//! who finds it closes the origin there ([`Output::End`]), and tells all. What is beyond goes on under the names of its branches, which
//! are logs like any other. Heads that both tills have passed together are known by their hash, so a steady mesh reads nothing for this.
//!
//! **Ends before heads.** [`Message::Closes`] goes before the heads that build on it. What a peer has beyond an end is not pulled, and is cut
//! off where it comes. From the moment an end is known until it is durable nothing is pulled at all: the names of logs may change with it.
//!
//! **A till never writes under an origin that it saw ahead of itself**, be it in a peer's head or in what members pass on:
//! [`Output::LeaveOrigin`], at once; what it lost of it is then pulled like another's.
//!
//! **A snapshot's heads are put in whole or not at all**, and only when every log of the giver's was found to be on one branch with ours, as
//! far as both go; where one is not, the fork is settled and the snapshot begun again. Until then its rows are uncovered: no digest tells of
//! them and no snapshot gives them. If for [`ADOPT_AFTER_MS`] nobody can go on with it, or everybody who is linked has tried
//! ([`ADOPT_TRIED_MS`]) or puts it off ([`ADOPT_PUT_OFF_MS`]), as tills do that wait for each other in a ring, the till authors them itself
//! ([`Output::Adopt`]).
//!
//! **An idle till is quiet.** Beside heartbeats it says once an hour what it holds; digests and acks are told when something has changed.

mod acks;
mod compare;
mod digests;
mod ends;
mod episode;
mod giving;
mod have;
mod limits;
mod message;
mod parts;
mod peers;
mod pull;
mod replica;
mod serve;
mod session;
mod snapshot;
mod taking;
#[cfg(test)]
mod tests;

pub use message::{
    Key, KnownPeer, LogHeader, MemberAck, Message, Part, STOCK_SUM, SnapshotAnswer, SnapshotAsk, StateDigest,
    TillStatus, table,
};
pub use parts::{PartDigest, part_digest, row_hash, vector_hash};
pub use replica::{Replica, ReplicaOptions};
pub use session::PeerView;
pub use taking::Unfinished;

use crate::model::close::{Close, Closes};
use crate::model::id::{BootId, Origin, TillId};
use crate::model::op::{Head, Op, OpBatch, RunningHash, Seq};
use crate::model::vector::VersionVector;

/// Milliseconds of a monotonic clock; its zero does not matter.
pub type MonoMs = u64;

/// The most bytes of ops in flight to a peer by pull, and as many by push.
pub const WINDOW_BYTES: u32 = 256 * 1024;
/// The most ops in one message.
pub const BATCH_OPS_MAX: usize = 256;
/// About the most bytes of ops in one message; a single op may be longer.
pub const BATCH_BYTES_MAX: usize = 64 * 1024;
/// The most origins pulled from one peer at once; they share its window.
pub const PULLS_PER_LINK_MAX: usize = 4;
/// The most origins that one `Have` names; a longer vector takes several.
pub const HAVE_MAX: usize = 4096;
/// The most peers that one `Peers` names.
pub const PEERS_MAX: usize = 64;
/// The most closes that one `Closes` names.
pub const CLOSES_MAX: usize = 4096;
/// The most members that one `Acks` names.
pub const ACKS_MAX: usize = 32;
/// The most places that one `Probe` names.
pub const MARKS_MAX: usize = 64;
/// The most parts that one answer lists.
pub const PARTS_MAX: usize = 512;
/// The most running hashes in one answer.
pub const HASHES_MAX: usize = 8192;
/// About the most bytes of rows in one part; a single row may be longer.
pub const PART_BYTES_MAX: usize = 256 * 1024;
/// The most tills that one `Status` tells of.
pub const STATUS_MAX: usize = 64;
/// The most bytes that a till says of how it is.
pub const STATUS_BYTES_MAX: usize = 8192;
/// The last places of a log whose hash a replica has at hand.
pub const TRAIL_MAX: usize = 64;
/// What members hold is passed on to a peer at most this often.
pub const ACKS_EVERY_MS: u64 = 30_000;
/// A till renews its own word of what it holds this long after the last one, where that has changed.
pub const OWN_ACK_MS: u64 = 600_000;
/// A till renews its own word this long after the last one, whatever it holds: it is alive.
pub const OWN_ACK_IDLE_MS: u64 = 3_600_000;
/// A comparison with a peer that has not come further for this long begins again.
pub const COMPARE_MS: u64 = 10_000;
/// A store that has not ended an origin is asked again after this.
pub const END_RETRY_MS: u64 = 5_000;
/// A peer that gives a snapshot and does not answer for this long is left.
pub const SNAPSHOT_STALL_MS: u64 = 10_000;
/// Our own store has this long for one step of taking a snapshot.
pub const OWN_STEP_MS: u64 = 60_000;
/// A peer that could not give a snapshot is asked again after this; each time after twice as long.
pub const GIVER_RETRY_MS: u64 = 2_000;
/// The longest that a peer which cannot give a snapshot is left alone.
pub const GIVER_RETRY_MAX_MS: u64 = 30_000;
/// The same where it was only not ready to.
pub const GIVER_BUSY_MAX_MS: u64 = 8_000;
/// How far a snapshot is, is told at most this often.
pub const PROGRESS_EVERY_MS: u64 = 500;
/// Rows whose snapshot nobody has gone on with for this long are adopted.
pub const ADOPT_AFTER_MS: u64 = 60_000;
/// The same, where every peer that is linked has given its snapshot whole since: none of them has these rows.
pub const ADOPT_TRIED_MS: u64 = 5_000;
/// The same, where every peer that is linked has put it off more than once, or has given its snapshot: they may be waiting for this till.
pub const ADOPT_PUT_OFF_MS: u64 = 20_000;
/// A store that has not adopted rows is asked again after this.
pub const ADOPT_RETRY_MS: u64 = 10_000;
/// The state is added up at most this often, and only where it has changed.
pub const DIGEST_EVERY_MS: u64 = 60_000;
/// A snapshot is taken because a peer's state differs at most this often from one peer.
pub const REPAIR_EVERY_MS: u64 = 600_000;
/// The greatest sequence number that is believed: more ops than a store can make.
pub const SEQ_MAX: Seq = 1 << 48;
/// The most sums that one digest has.
pub const SUMS_MAX: usize = 256;
/// A `Have` with news waits this long for more.
pub const NEWS_DELAY_MS: u64 = 30;
/// At most one `Have` to a peer in this time, beyond the first with news.
pub const HAVE_EVERY_MS: u64 = 1_000;
/// Received ops of this many bytes are acknowledged without waiting.
pub const ACK_BYTES: u32 = WINDOW_BYTES / 4;
/// A pull without progress for this long changes its source.
pub const STALL_MS: u64 = 3_000;
/// A source that stalled is the last choice for this long.
pub const STALL_PENALTY_MS: u64 = 30_000;
/// An origin that is pushed to us is not pulled from others before this.
pub const LIVE_GRACE_MS: u64 = 1_000;
/// A store that could not apply is tried again after this.
pub const APPLY_RETRY_MS: u64 = 1_000;
/// A peer that was silent for this long is pinged.
pub const PING_AFTER_MS: u64 = 3_000;
/// The round trip to a peer is measured at least this often, with a ping of the peer's that wakes us anyway.
pub const MEASURE_EVERY_MS: u64 = 30_000;
/// A peer that was silent for this long is dead: noticed within 10 s.
pub const DEAD_AFTER_MS: u64 = 9_000;
/// An older link of a till that started anew must answer within this, or is replaced.
pub const PROBE_MS: u64 = 1_000;
/// Timers are rounded up to this, so that an idle till wakes up once for all its peers.
pub const TIMER_GRAIN_MS: u64 = 250;
/// A sync on demand gives up waiting for peers after this.
pub const EPISODE_MS: u64 = 60_000;

/// A link, numbered by the mesh; never used twice in one run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(pub u64);

/// What happens to a replica.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    /// A link is authenticated and open.
    LinkUp {
        /// Its number.
        link: LinkId,
        /// The till at its other end.
        till: TillId,
        /// That till's run.
        boot: BootId,
        /// Whether we dialled.
        dialled_by_us: bool,
    },
    /// A link is gone.
    LinkDown {
        /// Its number.
        link: LinkId,
    },
    /// A peer said something.
    Message {
        /// On which link.
        link: LinkId,
        /// What.
        message: Message,
    },
    /// Our own ops are durable.
    Committed(OpBatch),
    /// Ops of another origin are durable.
    Applied {
        /// Whose.
        origin: Origin,
        /// The head now.
        head: Head,
    },
    /// The store could not apply ops of another origin, or found that they do not continue its head.
    NotApplied {
        /// Whose.
        origin: Origin,
        /// The head as the store has it; `None` where it could not tell: the last one told stands.
        head: Option<Head>,
    },
    /// Ops that [`Output::Read`] asked for; `None` where they are not there.
    Read {
        /// For which link.
        link: LinkId,
        /// Whose.
        origin: Origin,
        /// What was read.
        batch: Option<OpBatch>,
    },
    /// Ops that [`Output::Read`] asked for are compacted here.
    ReadBelow {
        /// For which link.
        link: LinkId,
        /// Whose.
        origin: Origin,
        /// The last compacted one.
        floor: Seq,
    },
    /// Logs have changed otherwise than by growing: cut, renamed, or put in by a snapshot.
    Logs {
        /// All durable heads now.
        vector: VersionVector,
        /// All ends of origins now.
        closes: Closes,
    },
    /// What [`Output::Compare`] asked for.
    Compared {
        /// With which peer.
        link: LinkId,
        /// Whose log.
        origin: Origin,
        /// What came of it.
        found: Comparison,
    },
    /// What [`Output::Ask`] asked for.
    Answer {
        /// For which link.
        link: LinkId,
        /// What to tell the peer.
        answer: SnapshotAnswer,
    },
    /// What [`Output::CompareParts`] asked for: the places, in the list, of parts that differ from what is here.
    PartsCompared {
        /// For which snapshot taken.
        session: u64,
        /// The places.
        differ: Vec<usize>,
    },
    /// What [`Output::Take`] asked for is durable, or could not be done.
    Taken {
        /// For which snapshot taken.
        session: u64,
        /// Whether it was done.
        done: bool,
    },
    /// What [`Output::Adopt`] asked for: how many rows are still uncovered.
    Adopted {
        /// How many.
        left: u64,
    },
    /// What [`Output::Digest`] asked for; `None` while there are uncovered rows.
    Digest(Option<StateDigest>),
    /// Rows are damaged here: take a snapshot of a peer to get them again.
    Repair,
    /// Exchange ops once, though `autoSync` is off.
    SyncNow,
    /// This till writes under another origin from now on.
    Origin(Origin),
    /// Tills that are known with an address, to tell peers of.
    Known(Vec<KnownPeer>),
    /// Time has passed.
    Tick,
}

/// What is to be done for a replica.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// Tell a peer.
    Send {
        /// On which link.
        link: LinkId,
        /// What.
        message: Message,
    },
    /// Make ops of another origin durable, then say [`Input::Applied`] or [`Input::NotApplied`]. Batches of one origin in the given order.
    Apply(OpBatch),
    /// Read ops, then say [`Input::Read`].
    Read {
        /// For which link.
        link: LinkId,
        /// Whose.
        origin: Origin,
        /// The first sequence number.
        from: Seq,
        /// About how many bytes at most; at least one op.
        bytes_max: usize,
    },
    /// Make these ends of origins durable, then say [`Input::Logs`].
    End(Vec<Close>),
    /// Write under a fresh origin from now on, if this one is still ours: a peer has more of it than we.
    LeaveOrigin(Origin),
    /// Compare a log with a peer's, from its marks (none: the peer told none yet), then say [`Input::Compared`].
    Compare {
        /// With which peer.
        link: LinkId,
        /// Whose log.
        origin: Origin,
        /// The peer's hashes.
        marks: Vec<Head>,
    },
    /// A peer asks about the snapshot that is held for its link. Each is answered with one [`Input::Answer`], in order; the answer to
    /// [`SnapshotAsk::End`] too, which the peer is not told.
    Ask {
        /// Which link.
        link: LinkId,
        /// What.
        ask: SnapshotAsk,
    },
    /// Compare parts of a peer's table with what is here, then say [`Input::PartsCompared`].
    CompareParts {
        /// For which snapshot taken.
        session: u64,
        /// Of which table.
        table: u16,
        /// Beyond this key.
        after: Key,
        /// The peer's parts.
        parts: Vec<Part>,
    },
    /// Take something of a peer's snapshot in, durably, then say [`Input::Taken`].
    Take {
        /// For which snapshot taken: numbers grow.
        session: u64,
        /// What.
        what: Taking,
    },
    /// Author some of the uncovered rows: then come [`Input::Committed`] and [`Input::Adopted`].
    Adopt,
    /// Sum up the state, then say [`Input::Digest`].
    Digest,
    /// Say goodbye and close.
    Close {
        /// Which link.
        link: LinkId,
        /// Why.
        reason: CloseReason,
    },
    /// Something that a person or another part should know.
    Event(Event),
}

/// What is taken of a peer's snapshot.
#[derive(Clone, PartialEq, Debug)]
pub enum Taking {
    /// The rows of a part, checked by digest. They join what is here, and are uncovered until the snapshot's heads are put in.
    Rows {
        /// Of which table.
        table: u16,
        /// The rows.
        rows: Vec<Op>,
    },
    /// A part of the table is here as it is there: uncovered rows of it are covered by this snapshot too.
    Same {
        /// Of which table.
        table: u16,
        /// Beyond this key.
        after: Key,
        /// Up to and with this one.
        upto: Key,
    },
    /// Running hashes of a log, to be put in with its head.
    Hashes {
        /// Whose log.
        origin: Origin,
        /// The running hash before its first op.
        base: RunningHash,
        /// The sequence number of the first hash: the one after those taken before, or after what is here and agrees.
        from: Seq,
        /// One for each op.
        hashes: Vec<RunningHash>,
    },
    /// All is here: ends and logs are put in, in one transaction, then comes [`Input::Logs`] too.
    Logs {
        /// The ends that the snapshot knows.
        closes: Vec<Close>,
        /// Its logs.
        logs: Vec<LogHeader>,
    },
}

/// What came of comparing a log with a peer's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Comparison {
    /// They agree as far as both go.
    Same,
    /// They part after this sequence number.
    Parted(Seq),
    /// Somewhere between two marks: the peer is to be told these of ours, from the greatest that agrees (or the beginning) to the
    /// smallest that does not, both with them.
    Narrow(Vec<Head>),
    /// There is no such log here.
    Unknown,
}

/// Why a replica closes a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// Another link to the same run of the till stays.
    Duplicate,
    /// The link leads to ourselves.
    Ourselves,
    /// The peer has been silent for too long.
    Silent,
    /// A newer run of the till is linked, and this link does not answer.
    Replaced,
    /// The peer sent what the protocol does not allow.
    Violation,
}

/// What a person or another part should know.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A till is linked and has told what it has.
    PeerReady(TillId),
    /// A till's last link is gone.
    PeerGone(TillId),
    /// A till is known to hold more.
    PeerHas(TillId),
    /// A till told addresses of others.
    PeersTold(Vec<KnownPeer>),
    /// A till told how tills are.
    StatusTold {
        /// On which link.
        link: LinkId,
        /// What.
        told: Vec<TillStatus>,
    },
    /// Two contents stand at one place of an origin's log: it ends there, its branches go on under names of their own.
    Fork {
        /// The origin.
        origin: Origin,
        /// The till where the other branch was seen.
        seen_at: TillId,
    },
    /// Our own origin goes further at a peer than here: this database is older than what it once said.
    OwnOriginAhead {
        /// The till where it was seen.
        seen_at: TillId,
    },
    /// A snapshot is being taken.
    Snapshot(SnapshotProgress),
    /// No snapshot is being taken any more.
    SnapshotOver {
        /// Whether it was taken whole.
        complete: bool,
    },
    /// A till that holds the same ops has another state (`true`), or has the same again.
    Divergence {
        /// The till.
        till: TillId,
        /// Whether the states differ.
        differ: bool,
    },
    /// A sync on demand is over.
    Synced {
        /// Ops received in it.
        received: u64,
        /// Whether every linked till and we now hold the same.
        complete: bool,
    },
}

/// How far the taking of a snapshot is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotProgress {
    /// Who gives it.
    pub from: TillId,
    /// Rows that are here.
    pub rows: u64,
    /// About how many it has.
    pub of: u64,
}
