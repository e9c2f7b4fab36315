//! People, their names, the set-up link, and what a consumer may see.

use crate::world::{T0, open, runtime};
use metering::{Timestamp, UsagePointId};
use store::{FirstOperator, NewUser, OneTime, Role, StoreError};

fn person(name: &str, role: Role, usage_point: Option<&str>) -> NewUser {
    let usage_point = usage_point.map(|id| UsagePointId::new(id).expect("id"));
    NewUser { name: name.to_owned(), role, usage_point, password_hash: "$argon2id$…".to_owned() }
}

#[test]
fn of_many_who_come_with_the_set_up_token_one_is_the_operator() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        let token = store.create_one_time(&OneTime::SetUp, T0.plus(100)).await.expect("made");
        let bad = store.create_first_operator(&token, person("a:b", Role::Operator, None), T0).await;
        assert!(matches!(bad, Err(StoreError::Invalid(_))), "an unusable name does not spend the token: {bad:?}");
        let mut asked = tokio::task::JoinSet::new();
        for n in 0..6 {
            let (store, token) = (store.clone(), token.clone());
            let new = person(&format!("operator {n}"), Role::Operator, None);
            asked.spawn(async move { store.create_first_operator(&token, new, T0).await.expect("answered") });
        }
        let made = asked.join_all().await.into_iter().filter(|made| matches!(made, FirstOperator::Made(_))).count();
        assert_eq!((made, store.users().await.expect("read").len()), (1, 1));
        let token = store.create_one_time(&OneTime::SetUp, T0.plus(100)).await.expect("made");
        let late = store.create_first_operator(&token, person("late", Role::Operator, None), T0).await;
        assert_eq!(late.expect("answered"), FirstOperator::SomebodyIsThere);
    });
}

#[test]
fn names_cannot_be_mistaken() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        for bad in
            ["system", "System", "policy:tamper", "token:ops", "op1\u{200b}", "\u{43e}\u{440}1", "", "a  b", "a\nb"]
        {
            let made = store.create_user(person(bad, Role::Operator, None), "asha", T0).await;
            assert!(matches!(made, Err(StoreError::Invalid(_))), "{bad:?}: {made:?}");
            let made = store.create_api_token(bad, Role::Operator, "asha", T0).await;
            assert!(matches!(made, Err(StoreError::Invalid(_))), "{bad:?}: {made:?}");
        }
        store.create_user(person("Asha K.", Role::Operator, None), "x", T0).await.expect("usable");
    });
}

#[test]
fn who_moves_in_does_not_see_who_moved_out() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        let day = 86_400;
        let (moved, end) = (T0.plus(10 * day), Timestamp(i64::MAX));
        let date = |at: Timestamp| at.to_string();
        let header = "zone,parent,observer_meter,usage_point,meter,ct_ratio,phase,valid_from\n";
        let first = format!("{header}F-9,,,,,,,{0}\nF-9,,,U-A,M-A,1,A,{0}\nF-9,,,U-B,M-B,1,A,{0}\n", date(T0));
        store.import_topology(&first, "asha", T0).await.expect("imported");
        let swap = format!("{header}F-9,,,U-A,,1,A,{0}\nF-9,,,U-B,M-A,1,A,{0}\n", date(moved));
        let report = store.import_topology(&swap, "asha", T0).await.expect("imported");
        assert!(report.rejected.is_empty(), "{report:?}");
        let point = |id: &str| UsagePointId::new(id).expect("id");
        let seen = |id: &'static str, after| {
            let store = store.clone();
            async move {
                let periods = store.meter_periods(point(id), (after, end)).await.expect("read");
                periods
                    .into_iter()
                    .map(|p| (p.meter.to_string(), p.after, p.to.min(T0.plus(99 * day))))
                    .collect::<Vec<_>>()
            }
        };
        let last = T0.plus(99 * day);
        assert_eq!(
            seen("U-B", Timestamp(i64::MIN)).await,
            [("M-B".to_owned(), T0, moved), ("M-A".to_owned(), moved, last)]
        );
        assert_eq!(seen("U-A", Timestamp(i64::MIN)).await, [("M-A".to_owned(), T0, moved)]);
        assert_eq!(seen("U-B", T0.plus(12 * day)).await, [("M-A".to_owned(), T0.plus(12 * day), last)]);
        // a second account at a place begins when it is made
        let old = store.create_user(person("old", Role::Consumer, Some("U-B")), "asha", T0).await.expect("made");
        let new = store.create_user(person("new", Role::Consumer, Some("U-B")), "asha", moved).await.expect("made");
        assert_eq!((old.sees_after, new.sees_after), (Timestamp(i64::MIN), moved));
        store.set_contract("old", (T0, moved), "asha", moved).await.expect("ended");
        let old = store.user_by_name("old").await.expect("read").expect("there");
        assert_eq!((old.sees_after, old.sees_to), (T0, moved));
        assert!(store.set_contract("old", (moved, T0), "asha", moved).await.is_err());
    });
}
