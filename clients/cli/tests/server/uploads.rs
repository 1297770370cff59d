//! Files that are uploaded: what is sent again after a cut, and what a person can do then.

use serde_json::json;
use tonic::Status;

use crate::{
    Ran, cairn,
    fake::{Fake, Step},
};

const IMAGE: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn accepted() -> Step {
    Step::Send(json!({"accepted": {"operationUuid": "o1", "resourceUuid": "i1"}}))
}

fn ready() -> Step {
    Step::Send(json!({"result": {"uuid": "i1", "status": "IMAGE_STATUS_READY"}}))
}

fn at(offset: u32) -> [Step; 1] {
    [Step::Send(json!({"nextOffset": offset.to_string()}))]
}

async fn upload(fake: &Fake, content: &[u8]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    std::fs::write(&path, content).unwrap();
    cairn(
        fake,
        &format!("image upload {IMAGE} --json --file {}", path.display()),
    )
    .await
}

#[tokio::test]
async fn only_what_is_missing_is_sent_after_a_cut() {
    let fake = Fake::start().await;
    fake.script("UploadImageChunk", at(0))
        .script("UploadImageChunk", [Step::Cut])
        .script("UploadImageChunk", at(400))
        .script("UploadImageChunk", at(1000))
        .script("CompleteImageUpload", [accepted(), Step::Cut])
        .script("CompleteImageUpload", [accepted(), ready()]);
    let ran = upload(&fake, &[7; 1000]).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert_eq!(ran.json()["uuid"], "i1");
    let calls = fake.calls();
    let pieces = calls[..4].iter().map(|call| {
        let length = call.request["data"].as_str().map_or(0, str::len);
        // Base64 of so many bytes.
        (
            call.request["offset"].as_str().unwrap_or("0").to_owned(),
            length / 4 * 3 / 100,
        )
    });
    let pieces: Vec<_> = pieces.collect();
    let expected = [("0", 0), ("0", 10), ("0", 0), ("400", 6)];
    assert_eq!(
        pieces,
        expected.map(|(offset, hundreds)| (offset.to_owned(), hundreds))
    );
    assert_eq!(calls[4].request["fileSizeBytes"], "1000");
    assert_eq!(calls[4].request["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(calls[4].key, calls[5].key);
}

#[tokio::test]
async fn what_the_server_has_is_not_sent_again() {
    let fake = Fake::start().await;
    // In the middle of the second piece.
    fake.script("UploadImageChunk", at((1 << 20) + 5))
        .script("UploadImageChunk", at((1 << 20) + 9))
        .script("CompleteImageUpload", [accepted(), ready()]);
    let ran = upload(&fake, &vec![7; (1 << 20) + 9]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let calls = fake.calls();
    assert_eq!(calls[1].request["offset"], "1048581");
    assert_eq!(calls[1].request["data"], "BwcHBw==");
}

#[tokio::test]
async fn an_upload_that_ends_early_says_how_it_goes_on() {
    let fake = Fake::start().await;
    let full = Status::resource_exhausted("no space");
    fake.script("UploadImageChunk", at(0))
        .script("UploadImageChunk", [Step::Fail(full)]);
    let ran = upload(&fake, b"content").await;
    assert_eq!(ran.code, 1, "{ran:?}");
    for part in [
        "no space",
        &format!("cairn image upload {IMAGE} --file "),
        &format!("cairn image delete {IMAGE}"),
    ] {
        assert!(ran.err.contains(part), "{part} is not in {}", ran.err);
    }
    // It is shorter than what was uploaded.
    fake.script("UploadImageChunk", at(8));
    let ran = upload(&fake, b"content").await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.err.contains("not the file that was begun with"),
        "{ran:?}"
    );
}
