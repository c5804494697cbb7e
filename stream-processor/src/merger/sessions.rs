//! Sessions put together of the fragments of all input partitions.
//!
//! Fragments of one group that are no further apart than the gap are one session (Flink merges windows that touch).
//! A session is final when the watermark has passed its end, and sealed when nothing can come any more that touches it.

use super::windows::Published;
use crate::{
    LiveModel, ProcessorError, Publish, arrow_bytes,
    panes::{Accumulators, Aggregated},
    sessions::fragment_schema,
};
use arrow::{
    array::{ArrayRef, AsArray, RecordBatch, TimestampMillisecondArray, UInt32Array},
    compute::{interleave_record_batch, take},
    datatypes::Int64Type,
    row::{RowConverter, SortField},
};
use datafusion::common::Result;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

type Key = Arc<[u8]>;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fragment {
    partition: i32,
    id: i64,
    as_of: i64,
    first: i64,
    last: i64,
    /// Where its state is.
    batch: u32,
    row: u32,
}

#[derive(Default)]
struct GroupSessions {
    fragments: Vec<Fragment>,
    /// Sessions that were published as final.
    published: Vec<PublishedSession>,
    /// When it is to be looked at for sealing, and for being final.
    queued: [Option<i64>; 2],
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct PublishedSession {
    id: String,
    start: i64,
    last: i64,
    said: Published,
}

/// For what a group is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Sealed = 0,
    Final = 1,
}

/// All sessions of a model that are not sealed.
pub(super) struct Sessions {
    gap: i64,
    keys: Option<RowConverter>,
    key_columns: usize,
    groups: HashMap<Key, GroupSessions>,
    /// The groups by the event time that must have been reached for them to be looked at, for each [`Stage`].
    queues: [BTreeSet<(i64, Key)>; 2],
    batches: Vec<RecordBatch>,
    rows: usize,
    fragments: usize,
    /// Whether final sessions are told about, or only sealed ones.
    tells_final: bool,
}

/// What a checkpoint keeps: fragments with their states as Arrow IPC, in the same order.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct SavedSessions {
    states: Option<Vec<u8>>,
    fragments: Vec<Fragment>,
    published: Vec<(Vec<u8>, Vec<PublishedSession>)>,
}

/// A session with the states of the fragments it is made of.
struct Session {
    key: Key,
    start: i64,
    last: i64,
    states: Vec<(usize, usize)>,
}

/// Sessions as panes.
pub(super) struct SessionPanes {
    /// Columns as the pane schema.
    pub rows: RecordBatch,
    /// The session of each row.
    sessions: Vec<(Key, i64, i64)>,
    /// All sessions that were looked at, those that HAVING leaves out too.
    looked_at: Vec<(Key, i64, i64)>,
    /// Sessions that were sealed before a checkpoint was lost: what was said of them stands.
    sealed_before: Vec<(Key, i64, i64)>,
}

impl Sessions {
    pub fn new(model: &LiveModel, gap: i64) -> Result<Self, ProcessorError> {
        let fields = model.group_schema.fields();
        let sort = fields.iter().map(|field| SortField::new(field.data_type().clone())).collect();
        Ok(Self {
            gap,
            keys: if fields.is_empty() { None } else { Some(RowConverter::new(sort)?) },
            key_columns: fields.len(),
            groups: HashMap::new(),
            queues: [BTreeSet::new(), BTreeSet::new()],
            batches: Vec::new(),
            rows: 0,
            fragments: 0,
            tells_final: model.header.publish == Publish::Store,
        })
    }

    /// Fragments held.
    pub fn len(&self) -> usize {
        self.fragments
    }

    /// Bytes held, about.
    pub fn size(&self) -> usize {
        let states: usize = self.batches.iter().map(RecordBatch::get_array_memory_size).sum();
        states + self.fragments * size_of::<Fragment>() + self.groups.len() * (size_of::<GroupSessions>() + 64)
    }

    /// What must have been passed for a session to be over: an event at its very end would still belong to it.
    fn over_at(&self, last: i64) -> i64 {
        last.saturating_add(self.gap + 1)
    }

