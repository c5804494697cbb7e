//! Segments of customers: k-means over the scaled logarithms of recency, frequency and monetary.
//!
//! The number of segments has the best silhouette over a sample; the segments are then fitted on everyone. A segment keeps the
//! id of the earlier one it continues, and its name says in plain words where its centre lies.

use crate::features::{Features, MlError, Scale, matrix};
use serde::{Deserialize, Serialize};
use smartcore::cluster::kmeans::{KMeans, KMeansParameters};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

/// Customers that the number of segments is chosen by: the silhouette looks at every pair.
const SAMPLE: usize = 5_000;
/// Segments at most.
const SEGMENTS_MAX: usize = 12;
/// Starts of k-means, the best of which counts.
const STARTS: u64 = 10;

/// One customer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rfm {
    /// Days since the last order.
    pub recency_days: f64,
    /// Orders.
    pub frequency: f64,
    /// Revenue.
    pub monetary: f64,
}

/// One segment. The centre is the mean of logarithms brought back to days, orders and money.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// The same from run to run.
    pub id: u32,
    /// Distinct within a run.
    pub name: String,
    /// How many customers are in it.
    pub customers: usize,
    /// Recency, frequency and monetary of its centre.
    pub centre: [f64; 3],
}

/// Who is in which segment.
#[derive(Clone, Debug, PartialEq)]
pub struct Segmentation {
    /// By id.
    pub segments: Vec<Segment>,
    /// Id of the segment, by customer in the order given.
    pub assigned: Vec<u32>,
    /// Mean silhouette of the sample, by number of segments.
    pub silhouettes: BTreeMap<usize, f64>,
}

/// Groups customers into as many segments of `ks` as fit best. `earlier` are the segments of the run before, `next_id` is
/// above every id that was ever used.
///
/// # Errors
/// With too few customers that differ, or a number that is negative or not finite.
pub fn segment(
    customers: &[Rfm],
    ks: RangeInclusive<usize>,
    earlier: &[Segment],
    next_id: u32,
    seed: u64,
) -> Result<Segmentation, MlError> {
    if *ks.start() < 2 || *ks.end() > SEGMENTS_MAX || ks.is_empty() || earlier.len() > SEGMENTS_MAX {
        return Err(MlError::Shape(format!(
            "2 to {SEGMENTS_MAX} segments are possible, not {ks:?} after {}",
            earlier.len()
        )));
    }
    let names = ["recency_days", "frequency", "monetary"].map(String::from).to_vec();
    let table: Vec<Vec<f64>> = customers.iter().map(|c| vec![c.recency_days, c.frequency, c.monetary]).collect();
    let features = Features::new(names, &table)?;
    // Evenly through the customers, as they come: as good as chance, and the same every time.
    let sample_rows = features.rows().min(SAMPLE);
    let sample = |rows: &[Vec<f64>]| -> Vec<Vec<f64>> {
        (0..sample_rows).map(|at| rows[at * rows.len() / sample_rows].clone()).collect()
    };
    let distinct: BTreeSet<Vec<u64>> =
        sample(features.logs()).iter().map(|row| row.iter().map(|x| x.to_bits()).collect()).collect();
    if distinct.len() <= *ks.start() {
        return Err(MlError::TooFewRows {
            part: "customers that differ",
            rows: distinct.len(),
            needed: ks.start() + 1,
        });
    }
    let rows = Scale::of(features.logs(), "customers")?.apply(features.logs());
    let sample = sample(&rows);
    let mut silhouettes = BTreeMap::new();
    for k in ks.filter(|k| *k < distinct.len()) {
        // So many may leave a cluster empty, whatever the start.
        if let Ok(labels) = clusters(&sample, k, seed) {
            silhouettes.insert(k, silhouette(&sample, &labels, k));
        }
    }
    if silhouettes.is_empty() {
        return Err(MlError::TooFewRows {
            part: "customers that differ",
            rows: distinct.len(),
            needed: distinct.len() + 1,
        });
    }
    let k = silhouettes.iter().fold((0, f64::MIN), |best, (k, s)| if *s > best.1 { (*k, *s) } else { best }).0;
    let labels = clusters(&rows, k, seed)?;
    let (centres, sizes) = means(features.logs(), &labels, k);

    let ids = continued(earlier, &centres, next_id);
    let readable: Vec<[f64; 3]> = centres.iter().map(|c| [c[0].exp_m1(), c[1].exp_m1(), c[2].exp_m1()]).collect();
    let names = names_of(&readable);
    let mut segments: Vec<Segment> = (0..k)
        .map(|at| Segment { id: ids[at], name: names[at].clone(), customers: sizes[at], centre: readable[at] })
        .collect();
    segments.sort_by_key(|segment| segment.id);
    Ok(Segmentation { segments, assigned: labels.into_iter().map(|at| ids[at]).collect(), silhouettes })
}

