//! Settings that were looked through: every receiver has an address, and its secrets are read.

use crate::{AlertsConfig, Kind, ReceiverConfig, Secret, links::Links, request::Channel, secret::Address};
use sluice_events::Severity;
use std::{collections::BTreeSet, io, path::PathBuf, time::Duration};

/// How often an Alertmanager is told that an alert goes on, when nothing is said.
const RESEND_INTERVAL: Duration = Duration::from_secs(60);

/// Why the settings of receivers cannot be used. No variant has a secret in it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A key says something that cannot be, or is missing.
    #[error("{key}: {problem}")]
    Wrong {
        /// The key.
        key: String,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A file that holds a secret cannot be read.
    #[error("{key}: read the file that it names: {source}")]
    Unreadable {
        /// The key that names the file.
        key: String,
        /// What happened.
        source: io::Error,
    },
    /// An environment variable that holds a secret is not set. Its name is not told: it may be the secret, by mistake.
    #[error("{key}: the environment variable that it names is not set")]
    NoVariable {
        /// The key that names the variable.
        key: String,
    },
}

/// Everybody who is told, ready to be told: settings checked, secrets read.
#[derive(Clone, Debug)]
pub struct Receivers {
    pub(crate) receivers: Vec<Receiver>,
    pub(crate) links: Links,
}

/// One of them.
#[derive(Clone, Debug)]
pub(crate) struct Receiver {
    pub name: String,
    pub kind: Kind,
    pub address: Address,
    pub channel: Channel,
    pub min_severity: Severity,
    pub models: BTreeSet<String>,
    pub timeout: Duration,
    pub retries: u32,
    pub backoff: Duration,
    pub queue: usize,
}

impl AlertsConfig {
    /// Looks for what is wrong in the text alone: reads no file and no variable.
    ///
    /// # Errors
    /// Names the first key that cannot be used, and says what to do.
    pub fn check(&self) -> Result<(), ConfigError> {
        Links::below(&self.external_url).map_err(|problem| wrong("alerts.external_url".to_owned(), problem))?;
        self.receivers.iter().try_for_each(|(name, config)| check(name, config))
    }

    /// Reads the secrets. `variable` is the environment.
    ///
    /// # Errors
    /// As [`AlertsConfig::check`], and when a secret cannot be read.
    pub fn open(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Receivers, ConfigError> {
        self.check()?;
        let links =
            Links::below(&self.external_url).map_err(|problem| wrong("alerts.external_url".to_owned(), problem))?;
        let receivers =
            self.receivers.iter().map(|(name, config)| open(name, config, &variable)).collect::<Result<_, _>>()?;
        Ok(Receivers { receivers, links })
    }
}

impl Receivers {
    /// Whether nobody is told.
    pub fn is_empty(&self) -> bool {
        self.receivers.is_empty()
    }
}

/// A secret, as three keys may say it.
struct Place<'a> {
    key: String,
    text: Option<&'a Secret>,
    file: Option<&'a PathBuf>,
    variable: Option<&'a str>,
}

impl<'a> Place<'a> {
    fn url(name: &str, config: &'a ReceiverConfig) -> Self {
        let (text, file, variable) = (config.url.as_ref(), config.url_file.as_ref(), config.url_env.as_deref());
        Self { key: key(name, "url"), text, file, variable }
    }

    fn secret(name: &str, config: &'a ReceiverConfig) -> Self {
        let (text, file, variable) =
            (config.secret.as_ref(), config.secret_file.as_ref(), config.secret_env.as_deref());
        Self { key: key(name, "secret"), text, file, variable }
    }

    fn count(&self) -> usize {
        usize::from(self.text.is_some()) + usize::from(self.file.is_some()) + usize::from(self.variable.is_some())
    }

    /// How the keys are used, whatever stands behind them.
    fn check(&self) -> Result<(), ConfigError> {
        if self.count() > 1 {
            let Self { key, .. } = self;
            return Err(wrong(key.clone(), format!("give one of {key}, {key}_file and {key}_env")));
        }
        let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !name.is_empty();
        if self.variable.is_some_and(|name| !is_name(name)) {
            return Err(wrong(
                format!("{}_env", self.key),
                "give the name of an environment variable, not what it holds",
            ));
        }
        if self.text.is_some_and(|text| text.reveal().trim().is_empty()) {
            return Err(wrong(self.key.clone(), "is empty"));
        }
        Ok(())
    }

