//! One request at work, inside its savepoint. What each request does stands with what it changes: [`super::tickets`],
//! [`super::refunds`], [`super::stock`], [`super::logs`].

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use rusqlite::Connection;

use crate::model::clock::{ClockQuality, Hlc};
use crate::model::id::{TillId, Uuid};
use crate::model::op::{BODY_APPLY_MAX, Body, Op};
use crate::model::register::{Edit, EntityKind, Value};
use crate::model::roster::{Admit, Retire};
use crate::model::ticket::Made;

use super::conflicts::{self, ConflictId};
use super::db::InMemory;
use super::entity::{self, Change};
use super::error::StoreError;
use super::memory;
use super::request::{Author, Committed, Entropy, Now, Reply, Request, StoreOptions};
use super::roster;

/// Tills whose last ticket is remembered; forgotten all at once when there are more.
const TILLS_MAX: usize = 1000;

/// What a request works with.
pub(super) struct Work<'a> {
    pub(super) conn: &'a Connection,
    pub(super) memory: &'a mut InMemory,
    pub(super) author: &'a Author,
    /// The highest level of ops that is applied.
    pub(super) level: u16,
    pub(super) entropy: &'a mut dyn Entropy,
    pub(super) now: Now,
    /// What the request has changed so far.
    pub(super) done: Committed,
    /// Whether this transaction has appended ops of our own.
    pub(super) appended: bool,
}

/// Chains of tickets.
#[derive(Debug)]
pub(super) struct Chain {
    /// Predecessors that are not here.
    pub(super) awaited: HashSet<[u8; 32]>,
    /// The ticket of each till that was put in last.
    last: HashMap<TillId, [u8; 32]>,
}

impl Chain {
    pub(super) fn load(conn: &Connection) -> Result<Self, StoreError> {
        let mut statement = conn.prepare_cached("SELECT previous FROM unchained")?;
        let awaited = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(Self { awaited, last: HashMap::new() })
    }

    /// Takes note of a ticket that is put in; gives the one that was put in before it, of the same till.
    pub(super) fn last(&mut self, till: TillId, hash: [u8; 32]) -> Option<[u8; 32]> {
        if self.last.len() >= TILLS_MAX {
            self.last.clear();
        }
        self.last.insert(till, hash)
    }
}

impl<'a> Work<'a> {
    pub(super) fn new(
        conn: &'a Connection,
        memory: &'a mut InMemory,
        options: &'a StoreOptions,
        entropy: &'a mut dyn Entropy,
        now: Now,
    ) -> Self {
        let (author, level) = (&options.author, options.level);
        Self { conn, memory, author, level, entropy, now, done: Committed::default(), appended: false }
    }

    pub(super) fn run(&mut self, request: Request) -> Result<Reply, StoreError> {
        match request {
            Request::Sell { id, sale } => self.sell(id, sale),
            Request::Refund { id, ticket, lines, reason } => self.refund(id, ticket, &lines, reason),
            Request::Cancel { id, ticket, reason } => self.cancel(id, ticket, reason),
            Request::Move { id, product, kind, quantity, reference } => {
                self.move_stock(id, product, kind, quantity, reference)
            }
            Request::Edit { kind, id, change } => self.edit(kind, id, &change),
            Request::Resolve { conflict, value } => self.resolve(&conflict, &value),
            Request::Admit { till, public_key, pos_id, pos_name } => {
                if TillId::of_public_key(&public_key) != till {
                    return Err(StoreError::rejected("till", "a till's id follows from its public key"));
                }
                let hlc = self.tick();
                let admit = Admit { till, public_key, pos_id, pos_name, made: self.made(hlc) };
                self.author_roster(Body::Admit(admit), hlc)
            }
            Request::Retire { till } => self.retire(till),
            Request::Apply(batch) => self.apply(batch),
            #[cfg(feature = "next")]
            Request::Note { id, text } => self.note(id, text),
            Request::End(closes) => self.end(&closes),
            Request::LeaveOrigin(origin) => self.leave(origin),
            Request::Compact { run_ms, ops_max } => self.compact(run_ms, ops_max),
            Request::Take { session, what } => self.take(session, &what),
            Request::Adopt { rows_max } => self.adopt(rows_max),
            Request::Mend { origin, seq } => self.mend(origin, seq),
            Request::Recount { product } => self.recount(product),
            Request::Posplus { pos_id, said } => self.posplus(&pos_id, said),
            Request::Remember(what) => memory::remember(self.conn, &what, self.now.wall_ms).map(|()| Reply::Done),
        }
    }

