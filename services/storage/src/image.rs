//! Images: what root volumes start as, and the copies of them that hosts keep.

pub(crate) mod cache;

use std::sync::Arc;

use async_trait::async_trait;
use cairn_operation::{Builder, Ended, Handler, OperationContext, Queue};
use cairn_proto::{
    call::Method,
    compute::v1alpha1::ResourceState,
    crud::{Check, Keyed as _},
    fault::Fault,
    storage::v1alpha1::{
        CreateImageRequest, DeleteImageRequest, DeleteImageResponse, Image, UpdateImageRequest,
    },
};
use cairn_resource::{Creating, Creation, Deleting, Removal, Updating};
use cairn_store::Tx;

use crate::Area;

/// The smallest disk.
const SIZE_MIN: u64 = 1 << 20;
/// The largest disk.
const SIZE_MAX: u64 = 16 << 40;
/// The longest URL, in bytes.
const URL_MAX: usize = 2_048;
/// SHA-256 in hex.
const SHA256_LENGTH: usize = 64;

pub(crate) fn register(operations: Builder, area: &Arc<Area>) -> Builder {
    operations
        .register(Creating::<CreateImageRequest, _>::with(New))
        .register(Updating::<UpdateImageRequest>::plain())
        .register(Delete {
            rows: Deleting::with(WithCaches),
            area: Arc::clone(area),
        })
}

struct New;

#[async_trait]
impl Creation<CreateImageRequest> for New {
    fn check(&self, request: &CreateImageRequest, check: &mut Check) {
        if let Some(problem) = url_problem(&request.url) {
            check.refuse("url", problem);
        }
        check.within("size_bytes", request.size_bytes, SIZE_MIN, SIZE_MAX);
        let sha256 = &request.sha256;
        let hex =
            sha256.len() == SHA256_LENGTH && sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !sha256.is_empty() && !hex {
            let problem = format!("is no SHA-256; give {SHA256_LENGTH} hex digits, or nothing");
            check.refuse("sha256", problem);
        }
    }

    async fn complete(
        &self,
        _: &mut Tx,
        _: &CreateImageRequest,
        image: &mut Image,
    ) -> Result<(), Fault> {
        image.set_state(ResourceState::Enabled);
        image.sha256.make_ascii_lowercase();
        Ok(())
    }
}

fn url_problem(url: &str) -> Option<String> {
    let example = "give a URL, as in https://images.example/debian.qcow2";
    let visible = url.bytes().all(|byte| byte.is_ascii_graphic());
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let file = rest.strip_prefix('/').unwrap_or_default();
    if url.is_empty() {
        Some(format!("is missing; {example}"))
    } else if url.len() > URL_MAX {
        Some(format!("has {} bytes; {URL_MAX} is the most", url.len()))
    } else if !visible {
        Some(format!(
            "has characters that no URL has; {example}, with %20 for a space"
        ))
    } else {
        match scheme {
            "http" | "https" if !place.is_empty() => None,
            "http" | "https" => Some(format!("names no machine; {example}")),
            "file" if !file.is_empty() => None,
            "file" => {
                Some("names no file; give an absolute path, as in file:///srv/a.qcow2".into())
            }
            _ => Some(format!(
                "has none of the schemes http, https and file; {example}"
            )),
        }
    }
}

/// The standard deletion, and then that of the files on hosts.
struct Delete {
    rows: Deleting<DeleteImageRequest, WithCaches>,
    area: Arc<Area>,
}

#[async_trait]
impl Handler for Delete {
    type Request = DeleteImageRequest;
    type Response = DeleteImageResponse;
    type Spec = DeleteImageRequest;
    const METHOD: &'static Method = <Deleting<DeleteImageRequest, WithCaches> as Handler>::METHOD;

    fn check(&self, request: &DeleteImageRequest) -> Result<DeleteImageRequest, Fault> {
        self.rows.check(request)
    }

    fn queue(&self, request: &DeleteImageRequest) -> Queue {
        self.rows.queue(request)
    }

    async fn run(
        &self,
        cx: &OperationContext,
        request: Arc<DeleteImageRequest>,
    ) -> Result<Ended<Image>, Fault> {
        // Listed before the rows go: afterwards nothing says where the files are.
        let values = vec![request.key().into()];
        let caches = self.area.store.list("image_uuid = ?", values).await?;
        let ended = self.rows.run(cx, request).await?;
        self.area.delete_cached(cx.uuid(), caches).await;
        Ok(ended)
    }
}

/// Its caches go with an image; volumes and virtual machines made from it keep it.
struct WithCaches;

#[async_trait]
impl Removal<DeleteImageRequest> for WithCaches {
    async fn complete(&self, tx: &mut Tx, image: &Image) -> Result<(), Fault> {
        let sql = "DELETE FROM image_cache WHERE image_uuid = ?";
        tx.execute(sql, vec![(&image.uuid).into()]).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_scheme_and_a_place() {
        for good in [
            "http://a/b",
            "https://images.example:8443/debian.qcow2?v=1",
            "https://a",
            "file:///srv/a.qcow2",
        ] {
            assert_eq!(url_problem(good), None, "{good}");
        }
        let long = format!("http://a/{}", "x".repeat(URL_MAX));
        for bad in [
            "",
            "a",
            "/srv/a.qcow2",
            "ftp://a/b",
            "http://",
            "http:///b",
            "https://?b",
            "file://a/b",
            "file:///",
            "http://a/b c",
            "http://ä/",
            &long,
        ] {
            assert!(url_problem(bad).is_some(), "{bad}");
        }
    }
}
