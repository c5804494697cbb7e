//! One conformance suite that every store passes.

use super::{AlertQuery, EmbeddedKpiStore, KpiQuery, KpiStore, MongoKpiStore};
use mongodb::bson::{DateTime, Document, doc};
use sluice_events::{
    Alert, AlertPart, AlertPoint, AlertState, EventTime, Kpi, KpiKey, Measure, OffsetSpan, PaneState, Resolution,
    Severity,
};
use std::collections::BTreeMap;

const MINUTE: i64 = 60_000;
const AT: EventTime = EventTime::new(1_709_287_500_000);
const FOREVER: EventTime = EventTime::LATEST;

fn group(country: Option<&str>) -> BTreeMap<String, Option<String>> {
    BTreeMap::from([("country".to_owned(), country.map(str::to_owned))])
}

fn pane(model: &str, minute: i64, country: Option<&str>, revision: (i32, i64), revenue: &str) -> Kpi {
    let (start, end) = (EventTime::new(minute * MINUTE), EventTime::new((minute + 1) * MINUTE));
    let group = group(country);
    Kpi {
        id: Kpi::id_of(model, start, end, &group),
        model: model.to_owned(),
        window_start: start,
        window_end: end,
        group,
        measures: BTreeMap::from([
            ("revenue".to_owned(), Measure::Text(revenue.to_owned())),
            ("orders".to_owned(), Measure::Long(i64::MAX - minute.abs())),
            ("aov".to_owned(), Measure::Double(0.1 + 0.2)),
            ("p95".to_owned(), Measure::Null),
        ]),
        state: if revision.0 == 0 { PaneState::Provisional } else { PaneState::Final },
        version: revision.0,
        sequence: revision.1,
        closed_by: (revision.0 > 0).then(|| "watermark".to_owned()),
        completeness: 2.0 / 3.0,
    }
}

fn alert(id: &str, model: &str, windows: (i64, i64), state: AlertState) -> Alert {
    Alert {
        id: id.to_owned(),
        model: model.to_owned(),
        measure: "revenue".to_owned(),
        group: group(Some("FR")),
        detector: "zscore".to_owned(),
        state,
        severity: Severity::Critical,
        observed: 0.0,
        expected: 120.25,
        lower: 100.5,
        upper: f64::INFINITY,
        score: -8.1,
        tail_probability: 2.5e-16,
        first_window: EventTime::new(windows.0 * MINUTE),
        last_window: EventTime::new(windows.1 * MINUTE),
        window_millis: MINUTE,
        origin: vec![
            OffsetSpan { partition: 0, from: 3, upto: 12 },
            OffsetSpan { partition: 3, from: 0, upto: i64::MAX },
        ],
        z_score: -8.1,
        threshold: 4.0,
        false_alarms_per_year: 1e-9,
        formula: "revenue / orders".to_owned(),
        since: EventTime::new((windows.0 - 4) * MINUTE),
        horizon_millis: 5 * MINUTE,
        resolution: (state == AlertState::Resolved).then_some(Resolution::Corrected),
        parent: (state == AlertState::Suppressed).then(|| "the whole".to_owned()),
        money_at_stake: Some("1203.5000".to_owned()),
        parts: vec![AlertPart { group: group(None), observed: 0.0, expected: 1.0 / 3.0, share: 0.75 }],
        trace: vec![AlertPoint {
            window: EventTime::new(windows.0 * MINUTE),
            observed: 0.0,
            expected: 120.25,
            lower: f64::NEG_INFINITY,
            upper: f64::INFINITY,
        }],
        fingerprint: format!("the series of {id}"),
        episodes: 2,
        acknowledged_by: None,
        acknowledged_at: None,
        snoozed_until: None,
    }
}

/// As it was stored before version 2 of its schema.
fn old_alert() -> Document {
    doc! {
        "model": "old", "measure": "revenue", "group": {"country": "FR"}, "detector": "zscore", "state": "firing",
        "severity": "critical", "observed": 0.0, "expected": 120.25, "lower": 100.5, "upper": f64::INFINITY,
        "score": -8.1, "tail_probability": 2.5e-16, "window_millis": MINUTE,
        "origin": [{"partition": 0, "upto": 12_i64}],
    }
}