    /// Takes fragments of an input partition. Gives the number of those that were over at `sealed_until`, and are known
    /// or too late.
    pub fn take(
        &mut self,
        partition: i32,
        as_of: i64,
        fragments: RecordBatch,
        sealed_until: Option<i64>,
    ) -> Result<usize, ProcessorError> {
        let keys = self.keys_of(&fragments)?;
        let own = fragments.num_columns() - 3;
        let number = |column: usize| fragments.column(own + column).as_primitive::<Int64Type>().values().clone();
        let (ids, firsts, lasts) = (number(0), number(1), number(2));
        let batch = self.batches.len() as u32;
        let mut too_late = 0;
        for (row, key) in keys.into_iter().enumerate() {
            let (id, first, last) = (ids[row], firsts[row], lasts[row]);
            let over_at = self.over_at(last);
            let is_over = sealed_until.is_some_and(|sealed| over_at <= sealed);
            if is_over && !self.groups.contains_key(&key) {
                too_late += 1;
                continue;
            }
            let new = Fragment { partition, id, as_of, first, last, batch, row: row as u32 };
            let group = self.groups.entry(key.clone()).or_default();
            match group.fragments.iter_mut().find(|known| known.partition == partition && known.id == id) {
                Some(known) if known.as_of >= as_of => continue,
                Some(known) => *known = new,
                None if is_over => {
                    too_late += 1;
                    continue;
                }
                None => {
                    group.fragments.push(new);
                    self.fragments += 1;
                }
            }
            self.queue(&key, Stage::Sealed, over_at);
            if self.tells_final {
                // What was said of the group may be wrong now.
                let said = self.groups.get(&key).is_some_and(|group| !group.published.is_empty());
                self.queue(&key, Stage::Final, if said { i64::MIN } else { over_at });
            }
        }
        self.rows += fragments.num_rows();
        self.batches.push(fragments);
        if self.rows > 2 * self.fragments + 4_096 || self.batches.len() > 1_024 {
            self.compact()?;
        }
        Ok(too_late)
    }

    fn keys_of(&mut self, fragments: &RecordBatch) -> Result<Vec<Key>, ProcessorError> {
        let Some(converter) = &mut self.keys else { return Ok(vec![Key::from([]); fragments.num_rows()]) };
        let rows = converter.convert_columns(&fragments.columns()[..self.key_columns])?;
        Ok(rows.iter().map(|row| Key::from(row.as_ref())).collect())
    }

    /// Sees to it that the group is looked at when `when` has been reached, or before.
    fn queue(&mut self, key: &Key, stage: Stage, when: i64) {
        let Some(group) = self.groups.get_mut(key) else { return };
        let queued = &mut group.queued[stage as usize];
        if queued.is_none_or(|queued| when < queued) {
            if let Some(before) = queued.replace(when) {
                self.queues[stage as usize].remove(&(before, key.clone()));
            }
            self.queues[stage as usize].insert((when, key.clone()));
        }
    }

    /// The groups whose time has come.
    fn due(&mut self, stage: Stage, reached: i64) -> Vec<Key> {
        let mut due = Vec::new();
        while self.queues[stage as usize].first().is_some_and(|(when, _)| *when <= reached) {
            if let Some((_, key)) = self.queues[stage as usize].pop_first() {
                if let Some(group) = self.groups.get_mut(&key) {
                    group.queued[stage as usize] = None;
                }
                due.push(key);
            }
        }
        due
    }

    /// The sessions of a group, in the order of time.
    fn sessions_of(&self, key: &Key) -> Vec<Session> {
        let Some(group) = self.groups.get(key) else { return Vec::new() };
        let mut fragments: Vec<&Fragment> = group.fragments.iter().collect();
        fragments.sort_unstable_by_key(|f| (f.first, f.partition, f.id));
        let mut sessions: Vec<Session> = Vec::new();
        for fragment in fragments {
            let state = (fragment.batch as usize, fragment.row as usize);
            match sessions.last_mut() {
                Some(session) if fragment.first <= session.last.saturating_add(self.gap) => {
                    session.last = session.last.max(fragment.last);
                    session.states.push(state);
                }
                _ => sessions.push(Session {
                    key: key.clone(),
                    start: fragment.first,
                    last: fragment.last,
                    states: vec![state],
                }),
            }
        }
        sessions
    }

    /// Takes out the sessions that are over when `sealed_until` has been reached; without it, all.
    /// Those that began before `counts_from` are not whole, and those that were over at `sealed_before` were sealed then:
    /// they are only taken out.
    pub fn seal(
        &mut self,
        model: &LiveModel,
        sealed_until: Option<i64>,
        sealed_before: Option<i64>,
        counts_from: Option<i64>,
    ) -> Result<SessionPanes, ProcessorError> {
        let reached = sealed_until.unwrap_or(i64::MAX);
        let mut sealed = Vec::new();
        for key in self.due(Stage::Sealed, reached) {
            for session in self.sessions_of(&key) {
                let over_at = self.over_at(session.last);
                if over_at > reached {
                    self.queue(&key, Stage::Sealed, over_at);
                    continue;
                }
                sealed.push(session);
            }
        }
        let is_new = |session: &&Session| sealed_before.is_none_or(|before| self.over_at(session.last) > before);
        let (new, old): (Vec<&Session>, Vec<&Session>) = sealed.iter().partition(is_new);
        let mut panes = self.panes(model, &new, counts_from)?;
        panes.sealed_before = old.iter().map(|s| (s.key.clone(), s.start, s.last)).collect();
        for session in &sealed {
            if let Some(group) = self.groups.get_mut(&session.key) {
                let before = group.fragments.len();
                group.fragments.retain(|f| f.first < session.start || f.first > session.last);
                self.fragments -= before - group.fragments.len();
                if group.fragments.is_empty() {
                    if let Some(when) = group.queued[Stage::Final as usize].take() {
                        self.queues[Stage::Final as usize].remove(&(when, session.key.clone()));
                    }
                    if group.published.is_empty() {
                        self.groups.remove(&session.key);
                    }
                }
            }
        }
        if self.fragments == 0 {
            self.batches.clear();
            self.rows = 0;
        }
        Ok(panes)
    }

