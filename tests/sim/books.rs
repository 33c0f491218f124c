//! What clients asked for and what they were told: the oracle's own account, against which the tills are held in the end.

use std::collections::{BTreeMap, BTreeSet};

use tillmesh::model::id::Uuid;
use tillmesh::model::op::Body;
use tillmesh::store::Request;

use crate::dump::{Look, Rows};

/// A record: its id and content hash.
pub(crate) type Key = (Uuid, [u8; 32]);

/// See the module's page.
#[derive(Default)]
pub(crate) struct Books {
    /// What was asked for under each id.
    asked: BTreeMap<Uuid, Vec<Request>>,
    /// Records that clients were told are stored.
    acked: BTreeSet<Key>,
    /// Of those, the ones whose last card is gone: they may be lost.
    lost: BTreeSet<Key>,
    /// The numbers of tickets, as they were stored.
    numbers: BTreeMap<Key, String>,
    /// Tickets whose last card is gone, whether a client was told of them or not.
    gone: BTreeSet<Key>,
    /// Records of the simulator's own making, as if a till beyond the simulation had made them.
    foreign: BTreeSet<Uuid>,
    /// Tills of one name and key may have sold under one number.
    pub(crate) numbers_may_repeat: bool,
}

impl Books {
    pub(crate) fn ask(&mut self, id: Uuid, request: &Request) {
        let asked = self.asked.entry(id).or_default();
        if !asked.contains(request) {
            asked.push(request.clone());
        }
    }

    pub(crate) fn is_foreign(&mut self, id: Uuid) {
        self.foreign.insert(id);
    }

    /// A till has stored tickets under these numbers.
    pub(crate) fn number(&mut self, numbers: impl IntoIterator<Item = (Key, String)>) {
        self.numbers.extend(numbers);
    }

    /// Clients were told that these are stored.
    pub(crate) fn acknowledge(&mut self, keys: impl IntoIterator<Item = Key>) {
        self.acked.extend(keys);
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acked.len()
    }

    /// What was on a card that is gone, and is on none of the others, may be lost.
    pub(crate) fn card_is_gone(&mut self, card: &BTreeSet<Key>, others: &[&BTreeSet<Key>]) {
        let gone = card.iter().filter(|key| !others.iter().any(|other| other.contains(*key)));
        for key in gone.copied() {
            if self.acked.contains(&key) {
                self.lost.insert(key);
            }
            if self.numbers.contains_key(&key) {
                self.gone.insert(key);
            }
        }
    }

    /// Holds a till's database against the books.
    pub(crate) fn check(&self, look: &Look) -> Result<(), String> {
        let (rows, notes) = (look.rows()?, look.notes()?);
        for note in notes.values() {
            self.is_as_asked(note.id, &Body::Note(note.clone()))?;
        }
        for key in self.acked.difference(&self.lost) {
            if !rows.contains_key(key) && !notes.contains_key(key) {
                return Err(format!("the acknowledged record {} is not there", key.0));
            }
        }
        let mut stock: BTreeMap<Uuid, i64> = BTreeMap::new();
        for ((id, hash), row) in &rows {
            self.is_as_asked(*id, &row.body)?;
            let least = rows.range((*id, [0; 32])..).next().map(|((_, least), _)| least);
            if row.counts != (least == Some(hash)) {
                return Err(format!("of the contents of {id} another one than the smallest counts"));
            }
            if row.counts {
                for (product, delta) in moves(&row.body) {
                    *stock.entry(product).or_default() += delta;
                }
            }
        }
        stock.retain(|_, total| *total != 0);
        let found = look.stock()?;
        if found != stock {
            return Err(format!("stock is {found:?}, and the movements come to {stock:?}"));
        }
        self.check_numbers(&rows)
    }

    fn is_as_asked(&self, id: Uuid, body: &Body) -> Result<(), String> {
        if self.foreign.contains(&id) {
            return Ok(());
        }
        let asked = self.asked.get(&id).map_or(&[][..], Vec::as_slice);
        let is_it = |request: &Request| match (request, body) {
            (Request::Sell { sale, .. }, Body::Ticket(ticket)) => ticket.sale == *sale,
            (Request::Refund { ticket, lines, .. }, Body::Refund(refund)) => {
                refund.ticket == *ticket
                    && lines.len() == refund.lines.len()
                    && refund
                        .lines
                        .iter()
                        .zip(lines)
                        .all(|(has, (line, quantity))| has.line == *line && has.quantity == *quantity)
            }
            (Request::Cancel { ticket, .. }, Body::Refund(refund)) => refund.ticket == *ticket,
            (Request::Move { product, kind, quantity, .. }, Body::Movement(movement)) => {
                (movement.product, movement.kind, movement.quantity) == (*product, *kind, *quantity)
            }
            (Request::Note { text, .. }, Body::Note(note)) => note.text == *text,
            _ => false,
        };
        if asked.iter().any(is_it) { Ok(()) } else { Err(format!("nobody asked for {id} as it is: {body:?}")) }
    }

    /// Ticket numbers are gapless per origin and day but for tickets whose last card is gone, and none is there twice.
    fn check_numbers(&self, rows: &Rows) -> Result<(), String> {
        let here = rows.iter().filter_map(|((id, _), row)| match &row.body {
            Body::Ticket(ticket) if !self.foreign.contains(id) => Some(&ticket.number),
            _ => None,
        });
        let gone = self.gone.iter().filter(|key| !rows.contains_key(*key)).filter_map(|key| self.numbers.get(key));
        let mut series: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        let mut most: BTreeMap<&str, u64> = BTreeMap::new();
        for (text, is_here) in here.map(|text| (text, true)).chain(gone.map(|text| (text, false))) {
            let (day, number) = text.rsplit_once('-').ok_or("a number without a dash")?;
            let number = number.parse().map_err(|_| format!("number {text}"))?;
            series.entry(day).or_default().push(number);
            if is_here {
                most.insert(day, number.max(most.get(day).copied().unwrap_or(0)));
            }
        }
        // After the last ticket that is here nothing is missing.
        for (day, numbers) in &mut series {
            numbers.retain(|number| most.get(day).is_some_and(|most| number <= most));
        }
        series.retain(|_, numbers| !numbers.is_empty());
        for (day, mut numbers) in series {
            numbers.sort_unstable();
            let count = numbers.len() as u64;
            if self.numbers_may_repeat {
                numbers.dedup();
            } else if numbers.last() != Some(&count) {
                return Err(format!("the numbers {day} are {numbers:?}"));
            }
            if numbers.last() != Some(&(numbers.len() as u64)) {
                return Err(format!("the numbers {day} have a gap: {numbers:?}"));
            }
        }
        Ok(())
    }
}

fn moves(body: &Body) -> Vec<(Uuid, i64)> {
    match body {
        Body::Ticket(ticket) => ticket.movements().map(|(product, quantity)| (product, quantity.0)).collect(),
        Body::Refund(refund) => refund.movements().map(|(product, quantity)| (product, quantity.0)).collect(),
        Body::Movement(movement) => vec![(movement.product, movement.delta.0)],
        _ => Vec::new(),
    }
}
