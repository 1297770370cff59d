//! The client against a server in this process.
#![expect(clippy::unwrap_used, reason = "a test says what it expects by failing")]

use std::os::unix::fs::symlink;

use cairn_sftp::{Connection, Endpoint, Entry, HostKey, SftpError, SshKey};
use cairn_testkit::SftpServer;
use cairn_types::{Coded as _, ErrorCode};

fn endpoint(server: &SftpServer) -> Endpoint {
    Endpoint {
        address: server.address(),
        username: "images".to_owned(),
        host_key: None,
    }
}

async fn open(server: &SftpServer, key: &SshKey) -> Connection {
    server.authorize(key.public());
    Connection::open(&endpoint(server), key).await.unwrap()
}

#[tokio::test]
async fn a_server_is_known_by_its_key() {
    let (server, key) = (SftpServer::start().await, SshKey::generate().unwrap());
    let mut endpoint = endpoint(&server);
    let refused = Connection::open(&endpoint, &key).await.unwrap_err();
    assert!(refused.to_string().contains(key.public()), "{refused}");
    assert_eq!(refused.code(), ErrorCode::StorageFailed);

    server.authorize(key.public());
    let learned = Connection::open(&endpoint, &key).await.unwrap();
    let learned = learned.host_key().clone();
    assert_eq!(learned.to_string(), server.host_key());
    endpoint.host_key = Some(learned);
    Connection::open(&endpoint, &key).await.unwrap();

    let other = SshKey::generate().unwrap();
    let other: HostKey = other.public().parse().unwrap();
    endpoint.host_key = Some(other.clone());
    let differs = Connection::open(&endpoint, &key).await.unwrap_err();
    let text = differs.to_string();
    for part in [server.host_key(), &other.to_string(), "another host key"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[tokio::test]
async fn nobody_there_is_said() {
    let (mut server, key) = (SftpServer::start().await, SshKey::generate().unwrap());
    server.pause().await;
    let error = Connection::open(&endpoint(&server), &key)
        .await
        .unwrap_err();
    assert!(matches!(error, SftpError::Unreachable { .. }), "{error}");
    assert_eq!(error.code(), ErrorCode::Unavailable);
}

#[tokio::test]
async fn a_file_is_written_read_renamed_and_removed() {
    let (server, key) = (SftpServer::start().await, SshKey::generate().unwrap());
    let on = open(&server, &key).await;
    server.make_folder("/images");
    on.check_folder("/images").await.unwrap();
    on.make_folder("/images/a").await.unwrap();
    on.make_folder("/images/a").await.unwrap();
    let space = on.space("/images").await.unwrap().unwrap();
    assert!(space.available <= space.total && space.total > 0);

    let content: Vec<u8> = (0..3_000_017_u32).map(|n| (n * 7 / 3) as u8).collect();
    let mut writer = on.create("/images/a/x.part").await.unwrap();
    for block in content[..2_000_000].chunks(100_000) {
        writer.write(block).await.unwrap();
    }
    writer.finish().await.unwrap();
    let mut writer = on.append("/images/a/x.part", 2_000_000).await.unwrap();
    writer.write(&content[2_000_000..]).await.unwrap();
    writer.finish().await.unwrap();
    assert_eq!(on.size("/images/a/x.part").await.unwrap(), Some(3_000_017));
    for _ in 0..2 {
        // A name that is taken is no obstacle.
        on.rename("/images/a/x.part", "/images/a/x").await.unwrap();
        on.create("/images/a/x.part")
            .await
            .unwrap()
            .finish()
            .await
            .unwrap();
        on.rename("/images/a/x", "/images/a/x.part").await.unwrap();
    }
    on.rename("/images/a/x.part", "/images/a/x").await.unwrap();
    assert_eq!(server.files(), ["/images/a/x"]);
    assert_eq!(server.content("/images/a/x"), content);
    let (mut reader, mut read) = (on.read("/images/a/x").await.unwrap(), Vec::new());
    while let Some(block) = reader.next().await.unwrap() {
        read.extend_from_slice(&block);
    }
    assert_eq!(read, content);

    on.remove("/images/a/x").await.unwrap();
    on.remove("/images/a/x").await.unwrap();
    assert_eq!(on.size("/images/a/x").await.unwrap(), None);
    for (error, part) in [
        (
            on.read("/images/a/x").await.err().unwrap(),
            "there is no /images/a/x",
        ),
        (
            on.check_folder("/nowhere").await.unwrap_err(),
            "there is no /nowhere",
        ),
        (
            on.make_folder("/nowhere/a").await.unwrap_err(),
            "there is no /nowhere/a",
        ),
    ] {
        assert!(error.to_string().contains(part), "{error}");
    }
    on.create("/images/file")
        .await
        .unwrap()
        .finish()
        .await
        .unwrap();
    let error = on.check_folder("/images/file").await.unwrap_err();
    assert!(matches!(error, SftpError::NoFolder { .. }), "{error}");
}

#[tokio::test]
async fn a_folder_is_listed_whole() {
    let (server, key) = (SftpServer::start().await, SshKey::generate().unwrap());
    let on = open(&server, &key).await;
    assert_eq!(on.list("/images").await.unwrap(), []);
    server.make_folder("/images/below");
    server.write("/images/below/deep", b"not listed");
    // More than one answer of a server has.
    for number in 0..250 {
        let path = format!("/images/{number:03}");
        server.write(&path, &vec![1; number]);
    }
    let images = server.root().join("images");
    for (name, to) in [("link", "249"), ("to-nothing", "none"), ("up", "below")] {
        symlink(images.join(to), images.join(name)).unwrap();
    }
    let listed = on.list("/images").await.unwrap();
    let file = |name: String, size| Entry {
        name,
        is_file: true,
        size,
    };
    let files = (0..250).map(|number| file(format!("{number:03}"), number));
    let files = files.chain([file("link".to_owned(), 249)]);
    let (listed, others): (Vec<_>, Vec<_>) = listed.into_iter().partition(|it| it.is_file);
    assert!(listed.into_iter().eq(files));
    let names: Vec<_> = others.iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["below", "to-nothing", "up"]);
    let error = on.list("/images/007").await.unwrap_err();
    assert!(error.to_string().contains("list /images/007"), "{error}");
}

#[tokio::test]
async fn a_full_disk_and_a_cut_are_told_apart() {
    let (server, key) = (SftpServer::start().await, SshKey::generate().unwrap());
    let on = open(&server, &key).await;
    server.full_after(100_000);
    let error = write_a_megabyte(&on).await.unwrap_err();
    assert!(matches!(error, SftpError::Full { .. }), "{error}");
    assert_eq!(error.code(), ErrorCode::OutOfCapacity);
    server.cut_after(100_000);
    let error = write_a_megabyte(&on).await.unwrap_err();
    assert!(matches!(error, SftpError::Lost { .. }), "{error}");
    assert_eq!(error.code(), ErrorCode::Unavailable);
}

async fn write_a_megabyte(on: &Connection) -> Result<(), SftpError> {
    let mut writer = on.create("/x").await?;
    writer.write(&[7; 1 << 20]).await?;
    writer.finish().await
}
