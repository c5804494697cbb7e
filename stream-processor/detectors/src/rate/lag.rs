//! How long after what is below the line comes what is above it: a purchase some minutes after its checkout.
//!
//! Learnt of all series together, as the correlation of what is new in a window above the line with what was new below
//! it some windows before (the impulse response by cross-correlation of Box and Jenkins, Time Series Analysis, 1970,
//! chapter 11). What both have of the day's slow rhythm is alike at all lags and is taken off.

use serde::{Deserialize, Serialize};

/// The longest lag, in windows.
pub(crate) const LAG_MAX: usize = 31;
const LAGS: usize = LAG_MAX + 1;

/// The lags of one quotient.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Lag {
    products: Vec<f64>,
    samples: f64,
    /// Lag in windows and share; they add up to 1. Empty: not known.
    kernel: Vec<(u8, f32)>,
}

impl Lag {
    pub(crate) fn new() -> Self {
        Self { products: vec![0.0; LAGS], samples: 0.0, kernel: Vec::new() }
    }

    /// Whether it is known.
    pub(crate) fn is_known(&self) -> bool {
        !self.kernel.is_empty()
    }

    /// What below the line leads to what is above it in a window. `history[window % 32]` is what was in a window.
    #[inline]
    pub(crate) fn led_by(&self, history: &[f32], window: u32) -> f64 {
        if self.kernel.is_empty() {
            return history[window as usize % LAGS].into();
        }
        let at = |lag: u8| history[window.wrapping_sub(lag.into()) as usize % LAGS];
        self.kernel.iter().map(|(lag, share)| f64::from(at(*lag)) * f64::from(*share)).sum()
    }

    /// Learns a window of a series by what is usual now above and below the line.
    pub(crate) fn learn(&mut self, above: f64, above_usual: f64, history: &[f32], below_usual: f64, window: u32) {
        if above_usual < 0.05 || below_usual < 0.05 {
            return;
        }
        let new = ((above - above_usual) / (above_usual + 1.0).sqrt()).clamp(-4.0, 4.0) / (below_usual + 1.0).sqrt();
        let most = 4.0 * (below_usual + 1.0).sqrt();
        for (lag, product) in self.products.iter_mut().enumerate() {
            let below = f64::from(history[window.wrapping_sub(lag as u32) as usize % LAGS]);
            *product += new * (below - below_usual).clamp(-most, most);
        }
        self.samples += 1.0;
    }

    /// Draws the lags from what was learnt. To be called now and then; halves the memory when it is long.
    pub(crate) fn settle(&mut self) {
        if self.samples < 30.0 {
            return;
        }
        let mut sorted = self.products.clone();
        sorted.sort_by(f64::total_cmp);
        let usual = (sorted[LAGS / 2 - 1] + sorted[LAGS / 2]) / 2.0;
        let mut off: Vec<f64> = self.products.iter().map(|product| (product - usual).abs()).collect();
        off.sort_by(f64::total_cmp);
        let noise = off[LAGS / 2].max(self.samples.sqrt() * 0.5);
        let largest = sorted[LAGS - 1] - usual;
        let share =
            |product: f64| if product - usual > (5.0 * noise).max(0.08 * largest) { product - usual } else { 0.0 };
        let total: f64 = self.products.iter().map(|product| share(*product)).sum();
        if total > 0.0 {
            let shares =
                self.products.iter().enumerate().map(|(lag, product)| (lag as u8, (share(*product) / total) as f32));
            self.kernel = shares.filter(|(_, share)| *share > 0.0).collect();
        }
        if self.samples > 1e6 {
            self.products.iter_mut().for_each(|product| *product /= 2.0);
            self.samples /= 2.0;
        }
    }
}
