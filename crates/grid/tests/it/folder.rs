//! The importer: round trip, named errors, and survival of damaged files.

use crate::support::{branch, random_network};
use grid::folder::{read_network, write_network};
use grid::measurement::{read_measurements, read_zero_injections};
use grid::network::UsagePoint;
use proptest::prelude::*;
use std::fs;

#[test]
fn what_is_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut network = random_network(5, 12, 1);
    network.usage_points.push(UsagePoint {
        usage_point: "UP-1".into(),
        load: Some(network.loads[0].id),
        bus: network.loads[0].bus,
        phase: Some(2),
        valid_from: "2026-01-01T00:00:00Z".into(),
    });
    write_network(&network, dir.path()).unwrap();
    assert_eq!(read_network(dir.path()).unwrap(), network);
}

#[test]
fn every_error_names_its_element() {
    let good = random_network(5, 6, 0);
    let broken = |change: &dyn Fn(&mut grid::network::Network)| {
        let mut network = good.clone();
        change(&mut network);
        network.validate().unwrap_err().to_string()
    };
    assert!(broken(&|n| n.base_mva = 0.0).contains("base_mva"));
    assert!(broken(&|n| n.branches[2].x_pu = f64::NAN).contains("branch 3"));
    assert!(broken(&|n| n.branches[2].r_pu = -0.1).contains("branch 3"));
    assert!(broken(&|n| n.branches[2].length_km = Some(-1.0)).contains("length_km"));
    assert!(broken(&|n| (n.branches[0].r_pu, n.branches[0].x_pu) = (0.0, 0.0)).contains("missing?"));
    assert!(broken(&|n| n.branches[1].to = 999).contains("bus 999"));
    assert!(broken(&|n| drop(n.branches.pop())).contains("not connected"));
    assert!(broken(&|n| n.branches.push(branch(1, 7, 10, 0.1, 0.1))).contains("branch 1"));
    assert!(broken(&|n| n.loads[0].bus = 4).contains("bus 4"));
    assert!(broken(&|n| n.loads[0].p_mw = f64::INFINITY).contains("load"));
    assert!(broken(&|n| n.buses[1].vn_kv = 0.0).contains("bus 10"));
    assert!(broken(&|n| n.loads.push(n.loads[0].clone())).contains("listed twice"));
    assert!(broken(&|n| n.loads[0].peak_p_mw = Some(f64::NAN)).contains("peak_p_mw"));
    let point = |load: Option<u32>, bus| UsagePoint {
        usage_point: "UP-1".into(),
        load,
        bus,
        phase: None,
        valid_from: "2026-01-01T00:00:00Z".into(),
    };
    let (load, bus) = (good.loads[0].id, good.loads[0].bus);
    let other = good.buses.iter().map(|b| b.id).find(|id| *id != bus).unwrap();
    assert!(broken(&|n| n.usage_points = vec![point(Some(987), bus)]).contains("load 987"));
    assert!(broken(&|n| n.usage_points = vec![point(Some(load), other)]).contains(&format!("is at bus {bus}")));
    assert!(broken(&|n| n.usage_points = vec![point(None, 999)]).contains("bus 999"));
    assert!(broken(&|n| n.usage_points = vec![point(None, bus), point(Some(load), bus)]).contains("UP-1"));
}

#[test]
fn doubled_columns_and_numbers_that_are_none_are_refused_in_every_table() {
    let network = random_network(5, 6, 0);
    for (table, column) in [("buses.csv", "vn_kv"), ("branches.csv", "r_pu"), ("loads.csv", "p_mw")] {
        let dir = tempfile::tempdir().unwrap();
        write_network(&network, dir.path()).unwrap();
        let path = dir.path().join(table);
        let text = fs::read_to_string(&path).unwrap();
        let doubled: Vec<String> =
            text.lines().enumerate().map(|(n, line)| format!("{line},{}", if n == 0 { column } else { "1" })).collect();
        fs::write(&path, doubled.join("\n")).unwrap();
        let error = read_network(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("'{column}' stands twice")), "{error}");
        let at = text.lines().next().unwrap().split(',').position(|name| name == column).unwrap();
        let mut rows: Vec<Vec<String>> = text.lines().map(|l| l.split(',').map(str::to_owned).collect()).collect();
        rows[1][at] = "NaN".to_owned();
        fs::write(&path, rows.iter().map(|row| row.join(",")).collect::<Vec<_>>().join("\n")).unwrap();
        let error = read_network(dir.path()).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains(column), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// The fuzz target of the importer: any damage gives a network or an error, never a panic.
    #[test]
    fn damaged_files_never_panic(seed: u64, file in 0usize..6, at in 0usize..2000, insert in any::<Vec<u8>>(), cut in 0usize..40) {
        let dir = tempfile::tempdir().unwrap();
        let network = random_network(seed, 8, 1);
        write_network(&network, dir.path()).unwrap();
        fs::write(dir.path().join("m.csv"), "type,at,side,value_pu,sigma_pu\nv,7,,1.0,0.001\np_inj,10,,0.1,0.01\n").unwrap();
        fs::write(dir.path().join("z.csv"), "bus\n13\n").unwrap();
        let path = dir.path().join(["network.json", "buses.csv", "branches.csv", "loads.csv", "m.csv", "z.csv"][file]);
        let mut bytes = fs::read(&path).unwrap();
        let from = at.min(bytes.len());
        let to = (from + cut).min(bytes.len());
        bytes.splice(from..to, insert);
        fs::write(&path, bytes).unwrap();
        if let Ok(read) = read_network(dir.path()) {
            let _ = read_measurements(&dir.path().join("m.csv"), &read);
            let _ = read_zero_injections(&dir.path().join("z.csv"), &read);
            if let Ok(model) = grid::model::Model::new(&read) {
                let _ = grid::flow::solve(&model);
            }
        }
    }
}
