//! Schemas by id: from a Confluent-compatible registry when one is configured, else the shipped ones.

use apache_avro::Schema;
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Settings of the schema registry; defaults stand in `sluice.toml`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// Its address, such as `http://localhost:8081`. Empty: no registry, ids of the shipped schemas.
    pub url: String,
    /// User, for basic authentication.
    pub user: String,
    /// Password. Never printed.
    pub password: String,
}

/// A topic that sluice writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Shop events.
    Events,
    /// Partial panes.
    Partials,
    /// Merged panes.
    Kpis,
    /// Alerts.
    Alerts,
    /// Dead letters of producers.
    DeadLetters,
}

impl Subject {
    const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::Events, "events", include_str!("../../schemas/event-v1.avsc")),
        (Self::Partials, "partials", include_str!("../../schemas/partial-v1.avsc")),
        (Self::Kpis, "kpis", include_str!("../../schemas/kpi-v1.avsc")),
        (Self::Alerts, "alerts", include_str!("../../schemas/alert-v2.avsc")),
        (Self::DeadLetters, "dead-letters", include_str!("../../schemas/dead-letter-v1.avsc")),
    ];
}

/// The schema that sluice writes a topic with.
#[derive(Clone, Debug)]
pub struct SubjectSchema {
    /// Its id in the registry.
    pub id: u32,
    /// Parsed.
    pub schema: Arc<Schema>,
    /// As text.
    pub text: Arc<str>,
}

/// Why there is no schema.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry did not answer, or not as a registry does. Safe to retry.
    #[error("schema registry at {url}: {message}")]
    Unreachable {
        /// Its address.
        url: String,
        /// What happened.
        message: String,
    },
    /// The registry refuses our schema: somebody registered one that is not compatible.
    #[error(
        "schema registry at {url}: subject '{subject}' refuses the schema of this sluice (compatibility): {message}. \
         Compare the subject's latest version with schemas/, or set the subject's compatibility to NONE for a migration"
    )]
    Incompatible {
        /// Its address.
        url: String,
        /// The subject.
        subject: String,
        /// What the registry said.
        message: String,
    },
    /// No schema has this id.
    #[error("no schema has the id {0}")]
    UnknownId(u32),
    /// The text under this id is no Avro schema.
    #[error("schema {id} cannot be used: {message}")]
    BadSchema {
        /// Its id.
        id: u32,
        /// What is wrong.
        message: String,
    },
}

/// All schemas: those we write, and those we meet.
pub struct Schemas {
    registry: Option<Registry>,
    subjects: HashMap<Subject, SubjectSchema>,
    met: Mutex<HashMap<u32, Arc<str>>>,
    /// Writers' schemas that cannot be read as events, each told once.
    incompatible: Mutex<HashSet<u32>>,
}

impl Schemas {
    /// The shipped schemas under their fixed ids, 1 to 5.
    ///
    /// # Panics
    /// Never: the shipped schemas are valid Avro.
    pub fn shipped() -> Self {
        let mut subjects = HashMap::new();
        for (i, (subject, _, text)) in Subject::ALL.into_iter().enumerate() {
            let schema = Schema::parse_str(text).expect("the shipped schemas are valid Avro");
            subjects.insert(subject, SubjectSchema { id: i as u32 + 1, schema: Arc::new(schema), text: text.into() });
        }
        let met = subjects.values().map(|s| (s.id, s.text.clone())).collect();
        Self { registry: None, subjects, met: Mutex::new(met), incompatible: Mutex::default() }
    }

    /// Registers the schemas under `<topic>-value` at the registry, or takes the shipped ids when none is configured.
    /// `topic_of` says what a subject's topic is called; none when its values are not Avro, and nothing is registered.
    ///
    /// # Errors
    /// When the registry does not answer or refuses a schema.
    pub fn open(config: &RegistryConfig, topic_of: impl Fn(Subject) -> Option<String>) -> Result<Self, RegistryError> {
        let mut schemas = Self::shipped();
        if config.url.is_empty() {
            return Ok(schemas);
        }
        let registry = Registry::new(config);
        let mut met = HashMap::new();
        for (subject, entry) in &mut schemas.subjects {
            let Some(topic) = topic_of(*subject) else { continue };
            entry.id = registry.register(&format!("{topic}-value"), &entry.text)?;
            met.insert(entry.id, entry.text.clone());
        }
        Ok(Self { registry: Some(registry), subjects: schemas.subjects, met: Mutex::new(met), ..schemas })
    }

