//! One running agent without its runtime: the replica and the store, and what the agent's driver does between them, as plain calls. What
//! the driver's tasks would answer later comes back to the caller, who decides when.

use std::collections::{BTreeSet, VecDeque};

use tillmesh::model::id::{BootId, Origin, TillId, Uuid};
use tillmesh::model::op::{Body, Head, Op, OpBatch, Seq, content_hash, kind};
use tillmesh::store::{
    Change, Db, Now, OpsRead, Reader, Remember, Reply, Request, SnapshotGiver, StoreError, StoreOptions,
};
use tillmesh::sync::{
    BATCH_OPS_MAX, CloseReason, Comparison, Event, Input, Key, LinkId, Message, MonoMs, Output, Part, Replica,
    ReplicaOptions, SnapshotAsk, Taking,
};
use tillmesh::wire::message;

use crate::books;
use crate::rng::Rng;

/// Acks of others are kept at most this often, as the driver does.
const ACKS_EVERY_MS: u64 = 10_000;

/// Between two looks for ops to compact, where the last found no more. The driver's is longer: so much time does not pass here.
const COMPACT_EVERY_MS: u64 = 20_000;

/// Between two batches of compacted ops, and how many are in one: few, so that much else comes between.
const COMPACT_PAUSE_MS: u64 = 200;
const COMPACT_OPS: usize = 24;

/// Uncovered rows authored at once.
const ADOPT_ROWS: usize = 16;

/// A field of products that came with the second level.
pub(crate) const LATER_FIELD: &str = "allergens";

/// A request of the simulator's, numbered.
pub(crate) type ClientId = u64;

/// What waits for the store.
#[derive(Debug)]
enum Job {
    Client(ClientId, Request),
    Apply(Origin, OpBatch),
    /// To be done sooner or later, whatever fails.
    Insist(Request),
    Keep(Remember),
    Take(u64, Taking),
    Adopt,
    Compact,
}

/// What the store has to tell after a commit, in order.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) inputs: Vec<Input>,
    pub(crate) answers: Vec<(ClientId, Result<Reply, StoreError>)>,
    /// Records that are now on the card: id and content hash.
    pub(crate) records: Vec<(Uuid, [u8; 32])>,
    /// The numbers of tickets among them that are this till's own.
    pub(crate) numbers: Vec<(books::Key, String)>,
    /// Whether the disk failed.
    pub(crate) failed: bool,
    pub(crate) compacted: usize,
    /// Whether logs changed otherwise than by growing or compaction.
    pub(crate) changed: bool,
    pub(crate) adopted: bool,
    /// The origin that it wrote under though it had heard that others have more of it.
    pub(crate) kept: Option<Origin>,
    /// What it said that tills of the first level do not understand: the remarks' ids, and nothing for a field.
    pub(crate) later: Vec<Option<Uuid>>,
}

/// What the replica wants of the world.
#[derive(Debug)]
pub(crate) enum Effect {
    Send {
        link: LinkId,
        bytes: Vec<u8>,
    },
    Close {
        link: LinkId,
        reason: CloseReason,
    },
    /// The reader is to look, a little later: see [`Agent::look`].
    Look(Look),
    Event(Event),
}

/// What the reader is asked for.
#[derive(Debug)]
pub(crate) enum Look {
    Ops { link: LinkId, origin: Origin, from: Seq, bytes_max: usize },
    Compare { link: LinkId, origin: Origin, marks: Vec<Head> },
    Digest,
    Parts { session: u64, table: u16, after: Key, parts: Vec<Part> },
    Ask { link: LinkId, ask: SnapshotAsk },
}

/// An agent that runs.
pub(crate) struct Agent {
    pub(crate) till: TillId,
    pub(crate) boot: BootId,
    pub(crate) replica: Replica,
    pub(crate) reader: Reader,
    db: Db,
    jobs: VecDeque<Job>,
    effects: Vec<Effect>,
    acked: BTreeSet<TillId>,
    acks_due: Option<MonoMs>,
    /// Tills that the roster says are retired.
    pub(crate) denied: BTreeSet<TillId>,
    /// When a tick is already planned.
    pub(crate) tick_at: Option<MonoMs>,
    /// When the store last told something: it tells in order.
    pub(crate) told_at: MonoMs,
    pub(crate) commit_planned: bool,
    giver: SnapshotGiver,
    compact_at: MonoMs,
    /// Running time of earlier runs of this card.
    run_before_ms: u64,
    started: MonoMs,
    /// Our own origin, where a peer was heard to have more of it than our card, and how many jobs wait that were there before.
    ahead: Option<(Origin, usize)>,
}

