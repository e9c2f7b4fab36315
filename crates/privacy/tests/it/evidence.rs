//! The log: proofs of every size, altered files, forked heads, bundles, and readings that must not be found.

use privacy::{
    hex::Hex,
    log::{Bundle, Checkpoint, Signed, tiles, verify},
    merkle, search,
};

use crate::world::key;

use std::collections::BTreeMap;

fn entries(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|k| format!("{{\"at\":{k},\"event\":\"refused\"}}").into_bytes()).collect()
}

fn head(entries: &[Vec<u8>]) -> Signed {
    let hashes: Vec<merkle::Hash> = entries.iter().map(|entry| merkle::leaf(entry)).collect();
    Checkpoint { origin: "gridtally.test/log".into(), size: entries.len() as u64, root: merkle::root(&hashes) }
        .sign(&key(20))
}

/// The files of a log that grew entry by entry in steps, and its heads.
fn log(entries: &[Vec<u8>], step: usize) -> (BTreeMap<String, Vec<u8>>, Vec<String>) {
    let (mut files, mut heads, mut done) = (BTreeMap::new(), Vec::new(), 0);
    while done < entries.len() {
        let size = (done + step).min(entries.len());
        files.extend(tiles::files(&entries[..size], done));
        let head = head(&entries[..size]).cosign("witness.test", &key(21), 5);
        files.insert("checkpoint".to_owned(), head.to_text().into_bytes());
        heads.push(head.to_text());
        done = size;
    }
    (files, heads)
}

fn public(n: u8) -> Hex<32> {
    Hex(key(n).verifying_key().to_bytes())
}