/// [`old_alert`], as it is read now.
fn old_alert_now() -> Alert {
    Alert {
        origin: vec![OffsetSpan { partition: 0, from: 0, upto: 12 }],
        z_score: 0.0,
        threshold: 0.0,
        false_alarms_per_year: 0.0,
        formula: String::new(),
        since: EventTime::new(MINUTE),
        horizon_millis: 0,
        money_at_stake: None,
        parts: Vec::new(),
        trace: Vec::new(),
        fingerprint: String::new(),
        episodes: 1,
        ..alert("old", "old", (1, 2), AlertState::Firing)
    }
}

fn of(model: &str) -> KpiQuery {
    KpiQuery { model: model.to_owned(), limit: usize::MAX, ..KpiQuery::default() }
}

fn all_alerts() -> AlertQuery {
    AlertQuery { limit: usize::MAX, ..AlertQuery::default() }
}

/// Runs the whole suite; the store must be empty.
fn conforms(store: &dyn KpiStore) {
    store.ping().unwrap();
    an_empty_store_answers(store);
    a_newer_revision_replaces_an_older_one_and_never_the_other_way(store);
    panes_are_found_by_model_time_and_group_newest_first(store);
    what_is_sealed_stands_whatever_comes(store);
    a_pane_that_is_removed_is_gone_and_may_come_again(store);
    a_missing_group_value_differs_from_the_empty_text(store);
    numbers_come_back_exactly(store);
    a_pane_with_a_very_long_group_value_is_kept(store);
    many_panes_go_in_one_call(store);
    alerts_are_found_by_state_and_model_newest_first(store);
    an_older_alert_never_replaces_a_newer_one(store);
    alerts_are_found_by_severity_time_parent_and_series(store);
    an_acknowledged_alert_stays_so_until_it_resolves(store);
    a_suppressed_alert_that_fires_later_is_a_firing_one(store);
    a_snooze_is_of_the_series_and_ends(store);
    store.flush().unwrap();
}

fn an_empty_store_answers(store: &dyn KpiStore) {
    store.upsert_kpis(&[]).unwrap();
    store.upsert_alerts(&[]).unwrap();
    assert_eq!(store.kpis(&of("none")).unwrap(), []);
    assert_eq!(store.alerts(&all_alerts()).unwrap(), []);
    assert_eq!(store.alert("none").unwrap(), None);
    assert_eq!(store.acknowledge("none", None, AT).unwrap(), None);
    assert_eq!(store.snooze("none", Some(FOREVER)).unwrap(), None);
    assert_eq!(store.snoozes().unwrap(), BTreeMap::new());
}

fn a_newer_revision_replaces_an_older_one_and_never_the_other_way(store: &dyn KpiStore) {
    let at = |revision, revenue| pane("revisions", 1, Some("FR"), revision, revenue);
    let stored = || store.kpis(&of("revisions")).unwrap();
    let steps = [
        (at((0, 5), "1.00"), "1.00", "the first is taken"),
        (at((0, 5), "9.00"), "1.00", "the same revision changes nothing"),
        (at((0, 4), "9.00"), "1.00", "an older sequence is refused"),
        (at((0, 6), "2.00"), "2.00", "a newer sequence is taken"),
        (at((1, 0), "3.00"), "3.00", "a newer version is taken, whatever its sequence"),
        (at((0, 99), "9.00"), "3.00", "an older version is refused, whatever its sequence"),
        (at((2, 1), "4.00"), "4.00", "a correction is taken"),
    ];
    for (kpi, revenue, why) in steps {
        for _ in 0..2 {
            store.upsert_kpis(std::slice::from_ref(&kpi)).unwrap();
            assert_eq!(stored().len(), 1, "{why}");
            assert_eq!(stored()[0].measures["revenue"], Measure::Text(revenue.to_owned()), "{why}");
        }
    }
    let fresh = |revision, revenue| pane("revisions in one call", 1, Some("FR"), revision, revenue);
    store.upsert_kpis(&[fresh((1, 2), "2.00"), fresh((1, 3), "3.00"), fresh((0, 9), "1.00")]).unwrap();
    let stored = store.kpis(&of("revisions in one call")).unwrap();
    assert_eq!(stored, [fresh((1, 3), "3.00")], "the newest of one call wins, whatever the order");
}

