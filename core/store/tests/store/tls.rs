//! The connection to a server on another machine: who it is, and who asks.

use cairn_proto::meta::Catalog;
use cairn_store::{DatabaseConfig, PostgresConfig, Store, StoreConfig, StoreError};
use cairn_testkit::PostgresServer;
use cairn_types::chain;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// An authority of its own.
fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
}

#[tokio::test]
async fn a_server_must_be_who_it_says_and_so_must_we() {
    let (ours, other) = (authority(), authority());
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let certificate = CertificateParams::new(names).unwrap();
    let certificate = certificate.signed_by(&key, &ours).unwrap();
    let (_server, port) = PostgresServer::start_tls(&certificate.pem(), &key.serialize_pem()).await;

    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.display().to_string()
    };
    let (ours, other) = (file("ours.pem", ours.pem()), file("other.pem", other.pem()));
    let open = async |host: &str, options: String, password: &str| {
        let url = format!("postgres://cairn@{host}:{port}/postgres?{options}");
        let postgres = PostgresConfig::parse(&url).unwrap();
        let mut config = StoreConfig::new(directory.path());
        config.database = DatabaseConfig::Postgres(postgres.with_password(password));
        Store::open(&config, Catalog::built_in(), &[]).await
    };
    let (full, ca) = (
        "sslmode=verify-full&sslrootcert=",
        "sslmode=verify-ca&sslrootcert=",
    );
    for (host, options, password, problem) in [
        ("localhost", format!("{full}{ours}"), "secret", ""),
        ("127.0.0.1", format!("{ca}{ours}"), "secret", ""),
        (
            "127.0.0.1",
            format!("{full}{ours}"),
            "secret",
            "certificate not valid for name",
        ),
        (
            "localhost",
            format!("{full}{other}"),
            "secret",
            "invalid peer certificate",
        ),
        (
            "localhost",
            "sslmode=verify-full".to_owned(),
            "secret",
            "invalid peer certificate",
        ),
        (
            "localhost",
            format!("{full}{ours}"),
            "wrong",
            "password authentication failed",
        ),
        (
            "localhost",
            "sslmode=disable".to_owned(),
            "secret",
            "no encryption",
        ),
    ] {
        match open(host, options, password).await {
            Ok(store) => {
                assert_eq!(problem, "");
                let rows = store
                    .rows(
                        "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
                        vec![],
                    )
                    .await
                    .unwrap();
                assert!(rows[0].bool(0).unwrap());
                store.close().await;
            }
            Err(error) => {
                assert!(matches!(error, StoreError::Connect { .. }));
                let words = chain(&error);
                assert!(!problem.is_empty() && words.contains(problem), "{words}");
                assert!(!words.contains("secret"), "{words}");
            }
        }
    }
}