#[test]
fn known_roots_of_rfc_6962_trees() {
    // leaves and roots of the reference implementation's test
    let inputs: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    let hashes: Vec<merkle::Hash> = inputs.iter().map(|i| merkle::leaf(i)).collect();
    let roots = [
        (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
        (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
        (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
        (8, "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"),
    ];
    for (size, root) in roots {
        assert_eq!(Hex(merkle::root(&hashes[..size])).to_string(), root, "{size}");
    }
}

#[test]
fn proofs_hold_for_every_size_and_for_nothing_else() {
    let hashes: Vec<merkle::Hash> = entries(40).iter().map(|e| merkle::leaf(e)).collect();
    for size in 1..=hashes.len() {
        let root = merkle::root(&hashes[..size]);
        for index in 0..size {
            let path = merkle::inclusion(&hashes[..size], index);
            let holds = |i: u64, leaf: &merkle::Hash| merkle::check_inclusion(leaf, i, size as u64, &path, &root);
            assert!(holds(index as u64, &hashes[index]), "{index} of {size}");
            assert!(!holds(index as u64, &hashes[(index + 1) % 40]));
            assert!(!holds(index as u64 + 1, &hashes[index]) || size == 1 && index == 1);
        }
        for old in 1..=size {
            let path = merkle::consistency(&hashes[..size], old);
            let old_root = merkle::root(&hashes[..old]);
            let (a, b) = ((old as u64, &old_root), (size as u64, &root));
            assert!(merkle::check_consistency(a, b, &path), "{old} in {size}");
            if old < size {
                let other = merkle::leaf(b"other");
                assert!(!merkle::check_consistency((old as u64, &other), b, &path));
                assert!(!merkle::check_consistency(a, (size as u64, &other), &path));
            }
        }
    }
}

#[test]
fn a_good_log_verifies() {
    for (count, step) in [(1, 1), (255, 20), (256, 256), (300, 7), (1_000, 130)] {
        let (files, heads) = log(&entries(count), step);
        let read = |path: &str| files.get(path).cloned();
        let report = verify(&read, &heads, &public(20), Some(&public(21))).expect("readable");
        assert!(report.is_good() && report.first_bad.is_none(), "{count}: {report:?}");
        assert_eq!(report.witnessed, Some(true));
        assert!(verify(&read, &heads, &public(22), None).is_err(), "another key");
        let other = verify(&read, &heads, &public(20), Some(&public(22))).expect("readable");
        assert_eq!(other.witnessed, Some(false));
    }
}

/// Abuse case 33.
#[test]
fn case_33_altered_truncated_and_forked_logs() {
    let (files, heads) = log(&entries(300), 50);
    let check = |files: &BTreeMap<String, Vec<u8>>| {
        verify(&|path: &str| files.get(path).cloned(), &heads, &public(20), None).expect("readable")
    };
    let mut altered = files.clone();
    let tile = altered.get_mut("tile/entries/000").expect("a whole tile");
    let at = tile.len() / 2;
    tile[at] ^= 1;
    let report = check(&altered);
    assert!(!report.included && !report.is_good());
    assert!(report.first_bad.is_some_and(|bad| (100..160).contains(&bad)), "{report:?}");
    let mut truncated = files.clone();
    truncated.remove("tile/entries/001.p/44");
    let report = check(&truncated);
    assert_eq!((report.included, report.first_bad), (false, Some(256)));
    // whoever holds the key writes another history of the same length: the heads that were signed before tell
    let mut forked = entries(300);
    forked[120] = b"{\"event\":\"never happened\"}".to_vec();
    let (mut files, _) = log(&forked, 300);
    files.insert("checkpoint".into(), head(&forked).to_text().into_bytes());
    let report = check(&files);
    assert!(report.included && !report.consistent, "{report:?}");
    assert_eq!(report.first_bad, Some(100), "after the last good head");
    // and a witness that saw 200 entries finds no proof from its head to the fork
    let hashes = |e: &[Vec<u8>]| -> Vec<merkle::Hash> { e.iter().map(|e| merkle::leaf(e)).collect() };
    let (seen, now) = (hashes(&entries(200)), hashes(&forked));
    let path = merkle::consistency(&now, 200);
    assert!(!merkle::check_consistency((200, &merkle::root(&seen)), (300, &merkle::root(&now)), &path));
}

#[test]
fn a_bundle_is_checked_alone() {
    let entries = entries(77);
    let head = head(&entries).cosign("witness.test", &key(21), 9);
    let bundle = Bundle::new(&entries, 33, &head, public(20), Some(public(21))).expect("there");
    assert_eq!(bundle.check(), Ok(()));
    let text = serde_json::to_string(&bundle).expect("JSON");
    let mut other: Bundle = serde_json::from_str(&text).expect("reads back");
    assert_eq!(other, bundle);
    other.entry.push(' ');
    assert!(other.check().is_err());
    let again = Signed::parse(&bundle.checkpoint).expect("a note");
    assert_eq!(again, head);
}

#[test]
fn planted_readings_are_found_in_every_form() {
    let readings: Vec<i64> = (0..40).map(|t| 100 + (t * 37) % 211).collect();
    let noise: Vec<u8> = (0..4_000_u32).map(|k| (k.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    assert!(search::find(&noise, &readings, 4).is_empty(), "nothing is planted yet");
    let run = &readings[11..11 + search::RUN];
    let zigzag: Vec<u8> = run
        .windows(2)
        .flat_map(|p| {
            let d = p[1] - p[0];
            let mut z = ((d << 1) ^ (d >> 63)) as u64;
            let mut bytes = Vec::new();
            while z >= 0x80 {
                bytes.push(z as u8 | 0x80);
                z >>= 7;
            }
            bytes.push(z as u8);
            bytes
        })
        .collect();
    let text = run.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let forms: [(&str, Vec<u8>); 6] = [
        ("64-bit integers", run.iter().flat_map(|v| v.to_le_bytes()).collect()),
        ("32-bit integers", run.iter().flat_map(|v| (*v as i32).to_le_bytes()).collect()),
        ("16-bit integers", run.iter().flat_map(|v| (*v as u16).to_le_bytes()).collect()),
        ("64-bit floating point", run.iter().flat_map(|v| (*v as f64).to_le_bytes()).collect()),
        ("zigzag differences", zigzag),
        ("decimal text", text.into_bytes()),
    ];
    for (form, bytes) in forms {
        let planted = [&noise[..1_000], &bytes, &noise[1_000..]].concat();
        let found = search::find(&planted, &readings, 4);
        assert!(found.iter().any(|f| f.form == form && f.slot == 11), "{form}: {found:?}");
    }
}
