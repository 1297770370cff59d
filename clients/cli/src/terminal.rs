//! Where output goes: results to one stream, everything else to the other.

use std::{io::Write, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

/// The standard streams, or what stands for them in a test.
pub struct Terminal<'a> {
    /// For results.
    pub out: &'a mut dyn Write,
    /// For errors and notes.
    pub err: &'a mut dyn Write,
    /// Whether a person sees the progress of what they wait for.
    pub progress: bool,
}

/// A line that tells how far an operation is, gone when dropped.
pub(crate) struct Spinner(ProgressBar);

impl Spinner {
    /// One that shows itself, or one that does nothing.
    pub(crate) fn new(shown: bool) -> Self {
        if !shown {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    /// Says what is going on.
    pub(crate) fn say(&self, text: String) {
        self.0.set_message(text);
    }
}

/// A bar that tells how much of a file is through, gone when dropped.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// One that shows itself, or one that does nothing.
    pub(crate) fn new(shown: bool, total: u64) -> Self {
        if !shown {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(total);
        let template = "{bar:30} {bytes} of {total_bytes} ({bytes_per_sec}, {eta} left) {msg}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// So much is through.
    pub(crate) fn at(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    /// Says what is going on.
    pub(crate) fn say(&self, text: &'static str) {
        self.0.set_message(text);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
