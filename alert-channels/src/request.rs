//! What is sent, before it is sent.

use crate::{Secret, alertmanager, links::Links, slack, telling::Notice, webhook};
use std::time::Duration;

/// The body of a POST, and its headers beside the content type, which is always `application/json`.
#[derive(Debug, PartialEq)]
pub(crate) struct Request {
    pub body: Vec<u8>,
    pub headers: Vec<(&'static str, String)>,
}

/// What a receiver understands, with the settings of just that.
#[derive(Clone, Debug)]
pub(crate) enum Channel {
    Webhook { secret: Option<Secret> },
    Slack,
    Alertmanager { resend_interval: Duration },
}

impl Channel {
    /// The request that tells a notice at `now`, in milliseconds. Made anew for each attempt: some of it is about that moment.
    pub fn request(&self, notice: &Notice, links: &Links, now: i64) -> Request {
        match self {
            Self::Webhook { secret } => webhook::request(notice, links, secret.as_ref(), now),
            Self::Slack => slack::request(notice, links),
            Self::Alertmanager { resend_interval } => {
                alertmanager::request(std::slice::from_ref(notice), links, now, *resend_interval)
            }
        }
    }

    /// How often what goes on is told again.
    pub fn resend_interval(&self) -> Option<Duration> {
        match self {
            Self::Webhook { .. } | Self::Slack => None,
            Self::Alertmanager { resend_interval } => Some(*resend_interval),
        }
    }
}
