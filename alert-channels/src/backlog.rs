//! What waits to be told: in order, and bounded.

use crate::telling::Notice;
use std::collections::{HashMap, VecDeque};

/// A queue that never refuses: when it is full, an older notice makes room.
pub(crate) struct Backlog {
    notices: VecDeque<Notice>,
    /// How many notices of an alert wait. By id.
    waiting: HashMap<String, usize>,
    limit: usize,
}

/// Which notice made room.
#[derive(Debug, PartialEq)]
pub(crate) enum Dropped {
    /// One that a newer notice of the same alert follows: its receiver learns the newest state all the same.
    Outdated(Notice),
    /// The oldest of all; nothing else waits to be told of its alert.
    Oldest(Notice),
}

impl Backlog {
    /// An empty one for so many.
    pub fn new(limit: usize) -> Self {
        Self { notices: VecDeque::new(), waiting: HashMap::new(), limit }
    }

    /// Puts a notice at the end. Of a full backlog goes the oldest notice that a newer one of its alert follows; if there is
    /// none, the oldest.
    pub fn push(&mut self, notice: Notice) -> Option<Dropped> {
        let dropped = (self.notices.len() >= self.limit).then(|| self.make_room(&notice)).flatten();
        *self.waiting.entry(notice.alert.id.clone()).or_default() += 1;
        self.notices.push_back(notice);
        dropped
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<Notice> {
        let notice = self.notices.pop_front()?;
        self.forget(&notice);
        Some(notice)
    }

    /// Puts back what was taken, as the first: nobody was told of it. It may be one more than the limit.
    pub fn put_back(&mut self, notice: Notice) {
        *self.waiting.entry(notice.alert.id.clone()).or_default() += 1;
        self.notices.push_front(notice);
    }

    /// Whether something waits to be told of this alert.
    pub fn has(&self, id: &str) -> bool {
        self.waiting.contains_key(id)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.notices.len()
    }

    fn make_room(&mut self, coming: &Notice) -> Option<Dropped> {
        // Without two notices of one alert there is nothing to look for: a backlog of a dead receiver stays cheap.
        let has_outdated = self.waiting.len() < self.notices.len() || self.has(&coming.alert.id);
        let is_outdated = |notice: &Notice| notice.alert.id == coming.alert.id || self.waiting[&notice.alert.id] > 1;
        let place = if has_outdated { self.notices.iter().position(is_outdated) } else { None };
        match place {
            Some(place) => {
                let notice = self.notices.remove(place)?;
                self.forget(&notice);
                Some(Dropped::Outdated(notice))
            }
            None => self.pop().map(Dropped::Oldest),
        }
    }

    fn forget(&mut self, notice: &Notice) {
        if let Some(count) = self.waiting.get_mut(&notice.alert.id) {
            *count -= 1;
            if *count == 0 {
                self.waiting.remove(&notice.alert.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sample::alert, telling::Event};
    use sluice_events::Severity;
    use std::sync::Arc;

    fn notice(id: &str, event: Event) -> Notice {
        Notice { event, alert: Arc::new(alert(id)), severity: Severity::Warning, was: None }
    }

    fn ids(backlog: &mut Backlog) -> Vec<String> {
        std::iter::from_fn(|| backlog.pop()).map(|n| format!("{} {}", n.alert.id, n.event.name())).collect()
    }

    #[test]
    fn a_backlog_keeps_order_and_loses_nothing_below_its_limit() {
        let mut backlog = Backlog::new(3);
        for event in [Event::Firing, Event::Raised, Event::Resolved] {
            assert_eq!(backlog.push(notice("a", event)), None);
        }
        let first = backlog.pop().unwrap();
        backlog.put_back(first);
        assert_eq!(ids(&mut backlog), ["a firing", "a raised", "a resolved"]);
        assert!(!backlog.has("a") && backlog.waiting.is_empty());
    }

    #[test]
    fn of_a_full_backlog_goes_what_is_outdated_and_else_the_oldest() {
        let mut backlog = Backlog::new(3);
        for id in ["a", "b", "c"] {
            backlog.push(notice(id, Event::Firing));
        }
        let dropped = backlog.push(notice("b", Event::Resolved));
        assert_eq!(dropped, Some(Dropped::Outdated(notice("b", Event::Firing))));
        assert_eq!(backlog.push(notice("d", Event::Firing)), Some(Dropped::Oldest(notice("a", Event::Firing))));
        assert_eq!(backlog.push(notice("d", Event::Raised)), Some(Dropped::Outdated(notice("d", Event::Firing))));
        assert_eq!(ids(&mut backlog), ["c firing", "b resolved", "d raised"]);
    }
}