fn panes_are_found_by_model_time_and_group_newest_first(store: &dyn KpiStore) {
    let mut kpis = Vec::new();
    for minute in [-1, 0, 1, 2, 300] {
        for country in ["DE", "FR"] {
            kpis.push(pane("times", minute, Some(country), (1, 1), "1.00"));
        }
    }
    // Names that begin alike must not mix.
    kpis.push(pane("time", 1, Some("FR"), (1, 1), "1.00"));
    kpis.push(pane("times2", 1, Some("FR"), (1, 1), "1.00"));
    store.upsert_kpis(&kpis).unwrap();
    let found = |query: KpiQuery| -> Vec<(i64, String)> {
        let kpis = store.kpis(&query).unwrap();
        assert!(kpis.iter().all(|kpi| kpi.model == "times"));
        kpis.iter().map(|k| (k.window_start.get() / MINUTE, k.group["country"].clone().unwrap())).collect()
    };
    let expected = |minutes: &[i64], countries: &[&str]| -> Vec<(i64, String)> {
        minutes.iter().flat_map(|m| countries.iter().map(|c| (*m, (*c).to_owned()))).collect()
    };
    let minute = |m: i64| Some(EventTime::new(m * MINUTE));
    assert_eq!(found(of("times")), expected(&[300, 2, 1, 0, -1], &["DE", "FR"]), "newest first, then by id");
    assert_eq!(found(KpiQuery { limit: 3, ..of("times") }), expected(&[300, 2], &["DE", "FR"])[..3]);
    assert_eq!(found(KpiQuery { limit: 0, ..of("times") }), []);
    assert_eq!(
        found(KpiQuery { from: minute(0), to: minute(2), ..of("times") }),
        expected(&[1, 0], &["DE", "FR"]),
        "`from` is inside, `to` is not"
    );
    assert_eq!(found(KpiQuery { from: minute(2), ..of("times") }), expected(&[300, 2], &["DE", "FR"]));
    assert_eq!(found(KpiQuery { to: minute(0), ..of("times") }), expected(&[-1], &["DE", "FR"]), "before 1970");
    assert_eq!(found(KpiQuery { from: minute(2), to: minute(2), ..of("times") }), []);
    assert_eq!(found(KpiQuery { from: minute(3), to: minute(1), ..of("times") }), []);
    let extremes = KpiQuery { from: Some(EventTime::new(i64::MIN)), to: Some(EventTime::new(i64::MAX)), ..of("times") };
    assert_eq!(found(extremes).len(), 10);
    assert_eq!(found(KpiQuery { to: Some(EventTime::new(i64::MIN)), ..of("times") }), []);
    let french = BTreeMap::from([("country".to_owned(), "FR".to_owned())]);
    assert_eq!(found(KpiQuery { group: french.clone(), limit: 2, ..of("times") }), expected(&[300, 2], &["FR"]));
    let unknown = BTreeMap::from([("device".to_owned(), "tv".to_owned())]);
    assert_eq!(found(KpiQuery { group: unknown, ..of("times") }), []);
}

fn what_is_sealed_stands_whatever_comes(store: &dyn KpiStore) {
    let with_state = |state, revision, revenue| Kpi { state, ..pane("stands", 1, Some("FR"), revision, revenue) };
    let stored = || store.kpis(&of("stands")).unwrap().remove(0).measures["revenue"].clone();
    let text = |revenue: &str| Measure::Text(revenue.to_owned());
    store.upsert_kpis(&[with_state(PaneState::Corrected, (3, 7), "1.0000")]).unwrap();
    store.upsert_kpis(&[with_state(PaneState::Sealed, (1, 9), "2.0000")]).unwrap();
    assert_eq!(stored(), text("2.0000"), "versions may have been counted anew");
    store.upsert_kpis(&[with_state(PaneState::Corrected, (4, 10), "3.0000")]).unwrap();
    assert_eq!(stored(), text("2.0000"));
    store.upsert_kpis(&[with_state(PaneState::Sealed, (2, 9), "4.0000")]).unwrap();
    assert_eq!(stored(), text("4.0000"));
}

