//! What is worth telling a receiver. Pure: the clock's word is an argument.
//!
//! An episode is told when it begins or comes back, when it becomes more severe, and when it ends, if its beginning was
//! told. Acknowledged and suppressed states are not told, and nothing while the series is snoozed: what has then changed is
//! told when the snooze is over.

use sluice_events::{Alert, AlertState, Severity};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// Alerts that are remembered as told, or as snoozed, at most: of more, the ones heard of longest ago are forgotten.
const ALERTS_MAX: usize = 10_000;

/// What a receiver is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// It began, or came back.
    Firing,
    /// It matters more than was told.
    Raised,
    /// It is over.
    Resolved,
}

/// One thing to tell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notice {
    pub event: Event,
    pub alert: Arc<Alert>,
    /// The severity it is told under: of a resolved alert, what its receiver knows.
    pub severity: Severity,
    /// The severity it was told under before, when that was another one.
    pub was: Option<Severity>,
}

/// What one receiver has been told.
pub(crate) struct Telling {
    // Settings.
    min_severity: Severity,
    models: BTreeSet<String>,
    alerts_max: usize,
    // Live.
    /// Alerts whose beginning was told, and whose end was not. By id.
    told: HashMap<String, Told>,
    /// The newest state of alerts that are snoozed. By id.
    snoozed: HashMap<String, Snoozed>,
    heard: u64,
    forgotten: u64,
}

struct Told {
    alert: Arc<Alert>,
    severity: Severity,
    episodes: i32,
    heard: u64,
}

struct Snoozed {
    alert: Arc<Alert>,
    heard: u64,
}

impl Event {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Raised => "raised",
            Self::Resolved => "resolved",
        }
    }
}

impl Telling {
    /// A receiver that has been told nothing. No models: all of them.
    pub fn new(min_severity: Severity, models: BTreeSet<String>) -> Self {
        let (told, snoozed) = (HashMap::new(), HashMap::new());
        Self { min_severity, models, alerts_max: ALERTS_MAX, told, snoozed, heard: 0, forgotten: 0 }
    }

    /// What to tell now that an alert is in this state, and takes it as told.
    pub fn decide(&mut self, alert: &Arc<Alert>, now: i64) -> Option<Notice> {
        if !self.models.is_empty() && !self.models.contains(&alert.model) {
            return None;
        }
        self.heard += 1;
        let heard = self.heard;
        self.snoozed.remove(&alert.id);
        let known = self.told.get_mut(&alert.id);
        if is_snoozed(alert, now) {
            let is_due_later = match alert.state {
                AlertState::Firing => true,
                AlertState::Resolved => known.is_some(),
                AlertState::Acknowledged | AlertState::Suppressed => false,
            };
            if let Some(told) = known {
                (told.alert, told.heard) = (alert.clone(), heard);
            }
            if is_due_later {
                make_room(&mut self.snoozed, self.alerts_max, |s| s.heard, &mut self.forgotten);
                self.snoozed.insert(alert.id.clone(), Snoozed { alert: alert.clone(), heard });
            }
            return None;
        }
        let is_grave = alert.severity >= self.min_severity;
        let severity = alert.severity;
        let notice = |event, severity, was: Option<Severity>| {
            Some(Notice { event, alert: alert.clone(), severity, was: was.filter(|was| *was != severity) })
        };
        match (alert.state, known) {
            (AlertState::Resolved, None) => None,
            // A state from before: of a replay.
            (_, Some(told)) if alert.episodes < told.episodes => None,
            (AlertState::Resolved, Some(told)) => {
                let severity = told.severity;
                self.told.remove(&alert.id);
                notice(Event::Resolved, severity, None)
            }
            (AlertState::Firing, None) if is_grave => {
                make_room(&mut self.told, self.alerts_max, |t| t.heard, &mut self.forgotten);
                let told = Told { alert: alert.clone(), severity, episodes: alert.episodes, heard };
                self.told.insert(alert.id.clone(), told);
                notice(Event::Firing, severity, None)
            }
            (_, None) => None,
            (state, Some(told)) => {
                (told.alert, told.heard) = (alert.clone(), heard);
                let has_come_back = alert.episodes > told.episodes;
                if state != AlertState::Firing || !is_grave || !(has_come_back || severity > told.severity) {
                    return None;
                }
                let was = told.severity;
                (told.severity, told.episodes) = (severity, alert.episodes);
                notice(if has_come_back { Event::Firing } else { Event::Raised }, severity, Some(was))
            }
        }
    }

