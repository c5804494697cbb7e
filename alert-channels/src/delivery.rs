//! One attempt: a POST, and what came back.

use crate::{
    receivers::Receiver,
    request::{Channel, Request},
    secret::Address,
};
use std::{
    io::{self, Read},
    time::Duration,
};

/// Bytes of an answer that are looked at.
const ANSWER_MAX: u64 = 300;

/// Sends to one receiver.
pub(crate) struct Post {
    agent: ureq::Agent,
    address: Address,
    secret: Option<String>,
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// An HTTP answer.
    Status {
        status: u16,
        retry_after: Option<String>,
        /// Its first words, when they are not about a secret.
        words: String,
    },
    /// None. The text is ours: what a library says may have the URL in it.
    Nothing(String),
}

impl Post {
    /// Sends nothing yet.
    pub fn to(receiver: &Receiver) -> Self {
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A redirect is an answer to be told of, not an address to send secrets to.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Alerts are rare: a connection kept open is one that was closed meanwhile, and a failed attempt.
            .max_idle_connections(0)
            .user_agent(concat!("sluice/", env!("CARGO_PKG_VERSION")));
        if receiver.address.is_loopback() {
            config = config.proxy(None);
        }
        let secret = match &receiver.channel {
            Channel::Webhook { secret } => secret.as_ref().map(|secret| secret.reveal().to_owned()),
            Channel::Slack | Channel::Alertmanager { .. } => None,
        };
        Self { agent: config.build().into(), address: receiver.address.clone(), secret }
    }

    /// Sends, and waits for the answer no longer than `timeout`, all in all.
    pub fn send(&self, request: &Request, timeout: Duration) -> Answer {
        let mut post = self.agent.post(self.address.reveal()).content_type("application/json");
        for (name, value) in &request.headers {
            post = post.header(*name, value);
        }
        let post = post.config().timeout_global(Some(timeout)).build();
        match post.send(request.body.as_slice()) {
            Ok(mut answer) => {
                let status = answer.status().as_u16();
                let retry_after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
                let retry_after = retry_after.map(str::to_owned);
                let words = if answer.status().is_success() { String::new() } else { self.words(answer.body_mut()) };
                Answer::Status { status, retry_after, words }
            }
            Err(error) => Answer::Nothing(in_words(&error)),
        }
    }

    /// The start of an answer, on one line. A receiver may quote what it was asked for, and that is not shown.
    fn words(&self, body: &mut ureq::Body) -> String {
        let mut bytes = Vec::new();
        // Half an answer says something too.
        let _ = body.as_reader().take(ANSWER_MAX).read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let is_about_secret =
            self.address.may_be_in(&text) || self.secret.as_ref().is_some_and(|s| text.contains(s.as_str()));
        if is_about_secret { String::new() } else { text.split_whitespace().collect::<Vec<_>>().join(" ") }
    }
}

fn in_words(error: &ureq::Error) -> String {
    let text = match error {
        ureq::Error::Timeout(_) => "no answer in time",
        ureq::Error::HostNotFound => "the host's name is not known",
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => "the connection is refused",
        ureq::Error::Io(error) => return format!("the connection failed: {}", error.kind()),
        ureq::Error::ConnectionFailed => "the connection failed",
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => "TLS failed: look at the receiver's certificate",
        ureq::Error::InvalidProxyUrl | ureq::Error::ConnectProxyFailed(_) => "the proxy failed",
        ureq::Error::Protocol(_) => "the answer is not HTTP",
        _ => "the request failed",
    };
    text.to_owned()
}
