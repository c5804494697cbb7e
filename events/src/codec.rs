//! One value of a topic to Confluent-framed Avro and back. For the quiet topics; events have their own fast way.

use crate::SubjectSchema;
use apache_avro::{Schema, from_avro_datum, from_value, to_avro_datum, to_value};
use serde::{Serialize, de::DeserializeOwned};
use std::{marker::PhantomData, sync::Arc};

/// Why a value could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The bytes are not framed as magic 0, 4-byte schema id, body.
    #[error("the value does not begin with the Confluent magic byte and a schema id")]
    NotFramed,
    /// The body is not of the schema.
    #[error("Avro: {0}")]
    Avro(String),
}

/// Writes and reads the values of one topic.
pub struct TopicCodec<T> {
    schema: Arc<Schema>,
    id: u32,
    value: PhantomData<fn(T) -> T>,
}

impl<T> Clone for TopicCodec<T> {
    fn clone(&self) -> Self {
        Self { schema: self.schema.clone(), id: self.id, value: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned> TopicCodec<T> {
    /// A codec for the schema the registry knows under `subject.id`.
    pub fn new(subject: &SubjectSchema) -> Self {
        Self { schema: subject.schema.clone(), id: subject.id, value: PhantomData }
    }

    /// Magic byte, schema id, Avro body.
    ///
    /// # Errors
    /// When the value does not fit the schema.
    pub fn encode(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        let avro = |e: apache_avro::Error| CodecError::Avro(e.to_string());
        let value = to_value(value).map_err(avro)?.resolve(&self.schema).map_err(avro)?;
        let body = to_avro_datum(&self.schema, value).map_err(avro)?;
        let mut framed = Vec::with_capacity(5 + body.len());
        framed.push(0);
        framed.extend_from_slice(&self.id.to_be_bytes());
        framed.extend_from_slice(&body);
        Ok(framed)
    }

    /// Reads what [`TopicCodec::encode`] wrote.
    ///
    /// # Errors
    /// When the frame or the body is not as written.
    pub fn decode(&self, framed: &[u8]) -> Result<T, CodecError> {
        let avro = |e: apache_avro::Error| CodecError::Avro(e.to_string());
        let Some((&[0, _, _, _, _], mut body)) = framed.split_first_chunk::<5>() else {
            return Err(CodecError::NotFramed);
        };
        let value = from_avro_datum(&self.schema, &mut body, None).map_err(avro)?;
        from_value(&value).map_err(avro)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_quiet_topic_reads_back_what_it_wrote() {
        let schemas = Schemas::shipped();
        let letter = DeadLetter {
            stage: Stage::Decode,
            reason: Reason::Truncated,
            message: "cut".into(),
            key: Some(b"k".to_vec()),
            value: Some(vec![0, 255]),
            headers: None,
            source: "events".into(),
            partition: Some(3),
            position: 17,
            log_time: LogTime::new(5),
        };
        let codec = TopicCodec::<DeadLetter>::new(schemas.subject(Subject::DeadLetters));
        assert_eq!(codec.decode(&codec.encode(&letter).unwrap()).unwrap(), letter);

        let group = BTreeMap::from([("country".to_owned(), Some("FR".to_owned())), ("device".to_owned(), None)]);
        let kpi = Kpi {
            id: "a".into(),
            model: "sales".into(),
            window_start: EventTime::new(0),
            window_end: EventTime::new(60_000),
            group: group.clone(),
            measures: BTreeMap::from([
                ("orders".to_owned(), Measure::Long(3)),
                ("aov".to_owned(), Measure::Double(1.5)),
                ("revenue".to_owned(), Measure::Text("4.5000".into())),
                ("p50".to_owned(), Measure::Null),
            ]),
            state: PaneState::Corrected,
            version: 2,
            sequence: 99,
            closed_by: Some("watermark".into()),
            completeness: 0.5,
        };
        let codec = TopicCodec::<Kpi>::new(schemas.subject(Subject::Kpis));
        assert_eq!(codec.decode(&codec.encode(&kpi).unwrap()).unwrap(), kpi);

        let part = AlertPart { group: group.clone(), observed: 0.0, expected: 30.0, share: 0.75 };
        let point = AlertPoint {
            window: EventTime::new(60_000),
            observed: 0.0,
            expected: 40.0,
            lower: 20.0,
            upper: f64::INFINITY,
        };
        let alert = Alert {
            id: "x".into(),
            model: "sales".into(),
            measure: "orders".into(),
            group,
            detector: "zscore".into(),
            state: AlertState::Firing,
            severity: Severity::Critical,
            observed: 0.0,
            expected: 40.0,
            lower: 20.0,
            upper: f64::INFINITY,
            score: 6.0,
            tail_probability: 1e-9,
            first_window: EventTime::new(0),
            last_window: EventTime::new(60_000),
            window_millis: 60_000,
            origin: vec![OffsetSpan { partition: 0, from: 3, upto: 7 }],
            z_score: -6.0,
            threshold: 4.0,
            false_alarms_per_year: 1e-4,
            formula: String::new(),
            since: EventTime::new(0),
            horizon_millis: 120_000,
            resolution: Some(Resolution::Recovered),
            parent: None,
            money_at_stake: Some("12.5000".into()),
            parts: vec![part],
            trace: vec![point],
            fingerprint: "f".into(),
            episodes: 2,
            acknowledged_by: Some("ann".into()),
            acknowledged_at: Some(EventTime::new(61_000)),
            snoozed_until: None,
        };
        let codec = TopicCodec::<Alert>::new(schemas.subject(Subject::Alerts));
        assert_eq!(codec.decode(&codec.encode(&alert).unwrap()).unwrap(), alert);

        // What was written before the fields of version 2 is still read.
        let before = Schema::parse_str(include_str!("../../schemas/alert-v1.avsc")).unwrap();
        let now = &schemas.subject(Subject::Alerts).schema;
        apache_avro::schema_compatibility::SchemaCompatibility::can_read(&before, now).unwrap();

        let partial = Partial {
            counts_from: Some(-3),
            part: 2,
            parts: 3,
            kind: PartialKind::Panes,
            input_partition: 1,
            input_partitions: 4,
            as_of_offset: 12,
            watermark: None,
            model: Some("sales".into()),
            fingerprint: Some("f".into()),
            panes: Some(vec![1, 2, 3]),
        };
        let codec = TopicCodec::<Partial>::new(schemas.subject(Subject::Partials));
        assert_eq!(codec.decode(&codec.encode(&partial).unwrap()).unwrap(), partial);
        assert!(matches!(codec.decode(b"{}"), Err(CodecError::NotFramed)));
    }
}
