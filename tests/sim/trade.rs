//! What clients ask for: a shop's day, and what comes from a till of a later version.

use std::collections::{BTreeMap, BTreeSet};

use tillmesh::model::amount::{Money, Quantity};
use tillmesh::model::clock::{ClockQuality, Hlc};
use tillmesh::model::id::{Origin, TillId, Uuid};
use tillmesh::model::movement::MovementKind;
use tillmesh::model::op::{BODY_APPLY_MAX, Body, Head, Op, OpBatch, canonical, content_hash, kind};
use tillmesh::model::register::{EntityKind, Value};
use tillmesh::model::ticket::{Line, Made, Payment, PaymentMethod, Sale, Ticket};
use tillmesh::store::{Change, Reply, Request, Says, Settle, StoreError};

use crate::books::Key;
use crate::glue::{ClientId, LATER_FIELD};
use crate::rng::Rng;
use crate::world::{Event, World};

/// Clients' side: what they know, and what they wait for.
#[derive(Default)]
pub(crate) struct Trade {
    products: Vec<Uuid>,
    others: Vec<(EntityKind, Uuid)>,
    /// Tickets that were sold: their id, and how many lines.
    tickets: Vec<(Uuid, u32)>,
    /// Requests with an id of the client's, to be repeated.
    asked: Vec<Request>,
    waiting: BTreeMap<ClientId, Request>,
    clients: ClientId,
    /// The log of a till of a later version, which is nowhere in the simulation itself.
    foreign: Vec<(Head, Op)>,
    foreign_origin: u64,
}

#[derive(Clone, Copy)]
enum Deed {
    Sell,
    Refund,
    Cancel,
    Move,
    Edit,
    Delete,
    Resolve,
    Other,
    Retry,
    OtherContent,
    Foreign,
    /// A remark, which came with the second level.
    Note,
}

impl Trade {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let products = (0..5).map(|_| rng.uuid()).collect();
        let kinds = [EntityKind::Category, EntityKind::Category, EntityKind::Customer, EntityKind::Customer];
        let others = kinds.map(|kind| (kind, rng.uuid())).to_vec();
        Self { products, others, foreign_origin: rng.next(), ..Self::default() }
    }

    pub(crate) fn next_client(&mut self) -> ClientId {
        self.clients += 1;
        self.clients
    }
}

fn sale(rng: &mut Rng, products: &[Uuid]) -> Sale {
    let line = |rng: &mut Rng| Line {
        product: rng.pick(products).copied().filter(|_| rng.odds(900)),
        sku: None,
        name: format!("article {}", rng.below(100)),
        quantity: Quantity(1000 * rng.within(1..=4) as i64),
        unit_price: Money(100 * rng.within(1..=90) as i64),
        discount: Money(0),
    };
    let lines: Vec<Line> = (0..rng.within(1..=3)).map(|_| line(rng)).collect();
    let payment = Payment { method: PaymentMethod::Cash, amount: Money(rng.below(90_000) as i64), reference: None };
    Sale { cashier: None, customer: None, notes: None, lines, payments: vec![payment] }
}

