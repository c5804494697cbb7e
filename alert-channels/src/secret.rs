//! What must not be shown: passwords, and addresses that have one in them.

use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};
use std::fmt;
use url::Url;

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a text as it is.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: for the one place that needs it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Not derived: what serde says of a value of a wrong type has the value in it.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text in quotes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::new(text))
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
                Err(wrong_type())
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
                Err(wrong_type())
            }

            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
                Err(wrong_type())
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
                Err(wrong_type())
            }
        }

        fn wrong_type<E: de::Error>() -> E {
            E::custom("a secret is a text in quotes")
        }

        deserializer.deserialize_str(Text)
    }
}

/// Where a receiver is. Only scheme, host and port are ever shown: the rest may be a password, as in Slack's webhooks.
#[derive(Clone)]
pub(crate) struct Address(Url);

impl Address {
    /// Reads an `http://` or `https://` URL; otherwise says what is wrong, without the text.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Url::parse(text.trim()).map_err(|_| "is no URL: give http://host/path or https://host/path")?;
        if !["http", "https"].contains(&url.scheme()) || url.host_str().is_none_or(str::is_empty) {
            return Err("is no http:// or https:// URL");
        }
        Ok(Self(url))
    }

    /// All of it: for the request alone.
    pub fn reveal(&self) -> &str {
        self.0.as_str()
    }

    /// The same with a path appended, unless it ends with it already.
    pub fn below(mut self, path: &str) -> Self {
        let own = self.0.path().trim_end_matches('/').to_owned();
        if !own.ends_with(path) {
            self.0.set_path(&format!("{own}{path}"));
        }
        self
    }

    /// Whether it is on this machine, where no proxy has a say.
    pub fn is_loopback(&self) -> bool {
        match self.0.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        }
    }

    /// Whether a text that came from outside may have a part of it that is not for showing. With a password it always may:
    /// a receiver knows it in other spellings.
    pub fn may_be_in(&self, text: &str) -> bool {
        let mut parts = self.0.path_segments().into_iter().flatten().chain(self.0.query());
        self.0.password().is_some() || parts.any(|part| part.len() >= 4 && text.contains(part))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        self.0.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_shows_scheme_host_and_port_only() {
        let address =
            Address::parse("https://user:pass@hooks.example.com:8443/services/T0/B0/s3cr3t?token=abcd").unwrap();
        assert_eq!(format!("{address} {address:?}"), "https://hooks.example.com:8443 https://hooks.example.com:8443");
        assert!(address.may_be_in("dXNlcjpwYXNz"), "it has a password");
        let address = Address::parse("https://hooks.example.com/services/T0/B0/s3cr3t?token=abcd").unwrap();
        assert!(address.may_be_in("no route for /services/T0/B0/s3cr3t") && address.may_be_in("what is token=abcd"));
        assert!(!address.may_be_in("invalid_payload"));
        for wrong in ["hooks.example.com/s3cr3t", "ftp://example.com/s3cr3t", "http://", "s3cr3t"] {
            assert!(!Address::parse(wrong).unwrap_err().contains("s3cr3t"));
        }
    }

    #[test]
    fn a_path_is_appended_once() {
        let full = |text: &str| Address::parse(text).unwrap().below("/api/v2/alerts").reveal().to_owned();
        assert_eq!(full("http://am:9093"), "http://am:9093/api/v2/alerts");
        assert_eq!(full("http://am:9093/prefix/"), "http://am:9093/prefix/api/v2/alerts");
        assert_eq!(full("http://am:9093/api/v2/alerts"), "http://am:9093/api/v2/alerts");
    }

    #[test]
    fn a_secret_shows_nothing_and_a_number_is_refused_without_showing_it() {
        assert_eq!(format!("{:?}", Secret::new("s3cr3t")), "***");
        #[derive(Debug, Deserialize)]
        struct Settings {
            #[allow(dead_code, reason = "only its reading is looked at")]
            secret: Secret,
        }
        assert!(toml::from_str::<Settings>("secret = 'x'").is_ok());
        for wrong in ["424242", "4242.42", "true"] {
            let error = toml::from_str::<Settings>(&format!("secret = {wrong}")).unwrap_err();
            assert!(error.message().contains("a text in quotes") && !error.message().contains(wrong), "{error}");
        }
    }
}
