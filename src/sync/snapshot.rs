//! Taking one snapshot: one question at a time, one part at a time.
//!
//! Begin; then, table by table, the giver's parts are compared with what is here, equal ones are passed over, the rows of the others are
//! asked for, checked by digest and joined in; then the running hashes of every log that goes beyond ours; at last ends and logs are put
//! in, in one transaction. Where the logs of the two tills turn out to be branches, that is settled first, and the snapshot begun again.

use std::collections::VecDeque;

use super::message::{Key, LogHeader, Message, Part, SnapshotAnswer, SnapshotAsk};
use super::parts::part_digest;
use super::replica::Replica;
use super::{LinkId, MonoMs, OWN_STEP_MS, Output, PROGRESS_EVERY_MS, SNAPSHOT_STALL_MS, Taking};
use crate::model::close::Close;
use crate::model::id::TillId;
use crate::model::op::{Head, Op, RunningHash, Seq};

/// A snapshot that is being taken.
#[derive(Debug)]
pub(super) struct Run {
    session: u64,
    pub(super) link: LinkId,
    pub(super) till: TillId,
    header: Option<Header>,
    step: Step,
    /// Who is waited for must have answered by then.
    pub(super) until: MonoMs,
    /// The table that is being taken.
    table: u16,
    /// The tables after it.
    tables: VecDeque<u16>,
    /// What is left of the parts that the giver last told.
    work: VecDeque<Work>,
    /// The key up to which parts are known, and whether the table has no more.
    after: Key,
    last: bool,
    /// The logs that are yet to be looked at, once the tables are here; with the first hash that is still to come, where some have.
    logs: Option<VecDeque<(LogHeader, Option<Seq>)>>,
    /// A log of the giver's is a branch of ours.
    is_branch: bool,
    /// Whether it has brought rows.
    pub(super) brought: bool,
    pub(super) rows: u64,
    pub(super) of: u64,
    /// When progress was last told.
    pub(super) told_at: Option<MonoMs>,
}

/// What the giver said of its snapshot.
#[derive(Debug)]
struct Header {
    number: u64,
    closes: Vec<Close>,
    logs: Vec<LogHeader>,
}

/// What is waited for.
#[derive(Debug)]
enum Step {
    /// The giver's header.
    Begin,
    /// Parts of the table.
    Parts,
    /// Our store's comparison of them.
    Compare(Vec<Part>),
    /// The rows of a part.
    Rows { after: Key, part: Part },
    /// Our store, to take something in.
    Store,
    /// Hashes of a log. The first is that of our own head, where `ours` says what it must be.
    Hashes { log: LogHeader, from: Seq, ours: Option<RunningHash> },
    /// Branches are being settled.
    Settle,
    /// Our store, to put the logs in.
    Finish,
}

/// What to do about some parts.
#[derive(Debug)]
enum Work {
    /// They are here as they are there.
    Same { after: Key, upto: Key, rows: u64 },
    /// It differs.
    Rows { after: Key, part: Part },
}

impl Run {
    pub(super) fn new(now: MonoMs, session: u64, link: LinkId, till: TillId) -> Self {
        Self {
            session,
            link,
            till,
            header: None,
            step: Step::Begin,
            until: now + SNAPSHOT_STALL_MS,
            table: 0,
            tables: VecDeque::new(),
            work: VecDeque::new(),
            after: Key::new(),
            last: true,
            logs: None,
            is_branch: false,
            brought: false,
            rows: 0,
            of: 0,
            told_at: None,
        }
    }

    /// The giver's number for it, once it is known.
    pub(super) fn number(&self) -> Option<u64> {
        self.header.as_ref().map(|header| header.number)
    }

    pub(super) fn may_tell(&self, now: MonoMs) -> bool {
        self.header.is_some() && self.told_at.is_none_or(|at| at + PROGRESS_EVERY_MS <= now)
    }

    fn wait(&mut self, now: MonoMs, step: Step) {
        let patience = match &step {
            Step::Compare(_) | Step::Store | Step::Finish => OWN_STEP_MS,
            _ => SNAPSHOT_STALL_MS,
        };
        self.until = now + patience;
        self.step = step;
    }

    /// Puts what came of comparing parts in order: neighbours that are the same make one.
    fn plan(&mut self, parts: Vec<Part>, differ: &[usize]) {
        for (place, part) in parts.into_iter().enumerate() {
            let after = std::mem::replace(&mut self.after, part.upto.clone());
            match self.work.back_mut() {
                _ if differ.contains(&place) => self.work.push_back(Work::Rows { after, part }),
                Some(Work::Same { upto, rows, .. }) => {
                    *upto = part.upto;
                    *rows += u64::from(part.rows);
                }
                _ => self.work.push_back(Work::Same { after, upto: part.upto, rows: u64::from(part.rows) }),
            }
        }
    }
}

