//! The pieces of one upload are written one at a time, over a connection that stays.

use std::time::{Duration, Instant};

use cairn_sftp::Connection;
use tokio::sync::OwnedMutexGuard;

use crate::turns::Turns;

/// An upload without a piece for so long gives its connection up.
const IDLE: Duration = Duration::from_secs(60);

/// The uploads under way.
#[derive(Default)]
pub(crate) struct Uploads(Turns<Upload>);

/// What is kept of an upload from one piece to the next.
#[derive(Default)]
pub(crate) struct Upload {
    pub(super) connection: Option<Connection>,
    used: Option<Instant>,
}

/// The turn of one piece, or of who ends the upload.
pub(crate) struct Turn(OwnedMutexGuard<Upload>);

impl Uploads {
    /// Waits until nobody else writes to the file of that image.
    pub(crate) async fn turn(&self, image: &str) -> Turn {
        let mut turn = Turn(self.0.turn(image).await);
        turn.0.used = Some(Instant::now());
        turn
    }

    /// How many have the turn of that image, or wait for it.
    #[cfg(test)]
    pub(crate) fn queued(&self, image: &str) -> usize {
        self.0.queued(image)
    }

    /// Gives up the connections of those that have not been used for a while.
    pub(crate) fn tidy(&self) {
        self.0
            .tidy(|upload| upload.used.is_some_and(|used| used.elapsed() < IDLE));
    }
}

impl Turn {
    /// Ends the turn, and the connection with it.
    pub(crate) fn end(mut self) {
        self.0.connection = None;
        self.0.used = None;
    }
}

impl std::ops::Deref for Turn {
    type Target = Upload;

    fn deref(&self) -> &Upload {
        &self.0
    }
}

impl std::ops::DerefMut for Turn {
    fn deref_mut(&mut self) -> &mut Upload {
        &mut self.0
    }
}
