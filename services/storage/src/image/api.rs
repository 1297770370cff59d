//! What the image service has beside the standard rpcs: the pieces of uploads.

use std::sync::Arc;

use cairn_proto::{
    serve::OverStandard,
    storage::v1alpha1::{ImageOwnRpcs, UploadImageChunkRequest, UploadImageChunkResponse},
};
use cairn_resource::Resources;
use tonic::{Status, async_trait};

use crate::Area;

/// The image service of a node.
pub(crate) struct ImageApi {
    resources: Resources,
    area: Arc<Area>,
}

impl ImageApi {
    pub(crate) fn new(resources: Resources, area: Arc<Area>) -> Self {
        Self { resources, area }
    }
}

impl OverStandard for ImageApi {
    type Serve = Resources;

    fn standard(&self) -> &Resources {
        &self.resources
    }
}

#[async_trait]
impl ImageOwnRpcs for ImageApi {
    async fn upload_image_chunk(
        &self,
        request: UploadImageChunkRequest,
    ) -> Result<UploadImageChunkResponse, Status> {
        let next_offset = self.area.upload(request).await?;
        Ok(UploadImageChunkResponse { next_offset })
    }
}
