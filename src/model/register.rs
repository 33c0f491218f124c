//! Multi-value registers: the fields of products, categories and customers.
//!
//! A write has a random 64-bit id and names the heads that it replaces. The state of a field is its heads (writes that nothing
//! replaces) and the set of replaced ids; joining two states is: union of the replaced, union of the heads, less the replaced. So it
//! depends on the set of writes alone, never on their order, on clocks, or on which origin carried them. (Multi-value registers:
//! Shapiro et al., "A comprehensive study of Convergent and Commutative Replicated Data Types", 2011.)
//!
//! The replaced ids of all fields of an entity are one set, which the store keeps in a table of its own, so that an edit costs 8 bytes
//! and not a rewrite of the field's history. It is behind [`Replaced`]. An id kills a head of that entity alone, in whatever field: so
//! what an edit does to the state depends on nothing but the edits of its own entity, however they are made.
//!
//! Every edit also writes the field [`ALIVE`], and a deletion writes it `false`. So an edit after a deletion brings the entity back,
//! and a deletion beside a concurrent edit shows as two heads that disagree.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::clock::Hlc;
use super::id::Uuid;
use super::mutant::Mutant;
use super::op::canonical;

/// The field that says whether an entity exists.
pub const ALIVE: &str = "alive";

/// The most fields that one edit writes.
pub const WRITES_MAX: usize = 256;

/// What kind of thing has registers. Grows at its end only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntityKind {
    /// A thing that is sold.
    Product,
    /// A group of products.
    Category,
    /// A person or company that buys.
    Customer,
    /// What a person said about a conflict of records (refunded too much, two contents under one id): its id is the record's, each
    /// field a sort of conflict, its value how many records that person saw. So one word settles it on all tills, and one more record
    /// raises it again.
    Review,
    /// Which of our things a row of a POSPlus till is, or which of our tills speaks to one: see [`super::posplus`]. Its id follows from
    /// what it is about, so that all tills write the same one.
    Posplus,
}

/// The value of a field. Grows at its end only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Value {
    /// Cleared.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A number: money in minor units, a quantity in thousandths, an order.
    Int(i64),
    /// A text.
    Text(String),
    /// The id of another entity.
    Id(Uuid),
    /// Any JSON, as its canonical text.
    Json(String),
}

/// A write of one field.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Write {
    /// The field's name, as in the API.
    pub field: String,
    /// Random; never used twice.
    pub id: u64,
    /// The heads that the writer saw.
    pub replaces: Vec<u64>,
    /// The new value.
    pub value: Value,
}

/// Writes of several fields of one entity, made at once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Edit {
    /// What it is.
    pub entity: EntityKind,
    /// Which one.
    pub id: Uuid,
    /// When; part of the content, so that the state does not depend on the envelope that carried it.
    pub hlc: Hlc,
    /// The human id of the till where it was made.
    pub by: String,
    /// At most [`WRITES_MAX`].
    pub writes: Vec<Write>,
}

/// A write that nothing replaces.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RegisterHead {
    /// The write's id.
    pub id: u64,
    /// When it was made.
    pub hlc: Hlc,
    /// The human id of the till where it was made.
    pub by: String,
    /// The value.
    pub value: Value,
}

/// The ids of writes of one entity that have been replaced.
pub trait Replaced {
    /// What can go wrong.
    type Error;

    /// Whether a write has been replaced.
    ///
    /// # Errors
    /// The store's.
    fn contains(&self, id: u64) -> Result<bool, Self::Error>;

    /// Remembers that a write has been replaced.
    ///
    /// # Errors
    /// The store's.
    fn insert(&mut self, id: u64) -> Result<(), Self::Error>;
}

impl Replaced for BTreeSet<u64> {
    type Error = std::convert::Infallible;

    fn contains(&self, id: u64) -> Result<bool, Self::Error> {
        Ok(BTreeSet::contains(self, &id))
    }

    fn insert(&mut self, id: u64) -> Result<(), Self::Error> {
        BTreeSet::insert(self, id);
        Ok(())
    }
}

/// The registers of one entity: for each field its heads, by ascending id.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Registers {
    fields: BTreeMap<String, Vec<RegisterHead>>,
}

impl Registers {
    /// Joins an edit in.
    ///
    /// # Errors
    /// The store's.
    pub fn apply<R: Replaced>(&mut self, edit: &Edit, replaced: &mut R) -> Result<(), R::Error> {
        for id in edit.writes.iter().flat_map(|write| &write.replaces) {
            self.replace(*id, replaced)?;
        }
        for write in &edit.writes {
            let head = RegisterHead { id: write.id, hlc: edit.hlc, by: edit.by.clone(), value: write.value.clone() };
            self.join_head(&write.field, &head, replaced)?;
        }
        Ok(())
    }

    /// Joins another state of the same entity in, or a part of one: its heads, and the ids of writes that it knows to be replaced.
    ///
    /// # Errors
    /// The store's.
    pub fn join<R: Replaced>(&mut self, other: &Self, ids: &[u64], replaced: &mut R) -> Result<(), R::Error> {
        for id in ids {
            self.replace(*id, replaced)?;
        }
        for (field, heads) in &other.fields {
            for head in heads {
                self.join_head(field, head, replaced)?;
            }
        }
        Ok(())
    }

