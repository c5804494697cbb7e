//! The series of a model and their roll-ups, numbered.

use serde::{Deserialize, Serialize};
use std::{collections::HashMap, sync::Arc};
use xxhash_rust::xxh3::Xxh3;

/// What a series has in a group column.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Member {
    /// All values: a roll-up.
    All,
    /// This one; None is null.
    Value(Option<Arc<str>>),
}

/// Number of a series or a roll-up.
pub type NodeId = u32;

/// Numbers the groups of a model and the roll-ups they are in: one for each group column alone, and one of all.
/// A group that is gone gives its number free.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Nodes {
    group_columns: usize,
    rolls_up: bool,
    series_max: usize,
    slots: Vec<Slot>,
    free: Vec<NodeId>,
    series: usize,
    #[serde(skip)]
    index: HashMap<u64, NodeId>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Slot {
    group: Vec<Member>,
    hash: u64,
    is_used: bool,
    last_seen: i64,
    /// Of a roll-up: the groups in it.
    children: Vec<NodeId>,
    /// Of a group: the roll-ups it is in.
    parents: Vec<NodeId>,
}

impl Nodes {
    /// Of nobody yet. Without `rolls_up`, groups have no roll-ups.
    pub fn new(group_columns: usize, series_max: usize, rolls_up: bool) -> Self {
        Self { group_columns, series_max, rolls_up, ..Self::default() }
    }

    /// The node of a group, made when it is new; none when so many are held that it is not. `seen` is the window's start.
    pub fn of(&mut self, group: &[Option<Arc<str>>], seen: i64) -> Option<NodeId> {
        let hash = hash(group.iter().map(|value| Some(value.as_deref())));
        if let Some(node) = self.find(hash, |member, at| matches!(member, Member::Value(v) if *v == group[at])) {
            self.slots[node as usize].last_seen = seen;
            return Some(node);
        }
        if self.series >= self.series_max {
            return None;
        }
        self.series += 1;
        let node = self.insert(group.iter().cloned().map(Member::Value).collect(), hash);
        self.slots[node as usize].last_seen = seen;
        for roll_up in self.roll_ups(group) {
            let hash = hash_of(&roll_up);
            let parent = match self.find(hash, |member, at| *member == roll_up[at]) {
                Some(parent) => parent,
                None => self.insert(roll_up, hash),
            };
            self.slots[parent as usize].children.push(node);
            self.slots[node as usize].parents.push(parent);
        }
        Some(node)
    }

    /// Forgets the groups not seen since a window's start, and roll-ups without groups. Gives what is free now.
    pub fn forget_before(&mut self, start: i64) -> Vec<NodeId> {
        let gone = |slot: &Slot| slot.is_used && !slot.parents.is_empty() | !self.rolls_up && slot.last_seen < start;
        let gone: Vec<NodeId> =
            (0..self.slots.len()).filter(|at| gone(&self.slots[*at])).map(|at| at as NodeId).collect();
        let mut freed = Vec::new();
        for node in gone {
            self.series -= 1;
            for parent in std::mem::take(&mut self.slots[node as usize].parents) {
                self.slots[parent as usize].children.retain(|child| *child != node);
                if self.slots[parent as usize].children.is_empty() {
                    self.release(parent, &mut freed);
                }
            }
            self.release(node, &mut freed);
        }
        if !freed.is_empty() {
            // Not by taking out: a chain of equal hashes must have no hole.
            self.reindex();
        }
        freed
    }

    /// The group of a node.
    pub fn group(&self, node: NodeId) -> &[Member] {
        &self.slots[node as usize].group
    }

    /// The groups of a roll-up; nobody, for a group.
    pub fn children(&self, node: NodeId) -> &[NodeId] {
        &self.slots[node as usize].children
    }

    /// The roll-ups that a group is in.
    pub fn parents(&self, node: NodeId) -> &[NodeId] {
        &self.slots[node as usize].parents
    }

    /// The roll-ups that cover all of a group or roll-up, the narrowest first.
    pub fn wider(&self, node: NodeId) -> Vec<NodeId> {
        let (series, own) = (self.children(node).first().unwrap_or(&node), self.group(node));
        let covers = |wide: &[Member]| wide.iter().zip(own).all(|(wide, own)| *wide == Member::All || wide == own);
        let mut wider: Vec<NodeId> = self
            .parents(*series)
            .iter()
            .copied()
            .filter(|parent| *parent != node && covers(self.group(*parent)))
            .collect();
        wider.sort_by_key(|parent| self.group(*parent).iter().filter(|member| **member == Member::All).count());
        wider
    }

