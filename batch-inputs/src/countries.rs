//! One value per country, however it is spelled.
//!
//! The value is the country's common English name, `USA` for the United States: shops' files and reports write names, and
//! `USA` is both what people write and an ISO code. Known are the codes of ISO 3166-1 (two and three letters), its
//! names, the names of several languages, and the table of [`SPELLINGS`]; case, accents, blanks and points do not matter.

use keshvar::CountryIterator;
use std::{collections::HashMap, sync::LazyLock};
use unicode_normalization::UnicodeNormalization;

/// The value of a country that is missing or that nobody knows.
pub const UNKNOWN_COUNTRY: &str = "unknown";

/// Languages whose names are known, the most widely read first: where one name means two countries, the first wins.
const LANGUAGES: [&str; 12] = ["en", "fr", "de", "es", "it", "pt", "nl", "pl", "sv", "da", "fi", "cs"];

/// Names by which a country is called, where the standard's is long or inverted.
const NAMES: [(&str, &str); 26] = [
    ("BO", "Bolivia"),
    ("BN", "Brunei"),
    ("CC", "Cocos Islands"),
    ("CD", "DR Congo"),
    ("CG", "Congo"),
    ("CZ", "Czech Republic"),
    ("FK", "Falkland Islands"),
    ("FM", "Micronesia"),
    ("GB", "United Kingdom"),
    ("IR", "Iran"),
    ("KP", "North Korea"),
    ("KR", "South Korea"),
    ("LA", "Laos"),
    ("MD", "Moldova"),
    ("MF", "Saint Martin"),
    ("PS", "Palestine"),
    ("RU", "Russia"),
    ("SX", "Sint Maarten"),
    ("SY", "Syria"),
    ("TR", "Turkey"),
    ("TW", "Taiwan"),
    ("US", "USA"),
    ("VA", "Vatican City"),
    ("VG", "British Virgin Islands"),
    ("VI", "US Virgin Islands"),
    ("VN", "Vietnam"),
];

/// Spellings that no standard has.
const SPELLINGS: [(&str, &str); 45] = [
    ("America", "US"),
    ("Etats Unis d'Amérique", "US"),
    ("Estados Unidos de América", "US"),
    ("EE.UU.", "US"),
    ("EEUU", "US"),
    ("E.U.A.", "US"),
    ("Stati Uniti", "US"),
    ("Stati Uniti d'America", "US"),
    ("UK", "GB"),
    ("Great Britain", "GB"),
    ("Britain", "GB"),
    ("England", "GB"),
    ("Scotland", "GB"),
    ("Wales", "GB"),
    ("Northern Ireland", "GB"),
    ("Grande-Bretagne", "GB"),
    ("Angleterre", "GB"),
    ("Großbritannien", "GB"),
    ("Grossbritannien", "GB"),
    ("Eire", "IE"),
    ("Republic of Ireland", "IE"),
    ("Holland", "NL"),
    ("Hollande", "NL"),
    ("Pays Bas", "NL"),
    ("EL", "GR"),
    ("Hellas", "GR"),
    ("Czechia", "CZ"),
    ("Tchéquie", "CZ"),
    ("RSA", "ZA"),
    ("Korea", "KR"),
    ("Corée", "KR"),
    ("Corea", "KR"),
    ("UAE", "AE"),
    ("EAU", "AE"),
    ("Emirates", "AE"),
    ("Russian Federation", "RU"),
    ("Turkey", "TR"),
    ("Türkiye", "TR"),
    ("Côte d'Ivoire", "CI"),
    ("Ivory Coast", "CI"),
    ("Macedonia", "MK"),
    ("Swaziland", "SZ"),
    ("Burma", "MM"),
    ("PRC", "CN"),
    ("Österreich", "AT"),
];

/// The one value for a country; none when the text names none.
pub fn country_name(text: &str) -> Option<&'static str> {
    static KNOWN: LazyLock<HashMap<String, &'static str>> = LazyLock::new(known);
    KNOWN.get(&folded(text)).copied()
}

