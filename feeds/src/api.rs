//! Asking an HTTP API.

use crate::FeedConfig;
use std::{
    io::{self, Read},
    time::Duration,
};

/// An answer beyond this is none that we want.
const BODY_MAX: u64 = 4 << 20;
/// So much of what an API says of an error is told.
const WORDS_MAX: usize = 200;

/// Why there is no answer for an item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// 401 or 403: the key is not good, for any item.
    #[error("HTTP {status}, the key is refused: {words}")]
    Key {
        /// HTTP status.
        status: u16,
        /// What the API said.
        words: String,
    },
    /// 429: the API was asked too often.
    #[error("HTTP 429, asked too often: {words}")]
    TooOften {
        /// How long it wants to be left alone, when it says so.
        wait: Option<Duration>,
        /// What the API said.
        words: String,
    },
    /// Another 4xx: this item is not there, or asked for wrongly.
    #[error("HTTP {status}: {words}")]
    Item {
        /// HTTP status.
        status: u16,
        /// What the API said.
        words: String,
    },
    /// No answer in time, or one that tells of trouble there: another try may go well.
    #[error("{0}")]
    Away(String),
}

/// A feed's API.
pub struct Api {
    agent: ureq::Agent,
    url: String,
    key: String,
}

impl Api {
    /// An API as the settings say, with its key.
    pub fn new(config: &FeedConfig, key: String) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(config.timeout))
            .http_status_as_error(false)
            .build()
            .into();
        Self { agent, url: config.url.clone(), key }
    }

    /// Asks for an item; gives the body of the answer as it came.
    ///
    /// # Errors
    /// See [`ApiError`]; no text has the key.
    pub fn ask(&self, item: &str) -> Result<Vec<u8>, ApiError> {
        let url = self.url.replace("{item}", &encoded(item)).replace("{key}", &encoded(&self.key));
        let mut answer = self.agent.get(&url).call().map_err(|error| ApiError::Away(self.in_words(&error)))?;
        let status = answer.status().as_u16();
        let wait = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let mut body = Vec::new();
        let read = answer.body_mut().as_reader().take(BODY_MAX + 1).read_to_end(&mut body);
        let words = || self.without_key(&String::from_utf8_lossy(&body));
        match status {
            200..=299 if body.len() as u64 > BODY_MAX => {
                Err(ApiError::Item { status, words: format!("the answer is longer than {BODY_MAX} bytes") })
            }
            200..=299 => match read {
                Ok(_) => Ok(body),
                Err(error) => Err(ApiError::Away(format!("the answer broke off: {}", error.kind()))),
            },
            401 | 403 => Err(ApiError::Key { status, words: words() }),
            429 => Err(ApiError::TooOften { wait: wait.map(Duration::from_secs), words: words() }),
            400..=499 => Err(ApiError::Item { status, words: words() }),
            _ => Err(ApiError::Away(format!("HTTP {status}: {}", words()))),
        }
    }

    fn in_words(&self, error: &ureq::Error) -> String {
        match error {
            ureq::Error::Timeout(_) => "no answer in time".to_owned(),
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "the connection is refused".to_owned()
            }
            // Some of its texts quote the address, which has the key.
            other => self.without_key(&other.to_string()),
        }
    }

    fn without_key(&self, text: &str) -> String {
        let hidden = match self.key.is_empty() {
            true => text.to_owned(),
            false => text.replace(&self.key, "***").replace(&encoded(&self.key), "***"),
        };
        let text = hidden.split_whitespace().collect::<Vec<_>>().join(" ");
        text.chars().take(WORDS_MAX).collect()
    }
}

/// Text as a part of a query (RFC 3986): all but letters, digits and `-._~` by their bytes.
fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    text.bytes().map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_has_no_other_characters() {
        assert_eq!(encoded("São Paulo,BR&x=1"), "S%C3%A3o%20Paulo%2CBR%26x%3D1");
    }
}