    /// Numbers given so far: every node is below. Some may be free.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.series == 0
    }

    /// Groups, roll-ups not counted.
    pub fn series(&self) -> usize {
        self.series
    }

    /// Whether a number is somebody's now.
    pub fn is_used(&self, node: NodeId) -> bool {
        self.slots.get(node as usize).is_some_and(|slot| slot.is_used)
    }

    /// All nodes in use.
    pub fn iter(&self) -> impl Iterator<Item = NodeId> {
        self.slots.iter().enumerate().filter(|(_, slot)| slot.is_used).map(|(at, _)| at as NodeId)
    }

    /// To be called after deserialising: the index is not kept.
    pub fn reindex(&mut self) {
        self.index.clear();
        for node in 0..self.slots.len() {
            if self.slots[node].is_used {
                self.enter(self.slots[node].hash, node as NodeId);
            }
        }
    }

    /// The roll-ups of a group. With one column, or none, there is but the one of all, or the group itself.
    fn roll_ups(&self, group: &[Option<Arc<str>>]) -> Vec<Vec<Member>> {
        if !self.rolls_up || self.group_columns == 0 {
            return Vec::new();
        }
        let all = vec![Member::All; self.group_columns];
        let mut roll_ups = Vec::new();
        if self.group_columns > 1 {
            for (at, value) in group.iter().enumerate() {
                let mut one = all.clone();
                one[at] = Member::Value(value.clone());
                roll_ups.push(one);
            }
        }
        roll_ups.push(all);
        roll_ups
    }

    fn find(&self, mut hash: u64, is_it: impl Fn(&Member, usize) -> bool) -> Option<NodeId> {
        // Of two groups with one hash the later stands at the next free one.
        while let Some(node) = self.index.get(&hash) {
            if self.slots[*node as usize].group.iter().enumerate().all(|(at, member)| is_it(member, at)) {
                return Some(*node);
            }
            hash = hash.wrapping_add(1);
        }
        None
    }

    fn enter(&mut self, mut hash: u64, node: NodeId) {
        while self.index.contains_key(&hash) {
            hash = hash.wrapping_add(1);
        }
        self.index.insert(hash, node);
    }

    fn insert(&mut self, group: Vec<Member>, hash: u64) -> NodeId {
        let slot = Slot { group, hash, is_used: true, ..Slot::default() };
        let node = match self.free.pop() {
            Some(node) => {
                self.slots[node as usize] = slot;
                node
            }
            None => {
                self.slots.push(slot);
                (self.slots.len() - 1) as NodeId
            }
        };
        self.enter(hash, node);
        node
    }

    fn release(&mut self, node: NodeId, freed: &mut Vec<NodeId>) {
        self.slots[node as usize] = Slot::default();
        self.free.push(node);
        freed.push(node);
    }
}

fn hash<'a>(members: impl Iterator<Item = Option<Option<&'a str>>>) -> u64 {
    let mut hasher = Xxh3::new();
    for member in members {
        match member {
            None => hasher.update(&[0]),
            Some(None) => hasher.update(&[1]),
            Some(Some(value)) => {
                hasher.update(&[2]);
                hasher.update(&(value.len() as u64).to_le_bytes());
                hasher.update(value.as_bytes());
            }
        }
    }
    hasher.digest()
}

fn hash_of(group: &[Member]) -> u64 {
    hash(group.iter().map(|member| match member {
        Member::All => None,
        Member::Value(value) => Some(value.as_deref()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(country: &str, category: Option<&str>) -> Vec<Option<Arc<str>>> {
        vec![Some(country.into()), category.map(Into::into)]
    }

    #[test]
    fn groups_meet_in_their_roll_ups_and_numbers_are_used_again() {
        let mut nodes = Nodes::new(2, 3, true);
        let (fr_a, fr_b, de_a) = (
            nodes.of(&group("FR", Some("a")), 1),
            nodes.of(&group("FR", None), 2),
            nodes.of(&group("DE", Some("a")), 3),
        );
        assert_eq!(nodes.of(&group("FR", Some("a")), 4), fr_a);
        assert_eq!(nodes.of(&group("IT", Some("a")), 4), None, "three are held");
        let (fr_a, fr_b, de_a) = (fr_a.unwrap(), fr_b.unwrap(), de_a.unwrap());
        let members = |node: NodeId| nodes.children(node).to_vec();
        let parents = nodes.parents(fr_a);
        assert_eq!(
            parents.iter().map(|p| members(*p)).collect::<Vec<_>>(),
            [vec![fr_a, fr_b], vec![fr_a, de_a], vec![fr_a, fr_b, de_a]]
        );
        assert_eq!(nodes.group(parents[2]), [Member::All, Member::All]);
        assert_eq!(nodes.wider(fr_a), parents);
        assert_eq!((nodes.wider(parents[0]), nodes.wider(parents[2])), (vec![parents[2]], vec![]));
        let freed = nodes.forget_before(3);
        assert_eq!(freed.len(), 2, "FR/null, and the roll-up of null: {freed:?}");
        assert!(!nodes.is_used(fr_b) && nodes.is_used(de_a));
        let it = nodes.of(&group("IT", Some("a")), 5).unwrap();
        assert!(freed.contains(&it) && nodes.series() == 3);
        assert_eq!(nodes.of(&group("DE", Some("a")), 6), Some(de_a));
    }
}
