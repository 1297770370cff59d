//! The periodic expunge: what was deleted for longer than it is kept goes.

use cairn_proto::{
    event::result,
    storage::v1alpha1::{ExpungeImageRequest, Image},
};
use cairn_store::Value;
use cairn_types::chain;
use tracing::{info, warn};

use crate::Area;

impl Area {
    /// Expunges the images that were deleted at `due` or before, in microseconds.
    pub(crate) async fn expunge_due(&self, due: i64) {
        let deleted = "status = 'Deleted' AND last_operation_time <= ?";
        let due = self.store.list::<Image>(deleted, vec![Value::Int(due)]);
        let due = match due.await {
            Ok(due) => due,
            Err(error) => {
                warn!(error = %chain(&error), "list images to be expunged");
                return;
            }
        };
        for Image { uuid, .. } in due {
            let request = ExpungeImageRequest { uuid: uuid.clone() };
            let ended = async { result(self.images.expunge_image(request).await?).await };
            match ended.await {
                Ok(_) => info!(image = uuid, "expunged"),
                Err(status) => warn!(image = uuid, error = status.message(), "expunge"),
            }
        }
    }
}