fn a_pane_that_is_removed_is_gone_and_may_come_again(store: &dyn KpiStore) {
    let kpi = pane("removed", 7, Some("FR"), (3, 1), "1.0000");
    let kept = pane("removed", 7, Some("DE"), (1, 1), "2.0000");
    store.upsert_kpis(&[kpi.clone(), kept.clone()]).unwrap();
    let key = KpiKey { id: kpi.id.clone(), model: kpi.model.clone(), window_start: kpi.window_start };
    store.remove_kpis(std::slice::from_ref(&key)).unwrap();
    store.remove_kpis(&[key]).unwrap();
    assert_eq!(store.kpis(&of("removed")).unwrap(), [kept]);
    let again = pane("removed", 7, Some("FR"), (1, 2), "3.0000");
    store.upsert_kpis(std::slice::from_ref(&again)).unwrap();
    assert!(store.kpis(&of("removed")).unwrap().contains(&again), "an older version of a pane that is gone is new");
}

fn a_missing_group_value_differs_from_the_empty_text(store: &dyn KpiStore) {
    let (missing, empty) = (pane("nulls", 1, None, (1, 1), "1.00"), pane("nulls", 1, Some(""), (1, 1), "2.00"));
    assert_ne!(missing.id, empty.id);
    store.upsert_kpis(&[missing.clone(), empty.clone()]).unwrap();
    let mut found = store.kpis(&of("nulls")).unwrap();
    found.sort_by_key(|kpi| kpi.group["country"].is_some());
    assert_eq!(found, [missing, empty.clone()]);
    let asked = BTreeMap::from([("country".to_owned(), String::new())]);
    assert_eq!(store.kpis(&KpiQuery { group: asked, ..of("nulls") }).unwrap(), [empty]);
}

fn numbers_come_back_exactly(store: &dyn KpiStore) {
    let mut kpi = pane("numbers", 1, Some("FR"), (1, 1), "12345678901234.5000");
    for (name, value) in [
        ("zero", Measure::Text("0.00000000".to_owned())),
        ("negative", Measure::Text("-0.0001".to_owned())),
        ("beyond 34 digits", Measure::Text("12345678901234567890123456789012345.678".to_owned())),
        ("word", Measure::Text("checkout_started".to_owned())),
        ("smallest", Measure::Long(i64::MIN)),
        ("third", Measure::Double(1.0 / 3.0)),
        ("odd float", Measure::Double(9_007_199_254_740_994e-23)),
        ("infinite", Measure::Double(f64::INFINITY)),
    ] {
        kpi.measures.insert(name.to_owned(), value);
    }
    store.upsert_kpis(std::slice::from_ref(&kpi)).unwrap();
    assert_eq!(store.kpis(&of("numbers")).unwrap(), [kpi]);
}

fn a_pane_with_a_very_long_group_value_is_kept(store: &dyn KpiStore) {
    let long = "x".repeat(100_000);
    let (a, b) = (format!("{long}a"), format!("{long}b"));
    let kpis = [pane("long", 1, Some(&a), (1, 1), "1.00"), pane("long", 1, Some(&b), (1, 1), "2.00")];
    store.upsert_kpis(&kpis).unwrap();
    store.upsert_kpis(&kpis).unwrap();
    let mut found = store.kpis(&of("long")).unwrap();
    found.sort_by(|x, y| x.id.cmp(&y.id));
    assert_eq!(found, kpis);
}

fn many_panes_go_in_one_call(store: &dyn KpiStore) {
    let kpis: Vec<Kpi> = (0..1234).map(|minute| pane("many", minute, Some("FR"), (1, 1), "1.00")).collect();
    store.upsert_kpis(&kpis).unwrap();
    // Half of them again as they are, half of them newer.
    let again: Vec<Kpi> = (0..1234).map(|m| pane("many", m, Some("FR"), (1, 1 + m % 2), "2.00")).collect();
    store.upsert_kpis(&again).unwrap();
    let found = store.kpis(&of("many")).unwrap();
    assert_eq!(found.len(), 1234);
    for (kpi, minute) in found.iter().zip((0..1234).rev()) {
        let revenue = if minute % 2 == 1 { "2.00" } else { "1.00" };
        assert_eq!(*kpi, pane("many", minute, Some("FR"), (1, 1 + minute % 2), revenue));
    }
}

