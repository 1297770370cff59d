//! The files of a backup storage, as an examination sees them: what is on one side only is told, and
//! of that only what is nobody's is removed.

use cairn_proto::{
    doctor::{
        ext::v1alpha1::{Depot, GetDepotsRequest, InspectDepotRequest, RepairRequest, Suspect},
        v1alpha1::{Finding, Problem, Remedy},
    },
    storage::v1alpha1::{BackupStorage, BackupStorageStatus},
};
use cairn_testkit::{SftpServer, wait_until};
use cairn_types::ErrorCode;

use super::{backup_storages::storage_on, *};

on_both_databases!(
    files_and_rows_are_held_against_each_other,
    a_half_made_file_goes_unless_somebody_wants_it_again,
    a_server_that_is_away_is_said,
);

const LIMIT: Duration = Duration::from_secs(30);

struct Bed {
    fixture: Fixture,
    server: SftpServer,
    storage: BackupStorage,
}

impl Bed {
    async fn new(database: Database) -> Self {
        let fixture = Fixture::new(database).await;
        let server = SftpServer::start().await;
        server.authorize(fixture.key.public());
        server.make_folder("/srv/images");
        let mut storage = storage_on(&server);
        storage.set_status(BackupStorageStatus::Connected);
        fixture.insert(storage.clone()).await;
        Self {
            fixture,
            server,
            storage,
        }
    }

    /// An image on the storage whose row says that its file has 4 bytes.
    async fn image(&self, status: ImageStatus) -> String {
        let mut image = Image {
            uuid: uuid(),
            backup_storage_uuid: self.storage.uuid.clone(),
            file_size_bytes: 4,
            ..Image::default()
        };
        image.set_status(status);
        self.fixture.insert(image.clone()).await;
        image.uuid
    }

    fn put(&self, name: &str) -> String {
        let path = format!("/srv/images/{name}");
        self.server.write(&path, b"four");
        path
    }

    async fn suspects(&self) -> Result<Vec<Suspect>, Fault> {
        let depot = Depot {
            r#type: BackupStorage::NOUN.to_owned(),
            uuid: self.storage.uuid.clone(),
        };
        let depot = Some(depot);
        let request = InspectDepotRequest { depot };
        let inspected = self.fixture.inspections.inspect_depot(request).await;
        let inspected = inspected.map_err(|status| Fault::from_status(&status))?;
        Ok(inspected.into_iter().flat_map(|it| it.suspects).collect())
    }

    async fn findings(&self) -> Vec<Finding> {
        let suspects = self.suspects().await.unwrap().into_iter();
        suspects.map(|suspect| suspect.finding.unwrap()).collect()
    }

    async fn repair(&self, finding: &Finding) -> Result<(), Fault> {
        let request = RepairRequest {
            finding: Some(finding.clone()),
            task_uuid: uuid(),
            operation_uuid: uuid(),
            ..RepairRequest::default()
        };
        let repaired = self.fixture.inspections.repair(request).await;
        let repaired = repaired.map_err(|status| Fault::from_status(&status))?;
        assert!(repaired.iter().any(|it| it.repaired), "{finding:?}");
        Ok(())
    }
}

