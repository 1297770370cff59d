//! How a call finds its service.
//!
//! Services call each other through generated clients that hold a [`Mesh`] and nothing else.
//! [`LocalMesh`] is what stands behind that handle in a node: a stack of layers that every call
//! passes, and the services of this process as its end. [`door`] is the public listener: it
//! names the caller, then hands the call to the same stack. [`Extension`]s are what services of
//! this process add to the work of others.
//!
//! An in-process call keeps the promises of a remote one: its deadline holds, dropping it
//! before acceptance cancels it, a panic is an error of that call only, and calls nested in
//! calls do not exhaust the stack.
//!
//! ```
//! use std::sync::Arc;
//! use cairn_mesh::LocalMesh;
//! use cairn_proto::compute::v1alpha1::{GetZoneRequest, ZoneClient};
//! use cairn_types::Uuid;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! let mesh = LocalMesh::new(Uuid::now_v7());
//! let zones = ZoneClient::new(mesh.handle());
//! // mesh.serve(vec![Arc::new(ZoneDispatch(Arc::new(my_zone_service)))], vec![]) would come here.
//! mesh.serve(vec![], vec![]).unwrap();
//! let refused = zones.get_zone(GetZoneRequest::default()).await.unwrap_err();
//! assert_eq!(refused.code(), tonic::Code::Unimplemented);
//! # }
//! ```

pub mod door;
mod layer;
mod local;
mod stack;

pub use cairn_proto::call::{Extension, Mesh};
pub use stack::{LocalMesh, ServeError};
