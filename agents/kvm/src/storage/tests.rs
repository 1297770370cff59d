//! Pools in folders of their own, with the real qemu-img and a server in this process.

use cairn_agent_protocol::{Secret, SftpFile};
use cairn_sftp::SshKey;
use cairn_testkit::SftpServer;

use super::*;

const MIB: u64 = 1 << 20;

struct Pool {
    folder: tempfile::TempDir,
    server: SftpServer,
    key: SshKey,
    storage: Storage,
}

impl Pool {
    async fn new() -> Self {
        let (server, key) = (SftpServer::start().await, SshKey::generate().unwrap());
        server.authorize(key.public());
        Self {
            server,
            key,
            folder: tempfile::tempdir().unwrap(),
            storage: Storage {
                programs: Programs::default(),
            },
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    async fn qemu_img(&self, words: &[&str]) {
        let run = self.storage.programs.run("qemu-img", words, LIMIT);
        run.await.unwrap();
    }

    /// Puts a file on the server.
    fn serve(&self, file: &str) -> SftpFile {
        std::fs::copy(file, self.server.root().join("image")).unwrap();
        SftpFile {
            address: self.server.address(),
            username: "cairn".to_owned(),
            host_key: self.server.host_key().to_owned(),
            private_key: Secret::new(self.key.secret().unwrap()),
            path: "/image".to_owned(),
        }
    }

    async fn cache(&self, from: &SftpFile, sha256: &str) -> Result<ImageFacts, KvmError> {
        let command = CacheImage {
            image: Uuid::from_u128(1),
            source: from.clone(),
            sha256: sha256.to_owned(),
            path: self.path("images/1.qcow2"),
        };
        self.storage.cache_image(&command).await
    }

    /// The names of all files in the pool.
    fn files(&self) -> Vec<String> {
        let mut names = Vec::new();
        for folder in ["images", "volumes"] {
            for entry in std::fs::read_dir(self.path(folder)).into_iter().flatten() {
                names.push(entry.unwrap().file_name().into_string().unwrap());
            }
        }
        names
    }
}

#[tokio::test]
async fn an_image_is_whole_or_absent() {
    let pool = Pool::new().await;
    let space = pool.storage.pool_facts(&pool.path("new")).await.unwrap();
    assert!(space.available_bytes <= space.total_bytes && space.total_bytes > 0);

    let source = pool.path("source");
    pool.qemu_img(&["create", "-q", "-f", "qcow2", &source, "1M"])
        .await;
    let from = pool.serve(&source);
    let sha256 = fetch::digest_of(Path::new(&source)).await.unwrap();
    let wrong = "00".repeat(32);
    let error = pool.cache(&from, &wrong).await.unwrap_err();
    assert!(error.to_string().contains(&sha256), "{error}");
    assert!(pool.files().is_empty(), "{:?}", pool.files());

    let facts = pool.cache(&from, &sha256.to_uppercase()).await.unwrap();
    assert_eq!(facts.size_bytes, std::fs::metadata(&source).unwrap().len());
    std::fs::remove_file(pool.server.root().join("image")).unwrap();
    // There already, so that nothing is fetched; with another content, it would be.
    assert_eq!(pool.cache(&from, &sha256).await.unwrap(), facts);
    assert!(pool.cache(&from, &wrong).await.is_err());
    assert_eq!(pool.files(), ["1.qcow2"]);

    let delete = DeleteImage {
        image: Uuid::from_u128(1),
        path: pool.path("images/1.qcow2"),
    };
    pool.storage.delete_image(&delete).await.unwrap();
    pool.storage.delete_image(&delete).await.unwrap();
    assert!(pool.files().is_empty());
}

#[tokio::test]
async fn an_image_that_names_other_files_is_refused() {
    let pool = Pool::new().await;
    let (base, image) = (pool.path("base"), pool.path("image"));
    pool.qemu_img(&["create", "-q", "-f", "raw", &base, "1M"])
        .await;
    pool.qemu_img(&[
        "create", "-q", "-f", "qcow2", "-b", &base, "-F", "raw", &image,
    ])
    .await;
    let refused = async || {
        let digest = fetch::digest_of(Path::new(&image)).await.unwrap();
        let error = pool.cache(&pool.serve(&image), &digest).await.unwrap_err();
        assert!(error.to_string().contains("stands on its own"), "{error}");
    };
    refused().await;
    let data = format!("data_file={base},data_file_raw=on");
    pool.qemu_img(&["create", "-q", "-f", "qcow2", "-o", &data, &image, "1M"])
        .await;
    refused().await;
    assert!(pool.files().is_empty(), "{:?}", pool.files());
}

#[tokio::test]
async fn another_server_is_refused_and_no_key_is_shown() {
    let mut pool = Pool::new().await;
    let source = pool.path("source");
    pool.qemu_img(&["create", "-q", "-f", "raw", &source, "1M"])
        .await;
    let from = pool.serve(&source);
    let sha256 = fetch::digest_of(Path::new(&source)).await.unwrap();
    let other = SshKey::generate().unwrap();
    let unknown = SftpFile {
        host_key: other.public().to_owned(),
        ..from.clone()
    };
    let stranger = SftpFile {
        private_key: Secret::new(other.secret().unwrap()),
        ..from.clone()
    };
    let absent = SftpFile {
        path: "/nothing".to_owned(),
        ..from.clone()
    };
    let nonsense = SftpFile {
        private_key: Secret::new("nonsense".to_owned()),
        ..from.clone()
    };
    for (source, part) in [
        (&unknown, "another host key"),
        (&stranger, other.public()),
        (&absent, "there is no /nothing"),
        (&nonsense, "no private key"),
    ] {
        let error = pool.cache(source, &sha256).await.unwrap_err();
        let text = cairn_types::chain(&error);
        assert!(text.contains(part), "{part}: {text}");
        assert!(
            !text.contains("PRIVATE") && !text.contains("nonsense"),
            "{text}"
        );
        assert!(!format!("{source:?}").contains("PRIVATE"));
    }
    pool.server.pause().await;
    let error = pool.cache(&from, &sha256).await.unwrap_err();
    let text = cairn_types::chain(&error);
    assert!(text.contains("cannot be reached"), "{text}");
    assert!(pool.files().is_empty(), "{:?}", pool.files());
}

#[tokio::test]
async fn a_volume_is_made_once() {
    let pool = Pool::new().await;
    let source = pool.path("source");
    pool.qemu_img(&["create", "-q", "-f", "raw", &source, "1M"])
        .await;
    let sha256 = fetch::digest_of(Path::new(&source)).await.unwrap();
    pool.cache(&pool.serve(&source), &sha256).await.unwrap();
    let template = pool.path("images/1.qcow2");
    let mut create = CreateVolume {
        volume: Uuid::from_u128(2),
        pool_path: pool.path(""),
        size_bytes: 4 * MIB,
        template: Some(template.clone()),
    };
    let facts = pool.storage.create_volume(&create).await.unwrap();
    assert_eq!(pool.storage.create_volume(&create).await.unwrap(), facts);
    let info = pool.storage.info(Path::new(&facts.path)).await.unwrap();
    assert_eq!(info.format, "qcow2");
    assert_eq!(info.virtual_size, 4 * MIB);
    assert_eq!(info.backing_filename, Some(template));

    create.size_bytes = 5 * MIB;
    let other_size = pool.storage.create_volume(&create).await;
    assert!(matches!(other_size, Err(KvmError::Invalid(_))));
    create.volume = Uuid::from_u128(3);
    create.size_bytes = MIB / 2;
    let too_small = pool.storage.create_volume(&create).await;
    assert!(matches!(too_small, Err(KvmError::Invalid(_))));
    create.template = None;
    pool.storage.create_volume(&create).await.unwrap();

    for volume in [2, 3, 3].map(Uuid::from_u128) {
        let delete = DeleteVolume {
            volume,
            pool_path: pool.path(""),
        };
        pool.storage.delete_volume(&delete).await.unwrap();
    }
    assert_eq!(pool.files(), ["1.qcow2"]);
}

#[tokio::test]
async fn what_is_no_pool_has_no_files() {
    let pool = Pool::new().await;
    std::fs::write(pool.path("another's"), "not a folder").unwrap();
    for path in ["none", "another's"] {
        assert_eq!(pool.storage.files(&pool.path(path)).await.unwrap(), []);
    }
}
