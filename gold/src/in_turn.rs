//! In which order models run, and how many at a time.

use crate::GoldModel;
use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::mpsc,
    thread,
};

/// The stack of a thread that plans questions: plans are walked by recursion, those of long questions deeply.
pub const STACK_BYTES: usize = 32 << 20;

/// Runs `work` for each of these models once it has ended for those of them that the model reads, for `at_once` of them at a
/// time; of two that could begin, for the one that stands before the other. `ended` hears of each end, in this thread, and
/// whether more are begun hangs on what it says. Gives the first break, after all that had begun have ended, too.
pub fn in_turn<'a, T: Send, B>(
    models: &[&'a GoldModel],
    at_once: usize,
    work: impl Fn(&'a GoldModel) -> T + Sync,
    mut ended: impl FnMut(&'a GoldModel, T) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let mut open: BTreeSet<&str> = models.iter().map(|model| &*model.name).collect();
    let mut next = models.to_vec();
    let (send, ends) = mpsc::channel();
    let (mut running, mut flow) = (0, ControlFlow::Continue(()));
    thread::scope(|scope| {
        loop {
            while flow.is_continue() && running < at_once.max(1) {
                let is_ready = |model: &&GoldModel| !model.needs().any(|need| open.contains(need));
                let Some(model) = next.iter().position(is_ready).map(|at| next.remove(at)) else { break };
                let (tell, work) = (send.clone(), &work);
                let run = move || drop(tell.send((model, catch_unwind(AssertUnwindSafe(|| work(model))))));
                let begun = thread::Builder::new().name(model.name.clone()).stack_size(STACK_BYTES);
                match begun.spawn_scoped(scope, run) {
                    Ok(_) => running += 1,
                    // The machine has no thread left: when one of the others ends, or else in this one.
                    Err(_) if running > 0 => {
                        next.insert(0, model);
                        break;
                    }
                    Err(_) => {
                        running += 1;
                        drop(send.send((model, Ok(work(model)))));
                    }
                }
            }
            if running == 0 {
                return flow;
            }
            let Ok((model, done)) = ends.recv() else { return flow };
            running -= 1;
            open.remove(&*model.name);
            let told = ended(model, done.unwrap_or_else(|panic| resume_unwind(panic)));
            if flow.is_continue() {
                flow = told;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::SessionContext;
    use rand::{Rng, SeedableRng, rngs::StdRng};
    use std::{
        sync::{Mutex, mpsc::RecvTimeoutError},
        time::Duration,
    };

    /// Models that read some of those before them.
    fn models(random: &mut StdRng) -> Vec<GoldModel> {
        let state = SessionContext::new().state();
        let count = random.random_range(1..12);
        let model = |at: usize| {
            let read: String =
                (0..at).filter(|_| random.random_bool(0.3)).map(|to| format!(" JOIN gold.m{to} ON true")).collect();
            let sql = format!("-- title: T\nSELECT 1 AS one FROM silver.orders{read}");
            GoldModel::parse(&format!("m{at}"), "kpis", &sql, None, &state).unwrap()
        };
        (0..count).map(model).collect()
    }

    #[test]
    fn each_begins_when_what_it_reads_has_ended_and_never_too_many_at_once() {
        for seed in 0..200 {
            let random = &mut StdRng::seed_from_u64(seed);
            let models = models(random);
            let refs: Vec<&GoldModel> = models.iter().collect();
            let at_once = random.random_range(1..4);
            // Names of those that run, and of those that have ended.
            let state = Mutex::new((0, BTreeSet::new()));
            let work = |model: &GoldModel| {
                let mut now = state.lock().unwrap();
                now.0 += 1;
                assert!(now.0 <= at_once, "seed {seed}");
                assert!(model.needs().all(|need| now.1.contains(need)), "seed {seed}: {} came too soon", model.name);
                drop(now);
                thread::yield_now();
                let mut now = state.lock().unwrap();
                now.0 -= 1;
                now.1.insert(model.name.clone());
                model.name.len()
            };
            let mut told = 0;
            let flow = in_turn::<_, ()>(&refs, at_once, work, |model, done| {
                assert_eq!(done, model.name.len());
                told += 1;
                ControlFlow::Continue(())
            });
            assert!(flow.is_continue() && told == models.len() && state.lock().unwrap().1.len() == told, "seed {seed}");
        }
    }

    fn apart(names: &[&str]) -> Vec<GoldModel> {
        let state = SessionContext::new().state();
        let sql = "-- title: T\nSELECT * FROM silver.orders";
        names.iter().map(|name| GoldModel::parse(name, "kpis", sql, None, &state).unwrap()).collect()
    }

    #[test]
    fn two_that_do_not_read_each_other_run_at_the_same_time() {
        let models = apart(&["a", "b", "c"]);
        let refs: Vec<&GoldModel> = models.iter().collect();
        let (send, receive) = mpsc::channel();
        let receive = Mutex::new(receive);
        // a ends when b has begun.
        let work = |model: &GoldModel| match &*model.name {
            "a" => receive.lock().unwrap().recv_timeout(Duration::from_secs(60)),
            "b" => send.send(()).map_err(|_| RecvTimeoutError::Disconnected),
            _ => Ok(()),
        };
        let flow = in_turn(&refs, 2, work, |model, met| match met {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(model.name.clone()),
        });
        assert_eq!(flow, ControlFlow::Continue(()));
    }

    #[test]
    fn after_a_break_nothing_more_is_begun() {
        let models = apart(&["a", "b", "c", "d"]);
        let refs: Vec<&GoldModel> = models.iter().collect();
        let begun = Mutex::new(Vec::new());
        let flow = in_turn(
            &refs,
            1,
            |model| begun.lock().unwrap().push(model.name.clone()),
            |model, ()| {
                if model.name == "b" { ControlFlow::Break(7) } else { ControlFlow::Continue(()) }
            },
        );
        assert_eq!(flow, ControlFlow::Break(7));
        assert_eq!(*begun.lock().unwrap(), ["a", "b"]);
    }

    #[test]
    fn a_panic_is_not_lost() {
        let models = apart(&["a", "b"]);
        let refs: Vec<&GoldModel> = models.iter().collect();
        let work = |model: &GoldModel| assert!(model.name != "a", "as asked");
        let caught =
            catch_unwind(AssertUnwindSafe(|| in_turn::<_, ()>(&refs, 2, work, |_, ()| ControlFlow::Continue(()))));
        assert!(caught.is_err());
    }
}
