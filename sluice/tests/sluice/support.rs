//! A sluice in a folder of its own.

use serde_json::Value;
use sluice_event_log::{EmbeddedConfig, EmbeddedLog, FsyncPolicy};
use std::{
    hash::{DefaultHasher, Hasher},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;

/// Far more than anything waited for takes.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Sluice {
    pub dir: TempDir,
    settings: Vec<String>,
}

impl Sluice {
    pub fn new() -> Self {
        Self::with(&[])
    }

    /// With these settings, as after `--set`, besides: nothing is served, so that tests may run side by side.
    pub fn with(settings: &[&str]) -> Self {
        let mut settings: Vec<String> = settings.iter().map(|s| (*s).to_owned()).collect();
        if !settings.iter().any(|s| s.starts_with("serve.listen")) {
            settings.push("serve.listen=".to_owned());
        }
        Self { dir: tempfile::tempdir().unwrap(), settings }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its embedded log, while no process has it.
    pub fn log(&self) -> EmbeddedLog {
        let config = EmbeddedConfig {
            dir: self.path("shop/log"),
            fsync: FsyncPolicy::Interval,
            fsync_interval: Duration::from_millis(100),
            retention_age: Duration::ZERO,
            retention_bytes: 0,
        };
        EmbeddedLog::open(&config).unwrap()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        // No sluice.toml of the working directory, no variables of the shell.
        command.current_dir(self.dir.path()).env_remove("RUST_LOG").args(args).arg("--dir").arg(self.path("shop"));
        for setting in &self.settings {
            command.arg("--set").arg(setting);
        }
        command
    }

    /// The same at another time, with more settings.
    pub fn set(&mut self, setting: &str) {
        self.settings.push(setting.to_owned());
    }

    pub fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs to the end, which must be a good one.
    pub fn run(&self, args: &[&str]) -> Output {
        let output = self.output(args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "sluice {args:?} ended with {}:\n{text}", output.status);
        output
    }

    pub fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The rows as CSV lines, sorted.
    pub fn query(&self, sql: &str) -> Vec<String> {
        let output = self.run(&["query", sql, "--format", "csv"]);
        let mut lines: Vec<String> =
            String::from_utf8(output.stdout).unwrap().lines().skip(1).map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    }

    pub fn number(&self, sql: &str) -> u64 {
        self.query(sql)[0].parse().unwrap()
    }

    /// How many rows, and a sum of their hashes: equal for equal rows in any order, and a row twice counts twice.
    pub fn digest(&self, sql: &str) -> (u64, u64) {
        let mut child = self.command(&["query", sql, "--format", "csv"]).stdout(Stdio::piped()).spawn().unwrap();
        let (mut rows, mut sum) = (0, 0_u64);
        for line in BufReader::new(child.stdout.take().unwrap()).lines().skip(1) {
            let mut hasher = DefaultHasher::new();
            hasher.write(line.unwrap().as_bytes());
            rows += 1;
            sum = sum.wrapping_add(hasher.finish());
        }
        assert!(child.wait().unwrap().success(), "{sql}");
        (rows, sum)
    }

    /// The report of `sluice verify`, which must balance.
    pub fn verify(&self) -> Value {
        let output = self.output(&["verify", "--json"]);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(output.status.success() && report["balanced"] == true, "{report:#}");
        report
    }
}

/// What [`Services::of_the_environment`] looks for, besides the data.
pub(crate) const NEEDED: &str = "needs SLUICE_TEST_DATA, SLUICE_TEST_KAFKA, SLUICE_TEST_S3 and SLUICE_TEST_MONGO_URI";

/// Real services, and a name of this run for all that is made in them.
pub(crate) struct Services {
    pub kafka: String,
    pub s3: String,
    pub mongo: String,
    pub run: String,
}

impl Services {
    pub fn of_the_environment() -> Option<Self> {
        let variable = |name: &str| std::env::var(name).ok();
        Some(Self {
            kafka: variable("SLUICE_TEST_KAFKA")?,
            s3: variable("SLUICE_TEST_S3")?,
            mongo: variable("SLUICE_TEST_MONGO_URI")?,
            run: Self::run_name(),
        })
    }

    /// Settings of a lake in the S3 service, and nothing else there.
    pub fn lake_settings(s3: &str, prefix: &str) -> Vec<String> {
        let mut settings = vec![
            format!("lake.s3.endpoint={s3}"),
            "lake.s3.allow_http=true".to_owned(),
            format!("checkpoints.url=s3://gold/{prefix}/checkpoints"),
        ];
        settings.extend(["bronze", "silver", "gold"].map(|bucket| format!("lake.{bucket}=s3://{bucket}/{prefix}")));
        settings
    }

    /// A name that no other run has.
    pub fn run_name() -> String {
        let moment = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
        format!("test-{}-{moment}", std::process::id())
    }

    /// Settings of a pipeline in these services.
    pub fn settings(&self) -> Vec<String> {
        let Self { kafka, s3, mongo, run } = self;
        let mut settings = Self::lake_settings(s3, run);
        settings.extend([
            "log.kind=kafka".to_owned(),
            format!("log.kafka.bootstrap={kafka}"),
            "kpi_store.kind=mongodb".to_owned(),
            format!("kpi_store.uri={mongo}"),
            format!("kpi_store.database={run}"),
            format!("process.group={run}"),
            format!("topics.dead_letters={run}-dead-letters"),
        ]);
        settings.extend(["events", "partials", "kpis", "alerts"].map(|topic| format!("topics.{topic}={run}-{topic}")));
        settings
    }
}

/// Thousands of products are more than the document store of these tests writes in a short time.
pub(crate) fn keep_products_out_of_the_store(sluice: &Sluice) {
    let products = include_str!("../../../models/live/products.sql");
    std::fs::create_dir_all(sluice.path("models/live")).unwrap();
    std::fs::write(sluice.path("models/live/products.sql"), format!("-- publish: lake\n{products}")).unwrap();
}

/// Says on stderr that a test did not run, past the test runner's capture.
pub(crate) fn skipped(test: &str, why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

pub(crate) fn interrupt(child: &Child) {
    signal(child, "INT");
}

pub(crate) fn terminate(child: &Child) {
    signal(child, "TERM");
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status().unwrap();
    assert!(status.success());
}

/// What comes in time, or a panic.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what} did not come in {PATIENCE:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The folder of data sets.
pub(crate) fn data() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let dir = std::env::var_os("SLUICE_TEST_DATA").map_or_else(beside, PathBuf::from);
    dir.is_dir().then_some(dir)
}
