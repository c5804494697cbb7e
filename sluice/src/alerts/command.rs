//! `sluice alerts`.

use super::simulate::{self, SimulateArgs};
use crate::{Config, WrongUse, pipeline::now_millis, query::seen_enough};
use anyhow::{Context, Result, bail};
use clap::{Subcommand, ValueEnum};
use serde_json::Value;
use sluice_events::{Alert, AlertState, EventTime};
use sluice_serve::{AlertBody, alert_detail};
use sluice_sinks::kpi_store::{self, AlertQuery, KpiStore, KpiStoreKind};
use std::{io::Write, process::ExitCode, sync::Arc, time::Duration};

/// What to do with alerts.
#[derive(Debug, Subcommand)]
pub(crate) enum AlertsCommand {
    /// List alerts, newest first.
    List {
        /// Only those in this state [default: firing and acknowledged].
        #[arg(long, value_enum)]
        state: Option<StateName>,
        /// Those that are over, and those that others explain, too.
        #[arg(long, conflicts_with = "state")]
        all: bool,
        /// Only of this live model.
        #[arg(long)]
        model: Option<String>,
        /// At most this many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// For programs: an alert a line.
        #[arg(long)]
        json: bool,
    },
    /// Show all there is about an alert.
    Show {
        /// Its id, as `list` shows it.
        id: String,
    },
    /// Say that a person has seen an alert; it stays so until it ends.
    Ack {
        /// Its id, as `list` shows it.
        id: String,
        /// Who.
        #[arg(long)]
        by: Option<String>,
    },
    /// Tell nobody of an alert's series, nor of its later episodes, for a while.
    Snooze {
        /// Its id, as `list` shows it.
        id: String,
        /// How long, such as 2h or 30m; 0s ends it.
        #[arg(long, default_value = "2h", value_parser = humantime::parse_duration)]
        r#for: Duration,
    },
    /// Show what would have fired over the sealed windows of a model: with its `detect:` lines, or with other settings
    /// by --set threshold=5 and the like.
    Simulate(SimulateArgs),
}

/// States by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StateName {
    /// The anomaly goes on.
    Firing,
    /// A person has seen it.
    Acknowledged,
    /// It is over.
    Resolved,
    /// Another alert explains it.
    Suppressed,
}

impl AlertsCommand {
    pub fn is_simulation(&self) -> bool {
        matches!(self, Self::Simulate(_))
    }
}

/// Does it. `tried` are settings of detectors.
pub(crate) fn run(config: &Config, command: AlertsCommand, tried: &[String]) -> Result<ExitCode> {
    match command {
        AlertsCommand::Simulate(args) => simulate::run(config, &args, tried)?,
        AlertsCommand::List { state, all, model, limit, json } => {
            let states = match state {
                Some(StateName::Firing) => vec![AlertState::Firing],
                Some(StateName::Acknowledged) => vec![AlertState::Acknowledged],
                Some(StateName::Resolved) => vec![AlertState::Resolved],
                Some(StateName::Suppressed) => vec![AlertState::Suppressed],
                None if all => Vec::new(),
                None => vec![AlertState::Firing, AlertState::Acknowledged],
            };
            let alerts = Alerts::of(config)?.list(&states, model, limit)?;
            seen_enough(list(&alerts, json))?;
        }
        AlertsCommand::Show { id } => {
            let alert = found(Alerts::of(config)?.get(&id)?, &id)?;
            println!("{}", serde_json::to_string_pretty(&alert)?);
        }
        AlertsCommand::Ack { id, by } => said(&found(Alerts::of(config)?.acknowledge(&id, by.as_deref())?, &id)?),
        AlertsCommand::Snooze { id, r#for } => said(&found(Alerts::of(config)?.snooze(&id, r#for)?, &id)?),
    }
    Ok(ExitCode::SUCCESS)
}

fn found(alert: Option<Value>, id: &str) -> Result<Value> {
    alert.ok_or_else(|| WrongUse(format!("there is no alert '{id}'; sluice alerts list --all shows them")).into())
}

fn text<'a>(alert: &'a Value, key: &str) -> &'a str {
    alert[key].as_str().unwrap_or_default()
}

fn said(alert: &Value) {
    let snoozed = match text(alert, "snoozed_until") {
        "" => String::new(),
        until => format!(", snoozed until {until}"),
    };
    println!("{} {}{snoozed}: {}", text(alert, "id"), text(alert, "state"), text(alert, "text"));
}

