//! What an alert's number is made of.

use sluice_events::Alert;

/// Columns of the model, added up, and divided by others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Formula {
    /// Columns above the line.
    pub(crate) numerator: Vec<String>,
    /// Columns below it; nothing when nothing is divided.
    pub(crate) denominator: Vec<String>,
}

impl Formula {
    /// The formula of an alert: `a / b`, `a / (b + c)`, `a + b`; its measure, where it has none.
    pub(crate) fn of(alert: &Alert) -> Self {
        let text = if alert.formula.is_empty() { &alert.measure } else { &alert.formula };
        let side = |text: &str| -> Vec<String> {
            let text = text.trim();
            let text = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')).unwrap_or(text);
            text.split('+').map(|column| column.trim().to_owned()).collect()
        };
        match text.split_once('/') {
            Some((above, below)) => Self { numerator: side(above), denominator: side(below) },
            None => Self { numerator: side(text), denominator: Vec::new() },
        }
    }

    /// Whether it divides: then it does not grow with the time it is over.
    pub(crate) fn is_quotient(&self) -> bool {
        !self.denominator.is_empty()
    }

    /// The step of the shopper's way that it measures: from where, to where.
    pub(crate) fn funnel_step(&self) -> Option<(Step, Step)> {
        match (&self.numerator[..], &self.denominator[..]) {
            ([above], [below]) => {
                let (from, to) = (Step::of(below)?, Step::of(above)?);
                (from < to).then_some((from, to))
            }
            // Carts left of carts decided.
            ([left], [a, b]) if Step::is_left(left) => {
                let other = if a == left { b } else { a };
                (Step::of(other)? == Step::Purchase).then_some((Step::Cart, Step::Purchase))
            }
            _ => None,
        }
    }
}

/// A step of a shopper's way, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    View,
    Click,
    Cart,
    Checkout,
    Purchase,
}

impl Step {
    /// The step that a column counts, by the words that models use.
    fn of(column: &str) -> Option<Self> {
        Some(match column {
            "views" | "page_views" | "sessions" | "viewed" => Self::View,
            "clicks" => Self::Click,
            "carts" | "adds" | "added" | "carted" => Self::Cart,
            "checkouts" | "checkouts_started" => Self::Checkout,
            "purchases" | "orders" | "purchased" => Self::Purchase,
            _ => return None,
        })
    }

    fn is_left(column: &str) -> bool {
        matches!(column, "abandons" | "abandoned" | "left" | "cart_abandons")
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Click => "click",
            Self::Cart => "cart",
            Self::Checkout => "checkout",
            Self::Purchase => "purchase",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Formula {
        let mut alert = crate::alert_sample::alert();
        alert.formula = text.to_owned();
        Formula::of(&alert)
    }

    #[test]
    fn a_formula_is_read_as_detect_lines_write_it() {
        let formula = |above: &[&str], below: &[&str]| Formula {
            numerator: above.iter().map(|c| (*c).to_owned()).collect(),
            denominator: below.iter().map(|c| (*c).to_owned()).collect(),
        };
        assert_eq!(read("purchases / checkouts"), formula(&["purchases"], &["checkouts"]));
        assert_eq!(read("abandons / (abandons + purchases)"), formula(&["abandons"], &["abandons", "purchases"]));
        assert_eq!(read("(a + b) / c"), formula(&["a", "b"], &["c"]));
        assert_eq!(read("a + b"), formula(&["a", "b"], &[]));
        assert_eq!(read(""), formula(&["revenue"], &[]), "the measure, where there is none");
    }

    #[test]
    fn a_step_of_the_shoppers_way_is_known_by_its_columns() {
        assert_eq!(read("purchases / checkouts").funnel_step(), Some((Step::Checkout, Step::Purchase)));
        assert_eq!(read("carts / views").funnel_step(), Some((Step::View, Step::Cart)));
        assert_eq!(read("abandons / (abandons + purchases)").funnel_step(), Some((Step::Cart, Step::Purchase)));
        for none in ["revenue / orders", "checkouts / purchases", "purchases", "a / b"] {
            assert_eq!(read(none).funnel_step(), None, "{none}");
        }
    }
}
