//! Prints an evidence bundle of a small log with known keys, for programs that check bundles: `cargo run -p privacy --example bundle`.

use std::io::Write;

use ed25519_dalek::SigningKey;
use privacy::{
    hex::Hex,
    log::{Bundle, Checkpoint},
    merkle,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let entries: Vec<Vec<u8>> = (0..77).map(|k| format!("{{\"at\":{k},\"event\":\"refused\"}}").into_bytes()).collect();
    let hashes: Vec<merkle::Hash> = entries.iter().map(|entry| merkle::leaf(entry)).collect();
    let (log, witness) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
    let head = Checkpoint { origin: "gridtally.example/log".into(), size: 77, root: merkle::root(&hashes) };
    let head = head.sign(&log).cosign("gridtally.example/witness", &witness, 1_790_000_000);
    let public = |key: &SigningKey| Hex(key.verifying_key().to_bytes());
    let bundle = Bundle::new(&entries, 33, &head, public(&log), Some(public(&witness))).ok_or("no such entry")?;
    std::io::stdout().write_all(serde_json::to_string_pretty(&bundle)?.as_bytes())?;
    Ok(())
}