fn alerts_are_found_by_state_and_model_newest_first(store: &dyn KpiStore) {
    let (firing, resolved) = (AlertState::Firing, AlertState::Resolved);
    let alerts = [
        alert("a", "sales", (1, 1), firing),
        alert("b", "sales", (3, 4), resolved),
        alert("c", "activity", (2, 9), firing),
        alert("d", "activity", (-5, 0), AlertState::Suppressed),
    ];
    store.upsert_alerts(&alerts).unwrap();
    store.upsert_alerts(&alerts).unwrap();
    let found = |query: AlertQuery| -> Vec<String> {
        store.alerts(&query).unwrap().into_iter().map(|alert| alert.id).collect()
    };
    assert_eq!(found(all_alerts()), ["b", "c", "a", "d"]);
    assert_eq!(found(AlertQuery { limit: 2, ..all_alerts() }), ["b", "c"]);
    assert_eq!(found(AlertQuery { limit: 0, ..all_alerts() }), [""; 0]);
    assert_eq!(found(AlertQuery { states: vec![firing], ..all_alerts() }), ["c", "a"]);
    assert_eq!(found(AlertQuery { states: vec![resolved, AlertState::Suppressed], ..all_alerts() }), ["b", "d"]);
    assert_eq!(found(AlertQuery { model: Some("sales".to_owned()), ..all_alerts() }), ["b", "a"]);
    let both = AlertQuery { states: vec![firing], model: Some("sales".to_owned()), ..all_alerts() };
    assert_eq!(store.alerts(&both).unwrap(), [alert("a", "sales", (1, 1), firing)], "every field comes back");
    for alert in alerts {
        assert_eq!(store.alert(&alert.id).unwrap(), Some(alert));
    }
}

fn alerts_are_found_by_severity_time_parent_and_series(store: &dyn KpiStore) {
    let at = |id: &str, window, severity| Alert {
        severity,
        parent: (id != "p").then(|| "p".to_owned()),
        fingerprint: id.chars().take(1).collect(),
        ..alert(id, "many ways", (window, window), AlertState::Firing)
    };
    store
        .upsert_alerts(&[
            at("p", 10, Severity::Critical),
            at("q1", 11, Severity::Warning),
            at("q2", 12, Severity::Info),
        ])
        .unwrap();
    let found = |query: AlertQuery| -> Vec<String> {
        let query = AlertQuery { model: Some("many ways".to_owned()), limit: usize::MAX, ..query };
        store.alerts(&query).unwrap().into_iter().map(|alert| alert.id).collect()
    };
    let any = AlertQuery::default;
    let minute = |m: i64| Some(EventTime::new(m * MINUTE));
    assert_eq!(found(AlertQuery { severity: Some(Severity::Info), ..any() }), ["q2", "q1", "p"]);
    assert_eq!(found(AlertQuery { severity: Some(Severity::Warning), ..any() }), ["q1", "p"], "or a higher one");
    assert_eq!(found(AlertQuery { from: minute(11), ..any() }), ["q2", "q1"], "`from` is inside");
    assert_eq!(found(AlertQuery { to: minute(11), ..any() }), ["p"], "`to` is not");
    assert_eq!(found(AlertQuery { from: minute(11), to: minute(12), ..any() }), ["q1"]);
    assert_eq!(found(AlertQuery { from: minute(12), to: minute(11), ..any() }), [""; 0]);
    let extremes = AlertQuery { from: Some(EventTime::new(i64::MIN)), to: Some(EventTime::new(i64::MAX)), ..any() };
    assert_eq!(found(extremes).len(), 3);
    assert_eq!(found(AlertQuery { parent: Some("p".to_owned()), ..any() }), ["q2", "q1"]);
    assert_eq!(found(AlertQuery { fingerprint: Some("q".to_owned()), ..any() }), ["q2", "q1"]);
}

fn an_older_alert_never_replaces_a_newer_one(store: &dyn KpiStore) {
    let at = |last, state| alert("episode", "episodes", (1, last), state);
    let stored = || {
        let query = AlertQuery { model: Some("episodes".to_owned()), ..all_alerts() };
        let mut found = store.alerts(&query).unwrap();
        assert_eq!(found.len(), 1);
        found.remove(0)
    };
    for (sent, kept) in [
        (at(2, AlertState::Firing), at(2, AlertState::Firing)),
        (at(1, AlertState::Firing), at(2, AlertState::Firing)),
        (at(3, AlertState::Resolved), at(3, AlertState::Resolved)),
        (at(2, AlertState::Firing), at(3, AlertState::Resolved)),
    ] {
        store.upsert_alerts(&[sent]).unwrap();
        assert_eq!(stored(), kept);
    }
}