    /// The same for who only reads: nothing is registered. What is written with the ids of [`Schemas::subject`] is for
    /// readers that have the shipped schemas.
    pub fn read_only(config: &RegistryConfig) -> Self {
        let schemas = Self::shipped();
        match config.url.is_empty() {
            true => schemas,
            // The registry's ids are its own: what the shipped schemas are called here says nothing there.
            false => Self { registry: Some(Registry::new(config)), met: Mutex::default(), ..schemas },
        }
    }

    /// The schema that sluice writes this topic with.
    ///
    /// # Panics
    /// Never: every subject has one.
    pub fn subject(&self, subject: Subject) -> &SubjectSchema {
        self.subjects.get(&subject).expect("every subject has a schema")
    }

    /// The text of the schema with this id; fetched once, then remembered.
    ///
    /// # Errors
    /// [`RegistryError::UnknownId`] when nobody knows it.
    pub fn by_id(&self, id: u32) -> Result<Arc<str>, RegistryError> {
        if let Some(text) = self.met.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(text.clone());
        }
        let registry = self.registry.as_ref().ok_or(RegistryError::UnknownId(id))?;
        let text: Arc<str> = registry.fetch(id)?.into();
        self.met.lock().unwrap_or_else(PoisonError::into_inner).insert(id, text.clone());
        Ok(text)
    }

    #[cfg(test)]
    pub(crate) fn remember_for_test(&self, id: u32, text: &str) {
        self.met.lock().unwrap_or_else(PoisonError::into_inner).insert(id, text.into());
    }

    /// Whether this is the first time that the schema with this id is found incompatible.
    pub(crate) fn first_found_incompatible(&self, id: u32) -> bool {
        self.incompatible.lock().unwrap_or_else(PoisonError::into_inner).insert(id)
    }
}

/// The three calls of the Confluent registry's REST API that we need.
struct Registry {
    url: String,
    authorization: Option<String>,
    agent: ureq::Agent,
}

#[derive(Deserialize)]
struct Registered {
    id: u32,
}

#[derive(Deserialize)]
struct Stored {
    schema: String,
}