    /// What is to be told because a snooze is over.
    pub fn due(&mut self, now: i64) -> Vec<Notice> {
        let mut due: Vec<Arc<Alert>> =
            self.snoozed.values().filter(|s| !is_snoozed(&s.alert, now)).map(|s| s.alert.clone()).collect();
        due.sort_unstable_by(|a, b| (a.first_window, &a.id).cmp(&(b.first_window, &b.id)));
        due.iter().filter_map(|alert| self.decide(alert, now)).collect()
    }

    /// When the next snooze is over, in milliseconds of processing time.
    pub fn next_due(&self) -> Option<i64> {
        self.snoozed.values().filter_map(|s| s.alert.snoozed_until).map(|until| until.get()).min()
    }

    /// Takes an alert as told that an earlier process told.
    pub fn recall(&mut self, alert: &Arc<Alert>) {
        let goes_on = matches!(alert.state, AlertState::Firing | AlertState::Acknowledged);
        let is_ours = self.models.is_empty() || self.models.contains(&alert.model);
        if goes_on && is_ours && alert.severity >= self.min_severity && !self.told.contains_key(&alert.id) {
            self.heard += 1;
            make_room(&mut self.told, self.alerts_max, |t| t.heard, &mut self.forgotten);
            let (severity, episodes) = (alert.severity, alert.episodes);
            self.told.insert(alert.id.clone(), Told { alert: alert.clone(), severity, episodes, heard: self.heard });
        }
    }

    /// Takes back that this was told: it was dropped, or given up. The next state of the alert is then told instead.
    pub fn untold(&mut self, notice: &Notice) {
        let Some(told) = self.told.get_mut(&notice.alert.id) else { return };
        if told.episodes != notice.alert.episodes || told.severity != notice.severity {
            return;
        }
        match (notice.event, notice.was) {
            (Event::Resolved, _) => {}
            (Event::Raised, Some(was)) => told.severity = was,
            (Event::Firing | Event::Raised, _) => drop(self.told.remove(&notice.alert.id)),
        }
    }

    /// Every told alert that goes on and is not snoozed, by id: an Alertmanager forgets what it is not told again.
    pub fn alive(&self, now: i64) -> Vec<Notice> {
        let goes_on = |told: &&Told| {
            matches!(told.alert.state, AlertState::Firing | AlertState::Acknowledged) && !is_snoozed(&told.alert, now)
        };
        let notice = |told: &Told| Notice {
            event: Event::Firing,
            alert: told.alert.clone(),
            severity: told.severity,
            was: None,
        };
        let mut alive: Vec<Notice> = self.told.values().filter(goes_on).map(notice).collect();
        alive.sort_unstable_by(|a, b| a.alert.id.cmp(&b.alert.id));
        alive
    }

    /// Alerts whose end is still to be told.
    pub fn open(&self) -> usize {
        self.told.len()
    }