    fn replace<R: Replaced>(&mut self, id: u64, replaced: &mut R) -> Result<(), R::Error> {
        replaced.insert(id)?;
        self.fields.retain(|_, heads| {
            heads.retain(|head| head.id != id);
            !heads.is_empty()
        });
        Ok(())
    }

    fn join_head<R: Replaced>(&mut self, field: &str, head: &RegisterHead, replaced: &R) -> Result<(), R::Error> {
        let heads = self.fields.get_mut(field);
        let place = heads.as_deref().map_or(Err(0), |heads| heads.binary_search_by_key(&head.id, |h| h.id));
        match (heads, place) {
            // Ids are never used twice. Should one be all the same, then which write came first must not matter.
            (Some(heads), Ok(place)) => {
                let order = |h: &RegisterHead| (h.hlc, h.by.clone(), h.value.clone());
                if order(&heads[place]) < order(head) {
                    heads[place] = head.clone();
                }
            }
            (_, _) if replaced.contains(head.id)? => {}
            (Some(heads), Err(place)) => {
                let place = if Mutant::LastHeadShown.is_on() { heads.len() } else { place };
                heads.insert(place, head.clone());
            }
            (None, _) => {
                self.fields.insert(field.to_owned(), vec![head.clone()]);
            }
        }
        Ok(())
    }

    /// Whether it is as joining leaves it: no field without a head, heads by ascending id. Bytes of a peer may be otherwise.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.fields.values().all(|heads| !heads.is_empty() && heads.is_sorted_by(|a, b| a.id < b.id))
    }

    /// Whether there is nothing in it: no write has come yet, but maybe ids that one replaces.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Divides it into parts of about `bytes_max` bytes each, at least one head in each; together they join to the whole. One part, maybe
    /// an empty one, at least.
    #[must_use]
    pub fn split(self, bytes_max: usize) -> Vec<Self> {
        let mut parts = vec![Self::default()];
        let mut bytes = 0;
        for (field, heads) in self.fields {
            for head in heads {
                let length = canonical(&head).len() + field.len() + 4;
                if bytes + length > bytes_max && bytes > 0 {
                    parts.push(Self::default());
                    bytes = 0;
                }
                bytes += length;
                if let Some(part) = parts.last_mut() {
                    part.fields.entry(field.clone()).or_default().push(head);
                }
            }
        }
        parts
    }

    /// The head of a field that is shown: the one with the greatest (hlc, id).
    #[must_use]
    pub fn shown(&self, field: &str) -> Option<&RegisterHead> {
        let heads = self.fields.get(field)?;
        if Mutant::LastHeadShown.is_on() {
            return heads.last();
        }
        heads.iter().max_by_key(|h| (h.hlc, h.id))
    }

    /// The value of a field that is shown; [`Value::Null`] where it was never written.
    #[must_use]
    pub fn value(&self, field: &str) -> &Value {
        self.shown(field).map_or(&Value::Null, |h| &h.value)
    }

    /// Whether the entity exists: written at least once and not deleted.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.value(ALIVE) == &Value::Bool(true)
    }

    /// The latest edit: the shown head of [`ALIVE`].
    #[must_use]
    pub fn latest(&self) -> Option<&RegisterHead> {
        self.shown(ALIVE)
    }

    /// All fields that have a head, by name, with their heads.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[RegisterHead])> {
        self.fields.iter().map(|(field, heads)| (field.as_str(), heads.as_slice()))
    }

    /// Fields whose heads disagree, for a person to resolve. Heads with one value are no conflict: there is nothing to choose.
    pub fn conflicts(&self) -> impl Iterator<Item = (&str, &[RegisterHead])> {
        self.fields().filter(|(_, heads)| heads.iter().any(|h| h.value != heads[0].value))
    }

    /// The edit that makes the given fields hold the given values, replacing all heads seen here; `None` where they do already, without
    /// conflict, and the entity's existence is as wanted. `ids` gives a fresh random id for each write.
    pub fn edit(
        &self,
        target: (EntityKind, Uuid),
        values: impl IntoIterator<Item = (String, Value)>,
        alive: bool,
        made: (Hlc, &str),
        mut ids: impl FnMut() -> u64,
    ) -> Option<Edit> {
        let mut writes: Vec<Write> = values
            .into_iter()
            .filter(|(field, value)| self.differs(field, value))
            .map(|(field, value)| self.write(field, value, &mut ids))
            .collect();
        if writes.is_empty() && !self.differs(ALIVE, &Value::Bool(alive)) {
            return None;
        }
        writes.push(self.write(ALIVE.to_owned(), Value::Bool(alive), &mut ids));
        Some(Edit { entity: target.0, id: target.1, hlc: made.0, by: made.1.to_owned(), writes })
    }

    fn write(&self, field: String, value: Value, ids: &mut impl FnMut() -> u64) -> Write {
        let replaces = self.fields.get(&field).map(|heads| heads.iter().map(|h| h.id).collect()).unwrap_or_default();
        Write { field, id: ids(), replaces, value }
    }

    fn differs(&self, field: &str, value: &Value) -> bool {
        match self.fields.get(field).map(Vec::as_slice) {
            None | Some([]) => *value != Value::Null,
            Some([only]) => only.value != *value,
            Some(_) => true,
        }
    }
}