impl Registry {
    fn new(config: &RegistryConfig) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(10)))
            .http_status_as_error(false)
            .build()
            .into();
        let authorization = (!config.user.is_empty()).then(|| {
            use base64::Engine as _;
            let pair = format!("{}:{}", config.user, config.password);
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
        });
        Self { url: config.url.trim_end_matches('/').to_owned(), authorization, agent }
    }

    fn unreachable(&self, message: impl ToString) -> RegistryError {
        RegistryError::Unreachable { url: self.url.clone(), message: message.to_string() }
    }

    fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let mut request = self.agent.post(format!("{}/subjects/{subject}/versions", self.url));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let mut answer = request
            .content_type("application/vnd.schemaregistry.v1+json")
            .send(serde_json::json!({ "schema": schema }).to_string())
            .map_err(|e| self.unreachable(e))?;
        let body = answer.body_mut().read_to_string().map_err(|e| self.unreachable(e))?;
        match answer.status().as_u16() {
            200 => serde_json::from_str::<Registered>(&body).map(|r| r.id).map_err(|e| self.unreachable(e)),
            409 | 422 => {
                Err(RegistryError::Incompatible { url: self.url.clone(), subject: subject.to_owned(), message: body })
            }
            status => Err(self.unreachable(format!("register '{subject}': HTTP {status}: {body}"))),
        }
    }

    fn fetch(&self, id: u32) -> Result<String, RegistryError> {
        let mut request = self.agent.get(format!("{}/schemas/ids/{id}", self.url));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let mut answer = request.call().map_err(|e| self.unreachable(e))?;
        let body = answer.body_mut().read_to_string().map_err(|e| self.unreachable(e))?;
        match answer.status().as_u16() {
            200 => serde_json::from_str::<Stored>(&body).map(|s| s.schema).map_err(|e| self.unreachable(e)),
            404 => Err(RegistryError::UnknownId(id)),
            status => Err(self.unreachable(format!("fetch schema {id}: HTTP {status}: {body}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead, BufReader, Read, Write},
        net::TcpListener,
    };

    /// Answers each request by `answer(method and path, body)`, and tells what was asked.
    fn registry(answer: fn(&str, &str) -> (u16, String)) -> (RegistryConfig, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.unwrap());
                let mut lines = Vec::new();
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
                        break;
                    }
                    lines.push(line.trim().to_owned());
                }
                let Some(first) = lines.first().and_then(|l| l.strip_suffix(" HTTP/1.1")) else { continue };
                let length = lines.iter().find_map(|l| l.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                reader.read_exact(&mut body).unwrap();
                log.lock().unwrap().push(first.to_owned());
                let (status, text) = answer(first, std::str::from_utf8(&body).unwrap());
                let head =
                    format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", text.len());
                reader.get_mut().write_all((head + &text).as_bytes()).unwrap();
            }
        });
        (RegistryConfig { url, ..RegistryConfig::default() }, asked)
    }

    fn topic(subject: Subject) -> Option<String> {
        Some(format!("shop-{subject:?}").to_lowercase())
    }

    #[test]
    fn schemas_are_registered_by_topic_and_unknown_ids_are_fetched_once() {
        let (config, asked) = registry(|request, body| match request {
            "POST /subjects/shop-events-value/versions" => {
                assert!(body.contains("sluice.commerce"), "{body}");
                (200, r#"{"id": 70}"#.to_owned())
            }
            "GET /schemas/ids/71" => (200, r#"{"schema": "\"string\""}"#.to_owned()),
            "GET /schemas/ids/72" => (404, r#"{"error_code": 40403}"#.to_owned()),
            "GET /schemas/ids/73" => (500, "down".to_owned()),
            _ => (200, r#"{"id": 7}"#.to_owned()),
        });
        let schemas = Schemas::open(&config, topic).unwrap();
        assert_eq!(schemas.subject(Subject::Events).id, 70);
        for _ in 0..2 {
            assert_eq!(&*schemas.by_id(71).unwrap(), "\"string\"");
            assert!(schemas.by_id(70).unwrap().contains("sluice.commerce"));
        }
        assert!(matches!(schemas.by_id(72), Err(RegistryError::UnknownId(72))));
        assert!(
            matches!(schemas.by_id(73), Err(RegistryError::Unreachable { .. })),
            "an error of the registry is no answer"
        );
        let asked = asked.lock().unwrap();
        assert_eq!(asked.iter().filter(|r| *r == "GET /schemas/ids/71").count(), 1, "{asked:?}");
        assert_eq!(asked.iter().filter(|r| r.starts_with("POST")).count(), 5, "{asked:?}");
    }

    #[test]
    fn a_topic_that_is_not_avro_has_no_schema_at_the_registry() {
        let (config, asked) = registry(|_, _| (200, r#"{"id": 7}"#.to_owned()));
        Schemas::open(&config, |subject| topic(subject).filter(|_| subject != Subject::Events)).unwrap();
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 4, "{asked:?}");
        assert!(!asked.iter().any(|r| r.contains("shop-events")), "{asked:?}");
    }

    #[test]
    fn a_schema_that_the_registry_refuses_is_explained() {
        let (config, _) = registry(|_, _| (409, r#"{"message": "READER_FIELD_MISSING_DEFAULT_VALUE"}"#.to_owned()));
        let error = Schemas::open(&config, topic).err().unwrap().to_string();
        for part in ["shop-", "compatibility", "READER_FIELD_MISSING_DEFAULT_VALUE", "schemas/"] {
            assert!(error.contains(part), "{error}");
        }
        let nobody = RegistryConfig { url: "http://127.0.0.1:9".to_owned(), ..RegistryConfig::default() };
        assert!(matches!(Schemas::open(&nobody, topic), Err(RegistryError::Unreachable { .. })));
    }
}
