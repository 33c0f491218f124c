//! What a message may hold at most. A peer that sends more is not one of ours.

use super::message::{Message, SnapshotAnswer};
use super::{
    ACKS_MAX, CLOSES_MAX, HASHES_MAX, HAVE_MAX, MARKS_MAX, PARTS_MAX, SEQ_MAX, STATUS_BYTES_MAX, STATUS_MAX, SUMS_MAX,
};
use crate::model::op::{Head, Seq};

impl Message {
    /// Whether it keeps the limits of the protocol, its order where it has one, and numbers that can be reckoned with.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        let sane = |seq: Seq| seq <= SEQ_MAX;
        match self {
            Self::Have(heads) => heads.len() <= HAVE_MAX && heads.iter().all(|(_, head)| sane(head.seq)),
            Self::Want { from, .. } => (1..=SEQ_MAX).contains(from),
            Self::Ops(batch) => sane(batch.before.seq),
            Self::Closes(closes) => closes.len() <= CLOSES_MAX && closes.iter().all(|close| sane(close.seq)),
            Self::Acks(acks) => {
                acks.len() <= ACKS_MAX && acks.iter().all(|ack| ack.heads.0.values().all(|head| sane(head.seq)))
            }
            Self::Probe { marks, .. } => are_marks(marks) && marks.last().is_some_and(|mark| sane(mark.seq)),
            Self::Below { floor, .. } => sane(*floor),
            Self::Answer(answer) => is_allowed(answer),
            Self::Status(told) => {
                told.len() <= STATUS_MAX && told.iter().all(|status| status.body.len() <= STATUS_BYTES_MAX)
            }
            Self::Digest(digest) => digest.sums.len() <= SUMS_MAX,
            Self::Credit { .. } | Self::Ping(_) | Self::Pong(_) | Self::Peers(_) | Self::Ask(_) => true,
        }
    }
}

fn are_marks(marks: &[Head]) -> bool {
    marks.len() <= MARKS_MAX && marks.is_sorted_by(|a, b| a.seq < b.seq)
}

fn is_allowed(answer: &SnapshotAnswer) -> bool {
    match answer {
        SnapshotAnswer::Begun { closes, logs, .. } => {
            closes.iter().all(|close| close.seq <= SEQ_MAX) && logs.iter().all(|log| log.head.seq <= SEQ_MAX)
        }
        SnapshotAnswer::Parts { after, parts, last, .. } => {
            let first = parts.first().map_or(*last, |part| part.upto > *after);
            first && parts.len() <= PARTS_MAX && parts.is_sorted_by(|a, b| a.upto < b.upto)
        }
        SnapshotAnswer::Hashes { hashes, .. } => hashes.len() <= HASHES_MAX,
        SnapshotAnswer::Rows { .. } | SnapshotAnswer::None | SnapshotAnswer::NotNow => true,
    }
}
