//! The shipped feed against a stand-in of its API.

use crate::support::Sluice;
use serde_json::json;
use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Output},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

const SHIPPED: &str = include_str!("../../../feeds/openweather.toml");
const KEY: &str = "a-key-that-nobody-sees";
/// 2024-03-01T09:50:00Z.
const TEN_TO_TEN: i64 = 1_709_286_600;

/// What the stand-in does.
#[derive(Clone, Copy)]
enum Mood {
    /// Answers with observations of this moment and temperature.
    Well(i64, f64),
    /// Answers every request with this status and body.
    Says(u16, &'static str),
    /// Trouble there the first so many times, then well.
    Recovers(u32),
    /// Takes longer than anybody waits.
    Sleeps,
}

/// An API with the shape of OpenWeather's current weather, on loopback; ends with the process.
struct Stub {
    address: String,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Stub {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stub = Self {
            address: listener.local_addr().unwrap().to_string(),
            mood: Arc::new(Mutex::new(Mood::Well(TEN_TO_TEN, 8.0))),
            asked: Arc::default(),
        };
        let (mood, asked) = (stub.mood.clone(), stub.asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (mood, asked) = (mood.clone(), asked.clone());
                thread::spawn(move || answer(stream, &mood, &asked));
            }
        });
        stub
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
        self.asked.lock().unwrap().clear();
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn answer(mut stream: TcpStream, mood: &Mutex<Mood>, asked: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(request) = lines.next() else { return };
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    asked.lock().unwrap().push(request.clone());
    let now = *mood.lock().unwrap();
    let (status, body) = match now {
        _ if !request.contains(&format!("appid={KEY}")) => (401, "no key".to_owned()),
        Mood::Well(dt, temperature) => observed(&request, dt, temperature),
        Mood::Says(status, body) => (status, body.to_owned()),
        Mood::Recovers(0) => observed(&request, TEN_TO_TEN, 8.0),
        Mood::Recovers(more) => {
            *mood.lock().unwrap() = Mood::Recovers(more - 1);
            (503, "<html>try later</html>".to_owned())
        }
        Mood::Sleeps => {
            thread::sleep(Duration::from_secs(5));
            return;
        }
    };
    let wait = if status == 429 { "Retry-After: 60\r\n" } else { "" };
    let head = format!("HTTP/1.1 {status} .\r\n{wait}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    let _ = stream.write_all((head + &body).as_bytes());
}

/// As the API answers: `wind.gust`, `rain` and `snow` are there only when there is any, and whole numbers have no point.
fn observed(request: &str, dt: i64, temperature: f64) -> (u16, String) {
    let (id, name, country) = match request {
        r if r.contains("q=Paris%2CFR") => (2_988_507, "Paris", "FR"),
        r if r.contains("q=London%2CGB") => (2_643_743, "London", "GB"),
        _ => return (404, r#"{"cod":"404","message":"city not found"}"#.to_owned()),
    };
    let mut body = json!({
        "coord": {"lon": 2, "lat": 48.85}, "weather": [{"id": 500, "main": "Rain", "description": "light rain", "icon": "10d"}],
        "base": "stations", "main": {"temp": temperature, "feels_like": 5.1, "temp_min": 7, "temp_max": 9, "pressure": 1007,
        "humidity": 86}, "visibility": 8200, "wind": {"speed": 4.6, "deg": 215}, "clouds": {"all": 92}, "dt": dt,
        "sys": {"type": 2, "id": 1, "country": country, "sunrise": dt, "sunset": dt}, "timezone": 3600, "id": id,
        "name": name, "cod": 200,
    });
    if name == "Paris" {
        body["rain"] = json!({"1h": 0.42});
    }
    (200, body.to_string())
}

fn shop(stub: &Stub, items: &str) -> Sluice {
    let mut sluice = Sluice::new();
    let mut settings: toml::Table = toml::from_str(SHIPPED).unwrap();
    let feed = settings["feed"][0].as_table_mut().unwrap();
    let url =
        feed["url"].as_str().unwrap().replace("https://api.openweathermap.org", &format!("http://{}", stub.address));
    feed.insert("url".to_owned(), url.into());
    feed.insert("items".to_owned(), items.split(' ').collect::<Vec<_>>().into());
    feed.insert("timeout".to_owned(), "400ms".into());
    feed.insert("backoff".to_owned(), "10ms".into());
    let file = sluice.path("weather.toml");
    std::fs::write(&file, toml::to_string(&settings).unwrap()).unwrap();
    sluice.set("time.idle_timeout=1s");
    sluice
}

fn feed(sluice: &Sluice) -> Command {
    let mut command = sluice.command(&["produce", "feed", "--once", "--config"]);
    // The name of the file comes after `--config`, whatever stands behind it.
    let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let mut fresh = Command::new(command.get_program());
    for arg in args {
        let is_config = arg == "--config";
        fresh.arg(arg);
        if is_config {
            fresh.arg(sluice.path("weather.toml"));
        }
    }
    command = fresh;
    command.current_dir(sluice.dir.path()).env_remove("RUST_LOG").env("OPENWEATHER_API_KEY", KEY);
    command
}

fn told(output: &Output) -> String {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!text.contains(KEY), "the key is told: {text}");
    text
}

fn ask(sluice: &Sluice, exit: i32) -> String {
    let output = feed(sluice).output().unwrap();
    let told = told(&output);
    assert_eq!(output.status.code(), Some(exit), "{told}");
    told
}

#[test]
fn observations_become_tables_once() {
    let stub = Stub::start();
    let sluice = shop(&stub, "Paris,FR London,GB");
    ask(&sluice, 0);
    ask(&sluice, 0);
    assert_eq!(sluice.number("SELECT count(*) FROM bronze.feeds"), 4, "every answer is kept");
    let rows = "SELECT city_id, city, country, temperature, rain_1h, wind_gust FROM silver.weather";
    let (london, paris) = ("2643743,London,GB,8.0,,", "2988507,Paris,FR,8.0,0.42,");
    assert_eq!(sluice.query(rows), [london, paris], "the same observation is known");

    stub.is(Mood::Well(TEN_TO_TEN + 300, 10.0));
    ask(&sluice, 0);
    stub.is(Mood::Well(TEN_TO_TEN + 900, 13.0));
    ask(&sluice, 0);
    sluice.run(&["gold", "run", "fact_weather_day"]);
    let hours = "SELECT city, to_char(hour, '%H'), observations, temperature, temperature_most, rain FROM gold.fact_weather_hour";
    let paris_by_hour = ["Paris,09,2,9.0,10.0,0.42", "Paris,10,1,13.0,13.0,0.42"];
    assert_eq!(&sluice.query(hours)[2..], paris_by_hour);
    let days =
        "SELECT city, day, hours, temperature, temperature_least, rain FROM gold.fact_weather_day WHERE city = 'Paris'";
    assert_eq!(sluice.query(days), ["Paris,2024-03-01,2,11.0,8.0,0.84"]);

    // A later day makes its part anew; the table is that of all observations.
    stub.is(Mood::Well(TEN_TO_TEN + 86_400, 3.0));
    ask(&sluice, 0);
    let told = String::from_utf8(sluice.run(&["gold", "run", "fact_weather_day"]).stderr).unwrap();
    assert!(told.contains("2 tables made"), "{told}");
    let by_parts =
        (sluice.query("SELECT * FROM gold.fact_weather_hour"), sluice.query("SELECT * FROM gold.fact_weather_day"));
    sluice.run(&["gold", "run", "--full", "fact_weather_day"]);
    assert_eq!(by_parts.0, sluice.query("SELECT * FROM gold.fact_weather_hour"));
    assert_eq!(by_parts.1, sluice.query("SELECT * FROM gold.fact_weather_day"));
    assert_eq!(by_parts.1.len(), 4);
}

#[test]
fn an_api_in_trouble_is_told_and_loses_nothing() {
    let stub = Stub::start();
    let sluice = shop(&stub, "Paris,FR Atlantis London,GB");
    let told = ask(&sluice, 1);
    assert!(told.contains("Atlantis") && told.contains("HTTP 404") && told.contains("city not found"), "{told}");
    assert_eq!(sluice.number("SELECT count(*) FROM silver.weather"), 2, "one that is not there stops no other");

    stub.is(Mood::Says(401, r#"{"cod":401, "message": "Invalid API key. Please see the faq."}"#));
    let told = ask(&sluice, 1);
    assert!(told.contains("HTTP 401, the key is refused: ") && told.contains("Invalid API key"), "{told}");
    assert_eq!(stub.asked(), 1, "no other item is asked for with a key that is refused");

    stub.is(Mood::Says(429, r#"{"cod":429, "message": "Your account is temporary blocked"}"#));
    let told = ask(&sluice, 1);
    assert!(told.contains("leaving the API alone for 60s") && told.contains("temporary blocked"), "{told}");
    assert_eq!(stub.asked(), 1);

    stub.is(Mood::Recovers(2));
    let told = ask(&sluice, 1);
    assert!(!told.contains("503"), "it was asked again: {told}");
    assert_eq!(stub.asked(), 5);

    stub.is(Mood::Sleeps);
    let told = ask(&sluice, 1);
    assert!(told.contains("no answer in time"), "{told}");
    assert_eq!(stub.asked(), 9, "three attempts for each item");

    stub.is(Mood::Says(200, r#"{"id":1,"dt":1709286600,"main":{"temp":"warm"}}"#));
    ask(&sluice, 0);
    stub.is(Mood::Says(200, "<html>"));
    ask(&sluice, 0);
    let letters = "SELECT reason, message, CAST(value AS VARCHAR) FROM bronze.dead_letters";
    let letters = sluice.query(letters);
    assert_eq!(letters.len(), 6, "{letters:?}");
    assert!(letters.iter().any(|letter| letter.starts_with("bad_json,feed weather: ") && letter.ends_with(",<html>")));
    assert!(letters.iter().any(|letter| letter.contains("bad_field") && letter.contains("at /main/temp is no number")));
    assert_eq!(sluice.number("SELECT count(*) FROM silver.weather"), 2);

    // What a feed was answered is no event, wherever it stands.
    let events = sluice.path("events.ndjson");
    let event =
        |at: usize| format!(r#"{{"event_id":"e{at}","event_type":"page_view","event_time":"2024-03-01T10:00:00Z"}}"#);
    std::fs::write(&events, (0..40).map(event).collect::<Vec<_>>().join("\n")).unwrap();
    sluice.run(&["up", "--replay", events.to_str().unwrap(), "--until-drained"]);
    assert_eq!(sluice.verify()["balanced"], true);
    let listed = sluice.run(&["dlq", "list", "--stage", "feed"]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.matches("feed weather").count(), 6, "{listed}");
}

#[test]
fn a_feed_without_its_key_does_not_start() {
    let stub = Stub::start();
    let sluice = shop(&stub, "Paris,FR");
    let output = feed(&sluice).env_remove("OPENWEATHER_API_KEY").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("feed weather: the environment has no OPENWEATHER_API_KEY"), "{}", told(&output));
    let output = sluice.output(&["produce", "feed"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).contains("there is no feed"));

    assert_eq!(stub.asked(), 0);
}