fn an_acknowledged_alert_stays_so_until_it_resolves(store: &dyn KpiStore) {
    let at = |last, state| alert("seen", "seen", (1, last), state);
    let seen = |last| Alert {
        acknowledged_by: Some("ann".to_owned()),
        acknowledged_at: Some(AT),
        ..at(last, AlertState::Acknowledged)
    };
    let stored = || store.alert("seen").unwrap().unwrap();
    let ann = || store.acknowledge("seen", Some("ann"), AT).unwrap();
    store.upsert_alerts(&[at(1, AlertState::Firing)]).unwrap();
    assert_eq!(ann(), Some(seen(1)));
    let bob = store.acknowledge("seen", Some("bob"), EventTime::new(AT.get() + 1)).unwrap();
    assert_eq!(bob, Some(seen(1)), "who saw it first has seen it");
    store.upsert_alerts(&[at(1, AlertState::Firing), at(2, AlertState::Firing)]).unwrap();
    assert_eq!(stored(), seen(2), "the numbers go on, the state stays");
    store.upsert_alerts(&[at(3, AlertState::Resolved)]).unwrap();
    assert_eq!(stored(), at(3, AlertState::Resolved), "who saw it is forgotten");
    assert_eq!(ann(), Some(at(3, AlertState::Resolved)), "nothing is left to acknowledge");
    store.upsert_alerts(&[at(2, AlertState::Firing)]).unwrap();
    assert_eq!(stored(), at(3, AlertState::Resolved), "a replay does not fire it again");
    store.upsert_alerts(&[at(4, AlertState::Firing)]).unwrap();
    assert_eq!(stored(), at(4, AlertState::Firing), "it is back, and nobody has seen that");
    assert_eq!(store.acknowledge("seen", None, AT).unwrap().unwrap().acknowledged_by, None, "a person without a name");
    assert_eq!((stored().state, stored().acknowledged_at), (AlertState::Acknowledged, Some(AT)));
}

fn a_suppressed_alert_that_fires_later_is_a_firing_one(store: &dyn KpiStore) {
    let at = |last, state| alert("child", "child", (1, last), state);
    let stored = || store.alert("child").unwrap();
    store.upsert_alerts(&[at(1, AlertState::Suppressed)]).unwrap();
    let same = store.acknowledge("child", None, AT).unwrap();
    assert_eq!(same, Some(at(1, AlertState::Suppressed)), "what nobody is told of, nobody acknowledges");
    store.upsert_alerts(&[at(2, AlertState::Firing)]).unwrap();
    assert_eq!(stored(), Some(at(2, AlertState::Firing)));
    store.acknowledge("child", Some("ann"), AT).unwrap();
    store.upsert_alerts(&[at(3, AlertState::Suppressed), at(4, AlertState::Firing)]).unwrap();
    assert_eq!(stored(), Some(at(4, AlertState::Firing)));
}

fn a_snooze_is_of_the_series_and_ends(store: &dyn KpiStore) {
    let of_series = |id: &str, window, series: &str| Alert {
        fingerprint: series.to_owned(),
        ..alert(id, "snoozed", (window, window), AlertState::Firing)
    };
    let (first, other) = (of_series("first", 1, "series"), of_series("other", 2, ""));
    store.upsert_alerts(&[first.clone(), other.clone()]).unwrap();
    let end = EventTime::new(FOREVER.get() - 1);
    let until = Some(end);
    let snoozed = |alert: &Alert, until| Alert { snoozed_until: until, ..alert.clone() };
    assert_eq!(store.snooze("first", Some(FOREVER)).unwrap(), Some(snoozed(&first, Some(FOREVER))));
    assert_eq!(store.snooze("first", until).unwrap(), Some(snoozed(&first, until)), "the last word counts");
    assert_eq!(store.snoozes().unwrap(), BTreeMap::from([("series".to_owned(), end)]));
    let later = Alert { snoozed_until: Some(AT), ..of_series("later", 3, "series") };
    store.upsert_alerts(std::slice::from_ref(&later)).unwrap();
    let stored = store.alerts(&AlertQuery { model: Some("snoozed".to_owned()), ..all_alerts() }).unwrap();
    assert_eq!(stored, [snoozed(&later, until), other.clone(), snoozed(&first, until)], "later episodes too");
    assert_eq!(store.alert("later").unwrap(), Some(snoozed(&later, until)));
    let seen = store.acknowledge("later", None, AT).unwrap().unwrap();
    assert_eq!((seen.state, seen.snoozed_until), (AlertState::Acknowledged, until));
    store.snooze("other", until).unwrap();
    assert_eq!(store.alert("other").unwrap(), Some(snoozed(&other, until)), "without a fingerprint it is the alert's");
    assert_eq!(store.snooze("other", Some(AT)).unwrap(), Some(other), "a time that is over ends it");
    assert_eq!(store.snooze("later", None).unwrap().unwrap().snoozed_until, None);
    assert_eq!(store.snooze("later", None).unwrap().unwrap().snoozed_until, None, "twice is once");
    assert_eq!(store.snoozes().unwrap(), BTreeMap::new());
}

