//! Networks: what is imported is read back, by version.

use crate::world::{DAY, T0, open, runtime};
use grid::network::{Branch, BranchKind, Bus, BusKind, Load, LoadModel, Network, UsagePoint};
use metering::Timestamp;
use proptest::prelude::*;
use store::StoreError;

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), -1e3f64..1e3, 1e-12f64..1e-6]
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 ',;\"äß→-]{0,12}"
}

/// What one bus and its feeding branch, load and usage point are made of.
type Part = (String, f64, f64, (bool, Option<f64>, Option<f64>), (usize, Option<u8>));

fn part() -> impl Strategy<Value = Part> {
    (
        text(),
        number(),
        1e-9f64..10.0,
        (any::<bool>(), proptest::option::of(0.1f64..9.0), proptest::option::of(number())),
        (0usize..3, proptest::option::of(1u8..4)),
    )
}

fn network(parts: &[Part]) -> Network {
    let mut out = Network {
        name: "Feeder 'A'".into(),
        base_mva: 0.1 + parts[0].2,
        frequency_hz: 50.0,
        buses: Vec::new(),
        branches: Vec::new(),
        loads: Vec::new(),
        usage_points: Vec::new(),
    };
    for (i, (name, value, size, (flag, rate, peak), (model, phase))) in parts.iter().enumerate() {
        let id = 5 + 3 * u32::try_from(i).expect("small");
        let kind = if i == 0 { BusKind::Slack { vm_pu: 1.0 + 1e-3 * size, va_deg: *value } } else { BusKind::Load };
        out.buses.push(Bus { id, name: name.clone(), vn_kv: *size, kind, gs_mw: value.abs(), bs_mvar: *value });
        if i == 0 {
            continue;
        }
        out.branches.push(Branch {
            id,
            from: 5,
            to: id,
            kind: if *flag { BranchKind::Trafo } else { BranchKind::Line },
            name: name.clone(),
            r_pu: *size,
            x_pu: *value,
            g_pu: 0.0,
            b_pu: *value,
            tap: 1.0,
            shift_deg: if *flag { *value } else { 0.0 },
            rate_mva: *rate,
            length_km: *rate,
        });
        out.loads.push(Load {
            id,
            bus: id,
            name: name.clone(),
            kind: "load".into(),
            p_mw: *value,
            q_mvar: -value,
            profile: name.clone(),
            peak_p_mw: *peak,
            peak_q_mvar: *rate,
            model: [LoadModel::Power, LoadModel::Current, LoadModel::Impedance][*model],
        });
        out.usage_points.push(UsagePoint {
            usage_point: format!("UP-{i}"),
            load: flag.then_some(id),
            bus: id,
            phase: *phase,
            valid_from: "2026-01-01T00:00:00Z".into(),
        });
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_imported_is_read_back(parts in prop::collection::vec(part(), 2..30)) {
        let network = network(&parts);
        prop_assume!(network.validate().is_ok());
        runtime().block_on(async {
            let dir = tempfile::tempdir().expect("directory");
            let store = open(dir.path()).await;
            let version = store.import_network(&network, T0, "asha", T0).await.expect("imported");
            let back = store.network_at(&network.name, T0.plus(DAY)).await.expect("read");
            assert_eq!(back.as_ref(), Some(&network));
            assert_eq!(store.networks().await.expect("read"), [version]);
        });
    }
}

#[test]
fn versions_follow_each_other_and_none_is_overwritten() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("directory");
        let store = open(dir.path()).await;
        let first = grid::bench::radial_feeder(20, 1);
        let mut second = first.clone();
        second.branches[3].r_pu *= 2.0;
        let name = first.name.clone();
        let one = store.import_network(&first, T0, "asha", T0).await.expect("imported");
        assert_eq!(store.import_network(&first, T0, "ravi", T0.plus(DAY)).await.expect("the same"), one);
        let refused = store.import_network(&second, T0, "asha", T0).await.expect_err("another at the same time");
        assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
        store.import_network(&second, T0.plus(2 * DAY), "asha", T0).await.expect("imported");
        let at = async |time: Timestamp| store.network_at(&name, time).await.expect("read");
        assert_eq!(at(T0.plus(-1)).await, None);
        assert_eq!(at(T0.plus(DAY)).await, Some(first.clone()));
        assert_eq!(at(T0.plus(3 * DAY)).await, Some(second));
        assert_eq!(store.networks().await.expect("read").len(), 2);
        let mut island = first;
        island.branches.pop();
        let invalid = store.import_network(&island, T0.plus(9 * DAY), "asha", T0).await.expect_err("an island");
        assert!(invalid.to_string().contains("not connected"), "{invalid}");
        store.verify_audit().await.expect("unbroken");
    });
}