impl Agent {
    /// Opens the database and makes a replica of it, as the agent does at its start.
    pub(crate) fn open(options: &StoreOptions, now: MonoMs, wall: Now, rng: &mut Rng) -> Result<Self, StoreError> {
        let entropy = Box::new(rng.fork(1));
        let boot = BootId(rng.next());
        let mut db = Db::open(options, wall, entropy)?;
        let reader = db.reader()?;
        let till = options.author.till;
        let replica = Replica::new(ReplicaOptions {
            till,
            boot,
            origin: reader.origin()?,
            heads: reader.vector()?,
            auto_sync: true,
            acks: reader.acks()?,
            closes: reader.closes()?,
            level: options.level,
            // As the agent does: a clock that went back gives no number twice.
            stamp: reader.high_water()?.ms().max(wall.wall_ms),
            started: now,
            unfinished: reader.unfinished()?,
        });
        let run_before_ms = reader.running_ms()?;
        let giver = db.giver();
        let author = &options.author;
        let admit = Request::Admit {
            till,
            public_key: author.public_key,
            pos_id: author.pos_id.clone(),
            pos_name: author.pos_name.clone(),
        };
        db.probe(wall)?;
        let mut agent = Self {
            till,
            boot,
            replica,
            reader,
            db,
            jobs: VecDeque::from([Job::Client(0, admit)]),
            effects: Vec::new(),
            acked: BTreeSet::new(),
            acks_due: None,
            denied: BTreeSet::new(),
            tick_at: None,
            told_at: now,
            commit_planned: false,
            giver,
            compact_at: now + COMPACT_PAUSE_MS,
            run_before_ms,
            started: now,
            ahead: None,
        };
        agent.read_roster();
        Ok(agent)
    }

    /// The origin that this till writes under.
    pub(crate) fn origin(&self) -> Origin {
        self.db.origin()
    }

    /// Milliseconds that this card's agent has run in all.
    pub(crate) fn running_ms(&self, now: MonoMs) -> u64 {
        self.run_before_ms + (now - self.started)
    }

    pub(crate) fn read_roster(&mut self) {
        if let Ok(roster) = self.reader.roster() {
            self.denied = roster.iter().filter(|entry| entry.retired_ms.is_some()).map(|entry| entry.till).collect();
        }
    }

    /// Asks for something as a client does.
    pub(crate) fn submit(&mut self, client: ClientId, request: Request) {
        self.jobs.push_back(Job::Client(client, request));
    }

