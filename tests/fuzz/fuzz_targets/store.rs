//! Ops of hostile members in the store: whatever their bodies say, they are stored and passed on as they came, none stops the others,
//! and two tills that hold the same ops show the same, whatever order they came in.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tillmesh::model::amount::Quantity;
use tillmesh::model::clock::Hlc;
use tillmesh::model::id::{Origin, Uuid};
use tillmesh::model::movement::MovementKind;
use tillmesh::model::op::{Head, Op, OpBatch};
use tillmesh::model::register::EntityKind;
use tillmesh::store::{EntityQuery, Reader, Reply, Request, StoreError, TicketQuery};
use tillmesh_fuzz::Bytes;
use tillmesh_fuzz::shop::{NOON, Templates, Till, sale};

/// Logs of others.
const LOGS: usize = 3;

static TEMPLATES: LazyLock<Templates> = LazyLock::new(|| Templates::new(2));

fuzz_target!(|data: &[u8]| {
    let mut bytes = Bytes::new(data);
    let mut a = TEMPLATES.till(0);
    let mut logs: [Vec<Op>; LOGS] = Default::default();
    while !bytes.is_empty() {
        step(&mut a, &mut logs, &mut bytes);
    }
    let mut b = TEMPLATES.till(1);
    let own = a.0.origin();
    if let Some(batch) = a.reader().ops(own, 1, usize::MAX, usize::MAX).expect("the own log is read").batch() {
        apply(&mut b, batch);
    }
    for (n, ops) in logs.iter().enumerate().rev().filter(|(_, ops)| !ops.is_empty()) {
        let batch = OpBatch { origin: origin(n), before: Head::default(), ops: ops.clone() };
        let read = a.reader().ops(batch.origin, 1, usize::MAX, usize::MAX).expect("a log is read").batch();
        assert_eq!(read.as_ref(), Some(&batch), "what is stored is passed on as it came");
        apply(&mut b, batch);
    }
    assert_eq!(shown(&a.reader()), shown(&b.reader()));
});

fn origin(n: usize) -> Origin {
    Origin(1000 + n as u64)
}

fn apply(till: &mut Till, batch: OpBatch) {
    let (origin, after) = (batch.origin, batch.after());
    match till.ask(Request::Apply(batch)) {
        Ok(Reply::Applied { head, .. }) => assert_eq!(head, after),
        other => panic!("the log of {origin} does not go on: {other:?}"),
    }
}

fn step(till: &mut Till, logs: &mut [Vec<Op>; LOGS], bytes: &mut Bytes<'_>) {
    match bytes.below(8) {
        0 => own(till, bytes),
        1 => {
            let before = Head { seq: u64::from(bytes.byte()) + 1, ..Head::default() };
            let elsewhere = OpBatch { origin: origin(0), before, ops: vec![op(bytes)] };
            let refused = till.ask(Request::Apply(elsewhere)).expect("a refusal is no fault");
            assert!(matches!(refused, Reply::NotContinuing { .. }));
        }
        n => {
            let log = usize::from(n) % LOGS;
            let before = Head::default().after_all(&logs[log]);
            let ops: Vec<Op> = (0..=bytes.below(3)).map(|_| op(bytes)).collect();
            logs[log].extend(ops.iter().cloned());
            apply(till, OpBatch { origin: origin(log), before, ops });
        }
    }
}

/// Kinds that are known are the likelier.
fn op(bytes: &mut Bytes<'_>) -> Op {
    let hlc = Hlc::from_ms(NOON.saturating_add(u64::from(bytes.u16()) << bytes.below(64)));
    let (kind, schema) = (bytes.byte(), bytes.byte());
    let (kind, schema) = (u16::from(kind % 10), if schema < 250 { 1 } else { u16::from(schema) });
    Op { hlc, kind, schema, body: bytes.piece().to_vec() }
}

/// A request of this till's own client, about the same few things as its peers'.
fn own(till: &mut Till, bytes: &mut Bytes<'_>) {
    let [id, thing] = [bytes.byte(), bytes.byte()].map(|n| Uuid::from_u128(u128::from(n % 8)));
    let units = i64::from(bytes.byte()) - 20;
    let request = match bytes.below(6) {
        0 => Request::Sell { id, sale: sale(&[(thing, units.max(1))]) },
        1 => Request::Cancel { id: None, ticket: id, reason: None },
        2 => Request::Refund { id, ticket: thing, lines: vec![(0, Quantity::units(units))], reason: None },
        3 => {
            let kinds = [MovementKind::In, MovementKind::Count, MovementKind::Adjustment];
            let kind = kinds[usize::from(bytes.below(3))];
            Request::Move { id, product: thing, kind, quantity: Quantity::units(units), reference: None }
        }
        4 => Request::Edit { kind: EntityKind::Product, id: thing, change: tillmesh::store::Change::Delete },
        _ => Request::Retire { till: tillmesh::model::id::TillId([bytes.below(4); 16]) },
    };
    if let Err(error) = till.ask(request) {
        let told = matches!(error, StoreError::Rejected(_) | StoreError::NotFound(_) | StoreError::Conflict(_));
        assert!(told, "a request is refused, or it works: {error}");
    }
}

/// All that a person is shown, in an order that does not depend on that of arrival.
fn shown(reader: &Reader) -> Vec<String> {
    let tickets = reader.tickets(&TicketQuery { limit: 1000, ..TicketQuery::default() }).expect("tickets");
    let mut lines: Vec<String> = Vec::new();
    for mut view in tickets.items {
        view.refunds.sort_by_key(|refund| refund.id);
        lines.push(format!("{:?} {:?} {:?} {:?}", view.ticket, view.refunds, view.status, view.totals));
    }
    for kind in [EntityKind::Product, EntityKind::Category, EntityKind::Customer, EntityKind::Review] {
        let query = EntityQuery { include_deleted: true, ..EntityQuery::all(kind, 1000) };
        for view in reader.entities(&query).expect("entities").items {
            lines.push(format!("{kind:?} {} {} {:?} {:?}", view.id, view.alive, view.stock, view.registers));
        }
    }
    for conflict in reader.conflicts(1000).expect("conflicts") {
        let mut sides: Vec<String> = conflict.sides.iter().map(|side| format!("{side:?}")).collect();
        sides.sort();
        lines.push(format!("{} {:?} {sides:?}", conflict.id, conflict.settle));
        let found = reader.conflict(&conflict.id).expect("a conflict");
        assert_eq!(found.map(|c| c.id.to_string().parse()), Some(Ok(conflict.id)));
    }
    for n in 0..8 {
        let product = Uuid::from_u128(n);
        let history = reader.stock_history(product, None, 1000).expect("a history").items;
        let stock = reader.stock(product).expect("a stock");
        assert_eq!(history.iter().map(|entry| entry.delta.0).sum::<i64>(), stock.0);
        lines.push(format!("stock {product} {}", stock.0));
    }
    lines.extend(reader.roster().expect("a roster").iter().map(|entry| format!("{entry:?}")));
    lines.sort();
    let counts = reader.counts().expect("counts");
    lines.push(format!("{} {} {} {}", counts.tickets, counts.refunds, counts.held, counts.conflicts));
    lines
}
