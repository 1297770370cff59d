//! Extension points: who implements them is called by name, in order, and within a time.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use cairn_mesh::{Extension, LocalMesh, ServeError};
use cairn_proto::{
    call::{Call, Context, Rpc as _},
    compute::ext::v1alpha1::{
        ObservedRequest, ObservedResponse, PrepareRequest, PrepareResponse, ReleaseRequest,
        ReleaseResponse, VmInstantiationDispatch, VmInstantiationExtensions,
        vm_instantiation_service_server::VmInstantiationService,
    },
    fault::Fault,
};
use cairn_types::{AccountUuid, ErrorCode, Uuid};
use tonic::{Code, Request, Response, Status};

/// Notes its name with what it is asked, and behaves as the host of the request says.
struct Noting {
    name: &'static str,
    noted: Arc<Mutex<Vec<String>>>,
}

impl Noting {
    async fn asked(&self, what: &str, host: &str) -> Result<(), Status> {
        let note = format!("{} {what}", self.name);
        self.noted.lock().unwrap().push(note);
        match host.strip_prefix(self.name) {
            Some(" fails") => Err(Fault::not_found("host", host).into()),
            Some(" panics") => panic!("as asked"),
            Some(" hangs") => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl VmInstantiationService for Noting {
    async fn prepare(
        &self,
        request: Request<PrepareRequest>,
    ) -> Result<Response<PrepareResponse>, Status> {
        self.asked("prepare", &request.into_inner().host_uuid)
            .await?;
        Ok(Response::new(PrepareResponse {}))
    }

    async fn release(
        &self,
        request: Request<ReleaseRequest>,
    ) -> Result<Response<ReleaseResponse>, Status> {
        self.asked("release", &request.into_inner().host_uuid)
            .await?;
        Ok(Response::new(ReleaseResponse {}))
    }

    async fn observed(
        &self,
        request: Request<ObservedRequest>,
    ) -> Result<Response<ObservedResponse>, Status> {
        self.asked("observed", &request.into_inner().host_uuid)
            .await?;
        Ok(Response::new(ObservedResponse {}))
    }
}

type Noted = Arc<Mutex<Vec<String>>>;

/// A mesh in which these implement the point, and what they note.
fn extended(names: &[&'static str]) -> (Result<LocalMesh, ServeError>, Noted) {
    let (mesh, noted) = (LocalMesh::new(Uuid::now_v7()), Noted::default());
    let extensions = names.iter().map(|&name| Extension {
        implementer: name,
        dispatch: Arc::new(VmInstantiationDispatch(Arc::new(Noting {
            name,
            noted: Arc::clone(&noted),
        }))),
    });
    let served = mesh.serve(vec![], extensions.collect());
    (served.map(|()| mesh), noted)
}

fn prepare(host: &str) -> PrepareRequest {
    PrepareRequest {
        host_uuid: host.to_owned(),
        ..Default::default()
    }
}

fn take(noted: &Noted) -> Vec<String> {
    std::mem::take(&mut *noted.lock().unwrap())
}

#[tokio::test]
async fn every_implementer_is_called_in_the_order_of_names_and_nobody_is_fine() {
    let (mesh, noted) = extended(&["b", "a", "c"]);
    let points = VmInstantiationExtensions::new(mesh.unwrap().handle());
    assert_eq!(points.prepare(prepare("")).await.unwrap().len(), 3);
    let released = points.release(ReleaseRequest::default()).await.unwrap();
    assert_eq!(released.len(), 3);
    let expected = [
        "a prepare",
        "b prepare",
        "c prepare",
        "a release",
        "b release",
        "c release",
    ];
    assert_eq!(take(&noted), expected);

    let (mesh, _) = extended(&[]);
    let points = VmInstantiationExtensions::new(mesh.unwrap().handle());
    assert_eq!(points.prepare(prepare("")).await.unwrap(), []);
    // A point may be called before anything is served, as a step of a recovered flow might.
    let points = VmInstantiationExtensions::new(LocalMesh::new(Uuid::now_v7()).handle());
    assert_eq!(points.prepare(prepare("")).await.unwrap(), []);

    let (twice, _) = extended(&["a", "a"]);
    let told = twice.err().unwrap().to_string();
    let point = PrepareRequest::METHOD.service;
    assert_eq!(told, format!("a is given twice for {point}"));
}

#[tokio::test]
async fn the_first_implementer_that_fails_is_named_and_ends_it() {
    let (mesh, noted) = extended(&["a", "b", "c"]);
    let points = VmInstantiationExtensions::new(mesh.unwrap().handle());
    let refused = points.prepare(prepare("b fails")).await.unwrap_err();
    let fault = Fault::from_status(&refused);
    assert_eq!(fault.code, ErrorCode::NotFound);
    assert_eq!(fault.message, "b: there is no host b fails");
    assert_eq!(fault.resource, Some(("host".into(), "b fails".into())));
    assert_eq!(take(&noted), ["a prepare", "b prepare"]);
    let refused = points.prepare(prepare("a panics")).await.unwrap_err();
    assert!(refused.message().starts_with("a: "), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn an_implementer_has_a_deadline_of_its_own_and_no_more_than_its_caller() {
    let (mesh, noted) = extended(&["a", "b"]);
    let points = VmInstantiationExtensions::new(mesh.unwrap().handle());
    let begun = tokio::time::Instant::now();
    let refused = points.prepare(prepare("a hangs")).await.unwrap_err();
    let fault = Fault::from_status(&refused);
    assert_eq!(fault.code, ErrorCode::DeadlineExceeded);
    assert!(fault.message.starts_with("a: "), "{fault:?}");
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert_eq!(take(&noted), ["a prepare"]);

    let begun = tokio::time::Instant::now();
    let mut context = Context::of(AccountUuid::ADMIN);
    context.deadline = Some((begun + Duration::from_secs(3)).into_std());
    let called = context.scope(points.prepare(prepare("b hangs")));
    assert_eq!(called.await.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(begun.elapsed().as_secs(), 3);
}

#[tokio::test]
async fn an_extension_is_reached_by_name_only_and_never_from_outside() {
    let (mesh, noted) = extended(&["a", "b"]);
    let mesh = mesh.unwrap();
    let call = async |implementer: Option<&str>| {
        let mut call = Call::new(PrepareRequest::METHOD, None, prepare(""));
        call.implementer = implementer.map(Arc::from);
        let answered = mesh.handle().call(call).await;
        answered.map_err(|status| Fault::from_status(&status).code)
    };
    assert!(call(Some("b")).await.is_ok());
    assert_eq!(take(&noted), ["b prepare"]);
    assert_eq!(call(Some("x")).await.unwrap_err(), ErrorCode::Unavailable);
    assert_eq!(call(None).await.unwrap_err(), ErrorCode::Unimplemented);
    const { assert!(PrepareRequest::METHOD.internal) };
    assert_eq!(mesh.methods().count(), 0);
}
