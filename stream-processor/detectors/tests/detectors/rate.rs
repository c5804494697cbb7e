//! What the rate suite owes.

use crate::conformance::conformance;
use sluice_detectors::{DetectorConfig, RateConfig, RateSuite};

#[test]
fn the_rate_suite_owes_what_every_detector_owes() {
    conformance(|config| {
        let mut config: DetectorConfig = config.clone();
        config.metrics.iter_mut().for_each(|metric| metric.threshold = 4.0);
        RateSuite::new(RateConfig { detector: config, money: Some(2) }).unwrap()
    });
}
