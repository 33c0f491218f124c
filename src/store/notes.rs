//! Remarks, of level 2: built with the feature `next` alone. See [`crate::model::note`].

use rusqlite::OptionalExtension;

use crate::model::id::Uuid;
use crate::model::level;
use crate::model::mutant::Mutant;
use crate::model::note::Note;
use crate::model::op::{Body, kind};
use crate::model::register::EntityKind;

use super::digest;
use super::entity::Change;
use super::error::StoreError;
use super::logs::LAPSE_MS;
use super::memory;
use super::reader::Reader;
use super::record::{self, Record};
use super::request::Reply;
use super::work::Work;

/// A field of products, of level 2.
pub(super) const NEXT_FIELD: &str = "allergens";

impl Work<'_> {
    /// Whether all live tills of the roster understand this level. One that has not spoken yet may be of the first.
    ///
    /// # Errors
    /// Names those that do not.
    fn check_level(&self, level: u16) -> Result<(), StoreError> {
        let mut query = self.conn.prepare_cached(
            "SELECT r.pos_id FROM roster r LEFT JOIN member m USING (till)
             WHERE r.retired_ms IS NULL AND r.till <> ?1 AND coalesce(m.level, 1) < ?2
             AND (m.till IS NULL OR m.seen_run_ms + ?3 >= ?4) ORDER BY r.pos_id",
        )?;
        let run_ms = memory::running(self.conn)?;
        let limits = (self.author.till.0, level, LAPSE_MS.cast_signed(), run_ms.cast_signed());
        let behind: Vec<String> = query.query_map(limits, |row| row.get(0))?.collect::<Result<_, _>>()?;
        match behind.as_slice() {
            [] => Ok(()),
            _ if Mutant::SkipLevelCheck.is_on() => Ok(()),
            tills => Err(StoreError::rejected("", format!("update these tills first: {}", tills.join(", ")))),
        }
    }

    /// Refuses fields that some live till does not understand.
    pub(super) fn check_fields(&self, kind: EntityKind, change: &Change) -> Result<(), StoreError> {
        let (Change::Put(values) | Change::Patch(values)) = change else { return Ok(()) };
        match kind == EntityKind::Product && values.contains_key(NEXT_FIELD) {
            true => self.check_level(2),
            false => Ok(()),
        }
    }

    /// Leaves a remark for the shop.
    pub(super) fn note(&mut self, id: Uuid, text: String) -> Result<Reply, StoreError> {
        let known: Vec<Note> = record::bodies(self.conn, "SELECT body FROM note WHERE id = ?1", id)?;
        if known.iter().any(|note| note.text == text) {
            return Ok(Reply::Done);
        }
        self.check_level(level::of_kind(kind::NOTE))?;
        let hlc = self.tick();
        let body = Body::Note(Note { id, text, made: self.made(hlc) });
        let op = self.op(&body, hlc)?;
        let rec = self.fold(&body, &op, &mut [0; 32])?;
        self.append(op, rec, None)?;
        Ok(Reply::Done)
    }

    /// Stores a remark, ours or another's; gives its row. Two contents of one id are both kept.
    pub(super) fn insert_note(&mut self, record: &Record<'_>) -> Result<i64, StoreError> {
        let mut known = self.conn.prepare_cached("SELECT idx FROM note WHERE id = ?1 AND hash = ?2")?;
        let known = known.query_row((record.id.as_bytes(), record.hash), |row| row.get(0)).optional()?;
        if let Some(idx) = known {
            return Ok(idx);
        }
        self.conn.prepare_cached("INSERT INTO note (id, hash, body) VALUES (?1, ?2, ?3)")?.execute((
            record.id.as_bytes(),
            record.hash,
            record.body,
        ))?;
        let idx = self.conn.last_insert_rowid();
        digest::note(self.conn, &record::NOTES, idx)?;
        Ok(idx)
    }
}

impl Reader {
    /// All remarks, by id.
    ///
    /// # Errors
    /// The database's.
    pub fn notes(&self) -> Result<Vec<Note>, StoreError> {
        let mut query = self.conn().prepare_cached("SELECT body FROM note ORDER BY id, hash")?;
        let mut rows = query.query([])?;
        let mut notes = Vec::new();
        while let Some(row) = rows.next()? {
            notes.push(record::decode(record::blob(row, 0)?)?);
        }
        Ok(notes)
    }
}
