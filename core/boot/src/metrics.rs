//! The process's metrics, in Prometheus' text format.
//!
//! There is one registry in a process, the default one of the `prometheus` crate, so that a
//! library's counter needs no handle to be found. It pushes nothing; some listener of the process
//! answers with [`render`].
//!
//! A module declares its metrics as statics, of which the compiler knows how many labels each has:
//!
//! ```
//! use cairn_boot::metrics::Counters;
//!
//! static TRIES: Counters<2> =
//!     Counters::new("cairn_tries_total", "Tries, by what and outcome.", ["what", "outcome"]);
//!
//! TRIES.add(["ping", "failed"]);
//! # assert!(cairn_boot::metrics::render().contains("cairn_tries_total{"));
//! ```

use std::{sync::OnceLock, time::Duration};

use cairn_types::chain;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, TextEncoder, core::Collector,
    default_registry,
};
use tracing::error;

/// From a call that reads a row to an operation that copies an image, in seconds.
const SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0,
];

/// Every metric of the process, as Prometheus scrapes it (text format 0.0.4).
#[must_use]
pub fn render() -> String {
    // It fails only for a family without samples, and `gather` leaves those out.
    TextEncoder::new()
        .encode_to_string(&default_registry().gather())
        .unwrap_or_default()
}

/// A family of counters with `N` labels, to be a static. Registered when it first counts.
pub struct Counters<const N: usize> {
    family: Family<N>,
    made: OnceLock<Option<IntCounterVec>>,
}

impl<const N: usize> Counters<N> {
    /// A family of this name, which ends in `_total`.
    #[must_use]
    pub const fn new(name: &'static str, help: &'static str, labels: [&'static str; N]) -> Self {
        Self {
            family: Family { name, help, labels },
            made: OnceLock::new(),
        }
    }

    /// Counts one; a value for each label, in their order.
    pub fn add(&self, values: [&str; N]) {
        let Family { name, help, labels } = &self.family;
        let make = || IntCounterVec::new(Opts::new(*name, *help), labels);
        if let Some(counters) = self.made.get_or_init(|| registered(name, make())) {
            counters.with_label_values(&values).inc();
        }
    }
}

/// A family of histograms of durations with `N` labels, to be a static. Registered when it first
/// counts.
pub struct Durations<const N: usize> {
    family: Family<N>,
    made: OnceLock<Option<HistogramVec>>,
}

impl<const N: usize> Durations<N> {
    /// A family of this name, which ends in `_seconds`.
    #[must_use]
    pub const fn new(name: &'static str, help: &'static str, labels: [&'static str; N]) -> Self {
        Self {
            family: Family { name, help, labels },
            made: OnceLock::new(),
        }
    }

    /// Counts one that took so long; a value for each label, in their order.
    pub fn observe(&self, values: [&str; N], took: Duration) {
        let Family { name, help, labels } = &self.family;
        let make = || {
            let options = HistogramOpts::new(*name, *help).buckets(SECONDS.to_vec());
            HistogramVec::new(options, labels)
        };
        if let Some(histograms) = self.made.get_or_init(|| registered(name, make())) {
            let histogram = histograms.with_label_values(&values);
            histogram.observe(took.as_secs_f64());
        }
    }
}

/// How many of something there are now, to be a static. Registered when it is first used.
pub struct Gauge {
    family: Family<0>,
    made: OnceLock<Option<IntGauge>>,
}

/// One of those that a [`Gauge`] counts, as long as it lives.
#[must_use = "it is counted as long as it lives"]
pub struct Counted(Option<&'static IntGauge>);

impl Gauge {
    /// A gauge of this name.
    #[must_use]
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self {
            family: Family {
                name,
                help,
                labels: [],
            },
            made: OnceLock::new(),
        }
    }

    /// One more, until what is returned is dropped.
    pub fn count(&'static self) -> Counted {
        let gauge = self.gauge();
        if let Some(gauge) = gauge {
            gauge.inc();
        }
        Counted(gauge)
    }

    /// So many now: for what is measured from time to time, and not counted.
    pub fn set(&'static self, now: i64) {
        if let Some(gauge) = self.gauge() {
            gauge.set(now);
        }
    }

    fn gauge(&'static self) -> Option<&'static IntGauge> {
        let Family { name, help, .. } = self.family;
        let make = || IntGauge::new(name, help);
        self.made.get_or_init(|| registered(name, make())).as_ref()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(gauge) = self.0 {
            gauge.dec();
        }
    }
}

struct Family<const N: usize> {
    name: &'static str,
    help: &'static str,
    labels: [&'static str; N],
}

/// A name that is taken or malformed is a fault of the program; it costs the metric and no more.
fn registered<C: Collector + Clone + 'static>(
    name: &str,
    made: prometheus::Result<C>,
) -> Option<C> {
    let registered = made.and_then(|collector| {
        default_registry().register(Box::new(collector.clone()))?;
        Ok(collector)
    });
    registered
        .inspect_err(|error| error!(name, error = %chain(error), "register a metric"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_rendered() {
        static COUNTERS: Counters<1> = Counters::new("boot_test_total", "How often.", ["what"]);
        static TAKEN: Counters<1> = Counters::new("boot_test_total", "Another.", ["what"]);
        static DURATIONS: Durations<1> = Durations::new("boot_test_seconds", "How long.", ["what"]);
        static GAUGE: Gauge = Gauge::new("boot_test", "How many.");
        COUNTERS.add(["a"]);
        COUNTERS.add(["a"]);
        TAKEN.add(["a"]);
        DURATIONS.observe(["b"], Duration::from_millis(2));
        let first = GAUGE.count();
        drop(GAUGE.count());
        for line in [
            "# HELP boot_test_total How often.",
            "boot_test_total{what=\"a\"} 2",
            "boot_test_seconds_bucket{what=\"b\",le=\"0.001\"} 0",
            "boot_test_seconds_bucket{what=\"b\",le=\"0.0025\"} 1",
            "boot_test_seconds_count{what=\"b\"} 1",
            "boot_test 1",
        ] {
            assert!(
                render().contains(&format!("{line}\n")),
                "{line}:\n{}",
                render()
            );
        }
        drop(first);
        assert!(render().contains("\nboot_test 0\n"), "{}", render());
    }
}
