//! The network between tills: streams of frames, each way in order, over wires that delay, stall and swallow. What is lost, doubled or
//! reordered below a stream shows as delay; what cuts a stream loses all that is under way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tillmesh::model::id::BootId;
use tillmesh::sync::{LinkId, MonoMs};

use crate::rng::Rng;

/// One way of a link.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    /// When the wire is free for the next frame.
    free_at: MonoMs,
    /// When the last frame arrives.
    last_at: MonoMs,
    frames: VecDeque<(MonoMs, Frame)>,
    bytes: usize,
    /// What is sent is lost from now on, and nobody is told.
    pub(crate) swallows: bool,
}

#[derive(Debug)]
pub(crate) enum Frame {
    Bytes(Vec<u8>),
    /// The sender has closed the stream.
    End,
}

/// The end of a link: which till, and which run of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct End {
    pub(crate) till: usize,
    pub(crate) boot: BootId,
}

/// A link. End 0 dialled.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) ends: [End; 2],
    /// Which ends still have it.
    pub(crate) open: [bool; 2],
    /// From end 0, and from end 1.
    pub(crate) pipes: [Pipe; 2],
    latency_ms: u64,
    /// Bytes in a millisecond.
    rate: u64,
}

/// The links and the state of the wires.
#[derive(Default)]
pub(crate) struct Net {
    pub(crate) links: BTreeMap<LinkId, Link>,
    /// From which till to which nothing passes.
    blocked: BTreeSet<(usize, usize)>,
    last_link: u64,
    /// The most bytes that were ever under way on one pipe.
    pub(crate) bytes_max: usize,
}

impl Link {
    /// The end of a till, 0 or 1, where that run of it still has the link.
    pub(crate) fn end_of(&self, till: usize, boot: BootId) -> Option<usize> {
        (0..2).find(|n| self.ends[*n] == End { till, boot } && self.open[*n])
    }
}

impl Net {
    pub(crate) fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.blocked.contains(&(from, to))
    }

    pub(crate) fn block(&mut self, from: usize, to: usize) {
        self.blocked.insert((from, to));
    }

    pub(crate) fn unblock(&mut self, from: usize, to: usize) {
        self.blocked.remove(&(from, to));
    }

    /// Ends all that is wrong with the wires.
    pub(crate) fn heal(&mut self) {
        self.blocked.clear();
    }

    /// Whether a run of a till has a link to another till.
    pub(crate) fn has_link(&self, from: End, to: usize) -> bool {
        self.links
            .values()
            .any(|link| (0..2).any(|n| link.open[n] && link.ends[n] == from && link.ends[1 - n].till == to))
    }

    pub(crate) fn connect(&mut self, dialler: End, acceptor: End, rng: &mut Rng, slow: bool) -> LinkId {
        self.last_link += 1;
        let id = LinkId(self.last_link);
        let (latency_ms, rate) =
            if slow { (rng.within(50..=400), rng.within(5..=60)) } else { (rng.within(0..=8), 10_000) };
        let link = Link { ends: [dialler, acceptor], open: [true; 2], pipes: Default::default(), latency_ms, rate };
        self.links.insert(id, link);
        id
    }

    /// Puts a frame on its way from an end; when it arrives.
    pub(crate) fn send(&mut self, id: LinkId, from: usize, frame: Frame, now: MonoMs, rng: &mut Rng) -> Option<MonoMs> {
        let link = self.links.get_mut(&id)?;
        let pipe = &mut link.pipes[from];
        if pipe.swallows {
            return None;
        }
        let bytes = if let Frame::Bytes(bytes) = &frame { bytes.len() } else { 0 };
        pipe.free_at = pipe.free_at.max(now) + bytes as u64 / link.rate;
        // Below the stream a datagram is lost now and then, and sent again.
        let lost = if rng.odds(20) { rng.within(40..=900) } else { 0 };
        let at = (pipe.free_at + link.latency_ms + rng.below(3) + lost).max(pipe.last_at);
        pipe.last_at = at;
        pipe.bytes += bytes;
        pipe.frames.push_back((at, frame));
        self.bytes_max = self.bytes_max.max(pipe.bytes);
        Some(at)
    }

    /// The next frame that has arrived from an end, where the wire lets it through.
    pub(crate) fn receive(&mut self, id: LinkId, from: usize, now: MonoMs) -> Option<Frame> {
        let link = self.links.get_mut(&id)?;
        if self.blocked.contains(&(link.ends[from].till, link.ends[1 - from].till)) {
            return None;
        }
        let pipe = &mut link.pipes[from];
        if pipe.frames.front()?.0 > now {
            return None;
        }
        let (_, frame) = pipe.frames.pop_front()?;
        if let Frame::Bytes(bytes) = &frame {
            pipe.bytes -= bytes.len();
        }
        Some(frame)
    }

    /// Swaps the two frames that arrive next from an end, if both are messages.
    pub(crate) fn swap_next(&mut self, id: LinkId, from: usize) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let frames = &mut link.pipes[from].frames;
        if let (Some((_, Frame::Bytes(_))), Some((_, Frame::Bytes(_)))) = (frames.front(), frames.get(1)) {
            let later = frames[1].0;
            frames.swap(0, 1);
            frames[0].0 = frames[0].0.min(later);
            frames[1].0 = later;
        }
    }

    /// When frames that wait are due, for all links.
    pub(crate) fn waiting(&self) -> Vec<(LinkId, usize, MonoMs)> {
        let pipes = self.links.iter().flat_map(|(id, link)| (0..2).map(move |n| (*id, n, &link.pipes[n])));
        pipes.flat_map(|(id, n, pipe)| pipe.frames.iter().map(move |(at, _)| (id, n, *at))).collect()
    }

    /// An end has no more use for a link; whether nobody has.
    pub(crate) fn leave(&mut self, id: LinkId, end: usize) {
        let Some(link) = self.links.get_mut(&id) else { return };
        link.open[end] = false;
        // What still comes to this end is thrown away.
        link.pipes[1 - end].frames.clear();
        link.pipes[1 - end].bytes = 0;
        link.pipes[1 - end].swallows = true;
        if link.open == [false; 2] {
            self.links.remove(&id);
        }
    }
}
