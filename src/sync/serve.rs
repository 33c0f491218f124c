//! Giving: streams that peers asked for, and the push of our own ops.

use super::message::Message;
use super::replica::Replica;
use super::session::Serve;
use super::{BATCH_BYTES_MAX, BATCH_OPS_MAX, LinkId, MonoMs, Output};
use crate::model::id::Origin;
use crate::model::op::{Op, OpBatch, Seq};

impl Replica {
    pub(super) fn on_want(&mut self, link: LinkId, origin: Origin, from: Seq, credit: u32) {
        if !self.is_active() || from == 0 || self.stands_still(origin) {
            return;
        }
        let own = origin == self.origin;
        let Some(session) = self.sessions.get_mut(&link) else { return };
        if own {
            session.pushed.clear();
        }
        // A read on its way is of the former stream: what it brings does not fit the new one and is dropped there.
        session.serves.insert(origin, Serve { next: from, credit: i64::from(credit), reading: false, live: false });
        self.serve(link, origin);
    }

    pub(super) fn on_credit(&mut self, link: LinkId, origin: Origin, bytes: u32) {
        if let Some(serve) = self.sessions.get_mut(&link).and_then(|s| s.serves.get_mut(&origin)) {
            serve.credit += i64::from(bytes);
            self.serve(link, origin);
        }
    }

    pub(super) fn on_read(&mut self, link: LinkId, origin: Origin, batch: Option<OpBatch>) {
        let Some(serve) = self.sessions.get_mut(&link).and_then(|s| s.serves.get_mut(&origin)) else { return };
        serve.reading = false;
        let head = self.logs.get(&origin).map_or(0, |log| log.durable.seq);
        if let Some(batch) = batch
            // What was read before the log was cut is not sent after it.
            && batch.before.seq + batch.ops.len() as u64 <= head
            && batch.before.seq + 1 == serve.next
            && !batch.ops.is_empty()
        {
            serve.next += batch.ops.len() as u64;
            serve.credit -= batch.wire_len() as i64;
            self.send(link, Message::Ops(batch));
            self.serve(link, origin);
        }
    }

    pub(super) fn on_read_below(&mut self, link: LinkId, origin: Origin, floor: Seq) {
        if let Some(session) = self.sessions.get_mut(&link)
            && session.serves.remove(&origin).is_some()
        {
            self.send(link, Message::Below { origin, floor });
        }
    }

    pub(super) fn serve_all(&mut self, origin: Origin) {
        for link in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.serve(link, origin);
        }
    }

    fn serve(&mut self, link: LinkId, origin: Origin) {
        let head = self.logs.get(&origin).map_or(0, |l| l.durable.seq);
        let own = origin == self.origin;
        let Some(serve) = self.sessions.get_mut(&link).and_then(|s| s.serves.get_mut(&origin)) else { return };
        if serve.next > head {
            serve.live |= own;
        } else if !serve.reading && serve.credit > 0 && !serve.live {
            serve.reading = true;
            let bytes_max = BATCH_BYTES_MAX.min(usize::try_from(serve.credit).unwrap_or(usize::MAX));
            self.out.push(Output::Read { link, origin, from: serve.next, bytes_max });
        }
    }

    /// A peer that stands at the head of our own log is pushed to from now on.
    pub(super) fn go_live(&mut self, link: LinkId) {
        if !self.is_active() || self.stands_still(self.origin) {
            return;
        }
        let head = self.logs.get(&self.origin).map(|l| l.durable).unwrap_or_default();
        let Some(session) = self.sessions.get_mut(&link) else { return };
        if session.has.head(self.origin) == head && session.serves.get(&self.origin).is_none_or(|s| !s.live) {
            let serve = Serve { next: head.seq + 1, credit: 0, reading: false, live: true };
            session.serves.insert(self.origin, serve);
        }
    }

    pub(super) fn push_own(&mut self, now: MonoMs, batch: &OpBatch) {
        if !self.is_active() || self.stands_still(batch.origin) {
            return;
        }
        let parts = split(batch);
        for link in self.sessions.keys().copied().collect::<Vec<_>>() {
            for part in &parts {
                self.push(now, link, part);
            }
        }
    }

    fn push(&mut self, now: MonoMs, link: LinkId, part: &OpBatch) {
        let bytes = u32::try_from(part.wire_len()).unwrap_or(u32::MAX);
        let Some(session) = self.sessions.get_mut(&link) else { return };
        let fits = session.may_push(bytes);
        match session.serves.get_mut(&part.origin) {
            Some(serve) if serve.live && fits && serve.next == part.before.seq + 1 => {
                serve.next += part.ops.len() as u64;
                let last = serve.next - 1;
                session.pushed.push_back((last, bytes));
                self.send(link, Message::Ops(part.clone()));
            }
            Some(serve) if !serve.live => self.serve(link, part.origin),
            serve => {
                if let Some(serve) = serve {
                    serve.live = false;
                }
                session.announce.add(now, part.origin, true);
            }
        }
    }
}

/// Parts of a batch that fit a message each.
fn split(batch: &OpBatch) -> Vec<OpBatch> {
    let mut parts = Vec::new();
    let mut before = batch.before;
    let mut ops: Vec<Op> = Vec::new();
    let mut bytes = 0;
    for op in &batch.ops {
        if !ops.is_empty() && (ops.len() == BATCH_OPS_MAX || bytes + op.wire_len() > BATCH_BYTES_MAX) {
            let part = OpBatch { origin: batch.origin, before, ops: std::mem::take(&mut ops) };
            before = part.after();
            parts.push(part);
            bytes = 0;
        }
        bytes += op.wire_len();
        ops.push(op.clone());
    }
    if !ops.is_empty() {
        parts.push(OpBatch { origin: batch.origin, before, ops });
    }
    parts
}