impl Replica {
    /// The giver has answered.
    pub(super) fn on_answer(&mut self, now: MonoMs, answer: SnapshotAnswer) {
        let Some(run) = &mut self.taker.run else { return };
        let is_asking = matches!(run.step, Step::Begin | Step::Parts | Step::Rows { .. } | Step::Hashes { .. });
        if !is_asking {
            return;
        }
        match (std::mem::replace(&mut run.step, Step::Store), answer) {
            (_, SnapshotAnswer::NotNow) => self.put_off_snapshot(now),
            (_, SnapshotAnswer::None) => self.fail_snapshot(now),
            (Step::Begin, SnapshotAnswer::Begun { snapshot, closes, logs, tables }) => {
                run.of = tables.iter().fold(0, |sum, (_, rows)| sum.saturating_add(*rows));
                run.tables = tables.into_iter().map(|(table, _)| table).collect();
                run.header = Some(Header { number: snapshot, closes, logs });
                self.begin_snapshot(now);
            }
            (Step::Parts, SnapshotAnswer::Parts { table, after, parts, last })
                if table == run.table && after == run.after =>
            {
                run.last = last;
                if parts.is_empty() {
                    self.go_on(now);
                    return;
                }
                let session = run.session;
                run.wait(now, Step::Compare(parts.clone()));
                self.out.push(Output::CompareParts { session, table, after, parts });
            }
            (Step::Rows { after, part }, SnapshotAnswer::Rows { table, after: at, upto, rows })
                if (table, &at, &upto) == (run.table, &after, &part.upto) =>
            {
                self.on_rows(now, table, &part, rows);
            }
            (Step::Hashes { log, from, ours }, SnapshotAnswer::Hashes { origin, from: at, hashes })
                if (origin, at) == (log.origin, from) =>
            {
                self.on_hashes(now, log, (from, ours), hashes);
            }
            // An answer to an earlier question.
            (step, _) => run.step = step,
        }
    }

    fn begin_snapshot(&mut self, now: MonoMs) {
        let Some(run) = &self.taker.run else { return };
        let link = run.link;
        let Some(header) = &run.header else { return };
        let (closes, logs) = (header.closes.clone(), header.logs.clone());
        self.end(now, closes);
        for log in &logs {
            if let Some(session) = self.sessions.get_mut(&link)
                && session.has.seq(log.origin) < log.head.seq
            {
                session.hear(log.origin, log.head);
            }
            self.check_head(now, link, log.origin, log.head);
        }
        self.tell_progress(now);
        self.go_on(now);
    }

    /// Does what comes next.
    fn go_on(&mut self, now: MonoMs) {
        let leftover = self.taker.has_leftover();
        let Some(run) = &mut self.taker.run else { return };
        let (session, link, table) = (run.session, run.link, run.table);
        let Some(snapshot) = run.number() else { return };
        if run.logs.is_some() {
            self.go_on_with_logs(now);
            return;
        }
        while let Some(work) = run.work.pop_front() {
            match work {
                Work::Rows { after, part } => {
                    let upto = part.upto.clone();
                    run.wait(now, Step::Rows { after: after.clone(), part });
                    self.send(link, Message::Ask(SnapshotAsk::Rows { snapshot, table, after, upto }));
                    return;
                }
                Work::Same { after, upto, rows } => {
                    run.rows += rows;
                    if leftover {
                        run.wait(now, Step::Store);
                        self.out.push(Output::Take { session, what: Taking::Same { table, after, upto } });
                        return;
                    }
                }
            }
        }
        if run.last {
            let Some(next) = run.tables.pop_front() else {
                let logs = run.header.iter().flat_map(|header| header.logs.iter().cloned());
                run.logs = Some(logs.map(|log| (log, None)).collect());
                self.go_on_with_logs(now);
                return;
            };
            run.table = next;
            run.after = Key::new();
        }
        let (table, after) = (run.table, run.after.clone());
        run.wait(now, Step::Parts);
        self.send(link, Message::Ask(SnapshotAsk::Parts { snapshot, table, after }));
    }

    pub(super) fn on_parts_compared(&mut self, now: MonoMs, session: u64, differ: &[usize]) {
        let Some(run) = self.taker.run.as_mut().filter(|run| run.session == session) else { return };
        match std::mem::replace(&mut run.step, Step::Store) {
            Step::Compare(parts) => {
                run.plan(parts, differ);
                self.tell_progress(now);
                self.go_on(now);
            }
            step => run.step = step,
        }
    }