    /// The sessions that are final when `final_until` has been reached, of groups of which nothing was said or what was
    /// said may be wrong; without it, all sessions are.
    pub fn newly_final(
        &mut self,
        model: &LiveModel,
        final_until: Option<i64>,
        counts_from: Option<i64>,
    ) -> Result<SessionPanes, ProcessorError> {
        let reached = final_until.unwrap_or(i64::MAX);
        let mut found = Vec::new();
        for key in self.due(Stage::Final, reached) {
            for session in self.sessions_of(&key) {
                let over_at = self.over_at(session.last);
                match over_at > reached {
                    true => self.queue(&key, Stage::Final, over_at),
                    false => found.push(session),
                }
            }
        }
        self.panes(model, &found.iter().collect::<Vec<_>>(), counts_from)
    }

    /// All sessions that are final when `final_until` has been reached; without it, all there are.
    pub fn all_final(
        &self,
        model: &LiveModel,
        final_until: Option<i64>,
        counts_from: Option<i64>,
    ) -> Result<RecordBatch, ProcessorError> {
        let mut keys: Vec<&Key> = self.groups.keys().collect();
        keys.sort_unstable();
        let sessions: Vec<Session> = keys
            .into_iter()
            .flat_map(|key| self.sessions_of(key))
            .filter(|session| final_until.is_none_or(|reached| self.over_at(session.last) <= reached))
            .collect();
        Ok(self.panes(model, &sessions.iter().collect::<Vec<_>>(), counts_from)?.rows)
    }

    /// The first start of all sessions held.
    pub fn first_start(&self) -> Option<i64> {
        self.groups.values().flat_map(|group| &group.fragments).map(|f| f.first).min()
    }

    /// The last event time of all sessions held.
    pub fn newest(&self) -> Option<i64> {
        self.groups.values().flat_map(|group| &group.fragments).map(|f| f.last).max()
    }

    fn panes(
        &self,
        model: &LiveModel,
        sessions: &[&Session],
        counts_from: Option<i64>,
    ) -> Result<SessionPanes, ProcessorError> {
        let is_whole = |session: &&Session| counts_from.is_none_or(|from| session.start >= from);
        let whole: Vec<&Session> = sessions.iter().copied().filter(is_whole).collect();
        if whole.is_empty() {
            let rows = RecordBatch::new_empty(model.pane_schema().clone());
            let none = Vec::new;
            return Ok(SessionPanes { rows, sessions: none(), looked_at: none(), sealed_before: none() });
        }
        let mut places = Vec::new();
        let mut session_of_row = Vec::new();
        let mut first_rows = Vec::new();
        for (number, session) in whole.iter().enumerate() {
            first_rows.push(places.len() as u32);
            places.extend_from_slice(&session.states);
            session_of_row.extend(std::iter::repeat_n(number, session.states.len()));
        }
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let states = interleave_record_batch(&batches, &places)?;
        let (groups, rest) = states.columns().split_at(self.key_columns);
        let first_rows = UInt32Array::from(first_rows);
        let groups = groups.iter().map(|g| take(g, &first_rows, None)).collect::<Result<Vec<_>, _>>()?;
        let of_model = |e| ProcessorError::of(model, e);
        let mut accumulators = Accumulators::new(model).map_err(of_model)?;
        accumulators.merge(&rest[..rest.len() - 3], model, &session_of_row, whole.len()).map_err(of_model)?;
        let values = accumulators.emit_values().map_err(of_model)?;
        let time = |value: &dyn Fn(&Session) -> i64| -> ArrayRef {
            let times: TimestampMillisecondArray = whole.iter().map(|s| Some(value(s))).collect();
            Arc::new(times.with_timezone("UTC"))
        };
        let (starts, ends) = (time(&|s| s.start), time(&|s| s.last.saturating_add(self.gap)));
        let (rows, kept) = model.finish(Aggregated { groups, values }, starts, ends).map_err(of_model)?;
        let looked_at: Vec<_> = whole.iter().map(|s| (s.key.clone(), s.start, s.last)).collect();
        let sessions = match kept {
            None => looked_at.clone(),
            Some(kept) => kept.values().iter().map(|at| looked_at[*at as usize].clone()).collect(),
        };
        Ok(SessionPanes { rows, sessions, looked_at, sealed_before: Vec::new() })
    }

