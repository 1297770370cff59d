//! The process's metrics, in Prometheus' text format.
//!
//! There is one registry in a process, the default one of the `prometheus` crate, so that a
//! library's counter needs no handle to be found. It pushes nothing; some listener of the process
//! answers with [`render`].

pub use prometheus;

use prometheus::{Registry, TextEncoder};

/// The registry of the process: register collectors here, or with the macros of [`prometheus`].
#[must_use]
pub fn registry() -> &'static Registry {
    prometheus::default_registry()
}

/// Every metric of the process, as Prometheus scrapes it (text format 0.0.4).
#[must_use]
pub fn render() -> String {
    // It fails only for a family without samples, and `gather` leaves those out.
    TextEncoder::new()
        .encode_to_string(&registry().gather())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registered_metric_is_rendered() {
        let counter = prometheus::IntCounter::new("boot_test_total", "How often.").unwrap();
        registry().register(Box::new(counter.clone())).unwrap();
        counter.inc_by(3);
        assert!(
            render().contains("# HELP boot_test_total How often.\n"),
            "{}",
            render()
        );
        assert!(render().contains("\nboot_test_total 3\n"), "{}", render());
    }
}