    fn on_rows(&mut self, now: MonoMs, table: u16, part: &Part, rows: Vec<Op>) {
        let Some(run) = &mut self.taker.run else { return };
        if rows.len() as u64 != u64::from(part.rows) || part_digest(&rows) != part.digest {
            self.fail_snapshot(now);
            return;
        }
        run.brought = true;
        run.rows += u64::from(part.rows);
        let session = run.session;
        run.wait(now, Step::Store);
        self.out.push(Output::Take { session, what: Taking::Rows { table, rows } });
    }

    /// Asks for the hashes of the next log that goes beyond ours.
    fn go_on_with_logs(&mut self, now: MonoMs) {
        loop {
            let Some(run) = &mut self.taker.run else { return };
            let Some((log, next)) = run.logs.as_mut().and_then(VecDeque::pop_front) else { break };
            let own = self.logs.get(&log.origin).map(|log| log.durable).unwrap_or_default();
            let (from, ours) = match next {
                Some(next) => (next, None),
                None if log.head.seq <= own.seq => continue,
                None if own.seq == 0 => (1, None),
                // The hash of our own head first: it shows whether the giver's log continues ours.
                None => (own.seq, Some(own.hash)),
            };
            let Some(snapshot) = run.number() else { return };
            let (link, origin) = (run.link, log.origin);
            run.wait(now, Step::Hashes { log, from, ours });
            self.send(link, Message::Ask(SnapshotAsk::Hashes { snapshot, origin, from }));
            return;
        }
        if let Some(run) = &mut self.taker.run {
            run.wait(now, Step::Settle);
        }
    }

    fn on_hashes(
        &mut self,
        now: MonoMs,
        log: LogHeader,
        (from, ours): (Seq, Option<RunningHash>),
        mut hashes: Vec<RunningHash>,
    ) {
        let Some(run) = &mut self.taker.run else { return };
        let (session, link) = (run.session, run.link);
        hashes.truncate(usize::try_from(log.head.seq + 1 - from).unwrap_or(usize::MAX));
        let (Some(first), Some(last)) = (hashes.first().copied(), hashes.last().copied()) else {
            self.fail_snapshot(now);
            return;
        };
        if ours.is_some_and(|ours| first != ours) {
            run.is_branch = true;
            self.compare(now, link, log.origin, Head { seq: from, hash: first });
            self.go_on_with_logs(now);
            return;
        }
        let upto = from + hashes.len() as u64 - 1;
        if upto == log.head.seq && last != log.head.hash {
            self.fail_snapshot(now);
            return;
        }
        let known = usize::from(ours.is_some());
        let (origin, base) = (log.origin, log.base);
        if upto < log.head.seq {
            run.logs.get_or_insert_default().push_front((log, Some(upto + 1)));
        }
        let hashes = hashes.split_off(known);
        if hashes.is_empty() {
            self.go_on_with_logs(now);
            return;
        }
        run.wait(now, Step::Store);
        let what = Taking::Hashes { origin, base, from: from + known as u64, hashes };
        self.out.push(Output::Take { session, what });
    }

    /// All has come. The logs are put in once nothing that is known of branches is still open.
    pub(super) fn settle_snapshot(&mut self, now: MonoMs) {
        let Some(run) = self.taker.run.as_mut().filter(|run| matches!(run.step, Step::Settle)) else { return };
        let is_comparing = self.sessions.get(&run.link).is_some_and(|s| !s.comparing.is_empty());
        if is_comparing || !self.ends.is_settled() {
            return;
        }
        if run.is_branch {
            self.fail_snapshot(now);
            return;
        }
        let Some(header) = &run.header else { return };
        let what = Taking::Logs { closes: header.closes.clone(), logs: header.logs.clone() };
        let session = run.session;
        run.wait(now, Step::Finish);
        self.out.push(Output::Take { session, what });
    }

    pub(super) fn on_taken(&mut self, now: MonoMs, session: u64, done: bool) {
        let Some(run) = self.taker.run.as_mut().filter(|run| run.session == session) else { return };
        if !done {
            self.fail_snapshot(now);
            return;
        }
        match run.step {
            Step::Store => {
                self.note_taken(now);
                self.tell_progress(now);
                self.go_on(now);
            }
            Step::Finish => {
                self.note_taken(now);
                self.complete_snapshot(now);
            }
            _ => {}
        }
    }

    /// An origin has ended since the snapshot was begun: what it says of logs is not as it would say it now.
    pub(super) fn begin_snapshot_again(&mut self, now: MonoMs) {
        let is_stale = |run: &Run| !matches!(run.step, Step::Begin | Step::Finish);
        if self.taker.run.as_ref().is_some_and(is_stale) {
            self.drop_snapshot(now);
        }
    }
}
