//! All that a reader shows of a database, as text: one line a thing, in an order that does not change.

use std::fmt::Write as _;

use tillmesh::model::id::hex;
use tillmesh::model::op::content_hash;
use tillmesh::model::register::EntityKind;
use tillmesh::store::{
    ChangeValue, Cursor, EntityQuery, EntityView, Page, Reader, StoreError, TicketQuery, TicketView,
};

const NOTES: [&str; 3] = ["cursor", "secret", "unknown"];

/// A page at a time, so that paging is read too.
fn all<T>(mut page: impl FnMut(Option<Cursor>) -> Result<Page<T>, StoreError>) -> Vec<T> {
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let found = page(after).expect("a page");
        items.extend(found.items);
        match found.next {
            Some(next) => after = Some(next),
            None => return items,
        }
    }
}

pub(crate) fn tickets(reader: &Reader) -> Vec<TicketView> {
    all(|after| reader.tickets(&TicketQuery { after, limit: 7, ..TicketQuery::default() }))
}

fn all_entities(reader: &Reader) -> Vec<EntityView> {
    let kinds = [EntityKind::Product, EntityKind::Category, EntityKind::Customer, EntityKind::Review];
    let of =
        |kind| all(|after| reader.entities(&EntityQuery { after, include_deleted: true, ..EntityQuery::all(kind, 5) }));
    kinds.into_iter().flat_map(of).collect()
}

/// What this till alone shows, then what all tills with the same ops show.
pub(crate) fn reading(reader: &Reader) -> String {
    let mut text = String::new();
    own(reader, &mut text).expect("text");
    text + &shared(reader)
}

fn own(reader: &Reader, text: &mut String) -> std::fmt::Result {
    let counts = reader.counts().expect("counts");
    writeln!(text, "origin {}", reader.origin().expect("an origin"))?;
    writeln!(text, "held {}, only here {}", counts.held, reader.only_here(None).expect("a count"))?;
    for view in tickets(reader) {
        writeln!(text, "place {} ticket {}", view.cursor.0, view.ticket.id)?;
    }
    for view in all_entities(reader) {
        writeln!(text, "place {} {:?} {}", view.cursor.0, view.kind, view.id)?;
    }
    let mut after = Cursor(0);
    loop {
        let page = reader.changes(after, 9).expect("changes");
        for item in &page.items {
            let value = match &item.value {
                ChangeValue::Ticket(view) => format!("ticket {:?}", view.status),
                ChangeValue::Refund(refund) => format!("refund of {}", refund.ticket),
                ChangeValue::Movement(movement) => format!("movement {:?} {}", movement.kind, movement.delta.0),
                ChangeValue::Entity(view) => format!("entity alive {}", view.alive),
            };
            let (place, id, by) = (item.cursor.0, item.id, &item.pos_id);
            writeln!(text, "change {place} {id} by {by}: {value}; moved {:?}", item.products)?;
        }
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    for (till, ack) in reader.acks().expect("acks") {
        for (origin, head) in ack.heads.0 {
            writeln!(text, "ack of {till}: {origin} {} {:?}", head.seq, head.hash)?;
        }
    }
    for peer in reader.peers().expect("peers") {
        writeln!(text, "peer {} {} {:?} {}", peer.till, peer.name, peer.addresses, peer.last_seen_ms)?;
    }
    for key in NOTES {
        writeln!(text, "note {key} {:?}", reader.memory(key).expect("a note"))?;
    }
    Ok(())
}

/// What all tills with the same ops show alike.
pub(crate) fn shared(reader: &Reader) -> String {
    let mut text = String::new();
    logs(reader, &mut text).expect("text");
    text + &state(reader)
}

fn logs(reader: &Reader, text: &mut String) -> std::fmt::Result {
    for (origin, head) in reader.vector().expect("a vector").0 {
        writeln!(text, "log {origin}: {} {:?}", head.seq, head.hash)?;
        let Some(batch) = reader.ops(origin, 1, usize::MAX, usize::MAX).expect("ops").batch() else { continue };
        assert_eq!(batch.after(), head, "the ops of a log are those of its head");
        let mut at = batch.before;
        for op in &batch.ops {
            at = at.after_all(std::slice::from_ref(op));
            let body = &hex(&content_hash(&op.body))[..16];
            writeln!(text, "op {origin} {}: {:?} {} {} {body}", at.seq, at.hash, op.kind, op.schema)?;
        }
    }
    Ok(())
}

/// What the ops come to.
pub(crate) fn state(reader: &Reader) -> String {
    let n = reader.counts().expect("counts");
    let records = format!("tickets {}, refunds {}, ops {}, conflicts {}", n.tickets, n.refunds, n.ops, n.conflicts);
    let entities = format!("products {}, categories {}, customers {}", n.products, n.categories, n.customers);
    let mut lines: Vec<String> = tickets(reader).iter().map(ticket_line).collect();
    for view in all_entities(reader) {
        let fields: Vec<String> = view.registers.fields().map(|(field, heads)| format!("{field} {heads:?}")).collect();
        lines.push(format!("entity {:?} {} alive {} {}", view.kind, view.id, view.alive, fields.join(" ")));
        if view.kind == EntityKind::Product {
            lines.push(format!("stock {} {}", view.id, reader.stock(view.id).expect("a stock").0));
            let history = all(|after| reader.stock_history(view.id, after, 4));
            assert_eq!(history.iter().map(|e| e.delta.0).sum::<i64>(), reader.stock(view.id).expect("a stock").0);
            lines.extend(
                history
                    .iter()
                    .map(|e| format!("moved {} {} {} {} {:?}", view.id, e.delta.0, e.at_ms, e.pos_id, e.cause)),
            );
        }
    }
    lines.extend(reader.conflicts(1000).expect("conflicts").iter().map(|c| {
        let mut sides: Vec<String> = c.sides.iter().map(|s| format!("{s:?}")).collect();
        sides[1..].sort();
        format!("conflict {} {:?} {}", c.id, c.settle, sides.join(" | "))
    }));
    lines.extend(reader.roster().expect("a roster").iter().map(|entry| {
        let admitted = entry.admitted.as_ref();
        let admitted = admitted.map(|a| (a.pos_id.as_str(), a.pos_name.as_str(), a.at_ms, hex(&a.public_key)));
        format!("roster {} {admitted:?} {:?}", entry.till, entry.retired_ms)
    }));
    lines.sort();
    format!("{records}\n{entities}\n{}\n", lines.join("\n"))
}

fn ticket_line(view: &TicketView) -> String {
    let mut refunds: Vec<String> =
        view.refunds.iter().map(|r| format!("{} {} {:?}", r.id, r.cancel, r.lines)).collect();
    refunds.sort();
    format!("ticket {:?} {:?} {} {:?} {refunds:?}", view.ticket, view.totals, hex(&view.chain), view.status)
}
