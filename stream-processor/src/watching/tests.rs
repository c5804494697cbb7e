//! A watched model from outside: windows in, alerts out.

use super::{KnownTimes, Seen, Watcher};
use crate::{Header, HistoryWatch, LiveModel, merger::Rows};
use sluice_events::{AlertState, Measure, OffsetSpan, Resolution, Severity};
use std::collections::BTreeMap;

const MINUTE: i64 = 60_000;

fn model(detect: &str) -> LiveModel {
    let text = format!(
        "-- title: Orders\n-- detect: {detect}\nSELECT country, device, count(*) AS orders, \
         sum(coalesce(quantity * unit_price, 0)) AS revenue FROM events \
         GROUP BY tumble(event_time, INTERVAL '1 minute'), country, device"
    );
    LiveModel::compile("orders", &text, &[]).unwrap()
}

/// Orders of each group in a window; revenue is ten for each.
fn rows(orders: &[(&str, &str, i64)]) -> Rows {
    let row = |(country, device, orders): &(&str, &str, i64)| {
        let group: BTreeMap<String, Option<String>> =
            [("country", *country), ("device", *device)].map(|(k, v)| (k.to_owned(), Some(v.to_owned()))).into();
        let measures = [
            ("orders".to_owned(), Measure::Long(*orders)),
            ("revenue".to_owned(), Measure::Text(format!("{}.0000", orders * 10))),
        ];
        (format!("{country}|{device}"), (group, measures.into()))
    };
    orders.iter().map(row).collect()
}

/// A shop that is watched, minute by minute.
struct Shop {
    watcher: Watcher,
    minute: i64,
}

impl Shop {
    fn new(detect: &str) -> Self {
        let mut shop = Self { watcher: Watcher::new(&model(detect)), minute: 0 };
        for _ in 0..90 {
            let told = shop.minute(&shop.usual());
            assert!(told.is_empty(), "minute {}: {told:?}", shop.minute);
        }
        shop
    }

    /// Not the same each minute, and not far from it.
    fn usual(&self) -> Vec<(&'static str, &'static str, i64)> {
        let wave = [0, 3, -2, 4, -3, 1, -1][self.minute as usize % 7];
        vec![("FR", "app", 100 + wave), ("FR", "web", 80 - wave), ("DE", "app", 90 + wave), ("DE", "web", 70 + wave)]
    }

    fn minute(&mut self, orders: &[(&str, &str, i64)]) -> Vec<super::AlertUpdate> {
        let start = self.minute * MINUTE;
        self.minute += 1;
        let origin = |since: i64| vec![OffsetSpan { partition: 0, from: since / MINUTE, upto: start / MINUTE + 1 }];
        let seen = Seen { start, end: start + MINUTE, slide: MINUTE, rows: &rows(orders), origin: &origin };
        self.watcher.judge("orders", &seen).alerts
    }

    /// The same with only what is news.
    fn news(&mut self, orders: &[(&str, &str, i64)]) -> Vec<super::AlertUpdate> {
        self.minute(orders).into_iter().filter(|update| update.is_news).collect()
    }
}

fn without(orders: Vec<(&'static str, &'static str, i64)>, country: &str) -> Vec<(&'static str, &'static str, i64)> {
    orders.into_iter().map(|(c, d, n)| (c, d, if c == country { 0 } else { n })).collect()
}

