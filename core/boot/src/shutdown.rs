//! The signals that ask a process to stop.

use std::io;

use tokio::signal::unix::{SignalKind, signal as listen};

/// A future that ends, with the signal's name, when the process is asked to stop: SIGTERM by
/// whoever supervises it, SIGINT from a terminal. It listens from this call on, not from the first
/// poll, so a signal during the start is not lost.
///
/// # Errors
/// The system gave no signal handler.
pub fn signal() -> io::Result<impl Future<Output = &'static str>> {
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, id};

    use super::*;

    #[tokio::test]
    async fn a_signal_before_the_first_poll_counts() {
        let stop = signal().unwrap();
        let status = Command::new("kill")
            .args(["-TERM", &id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
        assert_eq!(stop.await, "SIGTERM");
    }
}