/// The best of some starts of k-means: the least sum of squared distances.
fn clusters(rows: &[Vec<f64>], k: usize, seed: u64) -> Result<Vec<usize>, MlError> {
    let failed = |source| MlError::Fit { what: "k-means", source };
    let points = matrix(rows)?;
    let mut best: Option<(f64, Vec<usize>)> = None;
    for start in 0..STARTS {
        let parameters = KMeansParameters { k, max_iter: 100, seed: Some(seed.wrapping_add(start)) };
        let fitted = KMeans::<f64, u32, _, Vec<u32>>::fit(&points, parameters).map_err(failed)?;
        let labels: Vec<usize> = fitted.predict(&points).map_err(failed)?.into_iter().map(|at| at as usize).collect();
        let (centres, sizes) = means(rows, &labels, k);
        let cost: f64 = rows.iter().zip(&labels).map(|(row, at)| distance(row, &centres[*at]).powi(2)).sum();
        if !sizes.contains(&0) && best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, labels));
        }
    }
    best.map(|(_, labels)| labels).ok_or(MlError::TooFewRows {
        part: "customers that differ",
        rows: rows.len(),
        needed: k + 1,
    })
}

fn means(rows: &[Vec<f64>], labels: &[usize], k: usize) -> (Vec<Vec<f64>>, Vec<usize>) {
    let (mut sums, mut sizes) = (vec![vec![0.0; rows[0].len()]; k], vec![0; k]);
    for (row, at) in rows.iter().zip(labels) {
        sizes[*at] += 1;
        sums[*at].iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    for (sum, size) in sums.iter_mut().zip(&sizes) {
        sum.iter_mut().for_each(|x| *x /= (*size).max(1) as f64);
    }
    (sums, sizes)
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

/// Mean over all rows of (b − a) / max(a, b): a is the mean distance to the others of its cluster, b the least mean distance
/// to another one; 0 for a row alone (P. Rousseeuw, J. Computational and Applied Mathematics 20, 1987).
fn silhouette(rows: &[Vec<f64>], labels: &[usize], k: usize) -> f64 {
    let mut sizes = vec![0.0; k];
    labels.iter().for_each(|at| sizes[*at] += 1.0);
    let one = |row: &[f64], own: usize| {
        let mut sums = vec![0.0; k];
        rows.iter().zip(labels).for_each(|(other, at)| sums[*at] += distance(row, other));
        if sizes[own] < 2.0 {
            return 0.0;
        }
        let a = sums[own] / (sizes[own] - 1.0);
        let b =
            (0..k).filter(|at| *at != own && sizes[*at] > 0.0).map(|at| sums[at] / sizes[at]).fold(f64::MAX, f64::min);
        if a.max(b) > 0.0 { (b - a) / a.max(b) } else { 0.0 }
    };
    rows.iter().zip(labels).map(|(row, own)| one(row, *own)).sum::<f64>() / rows.len() as f64
}

/// Ids of the centres (logarithms): those of the earlier segments in the pairing of least total distance, then new ones.
/// The distance is between logarithms and not scaled: the scale of a run is its own.
fn continued(earlier: &[Segment], centres: &[Vec<f64>], mut next_id: u32) -> Vec<u32> {
    let before: Vec<Vec<f64>> = earlier.iter().map(|s| s.centre.iter().map(|x| x.ln_1p()).collect()).collect();
    let unpaired_max = centres.len().saturating_sub(before.len());
    // By which earlier segments are taken: the least total distance so far, and who took what.
    let mut best = BTreeMap::from([(0_u32, (0.0, Vec::<Option<usize>>::new()))]);
    for centre in centres {
        let mut next: BTreeMap<u32, (f64, Vec<Option<usize>>)> = BTreeMap::new();
        for (taken, (total, pairs)) in &best {
            let unpaired = pairs.len() - taken.count_ones() as usize;
            let free = (0..before.len()).filter(|at| taken & (1_u32 << at) == 0).map(Some);
            for pair in free.chain((unpaired < unpaired_max).then_some(None)) {
                let key = pair.map_or(*taken, |at| taken | (1_u32 << at));
                let total = total + pair.map_or(0.0, |at| distance(centre, &before[at]));
                if next.get(&key).is_none_or(|(least, _)| total < *least) {
                    next.insert(key, (total, pairs.iter().copied().chain([pair]).collect()));
                }
            }
        }
        best = next;
    }
    let (_, pairs) =
        best.into_values().min_by(|a, b| a.0.total_cmp(&b.0)).expect("centres can be left unpaired or paired");
    let id = |pair: Option<usize>| match pair {
        Some(at) => earlier[at].id,
        None => {
            next_id += 1;
            next_id - 1
        }
    };
    pairs.into_iter().map(id).collect()
}

/// Names by recency (90 days: churned, as everywhere) and by orders; where two are alike, by money, most first.
fn names_of(centres: &[[f64; 3]]) -> Vec<String> {
    let plain = |[recency, frequency, _]: &[f64; 3]| {
        let activity = match *recency {
            days if days <= 90.0 => "active",
            days if days <= 180.0 => "lapsing",
            _ => "lost",
        };
        let loyalty = match *frequency {
            orders if orders < 1.5 => "one-time",
            orders if orders < 5.0 => "repeat",
            _ => "loyal",
        };
        format!("{activity} {loyalty}")
    };
    let mut alike: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (at, centre) in centres.iter().enumerate() {
        alike.entry(plain(centre)).or_default().push(at);
    }
    let mut names = vec![String::new(); centres.len()];
    for (name, mut members) in alike {
        members.sort_by(|a, b| centres[*b][2].total_cmp(&centres[*a][2]));
        for (rank, at) in members.iter().enumerate() {
            names[*at] = if members.len() == 1 { name.clone() } else { format!("{name}, spend rank {}", rank + 1) };
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three sorts of customers, one after the other, with some spread.
    fn three_sorts(factor: f64) -> Vec<Rfm> {
        (0..300)
            .map(|at| {
                let spread = 1.0 + f64::from(at % 10) / 50.0;
                let (recency, frequency, monetary) =
                    [(400.0, 1.0, 20.0), (200.0, 3.0, 90.0), (20.0, 9.0, 400.0)][at as usize % 3];
                Rfm { recency_days: recency * spread, frequency, monetary: monetary * spread * factor }
            })
            .collect()
    }

    #[test]
    fn three_sorts_of_customers_are_found_and_named() {
        let found = segment(&three_sorts(1.0), 2..=6, &[], 1, 7).unwrap();
        assert_eq!(found.segments.len(), 3, "{:?}", found.silhouettes);
        let names: BTreeSet<&str> = found.segments.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, BTreeSet::from(["active loyal", "lost one-time", "lost repeat"]));
        assert!(found.segments.iter().all(|s| s.customers == 100));
        assert_eq!(found.assigned[0], found.assigned[3]);
        assert_ne!(found.assigned[0], found.assigned[1]);
        assert_eq!(found, segment(&three_sorts(1.0), 2..=6, &[], 1, 7).unwrap());
    }

    #[test]
    fn a_segment_keeps_its_id_whatever_start_finds_it() {
        let first = segment(&three_sorts(1.0), 3..=3, &[], 1, 7).unwrap();
        for seed in 0..5 {
            let mut earlier = first.segments.clone();
            earlier.reverse();
            let second = segment(&three_sorts(1.1), 3..=3, &earlier, 4, seed).unwrap();
            assert_eq!(second.assigned, first.assigned);
        }
    }

    #[test]
    fn a_segment_more_gets_a_new_id_and_one_less_gives_its_up() {
        let at = |id, recency: f64| Segment { id, name: String::new(), customers: 1, centre: [recency, 1.0, 1.0] };
        let logs = |recency: f64| vec![recency.ln_1p(), 1_f64.ln_1p(), 1_f64.ln_1p()];
        let earlier = [at(4, 10.0), at(9, 500.0)];
        assert_eq!(continued(&earlier, &[logs(490.0), logs(60.0), logs(11.0)], 10), [9, 10, 4]);
        assert_eq!(continued(&earlier, &[logs(450.0)], 10), [9]);
        assert_eq!(continued(&[], &[logs(450.0), logs(4.0)], 1), [1, 2]);
        // Nearest first would pair 26 with 10 and leave 500 for 2: all in all that is further.
        assert_eq!(continued(&earlier, &[logs(2.0), logs(26.0)], 10), [4, 9]);
    }

    #[test]
    fn the_silhouette_is_what_the_paper_says() {
        let rows: Vec<Vec<f64>> = [0.0, 2.0, 10.0].iter().map(|x| vec![*x]).collect();
        // (10 − 2) / 10, (8 − 2) / 8, and 0 for the one alone.
        let expected = (0.8 + 0.75 + 0.0) / 3.0;
        assert!((silhouette(&rows, &[0, 0, 1], 2) - expected).abs() < 1e-12);
    }

    #[test]
    fn names_are_distinct() {
        let names = names_of(&[[400.0, 1.0, 10.0], [300.0, 1.2, 80.0], [90.0, 6.0, 300.0]]);
        assert_eq!(names, ["lost one-time, spend rank 2", "lost one-time, spend rank 1", "active loyal"]);
    }

    #[test]
    fn customers_who_do_not_differ_are_no_segments() {
        let same = vec![Rfm { recency_days: 1.0, frequency: 1.0, monetary: 5.0 }; 50];
        assert!(matches!(segment(&same, 2..=8, &[], 1, 7), Err(MlError::TooFewRows { rows: 1, needed: 3, .. })));
        assert!(matches!(segment(&[], 2..=8, &[], 1, 7), Err(MlError::TooFewRows { rows: 0, .. })));
        let broken = [Rfm { recency_days: f64::NAN, frequency: 1.0, monetary: 5.0 }];
        assert!(matches!(segment(&broken, 2..=8, &[], 1, 7), Err(MlError::NotANumber { row: 0, .. })));
    }
}
