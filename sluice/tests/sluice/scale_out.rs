//! Several processes that share the partitions of a real Kafka, and that come and go.

use crate::{
    engine::{check_against_reference, lines, shuffled, write_models, written},
    support::{
        NEEDED, Services, Sluice, data, interrupt, keep_products_out_of_the_store, skipped, terminate, wait_for,
    },
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::{
    fs::{File, read_to_string},
    path::PathBuf,
    process::{Child, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// A member of the cluster, which is started again when it has ended.
struct Member {
    role: &'static str,
    log: PathBuf,
    child: Option<Child>,
    starts: u32,
    /// When it may start again.
    from: Instant,
}

impl Member {
    fn new(sluice: &Sluice, role: &'static str, number: usize) -> Self {
        let log = sluice.path(&format!("{role}-{number}.log"));
        Self { role, log, child: None, starts: 0, from: Instant::now() }
    }

    fn start(&mut self, sluice: &Sluice) {
        let log = File::options().create(true).append(true).open(&self.log).unwrap();
        let command = &mut sluice.command(&[self.role]);
        self.child = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        self.starts += 1;
    }

    /// What a supervisor does: who has ended is started again.
    fn tend(&mut self, sluice: &Sluice) {
        if self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_some()) {
            self.child = None;
        }
        if self.child.is_none() && Instant::now() >= self.from {
            self.start(sluice);
        }
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            terminate(&child);
            let status = child.wait().unwrap();
            assert_eq!(status.code(), Some(0), "{}: {}", self.role, read_to_string(&self.log).unwrap());
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn cluster(sluice: &Sluice) -> Vec<Member> {
    let roles = ["process", "process", "process", "merge", "merge"];
    roles.into_iter().enumerate().map(|(number, role)| Member::new(sluice, role, number)).collect()
}

fn settings(services: &Services, more: &[&str]) -> Vec<String> {
    let mut settings = services.settings();
    settings.push("topics.partitions=8".to_owned());
    settings.push("topics.merge_partitions=2".to_owned());
    // A member that was killed is missed after six seconds, which is the least that a broker allows.
    settings.push(r#"log.kafka.properties={ "session.timeout.ms" = "6000" }"#.to_owned());
    settings.extend(more.iter().map(|s| (*s).to_owned()));
    settings
}

#[test]
fn three_workers_and_two_mergers_give_the_reference_answers() {
    let (Some(data), Some(services)) = (data(), Services::of_the_environment()) else {
        return skipped("a cluster on real input", NEEDED);
    };
    let settings = settings(&services, &["time.out_of_orderness=10m", "models.dir=models", "lake.roll_age=2s"]);
    let sluice = Sluice::with(&settings.iter().map(String::as_str).collect::<Vec<_>>());
    write_models(&sluice);
    keep_products_out_of_the_store(&sluice);
    let mut members = cluster(&sluice);
    members.iter_mut().for_each(|member| member.start(&sluice));
    let has_partitions = |member: &Member| read_to_string(&member.log).unwrap().contains("assigned partitions=\"[");
    wait_for("partitions for everyone", || members.iter().all(has_partitions).then_some(()));
    let file = written(&sluice, &shuffled(&lines(&data), 5));
    sluice.run(&["produce", "replay", file.to_str().unwrap()]);
    wait_for("all events in silver", || {
        sleep(Duration::from_secs(1));
        let output = sluice.output(&["query", "SELECT count(*) FROM silver.events", "--format", "csv"]);
        (String::from_utf8(output.stdout).unwrap().lines().nth(1) == Some("17430")).then_some(())
    });
    members.iter_mut().for_each(Member::stop);
    sluice.run(&["up", "--no-producer", "--until-drained"]);
    check_against_reference(&sluice, &data);
    sluice.verify();
}

#[test]
fn killed_and_started_at_random_under_load_the_ledger_balances_and_the_stream_is_the_batch() {
    let Some(services) = Services::of_the_environment() else { return skipped("chaos on real services", NEEDED) };
    let seconds = std::env::var("SLUICE_TEST_CHAOS_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(40);
    let seed: u64 = std::env::var("SLUICE_TEST_CHAOS_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let settings = settings(&services, &["lake.roll_age=1s", "simulate.rate=1500", "simulate.malformed=0.002"]);
    let sluice = Sluice::with(&settings.iter().map(String::as_str).collect::<Vec<_>>());
    keep_products_out_of_the_store(&sluice);
    let mut members = cluster(&sluice);
    let mut producer = sluice.start(&["produce", "simulate"]);
    let began = Instant::now();
    let mut kills = 0;
    let mut next_kill = Duration::from_secs(5);
    while began.elapsed() < Duration::from_secs(seconds) {
        members.iter_mut().for_each(|member| member.tend(&sluice));
        if began.elapsed() >= next_kill {
            next_kill += Duration::from_millis(random.random_range(500..6_000));
            let at = random.random_range(0..members.len());
            let member = &mut members[at];
            member.from = Instant::now() + Duration::from_millis(random.random_range(0..4_000));
            if let Some(child) = &mut member.child {
                match random.random_bool(0.8) {
                    true => child.kill().unwrap(),
                    false => terminate(child),
                }
                kills += 1;
            }
        }
        sleep(Duration::from_millis(50));
    }
    interrupt(&producer);
    assert!(producer.wait().unwrap().success());
    // Everyone is well again and catches up; then they end as they should.
    let caught_up = Instant::now() + Duration::from_secs(15);
    while Instant::now() < caught_up {
        members.iter_mut().for_each(|member| member.tend(&sluice));
        sleep(Duration::from_millis(100));
    }
    members.iter_mut().for_each(Member::stop);
    sluice.run(&["up", "--no-producer", "--until-drained"]);
    let report = sluice.verify();
    let of_all = |field: &str| -> i64 {
        report["partitions"].as_array().unwrap().iter().map(|p| p[field].as_i64().unwrap()).sum()
    };
    let starts: u32 = members.iter().map(|m| m.starts).sum();
    eprintln!(
        "chaos: {kills} kills and {starts} starts in {seconds} s; {} records, {} in silver, {} duplicates, {} late, {} undecodable",
        of_all("end_offset"),
        of_all("silver"),
        of_all("duplicates"),
        of_all("late"),
        of_all("undecodable")
    );
    assert_eq!(of_all("waiting"), 0);
    assert!(of_all("end_offset") > 300 * seconds as i64 && kills >= seconds / 10, "there was too little to it");
    for model in report["models"].as_array().unwrap() {
        assert!(model["rows"].as_u64() > Some(0), "{model}");
    }
}

#[test]
fn of_two_processes_that_are_forced_to_own_the_same_partitions_one_is_fenced_and_nothing_is_twice() {
    let Some(services) = Services::of_the_environment() else { return skipped("two owners", NEEDED) };
    let more = ["lake.roll_age=300ms", "process.partitions=all", "topics.partitions=2", "process.batch_records=500"];
    let mut settings = services.settings();
    settings.extend(more.map(str::to_owned));
    let sluice = Sluice::with(&settings.iter().map(String::as_str).collect::<Vec<_>>());
    keep_products_out_of_the_store(&sluice);
    sluice.run(&["produce", "simulate", "--speed", "0", "--set", "simulate.events=1000", "--set", "simulate.rate=100"]);
    // Both are told that all partitions are theirs; more events come, so that both have something to commit all the time.
    let mut owners: Vec<Child> = (0..2).map(|_| sluice.start(&["process"])).collect();
    let producer = sluice.start(&["produce", "simulate", "--set", "simulate.rate=500"]);
    let fenced = wait_for("one of the owners to be fenced", || {
        let ended = owners.iter_mut().position(|owner| owner.try_wait().unwrap().is_some())?;
        Some(owners.remove(ended))
    });
    let said = String::from_utf8(fenced.wait_with_output().unwrap().stderr).unwrap();
    assert!(said.contains("was taken over"), "{said}");
    sleep(Duration::from_secs(2));
    interrupt(&producer);
    assert!(producer.wait_with_output().unwrap().status.success());
    // The other may have lost another table in the same moment; who starts next goes on from what each table says.
    for mut owner in owners {
        if owner.try_wait().unwrap().is_none() {
            terminate(&owner);
        }
        let _ = owner.wait();
    }
    sluice.run(&["up", "--no-producer", "--until-drained"]);
    let report = sluice.verify();
    let waiting: i64 = report["partitions"].as_array().unwrap().iter().map(|p| p["waiting"].as_i64().unwrap()).sum();
    assert_eq!(waiting, 0);
}
