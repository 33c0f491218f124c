//! The laws of the model, by proptest: merging is associative, commutative, idempotent and blind to the order of arrival.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::amount::Quantity;
use super::clock::{ClockQuality, Hlc};
use super::id::{TillId, Uuid};
use super::movement::{Movement, MovementKind};
use super::op::{Body, Head, RunningHash, canonical};
use super::register::{ALIVE, Edit, EntityKind, Registers, Value, Write};
use super::ticket::Made;

const PRODUCT: (EntityKind, Uuid) = (EntityKind::Product, Uuid::from_u128(1));

/// One replica of one entity.
#[derive(Clone, PartialEq, Debug, Default)]
struct Replica {
    registers: Registers,
    replaced: BTreeSet<u64>,
}

impl Replica {
    fn of(edits: &[Edit]) -> Self {
        let mut replica = Self::default();
        edits.iter().for_each(|e| replica.apply(e));
        replica
    }

    fn apply(&mut self, edit: &Edit) {
        let Ok(()) = self.registers.apply(edit, &mut self.replaced);
    }

    fn merge(mut self, other: &Self) -> Self {
        let ids: Vec<u64> = other.replaced.iter().copied().collect();
        let Ok(()) = self.registers.join(&other.registers, &ids, &mut self.replaced);
        self
    }
}

/// Edits as tills make them: each on the state of one of several replicas that merge now and then.
fn edits() -> impl Strategy<Value = Vec<Edit>> {
    prop::collection::vec((0usize..4, 0usize..4, 0u8..3, 0i64..4, any::<bool>(), 0u64..8), 1..25).prop_map(|steps| {
        let mut replicas = vec![Replica::default(); 4];
        let mut made = Vec::new();
        let mut next_id = 0u64;
        for (at, from, field, value, alive, time) in steps {
            if at != from {
                replicas[at] = replicas[at].clone().merge(&replicas[from].clone());
            }
            let values = [(format!("f{field}"), Value::Int(value))];
            let fresh = || {
                next_id += 1;
                next_id.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            };
            if let Some(edit) = replicas[at].registers.edit(PRODUCT, values, alive, (Hlc(time), "POS"), fresh) {
                replicas[at].apply(&edit);
                made.push(edit);
            }
        }
        made
    })
}

/// Edits as nobody should make them: ids used twice, across fields, replaced before they are written or by their own edit.
fn wild_edits() -> impl Strategy<Value = Vec<Edit>> {
    let write =
        (0u8..3, 0u64..5, prop::collection::vec(0u64..5, 0..3), 0i64..3).prop_map(|(field, id, replaces, value)| {
            Write { field: format!("f{field}"), id, replaces, value: Value::Int(value) }
        });
    let edit = (0i64..3, prop::collection::vec(write, 0..4)).prop_map(|(hlc, writes)| Edit {
        entity: PRODUCT.0,
        id: PRODUCT.1,
        hlc: Hlc(hlc.cast_unsigned()),
        by: "A".into(),
        writes,
    });
    prop::collection::vec(edit, 1..8)
}

proptest! {
    #[test]
    fn not_even_edits_that_nobody_should_make_know_the_order(
        made in wild_edits(), keys in prop::collection::vec(any::<u32>(), 8), cut in 0usize..8,
    ) {
        let mut shuffled: Vec<(u32, Edit)> = keys.into_iter().zip(made.iter().cloned()).collect();
        shuffled.sort_by_key(|(key, _)| *key);
        let shuffled: Vec<Edit> = shuffled.into_iter().map(|(_, e)| e).collect();
        let whole = Replica::of(&made);
        prop_assert_eq!(&whole, &Replica::of(&shuffled));
        prop_assert!(whole.registers.is_sound());
        let (some, rest) = shuffled.split_at(cut.min(shuffled.len()));
        prop_assert_eq!(&whole, &Replica::of(some).merge(&Replica::of(rest)));
        prop_assert_eq!(&whole, &Replica::of(rest).merge(&Replica::of(some)));
    }

    #[test]
    fn the_parts_of_an_entity_join_to_the_whole_in_any_order(made in edits(), bytes_max in 1usize..200, turn in 0usize..9) {
        let whole = Replica::of(&made);
        let mut parts = whole.registers.clone().split(bytes_max);
        prop_assert!(parts.iter().all(Registers::is_sound));
        let turn = turn % parts.len();
        parts.rotate_left(turn);
        let mut joined = Replica::default();
        for part in &parts {
            let Ok(()) = joined.registers.join(part, &[], &mut joined.replaced);
        }
        prop_assert_eq!(joined.registers, whole.registers);
    }

    #[test]
    fn registers_do_not_know_the_order_of_arrival(made in edits(), keys in prop::collection::vec(any::<u32>(), 25)) {
        let mut shuffled: Vec<(u32, Edit)> = keys.into_iter().zip(made.iter().cloned()).collect();
        shuffled.sort_by_key(|(key, _)| *key);
        let shuffled: Vec<Edit> = shuffled.into_iter().map(|(_, e)| e).collect();
        let doubled: Vec<Edit> = shuffled.iter().chain(&made).cloned().collect();
        prop_assert_eq!(Replica::of(&made), Replica::of(&shuffled));
        prop_assert_eq!(Replica::of(&made), Replica::of(&doubled));
    }

    #[test]
    fn merging_is_a_join(made in edits(), cuts in prop::collection::vec(0usize..3, 25)) {
        let part = |n: usize| {
            let own: Vec<Edit> = made.iter().zip(&cuts).filter(|(_, c)| **c == n).map(|(e, _)| e.clone()).collect();
            Replica::of(&own)
        };
        let (a, b, c) = (part(0), part(1), part(2));
        prop_assert_eq!(a.clone().merge(&b), b.clone().merge(&a));
        prop_assert_eq!(a.clone().merge(&b).merge(&c), a.clone().merge(&b.clone().merge(&c)));
        prop_assert_eq!(a.clone().merge(&a), a.clone());
        prop_assert_eq!(a.merge(&b).merge(&c), Replica::of(&made));
    }

    #[test]
    fn an_edit_that_saw_everything_is_shown(made in edits(), value in 10i64..20) {
        let mut replica = Replica::of(&made);
        let edit = replica.registers.edit(PRODUCT, [("f0".to_owned(), Value::Int(value))], true, (Hlc(0), "POS"), {
            let mut id = 1u64;
            move || { id += 1; id }
        });
        // Hlc 0 is older than every other: causality wins, not the clock.
        replica.apply(&edit.unwrap());
        prop_assert_eq!(replica.registers.value("f0"), &Value::Int(value));
        prop_assert!(replica.registers.is_alive());
    }

    #[test]
    fn stock_is_the_sum_of_movements(deltas in prop::collection::vec(-5000i64..5000, 0..30), order in prop::collection::vec(0usize..30, 0..90)) {
        let mut records: BTreeMap<Uuid, i64> = BTreeMap::new();
        let mut running = 0;
        for i in order.into_iter().chain(0..deltas.len()).filter(|i| *i < deltas.len()) {
            if records.insert(Uuid::from_u128(i as u128), deltas[i]).is_none() {
                running += deltas[i];
            }
        }
        prop_assert_eq!(running, deltas.iter().sum::<i64>());
    }

    #[test]
    fn canonical_bytes_are_stable(made in edits()) {
        for edit in made {
            let op = Body::Edit(edit.clone()).to_op(edit.hlc);
            let read = Body::from_op(&op).unwrap();
            prop_assert_eq!(&read, &Body::Edit(edit));
            prop_assert_eq!(read.to_op(op.hlc), op);
        }
    }

    #[test]
    fn bytes_that_are_not_canonical_are_held(body in prop::collection::vec(any::<u8>(), 0..200), kind in 0u16..9) {
        let op = super::op::Op { hlc: Hlc(1), kind, schema: 1, body };
        if let Ok(read) = Body::from_op(&op) {
            prop_assert_eq!(read.to_op(op.hlc).body, op.body);
        }
    }
}