    /// Whether the store has nothing left to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.jobs.len()
    }

    /// Feeds the replica a peer's message.
    pub(crate) fn hear(&mut self, now: MonoMs, link: LinkId, message: Message) {
        if let Message::Have(heads) = &message {
            let own = self.origin();
            let ours = self.reader.vector().map_or(Seq::MAX, |vector| vector.seq(own));
            if self.ahead.is_none_or(|(origin, _)| origin != own)
                && heads.iter().any(|(origin, head)| *origin == own && head.seq > ours)
            {
                self.ahead = Some((own, self.jobs.len()));
            }
        }
        self.feed(now, Input::Message { link, message });
    }

    /// Feeds the replica; what it wants of the world is then in [`Agent::effects`].
    pub(crate) fn feed(&mut self, now: MonoMs, input: Input) {
        if let Input::LinkDown { link } = &input {
            self.giver.forget(link.0);
        }
        for output in self.replica.handle(now, input) {
            match output {
                Output::Send { link, message } => {
                    self.effects.push(Effect::Send { link, bytes: message::encode(&message) });
                }
                Output::Apply(batch) => self.jobs.push_back(Job::Apply(batch.origin, batch)),
                Output::Read { link, origin, from, bytes_max } => {
                    self.effects.push(Effect::Look(Look::Ops { link, origin, from, bytes_max }));
                }
                Output::End(closes) => self.jobs.push_back(Job::Insist(Request::End(closes))),
                Output::LeaveOrigin(origin) => self.jobs.push_back(Job::Insist(Request::LeaveOrigin(origin))),
                Output::Compare { link, origin, marks } => {
                    self.effects.push(Effect::Look(Look::Compare { link, origin, marks }));
                }
                Output::CompareParts { session, table, after, parts } => {
                    self.effects.push(Effect::Look(Look::Parts { session, table, after, parts }));
                }
                Output::Ask { link, ask } => self.effects.push(Effect::Look(Look::Ask { link, ask })),
                Output::Take { session, what } => self.jobs.push_back(Job::Take(session, what)),
                Output::Adopt => self.jobs.push_back(Job::Adopt),
                Output::Digest => self.effects.push(Effect::Look(Look::Digest)),
                Output::Close { link, reason } => self.effects.push(Effect::Close { link, reason }),
                Output::Event(event) => self.on_event(now, event),
            }
        }
    }

    fn on_event(&mut self, now: MonoMs, event: Event) {
        if let Event::PeerHas(till) = event {
            self.acked.insert(till);
            self.acks_due.get_or_insert(now + ACKS_EVERY_MS);
        }
        self.effects.push(Effect::Event(event));
    }

    pub(crate) fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// When something is due though nothing happens.
    pub(crate) fn next_tick(&self) -> Option<MonoMs> {
        [self.replica.next_tick(), self.acks_due, Some(self.compact_at)].into_iter().flatten().min()
    }

    /// Much running time has passed at once.
    pub(crate) fn leap(&mut self, by_ms: u64, now: MonoMs) {
        self.run_before_ms += by_ms;
        self.compact_at = now;
    }

    pub(crate) fn tick(&mut self, now: MonoMs) {
        self.feed(now, Input::Tick);
        if self.compact_at <= now {
            self.compact_at = now + COMPACT_EVERY_MS;
            self.jobs.push_back(Job::Compact);
        }
        if self.acks_due.is_some_and(|due| due <= now) {
            self.acks_due = None;
            let seen_run_ms = self.running_ms(now);
            for till in std::mem::take(&mut self.acked) {
                if let Some(ack) = self.replica.held_by(till) {
                    self.jobs.push_back(Job::Keep(Remember::Ack { ack, seen_run_ms }));
                }
            }
        }
    }

    /// What the reader finds.
    pub(crate) fn look(&mut self, look: Look, now: MonoMs) -> Input {
        match look {
            Look::Ops { link, origin, from, bytes_max } => {
                match self.reader.ops(origin, from, BATCH_OPS_MAX, bytes_max) {
                    Ok(OpsRead::Compacted(floor)) => Input::ReadBelow { link, origin, floor },
                    read => Input::Read { link, origin, batch: read.ok().and_then(OpsRead::batch) },
                }
            }
            Look::Compare { link, origin, marks } => {
                let found = self.reader.compare(origin, &marks).unwrap_or(Comparison::Unknown);
                Input::Compared { link, origin, found }
            }
            Look::Parts { session, table, after, parts } => {
                let differ = self.reader.differing_parts(table, &after, &parts);
                Input::PartsCompared { session, differ: differ.unwrap_or_else(|_| (0..parts.len()).collect()) }
            }
            Look::Ask { link, ask } => Input::Answer { link, answer: self.giver.answer(link.0, ask, now) },
            Look::Digest => Input::Digest(self.reader.digest().unwrap_or_default()),
        }
    }

    /// Does up to so many of the jobs that wait in one commit.
    pub(crate) fn commit(&mut self, jobs_max: usize, now: MonoMs, wall: Now) -> Told {
        let jobs: Vec<Job> = self.jobs.drain(..jobs_max.min(self.jobs.len())).collect();
        let run_ms = self.running_ms(now);
        let requests = jobs.iter().map(|job| match job {
            Job::Client(_, request) => request.clone(),
            Job::Apply(_, batch) => Request::Apply(batch.clone()),
            Job::Insist(request) => request.clone(),
            Job::Keep(remember) => Request::Remember(remember.clone()),
            Job::Take(session, what) => Request::Take { session: *session, what: what.clone() },
            Job::Adopt => Request::Adopt { rows_max: ADOPT_ROWS },
            Job::Compact => Request::Compact { run_ms, ops_max: COMPACT_OPS },
        });
        let done = self.db.execute(requests.collect(), wall);
        let mut told = Told {
            failed: done.replies.iter().any(|r| r.as_ref().is_err_and(StoreError::is_fault)),
            ..Told::default()
        };
        let committed = done.committed;
        if let Some(origin) = committed.origin {
            told.inputs.push(Input::Origin(origin));
            let ops = self.ops_in_logs();
            told.records.extend(ops.iter().filter_map(record));
            told.numbers.extend(ops.iter().filter_map(numbered));
        }
        if let Some((origin, before)) = self.ahead {
            let writes = committed.local.as_ref().is_some_and(|batch| batch.origin == origin);
            told.kept = (before == 0 && writes && !told.failed).then_some(origin);
            // Where the disk fails, what must be done is done after all that waits.
            let after = if told.failed { self.jobs.len() + jobs.len() } else { before.saturating_sub(jobs.len()) };
            self.ahead = Some((origin, after));
        }
        if let Some(batch) = committed.local {
            told.records.extend(batch.ops.iter().filter_map(record));
            told.numbers.extend(batch.ops.iter().filter_map(numbered));
            told.inputs.push(Input::Committed(batch));
        }
        told.changed = committed.logs.is_some();
        told.inputs.extend(committed.logs.map(|now| Input::Logs { vector: now.vector, closes: now.closes }));
        told.inputs.extend(committed.heads.into_iter().map(|(origin, head)| Input::Applied { origin, head }));
        if committed.roster {
            self.read_roster();
        }
        for (job, reply) in jobs.into_iter().zip(done.replies) {
            self.on_reply(now, job, reply, &mut told);
        }
        told
    }

    /// What the logs carry. A commit in which the origin changes tells of the ops before the change by their head alone.
    fn ops_in_logs(&self) -> Vec<Op> {
        let mut found = Vec::new();
        for (origin, head) in self.reader.vector().unwrap_or_default().0 {
            let mut from = 1;
            while from <= head.seq {
                from = match self.reader.ops(origin, from, BATCH_OPS_MAX, usize::MAX) {
                    Ok(OpsRead::Batch(batch)) => {
                        let next = batch.after().seq + 1;
                        found.extend(batch.ops);
                        next
                    }
                    Ok(OpsRead::Compacted(floor)) => floor + 1,
                    Ok(OpsRead::Nothing) | Err(_) => break,
                };
            }
        }
        found
    }

    fn on_reply(&mut self, now: MonoMs, job: Job, reply: Result<Reply, StoreError>, told: &mut Told) {
        match (job, reply) {
            (Job::Client(client, request), reply) => {
                told.later.extend(later(&request).filter(|_| reply.is_ok()));
                told.answers.push((client, reply));
            }
            (Job::Apply(origin, _), Ok(Reply::NotContinuing { head, .. })) => {
                told.inputs.push(Input::NotApplied { origin, head: Some(head) });
            }
            (Job::Apply(_, batch), Ok(_)) => told.records.extend(batch.ops.iter().filter_map(record)),
            (Job::Apply(origin, _), Err(_)) => told.inputs.push(Input::NotApplied { origin, head: None }),
            (Job::Insist(request), Err(_)) => self.jobs.push_back(Job::Insist(request)),
            (Job::Take(session, what), reply) => {
                if let (Taking::Rows { rows, .. }, Ok(_)) = (what, &reply) {
                    told.records.extend(rows.iter().filter_map(record));
                }
                told.inputs.push(Input::Taken { session, done: reply.is_ok() });
            }
            (Job::Adopt, Ok(Reply::Adopted { left })) => {
                told.adopted = true;
                told.inputs.push(Input::Adopted { left });
            }
            (Job::Adopt, _) => told.inputs.push(Input::Adopted { left: u64::MAX }),
            (Job::Compact, Ok(Reply::Compacted { ops, more })) => {
                told.compacted += ops;
                if more {
                    self.compact_at = self.compact_at.min(now + COMPACT_PAUSE_MS);
                }
            }
            (Job::Insist(_) | Job::Keep(_) | Job::Compact, _) => {}
        }
    }
}

