//! The image service: the standard rpcs, and the pieces of uploads.

use std::sync::Arc;

use cairn_proto::{
    call::Rpc,
    event::OperationResponse,
    serve::Serve as _,
    storage::v1alpha1::{
        CompleteImageUploadRequest, CompleteImageUploadResponse, CreateImageRequest,
        CreateImageResponse, DeleteImageRequest, DeleteImageResponse, GetImageRequest,
        GetImageResponse, QueryImageRequest, QueryImageResponse, UpdateImageRequest,
        UpdateImageResponse, UploadImageChunkRequest, UploadImageChunkResponse,
        image_service_server::ImageService,
    },
};
use cairn_resource::Resources;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, async_trait};

use crate::Area;

type Events<M> = BoxStream<'static, Result<M, Status>>;

/// The image service of a node.
pub(crate) struct ImageApi {
    resources: Resources,
    area: Arc<Area>,
}

impl ImageApi {
    pub(crate) fn new(resources: Resources, area: Arc<Area>) -> Self {
        Self { resources, area }
    }

    async fn operate<Q>(&self, request: Request<Q>) -> Result<Response<Events<Q::Response>>, Status>
    where
        Q: Rpc + Default + Clone,
        Q::Response: OperationResponse,
    {
        let events = self
            .resources
            .operate(Q::METHOD, request.into_inner())
            .await?;
        Ok(Response::new(events))
    }
}

#[async_trait]
impl ImageService for ImageApi {
    type CreateImageStream = Events<CreateImageResponse>;

    async fn create_image(
        &self,
        request: Request<CreateImageRequest>,
    ) -> Result<Response<Self::CreateImageStream>, Status> {
        self.operate(request).await
    }

    async fn get_image(
        &self,
        request: Request<GetImageRequest>,
    ) -> Result<Response<GetImageResponse>, Status> {
        let image = self.resources.get(&request.into_inner().uuid).await?;
        Ok(Response::new(GetImageResponse { image: Some(image) }))
    }

    async fn query_image(
        &self,
        request: Request<QueryImageRequest>,
    ) -> Result<Response<QueryImageResponse>, Status> {
        let query = request.into_inner().query.unwrap_or_default();
        let (images, total) = self.resources.query(query).await?;
        Ok(Response::new(QueryImageResponse { images, total }))
    }

    type UpdateImageStream = Events<UpdateImageResponse>;

    async fn update_image(
        &self,
        request: Request<UpdateImageRequest>,
    ) -> Result<Response<Self::UpdateImageStream>, Status> {
        self.operate(request).await
    }

    type DeleteImageStream = Events<DeleteImageResponse>;

    async fn delete_image(
        &self,
        request: Request<DeleteImageRequest>,
    ) -> Result<Response<Self::DeleteImageStream>, Status> {
        self.operate(request).await
    }

    async fn upload_image_chunk(
        &self,
        request: Request<UploadImageChunkRequest>,
    ) -> Result<Response<UploadImageChunkResponse>, Status> {
        let next_offset = self.area.upload(request.into_inner()).await?;
        Ok(Response::new(UploadImageChunkResponse { next_offset }))
    }

    type CompleteImageUploadStream = Events<CompleteImageUploadResponse>;

    async fn complete_image_upload(
        &self,
        request: Request<CompleteImageUploadRequest>,
    ) -> Result<Response<Self::CompleteImageUploadStream>, Status> {
        self.operate(request).await
    }
}
