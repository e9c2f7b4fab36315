//! What changes a custodian's groups and keys: the operator's signed orders, each once.

use privacy::{
    Event,
    custodian::Role,
    orders::{ErasureOrder, GroupOrder},
    rules::Refusal,
};

use crate::world::{FIRST, NOW, World, id, key};

fn order(members: impl Iterator<Item = usize>, number: u64) -> GroupOrder {
    GroupOrder::sign("T1", members.map(id).collect(), number, &key(1))
}

#[test]
fn a_group_changes_by_the_operators_order_only() {
    let mut world = World::new(16, 1);
    // the world's own grouping was the first change
    let good = order(0..15, 1);
    let altered = GroupOrder { members: (1..16).map(id).collect(), ..good.clone() };
    assert_eq!(world.custodian.regroup(&altered, NOW), Err(Refusal::Signature));
    let by_installer = GroupOrder::sign("T1", (0..15).map(id).collect(), 1, &key(4));
    assert_eq!(world.custodian.regroup(&by_installer, NOW), Err(Refusal::Signature));
    let event = world.custodian.regroup(&good, NOW).expect("the operator's");
    assert!(matches!(&event, Event::Grouped { signature: Some(s), .. } if *s == good.signature), "kept as evidence");
    world.commit(event);
}

/// Last month's order would put a home back that moved away, or take one out to isolate another: its number is past.
#[test]
fn an_order_sent_again_is_refused() {
    let mut world = World::new(17, 1);
    let (first, second) = (order(0..16, 1), order(0..17, 2));
    assert!(matches!(world.custodian.regroup(&second, NOW), Err(Refusal::Order { number: 2, changes: 1, .. })));
    for order in [&first, &second] {
        let event = world.custodian.regroup(order, NOW).expect("in order");
        world.commit(event);
    }
    for order in [first, second] {
        assert!(matches!(world.custodian.regroup(&order, NOW + 86_400), Err(Refusal::Order { changes: 3, .. })));
    }
}

#[test]
fn the_rules_of_groups_hold_for_orders() {
    let mut world = World::new(16, 1);
    assert!(matches!(world.custodian.regroup(&order(0..14, 1), NOW), Err(Refusal::TooFew { homes: 14, .. })));
    world.enrol(id(90), Role::Test);
    let with_test = order((0..14).chain([90]), 1);
    assert!(matches!(world.custodian.regroup(&with_test, NOW), Err(Refusal::TooFew { homes: 14, .. })));
    let elsewhere = GroupOrder::sign("T2", (1..16).map(id).collect(), 0, &key(1));
    assert!(matches!(world.custodian.regroup(&elsewhere, NOW), Err(Refusal::TwoGroups(_))));
    let event = world.custodian.regroup(&order(0..15, 1), FIRST as i64 * 900).expect("fifteen");
    assert!(matches!(event, Event::Grouped { from_day, .. } if from_day == FIRST as i64 / 96 + 1), "from the next day");
}

#[test]
fn an_erasure_needs_the_operator_and_a_person() {
    let mut world = World::new(15, 1);
    let alone = ErasureOrder::sign(id(3), &key(1));
    assert_eq!(world.custodian.erase(&alone, NOW), Err(Refusal::Approvals { given: 0, needed: 1 }));
    let expired = alone.clone().approved("Ada", NOW, &key(5));
    assert_eq!(world.custodian.erase(&expired, NOW), Err(Refusal::Approvals { given: 0, needed: 1 }));
    let other = ErasureOrder::sign(id(4), &key(1)).approved("Ada", NOW + 1, &key(5));
    let borrowed = ErasureOrder { approvals: other.approvals, ..alone.clone() };
    assert_eq!(world.custodian.erase(&borrowed, NOW), Err(Refusal::Approvals { given: 0, needed: 1 }));
    let by_approver = ErasureOrder::sign(id(3), &key(5)).approved("Ada", NOW + 1, &key(5));
    assert_eq!(world.custodian.erase(&by_approver, NOW), Err(Refusal::Signature));
    let good = alone.approved("Ada", NOW + 1, &key(5));
    let event = world.custodian.erase(&good, NOW).expect("both").expect("for the first time");
    world.commit(event);
    assert_eq!(
        world.custodian.erase(&good, NOW + 99),
        Ok(None),
        "again it changes nothing, though the approval is past"
    );
}