#[test]
fn delete_beside_an_edit_is_a_conflict_and_a_later_edit_brings_back() {
    let mut id = 0;
    let mut fresh = move || {
        id += 1;
        id
    };
    let mut a = Replica::default();
    let name = |n: &str| [("name".to_owned(), Value::Text(n.into()))];
    a.apply(&a.registers.edit(PRODUCT, name("Café"), true, (Hlc(1), "A"), &mut fresh).unwrap());
    let b = a.clone();
    let delete = a.registers.edit(PRODUCT, [], false, (Hlc(2), "A"), &mut fresh).unwrap();
    let rename = b.registers.edit(PRODUCT, name("Thé"), true, (Hlc(3), "B"), &mut fresh).unwrap();
    a.apply(&delete);
    assert!(!a.registers.is_alive());
    a.apply(&rename);
    assert_eq!(a.registers.conflicts().map(|(field, _)| field).collect::<Vec<_>>(), [ALIVE]);
    assert!(a.registers.is_alive(), "the greater time is shown");
    let back = a.registers.edit(PRODUCT, name("Thé"), true, (Hlc(1), "A"), &mut fresh).unwrap();
    a.apply(&back);
    assert_eq!(a.registers.conflicts().count(), 0);
    assert!(a.registers.edit(PRODUCT, name("Thé"), true, (Hlc(9), "A"), &mut fresh).is_none(), "nothing to change");
}

#[test]
fn the_running_hash_is_of_the_contents_in_order() {
    let write = Write { field: "name".into(), id: 1, replaces: vec![], value: Value::Null };
    let edit =
        |hlc| Body::Edit(Edit { entity: PRODUCT.0, id: PRODUCT.1, hlc, by: "A".into(), writes: vec![write.clone()] });
    let (one, two) = (edit(Hlc(1)).to_op(Hlc(1)), edit(Hlc(2)).to_op(Hlc(2)));
    let head = Head::default().after_all(&[one.clone(), two.clone()]);
    assert_eq!(head.seq, 2);
    assert_eq!(head.hash, RunningHash::default().after(&one).after(&two));
    assert_ne!(head.hash, RunningHash::default().after(&two).after(&one).to_owned());
}

#[test]
fn a_count_sets_and_others_move() {
    let seen = Quantity::units(7);
    let delta = |kind: MovementKind, q: i64| kind.delta(Quantity::units(q), seen);
    assert_eq!(delta(MovementKind::Count, 5), Ok(Quantity::units(-2)));
    assert_eq!(delta(MovementKind::In, 5), Ok(Quantity::units(5)));
    assert_eq!(delta(MovementKind::Loss, 5), Ok(Quantity::units(-5)));
    assert_eq!(delta(MovementKind::Adjustment, -5), Ok(Quantity::units(-5)));
    assert!(delta(MovementKind::Out, -5).is_err());
    assert!(delta(MovementKind::Count, -1).is_err());
    let made =
        Made { till: TillId([0; 16]), pos_id: "A".into(), at_ms: 4_200_000_000_000, clock: ClockQuality::Untrusted };
    let movement = Movement {
        id: Uuid::from_u128(3),
        product: PRODUCT.1,
        kind: MovementKind::Count,
        quantity: Quantity::units(5),
        delta: Quantity::units(-2),
        replaces: Vec::new(),
        reference: None,
        made,
    };
    assert!(canonical(&movement).len() < 80, "a movement is small");
}