#[test]
fn the_embedded_store_conforms() {
    let dir = tempfile::tempdir().unwrap();
    conforms(&EmbeddedKpiStore::open(dir.path()).unwrap());
}

#[test]
fn the_embedded_store_keeps_what_was_flushed_and_refuses_a_second_process() {
    let dir = tempfile::tempdir().unwrap();
    let kpi = pane("kept", 1, Some("FR"), (1, 1), "1.00");
    {
        let store = EmbeddedKpiStore::open(dir.path()).unwrap();
        store.upsert_kpis(std::slice::from_ref(&kpi)).unwrap();
        store.upsert_alerts(&[alert("kept", "kept", (1, 1), AlertState::Firing)]).unwrap();
        store.flush().unwrap();
        let error = EmbeddedKpiStore::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("another process has it open"), "{error}");
    }
    let store = EmbeddedKpiStore::open(dir.path()).unwrap();
    assert_eq!(store.kpis(&of("kept")).unwrap(), [kpi]);
    assert_eq!(store.alerts(&all_alerts()).unwrap().len(), 1);
}

#[test]
fn an_alert_that_an_older_sluice_left_in_the_embedded_store_is_read() {
    let mut stored = old_alert();
    stored.extend(doc! {"id": "old", "first_window": MINUTE, "last_window": 2 * MINUTE});
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedKpiStore::open(dir.path()).unwrap();
    store.put_alert(&old_alert_now(), &stored).unwrap();
    assert_eq!(store.alert("old").unwrap(), Some(old_alert_now()));
    assert_eq!(store.alerts(&all_alerts()).unwrap(), [old_alert_now()]);
}

/// Set `SLUICE_TEST_MONGO_URI` to run it against a server. It makes a database of its own and drops it at the end.
#[test]
fn the_mongo_store_conforms() {
    let Ok(uri) = std::env::var("SLUICE_TEST_MONGO_URI") else {
        eprintln!("SKIPPED the_mongo_store_conforms: SLUICE_TEST_MONGO_URI is not set");
        return;
    };
    let database = format!("sluice_test_{}", std::process::id());
    let store = MongoKpiStore::connect(&uri, &database).unwrap();
    conforms(&store);
    drop(store);
    // A second start finds its indexes and its panes, and works inside another runtime's threads too.
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let store = MongoKpiStore::connect(&uri, &database).unwrap();
        assert_eq!(store.kpis(&of("many")).unwrap().len(), 1234);
        let mut stored = old_alert();
        let time = |minute| DateTime::from_millis(minute * MINUTE);
        stored.extend(doc! {"_id": "old", "first_window": time(1), "last_window": time(2)});
        store.put_alert(stored).unwrap();
        assert_eq!(store.alert("old").unwrap(), Some(old_alert_now()), "what an older sluice left is read");
        store.drop_database().unwrap();
    });
}

#[test]
fn a_server_that_is_not_there_is_named_without_its_password() {
    let uri = "mongodb://ann:hidden@127.0.0.1:1/?serverSelectionTimeoutMS=50";
    let error = MongoKpiStore::connect(uri, "shop").err().unwrap().to_string();
    assert!(error.contains("127.0.0.1:1/shop") && !error.contains("hidden"), "{error}");
}