#[test]
fn an_outage_of_a_country_is_one_alert_that_names_it_and_ends_with_it() {
    let mut shop = Shop::new("measure=orders, direction=down, money=revenue, stake=100000, severity=warning");
    let down = without(shop.usual(), "FR");
    let news = shop.news(&down);
    let told: Vec<_> = news.iter().filter(|u| u.alert.state == AlertState::Firing).collect();
    assert_eq!(told.len(), 1, "{news:#?}");
    let alert = &told[0].alert;
    assert_eq!(alert.group, [("country".to_owned(), Some("FR".to_owned()))].into());
    assert!(alert.observed < alert.lower && alert.lower < alert.expected, "{alert:?}");
    assert!(alert.score >= alert.threshold && alert.false_alarms_per_year < 0.5 && alert.z_score < -4.0, "{alert:?}");
    assert_eq!(alert.origin, [OffsetSpan { partition: 0, from: alert.since.get() / MINUTE, upto: shop.minute }]);
    let stake: f64 = alert.money_at_stake.as_deref().unwrap().parse().unwrap();
    assert!((1_000.0..4_000.0).contains(&stake), "some 180 orders of ten: {stake}");
    assert_eq!(alert.severity, Severity::Warning, "grave by its score, and little by its money");
    let explained = news.iter().filter(|u| u.alert.state == AlertState::Suppressed);
    assert!(explained.clone().all(|u| u.alert.parent.as_deref() == Some(&*alert.id)), "{news:#?}");

    let (id, mut ended) = (alert.id.clone(), None);
    assert!(shop.news(&down).iter().all(|u| u.alert.state != AlertState::Firing || u.alert.id == id), "told once");
    for _ in 0..30 {
        let usual = shop.usual();
        let news = shop.news(&usual);
        assert!(news.iter().all(|u| u.alert.state == AlertState::Resolved), "{news:#?}");
        ended = ended.or(news.into_iter().find(|u| u.alert.id == id).map(|u| u.alert));
    }
    let ended = ended.expect("it ends");
    assert_eq!(ended.resolution, Some(Resolution::Recovered));
    assert!(ended.last_window.get() <= ended.first_window.get() + 10 * MINUTE, "soon after the outage: {ended:?}");
}

#[test]
fn what_late_events_explain_is_taken_back() {
    let mut shop = Shop::new("measure=orders, method=zscore, direction=down, rollups=no");
    let usual = shop.usual();
    let start = shop.minute * MINUTE;
    let news = shop.news(&without(usual.clone(), "DE"));
    assert_eq!(news.len(), 2, "DE by app and by web: {news:#?}");
    // Half of them come: still too low.
    let half: Vec<_> = usual.iter().map(|(c, d, n)| (*c, *d, if *c == "DE" { n / 2 } else { *n })).collect();
    let told = shop.watcher.correct(start, start + MINUTE, &rows(&half));
    assert!(told.iter().all(|u| u.alert.state == AlertState::Firing && u.alert.observed > 0.0), "{told:#?}");
    let told = shop.watcher.correct(start, start + MINUTE, &rows(&usual));
    assert_eq!(told.len(), 2);
    for update in told {
        assert!(update.is_news);
        assert_eq!(update.alert.state, AlertState::Resolved);
        assert_eq!(update.alert.resolution, Some(Resolution::Corrected));
    }
    shop.watcher.sealed(start);
    assert!(shop.watcher.correct(start, start + MINUTE, &rows(&[])).is_empty(), "what is sealed changes no more");
}

#[test]
fn what_an_ended_alert_explained_is_no_news() {
    let mut shop = Shop::new("measure=orders, method=zscore, direction=down, rollups=no");
    let down: Vec<_> = shop.usual().into_iter().map(|(country, device, _)| (country, device, 0)).collect();
    let news = shop.news(&down);
    let told: Vec<_> = news.iter().filter(|u| u.alert.state == AlertState::Firing).collect();
    assert_eq!((told.len(), news.len()), (1, 4), "four series at once are one thing: {news:#?}");
    let main = told[0].alert.clone();
    let is_main = |country: &str, device: &str| {
        main.group["country"].as_deref() == Some(country) && main.group["device"].as_deref() == Some(device)
    };
    for minute in 0..5 {
        let usual = shop.usual().into_iter();
        let half: Vec<_> = usual.map(|(c, d, n)| (c, d, if is_main(c, d) { n } else { 0 })).collect();
        let news = shop.news(&half);
        assert!(news.iter().all(|u| u.alert.id == main.id), "minute {minute}: {news:#?}");
    }
}