fn fields(rng: &mut Rng, kind: EntityKind) -> BTreeMap<String, Value> {
    let text = |rng: &mut Rng, what: &str, of: u64| Value::Text(format!("{what} {}", rng.below(of)));
    let some = match kind {
        EntityKind::Product => vec![
            ("sku", text(rng, "sku", 12)),
            ("name", text(rng, "name", 1000)),
            ("price", Value::Int(rng.below(9000) as i64)),
            ("barcode", text(rng, "code", 12)),
            ("extra.colour", Value::Json(rng.below(9).to_string())),
        ],
        EntityKind::Category => {
            vec![("name", text(rng, "group", 1000)), ("displayOrder", Value::Int(rng.below(9) as i64))]
        }
        _ => vec![("firstName", text(rng, "first", 100)), ("lastName", text(rng, "last", 100))],
    };
    some.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

impl World {
    /// The next operation of some client, and now and then a fault.
    pub(crate) fn trade(&mut self) -> Result<(), String> {
        if self.calm {
            return Ok(());
        }
        let pause = if self.rng.odds(15) { self.rng.within(3_000..=15_000) } else { self.rng.within(1..=120) };
        self.plan_at(pause, Event::Trade);
        if self.rng.odds(self.plan.trouble) {
            self.begin_trouble()?;
        }
        if self.rng.odds(12) {
            self.check_equals()?;
        }
        let Some(till) = self.running() else { return Ok(()) };
        let deeds = [
            (Deed::Sell, 420),
            (Deed::Refund, 70),
            (Deed::Cancel, 40),
            (Deed::Move, 80),
            (Deed::Edit, 160),
            (Deed::Delete, 40),
            (Deed::Resolve, 40),
            (Deed::Other, 50),
            (Deed::Retry, self.plan.retries),
            (Deed::OtherContent, self.plan.retries / 8),
            (Deed::Foreign, self.plan.foreign),
            (Deed::Note, if self.tills[till].level > 1 { 30 } else { 0 }),
        ];
        if let Some(deed) = self.rng.weighted(&deeds) {
            self.do_deed(till, deed);
        }
        Ok(())
    }

    fn do_deed(&mut self, till: usize, deed: Deed) {
        let request = match deed {
            Deed::Sell => {
                let sale = sale(&mut self.rng, &self.trade.products);
                let id = self.rng.uuid();
                self.trade.tickets.push((id, sale.lines.len() as u32));
                Some(Request::Sell { id, sale })
            }
            Deed::Refund => self.refund(),
            Deed::Cancel => {
                let ticket = self.rng.pick(&self.trade.tickets).copied();
                ticket.map(|(ticket, _)| Request::Cancel { id: Some(self.rng.uuid()), ticket, reason: None })
            }
            Deed::Move => self.movement(),
            Deed::Edit => self.edit(till),
            Deed::Delete => {
                let product = self.rng.pick(&self.trade.products).copied();
                product.map(|id| Request::Edit { kind: EntityKind::Product, id, change: Change::Delete })
            }
            Deed::Resolve => self.settle_conflict(till),
            Deed::Other => {
                let other = self.rng.pick(&self.trade.others).copied();
                other.map(|(kind, id)| {
                    let change = Change::Put(fields(&mut self.rng, kind));
                    Request::Edit { kind, id, change }
                })
            }
            Deed::Retry => {
                let level = self.tills[till].level;
                let again = self.rng.pick(&self.trade.asked).cloned();
                // A till that is not updated has no such call.
                let again = again.filter(|request| level > 1 || !matches!(request, Request::Note { .. }));
                if again.is_some() {
                    self.count("request repeated");
                }
                again
            }
            Deed::OtherContent => self.other_content(),
            Deed::Note => {
                let text = format!("remark {}", self.rng.below(1000));
                Some(Request::Note { id: self.rng.uuid(), text })
            }
            Deed::Foreign => return self.send_foreign(till),
        };
        if let Some(request) = request {
            self.ask_client(till, request);
        }
    }

    fn ask_client(&mut self, till: usize, request: Request) {
        let id = match &request {
            Request::Sell { id, .. }
            | Request::Refund { id, .. }
            | Request::Move { id, .. }
            | Request::Note { id, .. } => Some(*id),
            Request::Cancel { id, .. } => *id,
            _ => None,
        };
        if let Some(id) = id {
            self.books.ask(id, &request);
            self.trade.asked.push(request.clone());
        }
        let client = self.trade.next_client();
        self.say(|| format!("till {till} is asked ({client}): {}", line(&request, 160)));
        self.trade.waiting.insert(client, request.clone());
        self.ask(till, client, request);
    }

    fn refund(&mut self) -> Option<Request> {
        let (ticket, lines) = self.rng.pick(&self.trade.tickets).copied()?;
        let line = self.rng.below(u64::from(lines)) as u32;
        let quantity = Quantity(1000 * self.rng.within(1..=2) as i64);
        Some(Request::Refund { id: self.rng.uuid(), ticket, lines: vec![(line, quantity)], reason: None })
    }

    fn movement(&mut self) -> Option<Request> {
        let product = *self.rng.pick(&self.trade.products)?;
        let kinds =
            [MovementKind::In, MovementKind::Out, MovementKind::Adjustment, MovementKind::Count, MovementKind::Loss];
        let kind = *self.rng.pick(&kinds)?;
        let quantity = Quantity(1000 * self.rng.within(1..=30) as i64);
        Some(Request::Move { id: self.rng.uuid(), product, kind, quantity, reference: None })
    }

    fn edit(&mut self, till: usize) -> Option<Request> {
        if self.rng.odds(30) {
            let id = self.rng.uuid();
            self.trade.products.push(id);
        }
        let id = *self.rng.pick(&self.trade.products)?;
        let mut all = fields(&mut self.rng, EntityKind::Product);
        if self.tills[till].level > 1 && self.rng.odds(100) {
            all.insert(LATER_FIELD.to_owned(), Value::Text(format!("nuts {}", self.rng.below(9))));
        }
        let change = if self.rng.odds(400) {
            Change::Put(all)
        } else {
            all.retain(|_, _| self.rng.odds(400));
            Change::Patch(all)
        };
        Some(Request::Edit { kind: EntityKind::Product, id, change })
    }

    fn settle_conflict(&mut self, till: usize) -> Option<Request> {
        let conflicts = self.tills[till].agent.as_ref()?.reader.conflicts(50).ok()?;
        let conflict = self.rng.pick(&conflicts)?;
        let value = match conflict.settle {
            Settle::Choose => conflict.sides.iter().find_map(|side| match &side.says {
                Says::Value(value) => Some(value.clone()),
                _ => None,
            })?,
            Settle::Seen => Value::Null,
            Settle::Edit | Settle::Count => return None,
        };
        Some(Request::Resolve { conflict: conflict.id.clone(), value })
    }

    /// An earlier id with another content: a client that is in error, or two that draw the same id.
    fn other_content(&mut self) -> Option<Request> {
        let earlier = self.rng.pick(&self.trade.asked).cloned()?;
        let Request::Sell { id, .. } = earlier else { return None };
        self.count("id with other content");
        let products = self.trade.products[..1].to_vec();
        Some(Request::Sell { id, sale: sale(&mut self.rng, &products) })
    }

    /// A till answers a client.
    pub(crate) fn answer(
        &mut self,
        till: usize,
        client: ClientId,
        reply: &Result<Reply, StoreError>,
    ) -> Result<(), String> {
        let Some(request) = self.trade.waiting.remove(&client) else { return Ok(()) };
        let keys: Vec<Key> = match reply {
            Ok(Reply::Ticket { view, .. }) => vec![(view.ticket.id, view.chain)],
            Ok(Reply::Refund { refund, .. }) => vec![(refund.id, content_hash(&canonical(refund.as_ref())))],
            Ok(Reply::Stock { .. }) => match request {
                Request::Move { id, .. } => {
                    self.tills[till].card.range((id, [0; 32])..=(id, [255; 32])).copied().collect()
                }
                _ => Vec::new(),
            },
            Ok(Reply::Done) => match request {
                Request::Note { id, .. } => {
                    let card = &self.tills[till].card;
                    let noted = card.range((id, [0; 32])..=(id, [255; 32])).copied().collect::<Vec<_>>();
                    if noted.is_empty() {
                        return Err(format!("till {till} acknowledged the remark {id}, which it has not"));
                    }
                    noted
                }
                _ => Vec::new(),
            },
            Ok(_) => Vec::new(),
            Err(StoreError::Damaged(what)) => return Err(format!("till {till} is damaged: {what}")),
            Err(error) => {
                if error.to_string().contains("update these tills first") {
                    self.see("waits for an update", 1);
                }
                self.say(|| format!("till {till} refuses ({client}): {error}"));
                return Ok(());
            }
        };
        let card: &BTreeSet<Key> = &self.tills[till].card;
        if let Some((id, _)) = keys.iter().find(|key| !card.contains(*key)) {
            return Err(format!("till {till} acknowledged {id}, which it has not"));
        }
        self.say(|| format!("till {till} answers ({client})"));
        self.books.acknowledge(keys);
        Ok(())
    }

    // --------------------------------------------------------------------------------- a till of a later version

    /// A till hears the next ops of a log whose author is of a later version, or has lost its senses.
    fn send_foreign(&mut self, till: usize) {
        let origin = Origin(self.trade.foreign_origin);
        let Some(agent) = &self.tills[till].agent else { return };
        let at = agent.replica.head(origin).seq as usize;
        let count = self.rng.within(1..=3) as usize;
        while self.trade.foreign.len() < at + count {
            let op = self.foreign_op();
            let before = self
                .trade
                .foreign
                .last()
                .map_or(Head::default(), |(before, op)| before.after_all(std::slice::from_ref(op)));
            self.trade.foreign.push((before, op));
        }
        let part = &self.trade.foreign[at..at + count];
        let batch = OpBatch { origin, before: part[0].0, ops: part.iter().map(|(_, op)| op.clone()).collect() };
        self.count("ops of a later version");
        self.say(|| format!("till {till} hears {count} ops of a later version after {at}"));
        let client = self.trade.next_client();
        self.ask(till, client, Request::Apply(batch));
    }

    fn foreign_op(&mut self) -> Op {
        let now = self.wall(0).wall_ms;
        let ahead = if self.rng.odds(100) { 300_000_000_000 } else { 0 };
        let hlc = Hlc::from_ms(now + ahead);
        let noise: Vec<u8> = (0..self.rng.within(0..=40)).map(|n| n as u8).collect();
        match self.rng.below(10) {
            0..=2 => Op { hlc, kind: 900, schema: 1, body: noise },
            3 => Op { hlc, kind: kind::TICKET, schema: 7, body: noise },
            4 => Op { hlc, kind: kind::MOVEMENT, schema: 1, body: noise },
            5 if self.rng.odds(300) => Op { hlc, kind: kind::EDIT, schema: 1, body: vec![7; BODY_APPLY_MAX + 1] },
            _ => {
                let ticket = self.foreign_ticket(now);
                Body::Ticket(ticket).to_op(hlc)
            }
        }
    }

    /// A ticket whose predecessor nobody has.
    fn foreign_ticket(&mut self, at_ms: u64) -> Ticket {
        let id = self.rng.uuid();
        self.books.is_foreign(id);
        let made = Made { till: TillId([9; 16]), pos_id: "POS-X".into(), at_ms, clock: ClockQuality::Trusted };
        Ticket {
            id,
            number: format!("POS-X-{}", self.rng.below(1000)),
            made,
            currency: *b"TND",
            sale: sale(&mut self.rng, &self.trade.products),
            previous: [self.rng.below(250) as u8 + 1; 32],
        }
    }
}

/// Something in a line of so many characters.
pub(crate) fn line(what: &impl std::fmt::Debug, chars_max: usize) -> String {
    format!("{what:?}").chars().take(chars_max).collect()
}