fn list(alerts: &[Value], json: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        return alerts.iter().try_for_each(|alert| Ok(writeln!(out, "{alert}")?));
    }
    writeln!(out, "{:<16} {:<12} {:<8} WHAT", "ID", "STATE", "SEVERITY")?;
    for alert in alerts {
        let (id, state, severity) = (text(alert, "id"), text(alert, "state"), text(alert, "severity"));
        let meaning = alert["score_meaning"].as_str().map_or_else(String::new, |meaning| format!("; {meaning}"));
        writeln!(out, "{id:<16} {state:<12} {severity:<8} {}{meaning}", text(alert, "text"))?;
    }
    if alerts.is_empty() {
        eprintln!("no alert");
    }
    Ok(())
}

/// Where alerts are asked for: the store, or the server of the process that holds the embedded one.
enum Alerts {
    Store(Arc<dyn KpiStore>),
    Server(String),
}

impl Alerts {
    fn of(config: &Config) -> Result<Self> {
        let listen = &config.serve.listen;
        if config.kpi_store.kind == KpiStoreKind::Embedded && !listen.is_empty() {
            let base = format!("http://{listen}");
            // Only one process at a time may open the embedded store.
            if agent().get(format!("{base}/healthz")).call().is_ok() && kpi_store::open(&config.kpi_store).is_err() {
                return Ok(Self::Server(base));
            }
        }
        Ok(Self::Store(kpi_store::open(&config.kpi_store)?))
    }

    fn list(&self, states: &[AlertState], model: Option<String>, limit: usize) -> Result<Vec<Value>> {
        match self {
            Self::Store(store) => {
                let query = AlertQuery { states: states.to_vec(), model, limit, ..AlertQuery::default() };
                Ok(store.alerts(&query)?.into_iter().map(as_json).collect())
            }
            Self::Server(base) => {
                let mut request =
                    agent().get(format!("{base}/api/v1/alerts")).query("limit", limit.min(1000).to_string());
                for state in states {
                    request = request.query("state", state.name());
                }
                if let Some(model) = model {
                    request = request.query("model", model);
                }
                let answer = answered(request.call())?.unwrap_or_default();
                Ok(answer["alerts"].as_array().cloned().unwrap_or_default())
            }
        }
    }

    fn get(&self, id: &str) -> Result<Option<Value>> {
        match self {
            Self::Store(store) => Ok(alert_detail(&**store, id)?.map(serde_json::to_value).transpose()?),
            Self::Server(base) => answered(agent().get(format!("{base}/api/v1/alerts/{id}")).call()),
        }
    }

    fn acknowledge(&self, id: &str, by: Option<&str>) -> Result<Option<Value>> {
        match self {
            Self::Store(store) => {
                let alert = store.acknowledge(id, by, EventTime::new(now_millis()))?;
                store.flush()?;
                Ok(alert.map(as_json))
            }
            Self::Server(base) => {
                let body = serde_json::json!({ "by": by });
                answered(agent().post(format!("{base}/api/v1/alerts/{id}/ack")).send_json(body))
            }
        }
    }

    fn snooze(&self, id: &str, length: Duration) -> Result<Option<Value>> {
        match self {
            Self::Store(store) => {
                let until = (!length.is_zero()).then(|| EventTime::new(now_millis() + length.as_millis() as i64));
                let alert = store.snooze(id, until)?;
                store.flush()?;
                Ok(alert.map(as_json))
            }
            Self::Server(base) => {
                let url = format!("{base}/api/v1/alerts/{id}/snooze");
                answered(match length.is_zero() {
                    true => agent().delete(url).call(),
                    false => {
                        agent().post(url).query("for", humantime::format_duration(length).to_string()).send_empty()
                    }
                })
            }
        }
    }
}

fn agent() -> ureq::Agent {
    let config =
        ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).http_status_as_error(false);
    config.build().into()
}

/// The answer of the server; none when it does not know the alert.
fn answered(answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Option<Value>> {
    let mut answer = answer.context("ask the running sluice")?;
    match answer.status().as_u16() {
        200 => Ok(Some(answer.body_mut().read_json().context("read its answer")?)),
        404 => Ok(None),
        status => bail!("the running sluice answered {status}: {}", answer.body_mut().read_to_string()?),
    }
}

/// As the API shows it.
fn as_json(alert: Alert) -> Value {
    serde_json::to_value(AlertBody::from(alert)).unwrap_or_default()
}
