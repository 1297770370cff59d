//! Pools in folders of their own, with the real qemu-img.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

const MIB: u64 = 1 << 20;

struct Pool {
    folder: tempfile::TempDir,
    storage: Storage,
}

impl Pool {
    fn new() -> Self {
        Self {
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

    async fn cache(&self, from: &str, sha256: Option<&str>) -> Result<ImageFacts, KvmError> {
        let command = CacheImage {
            image: Uuid::from_u128(1),
            url: from.to_owned(),
            sha256: sha256.map(str::to_owned),
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
    let pool = Pool::new();
    let space = pool.storage.pool_facts(&pool.path("new")).await.unwrap();
    assert!(space.available_bytes <= space.total_bytes && space.total_bytes > 0);

    let source = pool.path("source");
    pool.qemu_img(&["create", "-q", "-f", "qcow2", &source, "1M"])
        .await;
    let url = format!("file://{source}");
    let sha256 = fetch::digest_of(Path::new(&source)).await.unwrap();
    let wrong = "00".repeat(32);
    let error = pool.cache(&url, Some(&wrong)).await.unwrap_err();
    assert!(error.to_string().contains(&sha256), "{error}");
    assert!(pool.files().is_empty(), "{:?}", pool.files());

    let facts = pool
        .cache(&url, Some(&sha256.to_uppercase()))
        .await
        .unwrap();
    assert_eq!(facts.size_bytes, std::fs::metadata(&source).unwrap().len());
    std::fs::remove_file(&source).unwrap();
    // There already, so that nothing is fetched; with another content, it would be.
    assert_eq!(pool.cache(&url, Some(&sha256)).await.unwrap(), facts);
    assert_eq!(pool.cache(&url, None).await.unwrap(), facts);
    assert!(pool.cache(&url, Some(&wrong)).await.is_err());
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
    let pool = Pool::new();
    let (base, image) = (pool.path("base"), pool.path("image"));
    pool.qemu_img(&["create", "-q", "-f", "raw", &base, "1M"])
        .await;
    pool.qemu_img(&[
        "create", "-q", "-f", "qcow2", "-b", &base, "-F", "raw", &image,
    ])
    .await;
    assert!(pool.cache(&format!("file://{image}"), None).await.is_err());
    let data = format!("data_file={base},data_file_raw=on");
    pool.qemu_img(&["create", "-q", "-f", "qcow2", "-o", &data, &image, "1M"])
        .await;
    assert!(pool.cache(&format!("file://{image}"), None).await.is_err());
    assert!(pool.files().is_empty(), "{:?}", pool.files());
    for url in [
        "ftp://host/image",
        "file://image",
        "image",
        "file:///a/../b",
    ] {
        let error = pool.cache(url, None).await.unwrap_err();
        assert!(matches!(error, KvmError::Invalid(_)), "{url}: {error}");
    }
}

#[tokio::test]
async fn an_image_comes_over_http() {
    let pool = Pool::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = async {
        for answer in ["200 OK", "404 Not Found"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            let head = format!("HTTP/1.1 {answer}\r\ncontent-length: 512\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&[7; 512]).await.unwrap();
        }
    };
    let url = format!("http://{address}/image");
    let fetches = async {
        let facts = pool.cache(&url, None).await.unwrap();
        assert_eq!(facts.size_bytes, 512);
        let error = pool.cache(&url, Some("00")).await.unwrap_err();
        assert!(cairn_types::chain(&error).contains("404"), "{error:?}");
    };
    tokio::join!(server, fetches);
    assert_eq!(pool.files(), ["1.qcow2"]);
}

#[tokio::test]
async fn a_volume_is_made_once() {
    let pool = Pool::new();
    let source = pool.path("source");
    pool.qemu_img(&["create", "-q", "-f", "raw", &source, "1M"])
        .await;
    pool.cache(&format!("file://{source}"), None).await.unwrap();
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
