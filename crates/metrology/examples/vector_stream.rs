//! Writes the vectors of a file as recorded samples (`metrology::stream`) and prints for each what the core makes of them: name, hash
//! of every output, windows, events, samples. A microcontroller that reads the recording must print the same.
#![allow(clippy::print_stdout)]

use std::io::Write;

use metrology::{
    fft::Spectrum,
    golden::Measuring,
    host::vectors::{self, BENCH_RING, VectorFile},
    stream::{Head, NAME_BYTES, write_sample},
};

/// Samples handed over at once; the microcontroller hands over as many.
const BLOCK: usize = 256;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [vectors, recording] = &words[..] else { return Err("usage: vector_stream VECTORS.json RECORDING".into()) };
    let file: VectorFile = serde_json::from_str(&std::fs::read_to_string(vectors)?)?;
    let mut recording = std::io::BufWriter::new(std::fs::File::create(recording)?);
    let mut spectrum = Box::new(Spectrum::default());
    for vector in &file.vectors {
        if vector.id.len() > NAME_BYTES {
            return Err(format!("{}: the name is longer than {NAME_BYTES} bytes", vector.id).into());
        }
        let mut samples = Vec::new();
        let run = vectors::run_recording(vector, file.udin_v, |sample| samples.push(*sample))?;
        recording.write_all(&Head::new(&vector.id, run.config, u32::try_from(samples.len())?).write())?;
        let mut measuring = Measuring::<BENCH_RING>::new(run.config)?;
        for block in samples.chunks(BLOCK) {
            for sample in block {
                recording.write_all(&write_sample(sample))?;
            }
            measuring.push(block, &mut spectrum, || 0);
        }
        let outcome = measuring.finish();
        if run.windows.last().map(|window| window.p_uw) != Some(outcome.p_uw) {
            return Err(format!("{}: the recording does not give what the vector gave", vector.id).into());
        }
        let (hash, windows, events) = (outcome.hash.0, outcome.windows, outcome.events);
        println!("vector {} {hash:016x} {windows} {events} {}", vector.id, outcome.samples);
    }
    recording.flush()?;
    Ok(())
}