    /// What it holds, and the key that said so.
    fn read(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Option<(String, Secret)>, ConfigError> {
        let (key, text) = if let Some(text) = self.text {
            (self.key.clone(), text.reveal().to_owned())
        } else if let Some(file) = self.file {
            let key = format!("{}_file", self.key);
            match std::fs::read_to_string(file) {
                Ok(text) => (key, text),
                Err(source) => return Err(ConfigError::Unreadable { key, source }),
            }
        } else if let Some(name) = self.variable {
            let key = format!("{}_env", self.key);
            match variable(name) {
                Some(text) => (key, text),
                None => return Err(ConfigError::NoVariable { key }),
            }
        } else {
            return Ok(None);
        };
        match text.trim() {
            "" => Err(wrong(key, "what it names is empty")),
            text => Ok(Some((key, Secret::new(text)))),
        }
    }
}

fn check(name: &str, config: &ReceiverConfig) -> Result<(), ConfigError> {
    // A name is a thread's, and a label of metrics.
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        let problem = format!("'{}' is no name: letters, digits, _ and - only", name.escape_debug());
        return Err(wrong("alerts.receivers".to_owned(), problem));
    }
    let (url, secret) = (Place::url(name, config), Place::secret(name, config));
    if url.count() == 0 {
        return Err(wrong(url.key, "is missing: give url, url_file or url_env"));
    }
    url.check()?;
    secret.check()?;
    if let Some(text) = &config.url {
        Address::parse(text.reveal()).map_err(|problem| wrong(key(name, "url"), problem))?;
    }
    if config.kind != Kind::Webhook && secret.count() > 0 {
        let problem = format!("only a webhook is signed, and kind is {}: leave it out", config.kind.name());
        return Err(wrong(secret.key, problem));
    }
    if config.kind != Kind::Alertmanager && config.resend_interval.is_some() {
        let problem = format!("only an alertmanager is told again, and kind is {}: leave it out", config.kind.name());
        return Err(wrong(key(name, "resend_interval"), problem));
    }
    for (part, is_nothing) in [
        ("timeout", config.timeout.is_zero()),
        ("backoff", config.backoff.is_zero()),
        ("queue", config.queue == 0),
        ("resend_interval", config.resend_interval.is_some_and(|interval| interval.is_zero())),
    ] {
        if is_nothing {
            return Err(wrong(key(name, part), "must be above 0"));
        }
    }
    Ok(())
}

