//! Where a person goes from a message.

use url::Url;

/// Makes links to an alert, when it is known where people reach sluice.
#[derive(Clone, Debug)]
pub(crate) struct Links(Option<Url>);

impl Links {
    /// Below this URL; an empty one makes no links.
    pub fn below(external_url: &str) -> Result<Self, &'static str> {
        if external_url.trim().is_empty() {
            return Ok(Self(None));
        }
        let url = Url::parse(external_url.trim()).map_err(|_| "is no URL: give https://host, or leave it empty")?;
        if !["http", "https"].contains(&url.scheme()) || url.host_str().is_none_or(str::is_empty) {
            return Err("is no http:// or https:// URL");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("has a password in it, and is in every message: leave it out");
        }
        Ok(Self(Some(url)))
    }

    /// The page of an alert.
    pub fn page(&self, id: &str) -> Option<String> {
        self.to(&["alerts", id])
    }

    /// The chart of an alert.
    pub fn chart(&self, id: &str) -> Option<String> {
        self.to(&["api", "v1", "alerts", id, "chart.svg"])
    }

    fn to(&self, path: &[&str]) -> Option<String> {
        let mut url = self.0.clone()?;
        url.set_query(None);
        url.set_fragment(None);
        url.path_segments_mut().ok()?.pop_if_empty().extend(path);
        Some(url.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_below_the_external_url_and_an_id_is_one_step() {
        let links = Links::below("https://shop.example.com/sluice/").unwrap();
        assert_eq!(links.page("a/b?c").unwrap(), "https://shop.example.com/sluice/alerts/a%2Fb%3Fc");
        assert_eq!(links.chart("1").unwrap(), "https://shop.example.com/sluice/api/v1/alerts/1/chart.svg");
        assert_eq!(Links::below("").unwrap().page("1"), None);
        assert!(Links::below("https://me:pass@shop.example.com").is_err());
    }
}