#[test]
fn a_series_that_flaps_is_one_alert() {
    let mut shop = Shop::new("measure=orders, method=zscore, direction=down, rollups=no, group.device=app");
    let mut ids = std::collections::BTreeSet::new();
    let (mut begun, mut ended, mut episodes) = (0, 0, 0);
    for minute in 0..40 {
        let orders = if minute % 8 < 2 { without(shop.usual(), "FR") } else { shop.usual() };
        for update in shop.news(&orders) {
            ids.insert(update.alert.id.clone());
            begun += i32::from(update.alert.state == AlertState::Firing);
            ended += i32::from(update.alert.state == AlertState::Resolved);
            episodes = episodes.max(update.alert.episodes);
        }
    }
    assert_eq!(ids.len(), 1, "one alert");
    assert!(begun <= 3 && ended <= 3, "it rings less and less: {begun} times begun, {ended} ended");
    assert!(episodes >= 2);
}

#[test]
fn what_turns_round_is_another_alert() {
    let mut shop = Shop::new("measure=orders, method=zscore, direction=both, rollups=no");
    let flood: Vec<_> =
        shop.usual().into_iter().map(|(country, device, orders)| (country, device, orders * 5)).collect();
    let flooded: Vec<_> = shop.news(&flood).into_iter().map(|update| update.alert).collect();
    assert_eq!(flooded.len(), 4, "{flooded:#?}");
    for _ in 0..10 {
        shop.minute(&shop.usual());
    }
    let down = without(shop.usual(), "DE");
    let news = shop.news(&down);
    assert_eq!(news.len(), 2, "{news:#?}");
    for update in news {
        assert_eq!((update.alert.state, &update.alert.parent), (AlertState::Firing, &None), "{update:#?}");
        assert!(update.alert.z_score < 0.0 && flooded.iter().all(|flood| flood.id != update.alert.id), "{update:#?}");
    }
}

#[test]
fn a_watcher_goes_on_from_a_checkpoint_as_if_nothing_had_been() {
    let detect = "measure=orders revenue/orders, direction=both, money=revenue";
    let model = model(detect);
    let mut shop = Shop::new(detect);
    let mut other = Shop { watcher: Watcher::restored(&model, shop.watcher.save()), minute: shop.minute };
    for minute in 0..30 {
        let orders = if (5..12).contains(&minute) { without(shop.usual(), "FR") } else { shop.usual() };
        if minute % 4 == 0 {
            let saved = crate::encode_checkpoint(&other.watcher.save()).unwrap();
            other.watcher = Watcher::restored(&model, crate::decode_checkpoint(&saved).unwrap());
        }
        assert_eq!(shop.minute(&orders), other.minute(&orders), "minute {minute}");
    }
}

#[test]
fn what_is_not_watched_any_more_is_closed() {
    let mut shop = Shop::new("measure=orders, direction=down");
    let down = without(shop.usual(), "FR");
    shop.minute(&down);
    let open = shop.watcher.firing().count();
    let closed = shop.watcher.close();
    assert!(open > 0 && closed.len() >= open);
    assert!(closed.iter().all(|u| u.alert.resolution == Some(Resolution::Unwatched) && u.is_news));
}

#[test]
fn history_is_judged_with_other_settings() {
    let model = model("measure=orders, method=zscore, direction=down, threshold=4");
    let header = Header::parse_with(&model.sql, "threshold=1000").unwrap();
    assert_eq!(header.detect[0].threshold, 1000.0);
    assert!(HistoryWatch::new(&model, &header, &KnownTimes::default()).is_ok());
    let plain = Header::parse("-- title: x").unwrap();
    assert!(HistoryWatch::new(&model, &plain, &KnownTimes::default()).is_err(), "nothing is watched");
}
