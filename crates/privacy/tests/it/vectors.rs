//! Test vectors as files, for whoever writes a meter or a custodian of their own. They were computed once; an independent
//! implementation checks them in the acceptance tests.

use privacy::{
    Field, MaskKey,
    commitment::{Generators, blinding},
    draws::Draws,
    exchange,
    hex::Hex,
    log::Checkpoint,
    noise::{Ratio, gauss, laplace},
    ramp::Ramp,
};
use serde_json::{Value, json};

use crate::world::{id, key};

/// Everything of the protocol that has a fixed value.
fn computed() -> Value {
    let (meter, custodian) = ([1_u8; 32], [2_u8; 32]);
    let mask_key = exchange::mask_key(&meter, &exchange::public_key(&custodian), id(1), 1).expect("a good key");
    let masks: Vec<Value> = [(Field::Import, 0, 2_045_000_u64), (Field::Import, 1, 2_045_000), (Field::Voltage, 0, 7)]
        .into_iter()
        .map(|(field, rev, counter)| {
            let mask = mask_key.mask(field, rev, counter).expect("in range");
            json!({"field": field, "rev": rev, "counter": counter, "mask": mask.to_string()})
        })
        .collect();
    let r = blinding(&mask_key, Field::Import, 0, 2_045_000).expect("in range");
    let commitment = Hex(Generators::default().commit(-421, &r));
    let mut draws = Draws::new(&[4; 32]);
    let laplace: Vec<i64> = (0..8).map(|_| laplace(&mut draws, Ratio::new(5_000, 1)).expect("draws")).collect();
    let gauss: Vec<i64> = (0..8).map(|_| gauss(&mut draws, Ratio::new(1_000_001, 4)).expect("draws")).collect();
    let shares = Ramp::new(2, 1, 4).expect("possible").share(&[11, 22], &mut Draws::new(&[5; 32])).expect("shares");
    let note = Checkpoint { origin: "gridtally.test/log".into(), size: 9, root: [6; 32] }.sign(&key(20));
    json!({
        "exchange": {
            "meter_secret": Hex(meter), "custodian_secret": Hex(custodian), "meter": id(1), "epoch": 1,
            "meter_public": exchange::public_key(&meter), "custodian_public": exchange::public_key(&custodian),
            "mask_key": Hex(*mask_key.as_bytes()), "next_epoch": Hex(*mask_key.next().as_bytes()),
        },
        "masks": masks,
        "commitment": {"x": -421, "blinding": Hex(r.to_bytes()), "commitment": commitment},
        "noise": {"seed": Hex([4; 32]), "laplace_5000": laplace, "gauss_variance_250000.25": gauss},
        "shares": {"secrets": [11, 22], "shares": shares},
        "checkpoint": note.cosign("witness.test", &key(21), 1_700_000_000).to_text(),
    })
}

#[test]
fn the_vectors_of_the_file_hold() {
    let computed = computed();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/protocol.json");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let stated: Value = serde_json::from_str(&text).unwrap_or_default();
    assert_eq!(computed, stated, "computed:\n{computed:#}");
    let _ = MaskKey::from_bytes([0; 32]);
}