/// Whether a request says what tills of the first level do not understand: the remark's id, or nothing for a field.
fn later(request: &Request) -> Option<Option<Uuid>> {
    match request {
        Request::Note { id, .. } => Some(Some(*id)),
        Request::Edit { change: Change::Put(values) | Change::Patch(values), .. } => {
            values.contains_key(LATER_FIELD).then_some(None)
        }
        _ => None,
    }
}

/// A ticket's number, where an op carries one.
fn numbered(op: &Op) -> Option<(books::Key, String)> {
    match (op.kind == kind::TICKET).then(|| Body::from_op(op)) {
        Some(Ok(Body::Ticket(ticket))) => Some(((ticket.id, content_hash(&op.body)), ticket.number)),
        _ => None,
    }
}

/// The record that an op carries, if it is one: its id and content hash.
pub(crate) fn record(op: &Op) -> Option<(Uuid, [u8; 32])> {
    if !matches!(op.kind, kind::TICKET..=kind::MOVEMENT | kind::NOTE) {
        return None;
    }
    let id = match Body::from_op(op).ok()? {
        Body::Ticket(ticket) => ticket.id,
        Body::Refund(refund) => refund.id,
        Body::Movement(movement) => movement.id,
        Body::Note(note) => note.id,
        _ => return None,
    };
    Some((id, content_hash(&op.body)))
}
