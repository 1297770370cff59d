//! Nobody gets in who has no name.

use std::os::unix::fs::PermissionsExt as _;

use bytes::Bytes;
use cairn_e2e::{Access, Cloud, remote};
use cairn_proto::{
    call::{Call, Context, Method, Payload},
    fault::Fault,
    meta::Catalog,
};
use cairn_types::{AccountUuid, ErrorCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Every rpc of the contract, and those of health and reflection.
fn every_rpc() -> Vec<&'static Method> {
    let catalog = Catalog::built_in();
    let ours = catalog.pool().services().flat_map(|service| {
        let service_name = service.full_name().to_owned();
        let methods = service.methods().map(move |method| {
            let streaming = method.is_server_streaming();
            (service_name.clone(), method.name().to_owned(), streaming)
        });
        methods.collect::<Vec<_>>()
    });
    let others = [
        (
            "grpc.health.v1.Health".to_owned(),
            "Check".to_owned(),
            false,
        ),
        ("no.such.Service".to_owned(), "Nothing".to_owned(), false),
    ];
    ours.chain(others)
        .map(|(service, name, streaming)| {
            let path: &'static str = format!("/{service}/{name}").leak();
            let method = Method {
                service: service.leak(),
                name: name.leak(),
                path,
                streaming,
                internal: false,
                key: None,
            };
            &*Box::leak(Box::new(method))
        })
        .collect()
}

async fn call(access: &Access, method: &'static Method) -> Fault {
    let call = Call {
        method,
        key: None,
        implementer: None,
        context: Context::of(AccountUuid::ADMIN),
        payload: Payload::Encoded(Bytes::new()),
    };
    let refused = match remote(access).call(call).await {
        Err(status) => status,
        Ok(_) => panic!("{} was answered", method.path),
    };
    Fault::from_status(&refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rpc_refuses_a_caller_without_a_credential_or_with_a_wrong_one() {
    let cloud = Cloud::start().await;
    let right = Access::read(&cloud.credential_file());
    let token = right.token.clone().unwrap();
    let methods = every_rpc();
    assert!(methods.len() > 20, "only {} rpcs", methods.len());
    for token in [
        None,
        Some("cairn-wrong".to_owned()),
        Some(token[..token.len() - 1].to_owned()),
    ] {
        let access = Access {
            token,
            ..right.clone()
        };
        for method in &methods {
            let fault = call(&access, method).await;
            assert_eq!(fault.code, ErrorCode::Unauthenticated, "{}", method.path);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn internal_rpcs_are_not_at_the_public_door() {
    let cloud = Cloud::start().await;
    let access = Access::read(&cloud.credential_file());
    let internal: Vec<_> = every_rpc()
        .into_iter()
        .filter(|method| {
            [".internal.", ".ext."]
                .iter()
                .any(|p| method.service.contains(p))
        })
        .collect();
    assert!(!internal.is_empty());
    for method in internal {
        assert_eq!(
            call(&access, method).await.code,
            ErrorCode::Unimplemented,
            "{}",
            method.path
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_listener_talks_in_clear_and_every_file_is_private() {
    let cloud = Cloud::start().await;
    let mode = std::fs::metadata(cloud.credential_file())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let config = cloud.config();
    for address in [config.public.listen, config.callback.listen] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP"), "{address} answered in clear");
    }
}