    /// Remembers what is said of a row, and tells whether it is new.
    pub fn say(&mut self, panes: &SessionPanes, row: usize, id: &str, measures: u64) -> (Published, bool) {
        let (key, start, last) = &panes.sessions[row];
        let Some(group) = self.groups.get_mut(key) else { return Published::next(None, measures) };
        let before = group.published.iter().position(|p| p.id == id);
        let (said, is_new) = Published::next(before.map(|at| &group.published[at].said), measures);
        let session = PublishedSession { id: id.to_owned(), start: *start, last: *last, said };
        match before {
            Some(at) => group.published[at] = session,
            None => group.published.push(session),
        }
        (said, is_new)
    }

    /// Ids and starts of published sessions that are none now; and forgets what is sealed. Call it after [`Sessions::say`] of
    /// all rows.
    pub fn retract(&mut self, panes: &SessionPanes, are_sealed: bool) -> Vec<(String, i64)> {
        let mut retracted = Vec::new();
        let with_rows: HashSet<(&Key, i64)> = panes.sessions.iter().map(|(key, start, _)| (key, *start)).collect();
        let looked_at = panes.looked_at.iter().map(|session| (session, with_rows.contains(&(&session.0, session.1))));
        for ((key, start, last), stands) in looked_at.chain(panes.sealed_before.iter().map(|session| (session, true))) {
            let Some(group) = self.groups.get_mut(key) else { continue };
            // What lies in this session and is another was said too early.
            group.published.retain(|p| {
                let lies_in = p.start >= *start && p.last <= *last;
                let is_this = stands && p.start == *start && p.last == *last;
                if lies_in && !is_this {
                    retracted.push((p.id.clone(), p.start));
                }
                !lies_in || (is_this && !are_sealed)
            });
            if group.fragments.is_empty() && group.published.is_empty() {
                self.groups.remove(key);
            }
        }
        retracted
    }

    /// All states into one batch, without those that are no fragment's any more.
    fn compact(&mut self) -> Result<(), ProcessorError> {
        if self.fragments == 0 {
            self.batches.clear();
            self.rows = 0;
            return Ok(());
        }
        let mut places = Vec::with_capacity(self.fragments);
        for fragment in self.groups.values_mut().flat_map(|group| &mut group.fragments) {
            places.push((fragment.batch as usize, fragment.row as usize));
            (fragment.batch, fragment.row) = (0, places.len() as u32 - 1);
        }
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        let all = interleave_record_batch(&batches, &places)?;
        self.rows = all.num_rows();
        self.batches = vec![all];
        Ok(())
    }

    pub fn save(&self) -> Result<SavedSessions, ProcessorError> {
        let mut keys: Vec<&Key> = self.groups.keys().collect();
        keys.sort_unstable();
        let mut saved = SavedSessions::default();
        let mut places = Vec::new();
        for key in keys {
            let group = &self.groups[key];
            for fragment in &group.fragments {
                places.push((fragment.batch as usize, fragment.row as usize));
                saved.fragments.push(Fragment { batch: 0, row: places.len() as u32 - 1, ..fragment.clone() });
            }
            if !group.published.is_empty() {
                saved.published.push((key.to_vec(), group.published.clone()));
            }
        }
        if !places.is_empty() {
            let batches: Vec<&RecordBatch> = self.batches.iter().collect();
            saved.states = Some(arrow_bytes::to_bytes(&interleave_record_batch(&batches, &places)?)?);
        }
        Ok(saved)
    }

    pub fn restored(model: &LiveModel, gap: i64, saved: SavedSessions) -> Result<Self, ProcessorError> {
        let mut sessions = Self::new(model, gap)?;
        for (key, published) in saved.published {
            sessions.groups.entry(Key::from(key)).or_default().published = published;
        }
        let Some(bytes) = saved.states else { return Ok(sessions) };
        let states = arrow_bytes::from_bytes(&bytes, &fragment_schema(model))?;
        let keys = sessions.keys_of(&states)?;
        sessions.rows = states.num_rows();
        sessions.batches.push(states);
        for (key, fragment) in keys.into_iter().zip(saved.fragments) {
            let over_at = sessions.over_at(fragment.last);
            sessions.groups.entry(key.clone()).or_default().fragments.push(fragment);
            sessions.fragments += 1;
            sessions.queue(&key, Stage::Sealed, over_at);
            if sessions.tells_final {
                sessions.queue(&key, Stage::Final, over_at);
            }
        }
        Ok(sessions)
    }
}
