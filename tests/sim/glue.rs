//! One running agent without its runtime: the replica and the store, and what the agent's driver does between them, as plain calls. What
//! the driver's tasks would answer later comes back to the caller, who decides when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tillmesh::model::id::{BootId, Origin, TillId, Uuid};
use tillmesh::model::op::{Body, Head, Op, OpBatch, Seq, content_hash, kind};
use tillmesh::store::{Db, Now, OpsRead, Reader, Remember, Reply, Request, StoreError, StoreOptions};
use tillmesh::sync::{
    BATCH_OPS_MAX, CloseReason, Comparison, Event, Input, LinkId, MonoMs, Output, Replica, ReplicaOptions,
};
use tillmesh::wire::message;

use crate::rng::Rng;

/// Acks of others are kept at most this often, as the driver does.
const ACKS_EVERY_MS: u64 = 10_000;

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
}

/// What the store has to tell after a commit, in order.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) inputs: Vec<Input>,
    pub(crate) answers: Vec<(ClientId, Result<Reply, StoreError>)>,
    /// Records that are now on the card: id and content hash.
    pub(crate) records: Vec<(Uuid, [u8; 32])>,
    /// Whether the disk failed.
    pub(crate) failed: bool,
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
    /// Running time of earlier runs of this card.
    run_before_ms: u64,
    started: MonoMs,
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
            stamp: wall.wall_ms,
            started: now,
            uncovered: 0,
        });
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
            run_before_ms: 0,
            started: now,
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

    /// Feeds the replica; what it wants of the world is then in [`Agent::effects`].
    pub(crate) fn feed(&mut self, now: MonoMs, input: Input) {
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
                Output::Digest => self.effects.push(Effect::Look(Look::Digest)),
                Output::Close { link, reason } => self.effects.push(Effect::Close { link, reason }),
                Output::Event(event) => self.on_event(now, event),
                _ => {}
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
        [self.replica.next_tick(), self.acks_due].into_iter().flatten().min()
    }

    pub(crate) fn tick(&mut self, now: MonoMs) {
        self.feed(now, Input::Tick);
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
    pub(crate) fn look(&self, look: Look) -> Input {
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
            Look::Digest => Input::Digest(self.reader.digest().unwrap_or_default()),
        }
    }

    /// Does up to so many of the jobs that wait in one commit.
    pub(crate) fn commit(&mut self, jobs_max: usize, wall: Now) -> Told {
        let jobs: Vec<Job> = self.jobs.drain(..jobs_max.min(self.jobs.len())).collect();
        let mut received = BTreeMap::new();
        let requests = jobs.iter().map(|job| match job {
            Job::Client(_, request) => request.clone(),
            Job::Apply(_, batch) => Request::Apply(batch.clone()),
            Job::Insist(request) => request.clone(),
            Job::Keep(remember) => Request::Remember(remember.clone()),
        });
        let done = self.db.execute(requests.collect(), wall);
        let mut told = Told {
            failed: done.replies.iter().any(|r| r.as_ref().is_err_and(StoreError::is_fault)),
            ..Told::default()
        };
        let committed = done.committed;
        told.inputs.extend(committed.origin.map(Input::Origin));
        if let Some(batch) = committed.local {
            told.records.extend(batch.ops.iter().filter_map(record));
            told.inputs.push(Input::Committed(batch));
        }
        told.inputs.extend(committed.logs.map(|now| Input::Logs { vector: now.vector, closes: now.closes }));
        told.inputs.extend(committed.heads.into_iter().map(|(origin, head)| Input::Applied { origin, head }));
        if committed.roster {
            self.read_roster();
        }
        for (job, reply) in jobs.into_iter().zip(done.replies) {
            match (job, reply) {
                (Job::Client(client, _), reply) => told.answers.push((client, reply)),
                (Job::Apply(origin, _), Ok(Reply::NotContinuing { head, .. })) => {
                    told.inputs.push(Input::NotApplied { origin, head: Some(head) });
                }
                (Job::Apply(_, batch), Ok(_)) => {
                    received.extend(batch.ops.iter().filter_map(record).map(|(id, hash)| (hash, id)));
                }
                (Job::Apply(origin, _), Err(_)) => told.inputs.push(Input::NotApplied { origin, head: None }),
                (Job::Insist(request), Err(_)) => self.jobs.push_back(Job::Insist(request)),
                (Job::Insist(_) | Job::Keep(_), _) => {}
            }
        }
        told.records.extend(received.into_iter().map(|(hash, id)| (id, hash)));
        told
    }
}

/// The record that an op carries, if it is one that this version knows: its id and content hash.
pub(crate) fn record(op: &Op) -> Option<(Uuid, [u8; 32])> {
    if !(kind::TICKET..=kind::MOVEMENT).contains(&op.kind) {
        return None;
    }
    let id = match Body::from_op(op).ok()? {
        Body::Ticket(ticket) => ticket.id,
        Body::Refund(refund) => refund.id,
        Body::Movement(movement) => movement.id,
        _ => return None,
    };
    Some((id, content_hash(&op.body)))
}