    /// A time for something that is made now.
    pub(super) fn tick(&mut self) -> Hlc {
        self.memory.clock.tick(self.now.wall_ms)
    }

    /// By whom and when. An untrusted clock gives times that are at least in order.
    pub(super) fn made(&self, hlc: Hlc) -> Made {
        let at_ms = match self.now.quality {
            ClockQuality::Trusted => Hlc::from_ms(self.now.wall_ms).ms(),
            ClockQuality::Untrusted => hlc.ms(),
        };
        Made { till: self.author.till, pos_id: self.author.pos_id.clone(), at_ms, clock: self.now.quality }
    }

    /// The business day of a time, YYYYMMDD.
    pub(super) fn business_day(&self, at_ms: u64) -> i64 {
        let time = i64::try_from(at_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let date = time.unwrap_or(Timestamp::MAX).to_zoned(self.author.time_zone.clone()).date();
        i64::from(date.year()) * 10_000 + i64::from(date.month()) * 100 + i64::from(date.day())
    }

    /// The op that says this, where it fits.
    pub(super) fn op(&self, body: &Body, hlc: Hlc) -> Result<Op, StoreError> {
        let op = body.to_op(hlc);
        if op.body.len() > BODY_APPLY_MAX {
            return Err(StoreError::rejected("", format!("it is longer than {BODY_APPLY_MAX} bytes")));
        }
        Ok(op)
    }

    fn edit(&mut self, kind: EntityKind, id: Uuid, change: &Change) -> Result<Reply, StoreError> {
        #[cfg(feature = "next")]
        self.check_fields(kind, change)?;
        let hlc = self.tick();
        let entropy = &mut *self.entropy;
        let made = (hlc, self.author.pos_id.as_str());
        let edit = entity::author(self.conn, (kind, id), change, made, &mut || entropy.u64())?;
        if let Some(edit) = edit {
            self.author_edit(edit)?;
        }
        self.entity_reply(kind, id)
    }

    fn resolve(&mut self, conflict: &ConflictId, value: &Value) -> Result<Reply, StoreError> {
        let hlc = self.tick();
        let entropy = &mut *self.entropy;
        let made = (hlc, self.author.pos_id.as_str());
        let edit = conflicts::author(self.conn, conflict, value, made, &mut || entropy.u64())?;
        let Some(edit) = edit else { return Ok(Reply::Done) };
        let (kind, id) = (edit.entity, edit.id);
        self.author_edit(edit)?;
        self.entity_reply(kind, id)
    }

    pub(super) fn author_edit(&mut self, edit: Edit) -> Result<(), StoreError> {
        let hlc = edit.hlc;
        let body = Body::Edit(edit);
        let op = self.op(&body, hlc)?;
        self.fold(&body, &op, &mut [0; 32])?;
        self.append(op, None, None)
    }

    fn entity_reply(&self, kind: EntityKind, id: Uuid) -> Result<Reply, StoreError> {
        let view = entity::view(self.conn, kind, id)?.ok_or(StoreError::NotFound("entity"))?;
        Ok(Reply::Entity(Box::new(view)))
    }

    fn retire(&mut self, till: TillId) -> Result<Reply, StoreError> {
        let hlc = self.tick();
        let retire = Retire { till, made: self.made(hlc) };
        self.author_roster(Body::Retire(retire), hlc)
    }

    /// Appends a change of the roster, where it is one. What tells nothing new is not folded in either: what is here follows from ops
    /// alone.
    fn author_roster(&mut self, body: Body, hlc: Hlc) -> Result<Reply, StoreError> {
        let known = match &body {
            Body::Admit(admit) => roster::is_admitted(self.conn, admit)?,
            Body::Retire(retire) => roster::is_retired(self.conn, retire.till)?,
            _ => false,
        };
        if !known {
            let op = self.op(&body, hlc)?;
            self.fold(&body, &op, &mut [0; 32])?;
            self.append(op, None, None)?;
        }
        Ok(Reply::Done)
    }
}
