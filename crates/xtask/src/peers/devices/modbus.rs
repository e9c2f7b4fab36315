//! A Modbus server of pymodbus, read over TCP with our requests: the registers of an image must come back as its map says.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use telegrams::{
    Reading,
    modbus::{
        Image,
        frame::Request,
        map::{self, Register},
    },
};

use super::dlms::{Running, wait_for};

const SERVER: &str = include_str!("../modbus_server.py");

/// Every image that has a map.
pub fn read(python: &str, folder: &Path) -> Result<(), String> {
    println!("\nour Modbus requests on the server of pymodbus");
    let mut images: Vec<_> = fs::read_dir(folder.join("modbus")).map_err(|why| why.to_string())?.flatten().collect();
    images.sort_by_key(std::fs::DirEntry::file_name);
    for image in images.iter().map(std::fs::DirEntry::path) {
        let map_file = image.with_extension("map.csv");
        let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.ends_with(".json") || name.ends_with(".expected.json") || !map_file.is_file() {
            continue;
        }
        let text = fs::read_to_string(&map_file).map_err(|why| why.to_string())?;
        let registers = map::from_csv(&text).map_err(|why| format!("{name}: {why}"))?;
        let port = "25020";
        let server = Command::new(python)
            .args(["-c", SERVER, port, &image.display().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let _server = Running(server.map_err(|why| why.to_string())?);
        wait_for(port)?;
        let read = over_tcp(port, &registers).map_err(|why| format!("{name}: {why}"))?;
        let expected = image.with_file_name(format!("{name}.expected.json"));
        let expected = fs::read_to_string(expected).map_err(|why| why.to_string())?;
        let expected: Vec<serde_json::Value> = serde_json::from_str(&expected).map_err(|why| why.to_string())?;
        let equal = expected.iter().filter(|row| has(&read, row)).count();
        println!("    {name:28} {equal} of {} values equal", expected.len());
        if equal != expected.len() {
            return Err(format!("{name}: {} values over TCP differ", expected.len() - equal));
        }
    }
    Ok(())
}

fn has(read: &[Reading], row: &serde_json::Value) -> bool {
    let value = row["value"].as_str().and_then(telegrams::Decimal::parse);
    read.iter().any(|reading| {
        row["quantity"] == reading.quantity.as_str() && value.is_some_and(|value| value.same_value(reading.value))
    })
}

/// One request a value, each answer judged before the next is asked for.
fn over_tcp(port: &str, registers: &[Register]) -> Result<Vec<Reading>, String> {
    let told = |why: std::io::Error| why.to_string();
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).map_err(told)?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(told)?;
    let mut words = Vec::new();
    for (transaction, register) in (1..).zip(registers) {
        let (table, address, count) = (register.table, register.address, register.kind.words());
        let request = Request { transaction, unit: 1, table, address, count };
        stream.write_all(&request.tcp()).map_err(told)?;
        let mut answer = Vec::new();
        let got = loop {
            let mut buffer = [0; 300];
            let read = stream.read(&mut buffer).map_err(told)?;
            if read == 0 {
                return Err("the server closed".into());
            }
            answer.extend_from_slice(&buffer[..read]);
            if let Some(got) = request.tcp_answer(&answer).map_err(|why| why.to_string())? {
                break got;
            }
        };
        words.extend((address..).zip(got));
    }
    Ok(map::readings(registers, &Image::new(words)))
}