fn open(
    name: &str,
    config: &ReceiverConfig,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Receiver, ConfigError> {
    let missing = || wrong(key(name, "url"), "is missing: give url, url_file or url_env");
    let (url_key, url) = Place::url(name, config).read(&variable)?.ok_or_else(missing)?;
    let address = Address::parse(url.reveal()).map_err(|problem| wrong(url_key, format!("what it says {problem}")))?;
    let secret = Place::secret(name, config).read(&variable)?.map(|(_, secret)| secret);
    let (channel, address) = match config.kind {
        Kind::Webhook => (Channel::Webhook { secret }, address),
        Kind::Slack => (Channel::Slack, address),
        Kind::Alertmanager => {
            let resend_interval = config.resend_interval.unwrap_or(RESEND_INTERVAL);
            (Channel::Alertmanager { resend_interval }, address.below("/api/v2/alerts"))
        }
    };
    Ok(Receiver {
        name: name.to_owned(),
        kind: config.kind,
        address,
        channel,
        min_severity: config.min_severity,
        models: config.models.iter().cloned().collect(),
        timeout: config.timeout,
        retries: config.retries,
        backoff: config.backoff,
        queue: config.queue,
    })
}

fn key(name: &str, part: &str) -> String {
    format!("alerts.receivers.{name}.{part}")
}

fn wrong(key: String, problem: impl Into<String>) -> ConfigError {
    ConfigError::Wrong { key, problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<AlertsConfig, toml::de::Error> {
        toml::from_str(text)
    }

    fn error_of(receiver: &str) -> String {
        let config = match read(&format!("[receivers.team]\n{receiver}")) {
            Ok(config) => config,
            Err(error) => return error.message().to_owned(),
        };
        let environment = |name: &str| (name == "EMPTY").then(String::new);
        let error = config.open(environment).expect_err("these settings are wrong");
        format!("{error} {error:?}")
    }

    #[test]
    fn a_receiver_of_two_lines_has_defaults_for_the_rest() {
        let config = read("[receivers.team]\nkind = 'alertmanager'\nurl = 'http://alertmanager:9093'").unwrap();
        let receivers = config.open(|_| None).unwrap();
        let receiver = &receivers.receivers[0];
        assert_eq!(receiver.address.reveal(), "http://alertmanager:9093/api/v2/alerts");
        assert_eq!((receiver.queue, receiver.retries, receiver.timeout), (1000, 8, Duration::from_secs(10)));
        assert_eq!(receiver.min_severity, Severity::Info);
        assert!(
            matches!(receiver.channel, Channel::Alertmanager { resend_interval } if resend_interval == RESEND_INTERVAL)
        );
        assert!(read("").unwrap().open(|_| None).unwrap().is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_key_and_what_to_do() {
        for (receiver, named) in [
            ("kind = 'webhook'", "alerts.receivers.team.url: is missing: give url, url_file or url_env"),
            ("kind = 'mail'\nurl = 'http://x'", "unknown variant `mail`"),
            ("kind = 'slack'\nurl = 'http://x'\nretry = 3", "unknown field `retry`"),
            ("kind = 'slack'\nurl = 'hooks.slack.com/x'", "alerts.receivers.team.url: is no URL"),
            ("kind = 'slack'\nurl = 'x'\nurl_env = 'X'", "team.url: give one of alerts.receivers.team.url, "),
            ("kind = 'slack'\nurl_env = 'HOOK'", "team.url_env: the environment variable that it names is not set"),
            ("kind = 'slack'\nurl_env = 'EMPTY'", "team.url_env: what it names is empty"),
            ("kind = 'slack'\nurl_file = 'no/such/file'", "team.url_file: read the file that it names: "),
            ("kind = 'slack'\nurl = 'http://x'\nsecret = 'y'", "team.secret: only a webhook is signed"),
            ("kind = 'slack'\nurl = 'http://x'\nresend_interval = '1m'", "team.resend_interval: only an alertmanager"),
            ("kind = 'slack'\nurl = 'http://x'\nqueue = 0", "team.queue: must be above 0"),
            ("kind = 'slack'\nurl = 'http://x'\ntimeout = '0s'", "team.timeout: must be above 0"),
            ("kind = 'slack'\nurl = 'http://x'\nmin_severity = 'high'", "unknown variant `high`"),
        ] {
            let error = error_of(receiver);
            assert!(error.contains(named), "{receiver}: {error}");
        }
        let config = read("[receivers.'a b']\nkind = 'slack'\nurl = 'http://x'").unwrap();
        assert!(config.check().unwrap_err().to_string().contains("'a b' is no name"));
        let error = read("external_url = 'sluice.example.com'").unwrap().check().unwrap_err();
        assert!(error.to_string().starts_with("alerts.external_url: is no URL"), "{error}");
    }

    #[test]
    fn secrets_come_from_files_and_variables_and_are_in_no_message() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cr3t-of-file\n").unwrap();
        let text = format!(
            "[receivers.team]\nkind = 'webhook'\nurl_env = 'HOOK'\nsecret_file = '{}'\n\
             [receivers.other]\nkind = 'slack'\nurl = 'https://hooks.example.com/s3cr3t-of-text'",
            file.path().display()
        );
        let config = read(&text).unwrap();
        let receivers = config.open(|_| Some(" https://user:s3cr3t@example.com/s3cr3t-of-env ".to_owned())).unwrap();
        assert!(matches!(&receivers.receivers[1].channel,
            Channel::Webhook { secret: Some(secret) } if secret.reveal() == "s3cr3t-of-file"));
        assert_eq!(receivers.receivers[1].address.reveal(), "https://user:s3cr3t@example.com/s3cr3t-of-env");
        let shown = format!("{config:?} {receivers:?}");
        assert!(shown.contains("https://example.com") && !shown.contains("s3cr3t"), "{shown}");
        for mistake in [
            "kind = 'slack'\nurl = 's3cr3t'",
            "kind = 'slack'\nurl_env = 's3cr3t'",
            "kind = 'slack'\nurl_env = 'https://hooks.example.com/s3cr3t'",
            "kind = 'slack'\nurl_file = 'https://hooks.example.com/s3cr3t'",
            "kind = 'slack'\nurl = 'http://x'\nsecret = 's3cr3t'",
            "kind = 'webhook'\nurl = 'http://x'\nsecret = 's3cr3t'\nsecret_env = 's3cr3t'",
        ] {
            let error = error_of(mistake);
            assert!(!error.contains("s3cr3t"), "{error}");
        }
    }
}
