//! Which model comes after which.

use crate::{CARDS, GoldModel, ModelError};
use petgraph::{Direction, algo::tarjan_scc, graphmap::DiGraphMap, visit::Dfs};
use std::collections::BTreeMap;

/// The models and what they read of each other.
pub struct Graph<'a> {
    models: &'a [GoldModel],
    /// From what is read to who reads it, by place in `models`.
    edges: DiGraphMap<usize, ()>,
    order: Vec<usize>,
    faults: BTreeMap<String, ModelError>,
}

impl<'a> Graph<'a> {
    /// Of models with different names, and of those whose text is none. What cannot be run is a fault and stands in the way
    /// of nothing but what reads it.
    pub fn new(models: &'a [GoldModel], broken: BTreeMap<String, ModelError>) -> Self {
        let (mut edges, mut faults) = (DiGraphMap::new(), broken);
        for (at, model) in models.iter().enumerate() {
            edges.add_node(at);
            for need in model.needs().filter(|need| !WRITTEN_ELSEWHERE.contains(need)) {
                match models.iter().position(|m| m.name == need) {
                    Some(from) => drop(edges.add_edge(from, at, ())),
                    None if faults.contains_key(need) => {}
                    None => {
                        let (model, missing) = (model.name.clone(), format!("gold.{need}"));
                        faults.insert(model.clone(), ModelError::Missing { model, missing });
                    }
                }
            }
        }
        let mut order = Vec::with_capacity(models.len());
        // Each component comes before those that it reads.
        for mut together in tarjan_scc(&edges).into_iter().rev() {
            if together.len() > 1 || edges.contains_edge(together[0], together[0]) {
                together.sort_unstable();
                let names: Vec<&str> = together.iter().map(|at| &*models[*at].name).collect();
                let circle = names.join(", ");
                faults.extend(names.iter().map(|name| ((*name).to_owned(), ModelError::Circle(circle.clone()))));
            }
            order.append(&mut together);
        }
        order.retain(|at| !faults.contains_key(&models[*at].name));
        Self { models, edges, order, faults }
    }

    /// All models that can be run, each after those that it reads.
    pub fn in_order(&self) -> impl Iterator<Item = &'a GoldModel> {
        self.order.iter().map(|at| &self.models[*at])
    }

    /// The names of those that cannot, and why.
    pub fn faults(&self) -> &BTreeMap<String, ModelError> {
        &self.faults
    }

    /// Those of these names and all that they read, as far as they can be run, each after those that it reads. No names: all.
    pub fn needed(&self, names: &[String]) -> Vec<&'a GoldModel> {
        let mut needed = vec![names.is_empty(); self.models.len()];
        let backwards = petgraph::visit::Reversed(&self.edges);
        for at in (0..self.models.len()).filter(|at| names.contains(&self.models[*at].name)) {
            let mut walk = Dfs::new(backwards, at);
            while let Some(found) = walk.next(backwards) {
                needed[found] = true;
            }
        }
        self.order.iter().filter(|at| needed[**at]).map(|at| &self.models[*at]).collect()
    }

    /// The models that read one.
    pub fn readers(&self, name: &str) -> Vec<&'a str> {
        let Some(at) = self.models.iter().position(|m| m.name == name) else { return Vec::new() };
        let readers = self.edges.neighbors_directed(at, Direction::Outgoing);
        readers.map(|reader| &*self.models[reader].name).collect()
    }
}

/// Tables of gold that no model makes: the stream's, the history of runs, and the cards of what was learnt.
const WRITTEN_ELSEWHERE: [&str; 3] = ["alerts", "runs", CARDS];

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::SessionContext;

    fn models(texts: &[(&str, &str)]) -> Vec<GoldModel> {
        let state = SessionContext::new().state();
        let model = |(name, from): &(&str, &str)| {
            let sql = format!("-- title: T\nSELECT * FROM {from}");
            GoldModel::parse(name, "kpis", &sql, None, &state).unwrap()
        };
        texts.iter().map(model).collect()
    }

    #[test]
    fn each_comes_after_what_it_reads() {
        let models = models(&[
            ("c", "gold.b JOIN gold.a ON true"),
            ("b", "gold.a JOIN gold.alerts ON true"),
            ("a", "orders"),
            ("z", "silver.events"),
        ]);
        let graph = Graph::new(&models, BTreeMap::new());
        let place = |name: &str| graph.in_order().position(|m| m.name == name).unwrap();
        assert!(place("a") < place("b") && place("b") < place("c"));
        let needed: Vec<&str> = graph.needed(&["b".to_owned()]).iter().map(|m| &*m.name).collect();
        assert_eq!(needed, ["a", "b"]);
        assert_eq!(graph.needed(&[]).len(), 4);
        let mut readers = graph.readers("a");
        readers.sort_unstable();
        assert_eq!(readers, ["b", "c"]);
    }

    #[test]
    fn circles_and_gaps_stop_nobody_else() {
        let faults = |texts: &[(&str, &str)]| {
            let models = models(texts);
            let graph = Graph::new(&models, BTreeMap::new());
            let sound: Vec<String> = graph.in_order().map(|model| model.name.clone()).collect();
            let faults = graph.faults().iter().map(|(name, fault)| format!("{name}: {fault}"));
            (sound.join(" "), faults.collect::<Vec<_>>())
        };
        let (sound, told) = faults(&[("a", "gold.b"), ("b", "gold.a"), ("c", "gold.b"), ("d", "orders")]);
        assert!(sound == "c d" || sound == "d c", "{sound}");
        let why = "models read each other in a circle: a, b";
        assert_eq!(told, [format!("a: {why}"), format!("b: {why}")]);
        assert_eq!(faults(&[("a", "gold.a")]).1, ["a: models read each other in a circle: a"]);
        let (sound, told) = faults(&[("a", "gold.nothing"), ("b", "gold.a")]);
        assert_eq!((&*sound, &*told), ("b", &["a: model a reads gold.nothing, which no model makes".to_owned()][..]));

        let models = models(&[("b", "gold.a")]);
        let broken = ModelError::Sql { model: "a".to_owned(), message: "it is no question".to_owned() };
        let graph = Graph::new(&models, [("a".to_owned(), broken)].into());
        assert_eq!((graph.in_order().count(), graph.faults().len()), (1, 1), "what reads it fails when it runs");
    }
}