async fn files_and_rows_are_held_against_each_other(database: Database) {
    let bed = Bed::new(database).await;
    let depots = bed.fixture.inspections.get_depots(GetDepotsRequest {});
    let depots: Vec<_> = depots.await.unwrap().remove(0).depots;
    assert_eq!(depots[0].uuid, bed.storage.uuid);
    assert_eq!(bed.findings().await, []);

    let (whole, lost) = (ImageStatus::Ready, ImageStatus::Ready);
    let (whole, lost) = (bed.image(whole).await, bed.image(lost).await);
    let coming = bed.image(ImageStatus::Uploading).await;
    let (foreign, begun) = (uuid(), uuid());
    bed.put(&whole);
    bed.put(&format!("{coming}.part"));
    bed.put(&foreign);
    bed.put(&format!("{begun}.part"));
    bed.put("notes.txt");
    let mut expected = [
        ("image-file", Problem::Missing, lost, Remedy::None),
        ("image-file", Problem::Extra, foreign, Remedy::None),
        (
            "part-file",
            Problem::Extra,
            format!("{begun}.part"),
            Remedy::Repair,
        ),
        ("file", Problem::Extra, "notes.txt".to_owned(), Remedy::None),
    ];
    let findings = bed.findings().await;
    let mut found: Vec<_> = findings
        .iter()
        .map(|it| {
            let name = it.identity.strip_prefix("/srv/images/").unwrap().to_owned();
            (&*it.kind, it.problem(), name, it.remedy())
        })
        .collect();
    found.sort_by(|one, other| one.2.cmp(&other.2));
    expected.sort_by(|one, other| one.2.cmp(&other.2));
    assert_eq!(found, expected);
    for finding in &findings {
        let place = (&*finding.depot_type, &finding.depot_uuid);
        assert_eq!(place, (BackupStorage::NOUN, &bed.storage.uuid));
        assert!(finding.host_uuid.is_empty() && !finding.queue_uuid.is_empty());
    }

    // Of a storage that is gone, or that is another's depot, there is nothing to say.
    let gone = uuid();
    for (noun, uuid) in [(BackupStorage::NOUN, &gone), ("host", &bed.storage.uuid)] {
        let depot = Some(Depot {
            r#type: noun.to_owned(),
            uuid: uuid.clone(),
        });
        let request = InspectDepotRequest { depot };
        let said = bed.fixture.inspections.inspect_depot(request).await;
        assert_eq!(said.unwrap().remove(0).suspects, []);
    }
}

async fn a_half_made_file_goes_unless_somebody_wants_it_again(database: Database) {
    let bed = Bed::new(database).await;
    let kept = bed.put("notes.txt");
    let wanted = uuid();
    let path = bed.put(&format!("{wanted}.part"));
    let found = bed.findings().await;
    let part = found.into_iter().find(|it| it.kind == "part-file");
    let part = part.unwrap();

    // An upload is at it: whoever writes a piece has the turn, and looks at the row only then.
    let uploads = &bed.fixture.area.0.uploads;
    let turn = uploads.turn(&wanted).await;
    let (repaired, ()) = tokio::join!(bed.repair(&part), async {
        let queued = async || uploads.queued(&wanted);
        wait_until("the fix waits", queued, |queued| *queued == 2, LIMIT).await;
        let mut image = Image {
            uuid: wanted.clone(),
            backup_storage_uuid: bed.storage.uuid.clone(),
            ..Image::default()
        };
        image.set_status(ImageStatus::Uploading);
        bed.fixture.insert(image).await;
        turn.end();
    });
    repaired.unwrap();
    assert_eq!(bed.server.files(), [&*path, &*kept]);

    assert_eq!(bed.fixture.execute("DELETE FROM image").await, 1);
    bed.repair(&part).await.unwrap();
    assert_eq!(bed.server.files(), [&*kept]);
    // A repeat finds nothing.
    bed.repair(&part).await.unwrap();
    // A path that leads elsewhere removes nothing there.
    for identity in [&*kept, "/srv/images/../notes.txt.part", "/x.part"] {
        let other = Finding {
            identity: identity.to_owned(),
            ..part.clone()
        };
        bed.repair(&other).await.unwrap();
    }
    assert_eq!(bed.server.files(), [&*kept]);
}

async fn a_server_that_is_away_is_said(database: Database) {
    let mut bed = Bed::new(database).await;
    let path = bed.put(&format!("{}.part", uuid()));
    let part = bed.findings().await.remove(0);
    bed.server.pause().await;
    let away = bed.suspects().await.unwrap_err();
    assert_eq!(away.code, ErrorCode::Unavailable, "{away:?}");
    let on = Some((BackupStorage::NOUN.to_owned(), bed.storage.uuid.clone()));
    assert_eq!(away.resource, on, "a job waits for it");
    assert_eq!(bed.repair(&part).await.unwrap_err().resource, on);
    let sql = "UPDATE backup_storage SET status = 'Disconnected'";
    assert_eq!(bed.fixture.execute(sql).await, 1);
    bed.server.resume().await;
    let away = bed.suspects().await.unwrap_err();
    assert!(away.message.contains("Disconnected"), "{away:?}");
    assert_eq!((away.code, away.resource), (ErrorCode::Unavailable, on));
    assert_eq!(bed.server.files(), [path]);
}