fn known() -> HashMap<String, &'static str> {
    let countries: Vec<_> = CountryIterator::new().collect();
    let names: HashMap<String, &'static str> = countries
        .iter()
        .map(|country| {
            let code = country.alpha2().to_string();
            let own = NAMES.iter().find(|(c, _)| *c == code).map(|(_, name)| *name);
            let english = country.translations().get("en").copied();
            (code, own.or(english).unwrap_or(country.iso_short_name()))
        })
        .collect();
    let mut known = HashMap::new();
    let mut know = |spelling: &str, code: &str| {
        let spelling = folded(spelling);
        if !spelling.is_empty() {
            known.entry(spelling).or_insert(names[code]);
        }
    };
    for (spelling, code) in SPELLINGS {
        know(spelling, code);
    }
    for country in &countries {
        let code = country.alpha2().to_string();
        know(&code, &code);
        know(&country.alpha3().to_string(), &code);
        know(names[code.as_str()], &code);
        know(country.iso_short_name(), &code);
        know(country.iso_long_name(), &code);
    }
    for language in LANGUAGES {
        for country in &countries {
            if let Some(name) = country.translations().get(language) {
                know(name, &country.alpha2().to_string());
            }
        }
    }
    for country in &countries {
        for name in country.unofficial_name_list() {
            know(name, &country.alpha2().to_string());
        }
    }
    known
}

/// A name without what people write differently: case, accents, blanks, points, a leading article, `&` and `St.`. A slash
/// stays, so that `N/A` is not the code of Namibia.
fn folded(text: &str) -> String {
    let plain: String = text
        .replace('&', " and ")
        .nfkd()
        .flat_map(char::to_lowercase)
        .filter(|c| c.is_alphanumeric() || c.is_whitespace() || matches!(c, '-' | '/'))
        .collect();
    let mut words: Vec<&str> = plain.split(|c: char| c.is_whitespace() || c == '-').filter(|w| !w.is_empty()).collect();
    if words.len() > 1 && matches!(words[0], "the" | "la" | "le" | "les") {
        words.remove(0);
    }
    words.iter().map(|word| if *word == "st" && words.len() > 1 { "saint" } else { word }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_and_codes_of_one_country_are_one_value() {
        for (name, spellings) in [
            (
                "USA",
                &[
                    "USA",
                    "US",
                    "us",
                    "U.S.A.",
                    "U.S.",
                    "United States",
                    "the United States of America",
                    "Etats-Unis",
                    "États-Unis",
                    "ÉTATS UNIS",
                    "Vereinigte Staaten",
                    "Estados Unidos",
                    " usa ",
                ][..],
            ),
            (
                "United Kingdom",
                &[
                    "UK",
                    "U.K.",
                    "GB",
                    "GBR",
                    "United Kingdom",
                    "united  kingdom",
                    "Royaume-Uni",
                    "royaume uni",
                    "England",
                    "Great Britain",
                    "Vereinigtes Königreich",
                ],
            ),
            ("Germany", &["DE", "DEU", "Germany", "Allemagne", "Deutschland", "Alemania", "GERMANY"]),
            ("France", &["FR", "FRA", "france", "Frankreich", "Francia", "La France"]),
            ("Spain", &["ES", "ESP", "España", "Espana", "Espagne", "Spanien"]),
            ("Ireland", &["IE", "IRL", "EIRE", "Irlande", "Ireland"]),
            ("Netherlands", &["NL", "NLD", "The Netherlands", "Pays-Bas", "Holland", "Niederlande", "Nederland"]),
            ("Switzerland", &["CH", "Suisse", "Schweiz", "Svizzera"]),
            ("Italy", &["IT", "Italie", "Italia"]),
            ("Belgium", &["BE", "Belgique", "België", "Belgien"]),
            ("Morocco", &["MA", "Maroc", "MAR"]),
            ("Japan", &["JP", "JPN", "Japon", "日本"]),
            ("Brazil", &["BR", "Brésil", "Brasil"]),
            ("Turkey", &["TR", "Türkiye", "Turquie"]),
            ("South Korea", &["KR", "KOR", "Korea", "Corée du Sud", "South Korea"]),
            ("Russia", &["RU", "Russie", "Russian Federation"]),
            ("Austria", &["AT", "Autriche", "Österreich"]),
        ] {
            for spelling in spellings {
                assert_eq!(country_name(spelling), Some(name), "{spelling}");
            }
        }
        for text in ["", " ", "ZZ", "Atlantis", "unknown", "Unspecified", "European Community", "-", "\0", "N/A", "xx"]
        {
            assert_eq!(country_name(text), None, "{text}");
        }
    }

    #[test]
    fn every_country_has_its_own_value_and_its_codes_and_names_lead_to_it() {
        let mut values = std::collections::HashSet::new();
        for country in CountryIterator::new() {
            let value = country_name(&country.alpha2().to_string()).unwrap();
            assert!(values.insert(value), "{value}");
            assert_eq!(country_name(&country.alpha3().to_string()), Some(value));
            assert_eq!(country_name(country.iso_short_name()), Some(value));
            assert_eq!(country_name(value), Some(value));
            assert_eq!(country_name(&value.to_uppercase()), Some(value));
        }
        assert_eq!(values.len(), 249);
    }
}
