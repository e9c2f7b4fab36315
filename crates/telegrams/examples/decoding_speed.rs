//! Time per telegram of this crate and of `sml-rs`, as one JSON object in microseconds: arguments are a P1, an SML and a DLMS push capture.
#![allow(clippy::print_stdout, reason = "an example talks to the person at the terminal")]

use std::{
    error::Error,
    fs,
    hint::black_box,
    time::{Duration, Instant},
};

use telegrams::{
    Zone,
    dlms::security::CounterGuard,
    framing::{hdlc::HdlcFraming, p1::P1, sml::SmlTransport, split},
    models::Models,
    p1, sml,
    stream::{Context, Line, Stream, notification},
};

/// Fastest of the short runs of a second, in microseconds: a short run is rarely interrupted, and hardly any other load lasts a second.
fn best(mut run: impl FnMut()) -> f64 {
    const PER_RUN: u32 = 20;
    let (begin, mut fastest) = (Instant::now(), f64::INFINITY);
    while begin.elapsed() < Duration::from_secs(1) {
        let start = Instant::now();
        (0..PER_RUN).for_each(|_| run());
        fastest = fastest.min(start.elapsed().as_secs_f64() / f64::from(PER_RUN) * 1e6);
    }
    fastest
}

fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let [p1_file, sml_file, push_file] = files.as_slice() else { return Err("three files: P1, SML, DLMS push".into()) };
    let models = Models::builtin()?;
    let p1_bytes = fs::read(p1_file)?;
    // With its zone: the peer turns local times into instants too.
    let zone = Zone::named("Europe/Amsterdam");
    let p1_time = best(|| {
        split(&P1, &p1_bytes, true, &mut |frame| {
            black_box(frame.and_then(|frame| p1::decode(frame, zone, None)).ok());
        });
    });
    let capture = fs::read(sml_file)?;
    let mut first = None;
    split(&SmlTransport, &capture, true, &mut |frame| {
        if let (Ok(frame), true) = (frame, first.is_none()) {
            first = Some(frame.to_vec());
        }
    });
    let frame = first.ok_or("no SML telegram")?;
    let ours = best(|| {
        let contents = telegrams::framing::sml::contents(black_box(&frame));
        let lists = contents.as_deref().map(sml::lists);
        let _ = black_box(lists.is_ok());
    });
    let readings = best(|| {
        black_box(telegrams::stream::sml_readings(black_box(&frame), &models).ok());
    });
    let theirs = best(|| {
        for contents in sml_rs::transport::decode(black_box(&frame)).into_iter().flatten() {
            black_box(sml_rs::parser::complete::parse(&contents).is_ok());
        }
    });
    let push_bytes = fs::read(push_file)?;
    let push = best(|| {
        let context = Context { models: &models, zone: None, keys: None };
        let mut stream = Stream::new(Line::PushHdlc, context);
        stream.push(black_box(&push_bytes), &mut |outcome| {
            black_box(outcome.ok());
        });
    });
    let mut apdu = None;
    let mut assembler = telegrams::dlms::push_link::Assembler::new();
    split(&HdlcFraming, &push_bytes, true, &mut |frame| apdu = frame.and_then(|f| assembler.hdlc(f)).ok().flatten());
    let apdu = apdu.ok_or("no APDU")?;
    let context = Context { models: &models, zone: None, keys: None };
    let apdu_time = best(|| {
        black_box(notification(black_box(&apdu), context, &mut CounterGuard::default()).ok());
    });
    println!(
        "{{\"p1\": {p1_time:.3}, \"sml\": {ours:.3}, \"sml_readings\": {readings:.3}, \"sml_rs\": {theirs:.3}, \
         \"push\": {push:.3}, \"push_apdu\": {apdu_time:.3}}}"
    );
    Ok(())
}
