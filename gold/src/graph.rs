//! Which model comes after which.

use crate::{GoldModel, ModelError};
use petgraph::{Direction, algo::toposort, graphmap::DiGraphMap, visit::Dfs};

/// The models and what they read of each other.
pub struct Graph<'a> {
    models: &'a [GoldModel],
    /// From what is read to who reads it, by place in `models`.
    edges: DiGraphMap<usize, ()>,
    order: Vec<usize>,
}

impl<'a> Graph<'a> {
    /// Of models with different names.
    ///
    /// # Errors
    /// When a model reads one that there is not, or models read each other in a circle.
    pub fn new(models: &'a [GoldModel]) -> Result<Self, ModelError> {
        let mut edges = DiGraphMap::new();
        for (at, model) in models.iter().enumerate() {
            edges.add_node(at);
            for need in model.needs().filter(|need| !WRITTEN_ELSEWHERE.contains(need)) {
                let from = models.iter().position(|m| m.name == need).ok_or_else(|| ModelError::Missing {
                    model: model.name.clone(),
                    missing: format!("gold.{need}"),
                })?;
                edges.add_edge(from, at, ());
            }
        }
        let order = toposort(&edges, None)
            .map_err(|circle| ModelError::Circle(format!("{} is in it", models[circle.node_id()].name)))?;
        Ok(Self { models, edges, order })
    }

    /// All models, each after those that it reads.
    pub fn in_order(&self) -> impl Iterator<Item = &'a GoldModel> {
        self.order.iter().map(|at| &self.models[*at])
    }

    /// Those of these names and all that they read, each after those that it reads. None: all.
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

/// Tables of gold that no model makes: the stream's, and the history of runs.
const WRITTEN_ELSEWHERE: [&str; 2] = ["alerts", "runs"];

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
        let graph = Graph::new(&models).unwrap();
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
    fn circles_and_gaps_are_named() {
        let error =
            |texts: &[(&str, &str)]| Graph::new(&models(texts)).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error(&[("a", "gold.b"), ("b", "gold.a")]).contains("circle"));
        assert_eq!(error(&[("a", "gold.nothing")]), "model a reads gold.nothing, which no model makes");
    }
}
