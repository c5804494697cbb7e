//! A registry of given schemas, on a port of its own.

use sluice_events::RegistryConfig;
use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// Each request's method and path.
pub type RequestLog = Arc<Mutex<Vec<String>>>;

/// Serves these schemas by id; what is registered gets the id 1.
pub fn registry(schemas: HashMap<u32, String>) -> (RegistryConfig, RequestLog) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = RequestLog::default();
    let log = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), &schemas, &log);
        }
    });
    (RegistryConfig { url, ..RegistryConfig::default() }, asked)
}

fn answer(stream: TcpStream, schemas: &HashMap<u32, String>, log: &RequestLog) {
    let mut reader = BufReader::new(stream);
    let mut lines: Vec<String> = Vec::new();
    while lines.last().is_none_or(|line| !line.is_empty()) {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        lines.push(line.trim().to_lowercase());
    }
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    reader.read_exact(&mut vec![0; length]).unwrap();
    let path = lines[0].split(' ').nth(1).unwrap().to_owned();
    let body = match path.strip_prefix("/schemas/ids/").and_then(|id| schemas.get(&id.parse().ok()?)) {
        Some(schema) => serde_json::json!({ "schema": schema }).to_string(),
        None => r#"{"id": 1}"#.to_owned(),
    };
    if path.starts_with("/schemas/") {
        log.lock().unwrap().push(format!("GET {path}"));
    }
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    reader.get_mut().write_all((head + &body).as_bytes()).unwrap();
}