    /// Alerts that were forgotten because there were too many.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

fn is_snoozed(alert: &Alert, now: i64) -> bool {
    alert.snoozed_until.is_some_and(|until| until.get() > now)
}

fn make_room<T>(alerts: &mut HashMap<String, T>, max: usize, heard: impl Fn(&T) -> u64, forgotten: &mut u64) {
    while alerts.len() >= max {
        let Some(oldest) = alerts.iter().min_by_key(|(_, alert)| heard(alert)).map(|(id, _)| id.clone()) else {
            return;
        };
        alerts.remove(&oldest);
        *forgotten += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::alert;
    use sluice_events::EventTime;

    const NOW: i64 = 1_000;

    fn telling(min_severity: Severity) -> Telling {
        Telling::new(min_severity, BTreeSet::new())
    }

    fn state(state: AlertState, severity: Severity, episodes: i32) -> Arc<Alert> {
        Arc::new(Alert { state, severity, episodes, ..alert("a") })
    }

    fn firing(severity: Severity) -> Arc<Alert> {
        state(AlertState::Firing, severity, 1)
    }

    fn resolved() -> Arc<Alert> {
        state(AlertState::Resolved, Severity::Warning, 1)
    }

    fn events(telling: &mut Telling, states: &[Arc<Alert>]) -> Vec<Option<Event>> {
        states.iter().map(|alert| telling.decide(alert, NOW).map(|notice| notice.event)).collect()
    }

    #[test]
    fn beginning_rise_return_and_end_are_told_once_each() {
        use Severity::{Critical, Warning};
        let mut telling = telling(Severity::Info);
        let come_back = state(AlertState::Firing, Warning, 2);
        let told = events(
            &mut telling,
            &[
                firing(Warning),
                firing(Warning),
                firing(Critical),
                firing(Warning),
                firing(Critical),
                come_back.clone(),
                firing(Warning),
                come_back,
                state(AlertState::Resolved, Warning, 2),
                state(AlertState::Resolved, Warning, 2),
                state(AlertState::Firing, Warning, 3),
            ],
        );
        let (f, r, e) = (Some(Event::Firing), Some(Event::Raised), Some(Event::Resolved));
        assert_eq!(told, [f, None, r, None, None, f, None, None, e, None, f]);
        assert_eq!(telling.open(), 1);
    }

    #[test]
    fn an_end_is_told_only_of_what_was_told_and_nothing_is_left_over() {
        let mut telling = telling(Severity::Warning);
        assert_eq!(events(&mut telling, &[firing(Severity::Info), resolved()]), [None, None]);
        let raised = [firing(Severity::Info), firing(Severity::Critical), resolved()];
        assert_eq!(events(&mut telling, &raised), [None, Some(Event::Firing), Some(Event::Resolved)]);
        assert_eq!((telling.open(), telling.snoozed.len()), (0, 0));
    }

    #[test]
    fn the_end_is_told_under_the_severity_that_the_beginning_was_told_under() {
        let mut telling = telling(Severity::Info);
        telling.decide(&firing(Severity::Warning), NOW);
        let raised = telling.decide(&firing(Severity::Critical), NOW).unwrap();
        assert_eq!((raised.severity, raised.was), (Severity::Critical, Some(Severity::Warning)));
        assert_eq!(telling.decide(&resolved(), NOW).unwrap().severity, Severity::Critical);
    }

    #[test]
    fn acknowledged_and_suppressed_states_are_not_told() {
        let mut telling = telling(Severity::Info);
        let suppressed = state(AlertState::Suppressed, Severity::Critical, 1);
        let acknowledged = state(AlertState::Acknowledged, Severity::Critical, 1);
        assert_eq!(events(&mut telling, &[suppressed.clone(), acknowledged.clone(), resolved()]), [None, None, None]);
        let told = events(&mut telling, &[firing(Severity::Warning), acknowledged, firing(Severity::Warning)]);
        assert_eq!(told, [Some(Event::Firing), None, None]);
        assert_eq!(telling.alive(NOW).len(), 1);
        assert_eq!(events(&mut telling, &[suppressed]), [None]);
        assert_eq!(telling.alive(NOW).len(), 0, "another alert speaks for it");
        assert_eq!(events(&mut telling, &[resolved()]), [Some(Event::Resolved)]);
    }

    #[test]
    fn only_the_models_of_a_receiver_are_told() {
        let mut telling = Telling::new(Severity::Info, ["products".to_owned()].into());
        assert_eq!(telling.decide(&firing(Severity::Critical), NOW), None);
        let of_products = Arc::new(Alert { model: "products".to_owned(), ..alert("b") });
        assert_eq!(telling.decide(&of_products, NOW).unwrap().event, Event::Firing);
    }

    fn snoozed(alert: &Alert, until: i64) -> Arc<Alert> {
        Arc::new(Alert { snoozed_until: Some(EventTime::new(until)), ..alert.clone() })
    }

    #[test]
    fn what_is_snoozed_is_told_when_the_snooze_is_over() {
        let mut telling = telling(Severity::Info);
        assert_eq!(telling.decide(&snoozed(&firing(Severity::Warning), NOW + 5), NOW), None);
        assert_eq!(telling.next_due(), Some(NOW + 5));
        assert_eq!(telling.due(NOW + 4), []);
        let due = telling.due(NOW + 5);
        assert_eq!((due.len(), due[0].event), (1, Event::Firing));
        assert_eq!((telling.due(NOW + 9), telling.next_due()), (vec![], None));

        assert_eq!(telling.decide(&snoozed(&resolved(), NOW + 9), NOW + 6), None);
        assert_eq!(telling.alive(NOW + 6), [], "nobody is told again of what is snoozed");
        assert_eq!(telling.due(NOW + 9)[0].event, Event::Resolved);
        assert_eq!((telling.open(), telling.snoozed.len()), (0, 0));
    }

    #[test]
    fn what_began_and_ended_in_a_snooze_is_never_told() {
        let mut telling = telling(Severity::Info);
        telling.decide(&snoozed(&firing(Severity::Warning), NOW + 5), NOW);
        telling.decide(&snoozed(&resolved(), NOW + 5), NOW);
        assert_eq!((telling.due(NOW + 5), telling.snoozed.len()), (vec![], 0));
        let woken = snoozed(&firing(Severity::Warning), NOW - 1);
        assert_eq!(telling.decide(&woken, NOW).unwrap().event, Event::Firing);
    }

    #[test]
    fn what_could_not_be_told_is_told_with_the_next_state() {
        let mut telling = telling(Severity::Info);
        let notice = telling.decide(&firing(Severity::Warning), NOW).unwrap();
        telling.untold(&notice);
        assert_eq!(telling.decide(&firing(Severity::Warning), NOW).unwrap().event, Event::Firing);
        let raised = telling.decide(&firing(Severity::Critical), NOW).unwrap();
        telling.untold(&raised);
        assert_eq!(telling.decide(&firing(Severity::Critical), NOW).unwrap().event, Event::Raised);
        telling.untold(&notice);
        assert_eq!(telling.open(), 1, "what was raised since is told");
    }

    #[test]
    fn what_an_earlier_process_told_is_not_told_again_but_its_end_is() {
        let mut telling = telling(Severity::Warning);
        telling.recall(&firing(Severity::Warning));
        telling.recall(&Arc::new(Alert { severity: Severity::Info, ..alert("b") }));
        telling.recall(&Arc::new(Alert { state: AlertState::Resolved, ..alert("c") }));
        assert_eq!(telling.open(), 1);
        let told = events(&mut telling, &[firing(Severity::Warning), firing(Severity::Critical), resolved()]);
        assert_eq!(told, [None, Some(Event::Raised), Some(Event::Resolved)]);
    }

    #[test]
    fn memory_is_bounded_and_what_was_heard_of_longest_ago_goes_first() {
        let mut telling = Telling { alerts_max: 3, ..telling(Severity::Info) };
        for id in ["a", "b", "c", "a", "d", "e"] {
            telling.decide(&Arc::new(alert(id)), NOW);
        }
        assert_eq!((telling.open(), telling.forgotten()), (3, 2));
        assert!(telling.told.contains_key("a") && !telling.told.contains_key("b"));
        for id in ["f", "g", "h", "i"] {
            telling.decide(&snoozed(&alert(id), NOW + 9), NOW);
        }
        assert_eq!((telling.snoozed.len(), telling.forgotten()), (3, 3));
    }
}
