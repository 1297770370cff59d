//! One image, its files on a backup storage, and its row, in every combination that matters.

use cairn_proto::doctor::v1alpha1::{
    Problem::{self, Differs, Extra, Missing},
    Remedy,
};

use super::*;

/// The uuid of the image that every case is about.
const IMAGE: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

fn storage() -> BackupStorage {
    BackupStorage {
        uuid: "storage".to_owned(),
        path: "/srv".to_owned(),
        ..BackupStorage::default()
    }
}

fn image(status: Status) -> Image {
    let mut image = Image {
        uuid: IMAGE.to_owned(),
        backup_storage_uuid: "storage".to_owned(),
        file_size_bytes: 7,
        ..Image::default()
    };
    image.set_status(status);
    image
}

fn file(name: &str, size: u64) -> Entry {
    Entry {
        name: name.to_owned(),
        is_file: true,
        size,
    }
}

/// What is found of these files with that row: kind, problem, owner, and what a fix does.
#[track_caller]
fn check(
    has: &[Entry],
    row: Option<Image>,
    expected: &[(&str, Problem, &str, Remedy)],
) -> Vec<Suspect> {
    let known = row.into_iter().map(|image| (image.uuid.clone(), image));
    let found = compare(has, &storage(), &known.collect());
    let short: Vec<_> = found
        .iter()
        .map(Suspect::finding)
        .map(|it| (&*it.kind, it.problem(), &*it.owner_type, it.remedy()))
        .collect();
    assert_eq!(short, expected, "{found:?}");
    found
}

#[test]
fn a_file_is_what_its_row_says() {
    let (right, none) = ([file(IMAGE, 7)], []);
    for status in [Status::Ready, Status::Deleted] {
        check(&right, Some(image(status)), &[]);
        let lost = ("image-file", Missing, "image", Remedy::None);
        let found = check(&none, Some(image(status)), &[lost]);
        let path = format!("/srv/images/{IMAGE}");
        assert_eq!(found[0].finding().identity, path);
        let other = ("image-file", Differs, "image", Remedy::None);
        check(&[file(IMAGE, 8)], Some(image(status)), &[other]);
        // A size that nobody noted.
        let mut old = image(status);
        old.file_size_bytes = 0;
        check(&[file(IMAGE, 8)], Some(old), &[]);
    }
    // What is on its way has its file or not.
    for status in [Status::Downloading, Status::Verifying, Status::Deleting] {
        check(&right, Some(image(status)), &[]);
        check(&none, Some(image(status)), &[]);
    }
    check(&none, Some(image(Status::Uploading)), &[]);
    let of_none = ("image-file", Extra, "", Remedy::None);
    check(&right, None, &[of_none]);
    let of_it = ("image-file", Extra, "image", Remedy::None);
    check(&right, Some(image(Status::Uploading)), &[of_it]);
    let mut elsewhere = image(Status::Ready);
    elsewhere.backup_storage_uuid = "another".to_owned();
    check(&right, Some(elsewhere.clone()), &[of_it]);
    check(&none, Some(elsewhere), &[]);
}

#[test]
fn a_half_made_file_belongs_to_an_image_on_its_way() {
    let part = file(&format!("{IMAGE}.part"), 3);
    for status in [
        Status::Downloading,
        Status::Uploading,
        Status::Verifying,
        Status::Deleting,
    ] {
        check(std::slice::from_ref(&part), Some(image(status)), &[]);
    }
    let of_none = ("part-file", Extra, "", Remedy::Repair);
    let found = check(std::slice::from_ref(&part), None, &[of_none]);
    // An operation may be at an image that has no row.
    let expected = Suspect::extra(
        "part-file",
        format!("/srv/images/{IMAGE}.part"),
        "it is half made, and nobody is at it",
    );
    let expected = expected.repair().queued_at(Image::NOUN, IMAGE);
    assert_eq!(found, [expected.concerns(IMAGE)]);
    for status in [Status::Ready, Status::Deleted] {
        let both = [file(IMAGE, 7), part.clone()];
        let of_it = ("part-file", Extra, "image", Remedy::Repair);
        check(&both, Some(image(status)), &[of_it]);
    }
}

#[test]
fn what_has_another_name_is_left_to_a_person() {
    check(&[file(PROBE, 0)], None, &[]);
    let folder = Entry {
        is_file: false,
        ..file(IMAGE, 7)
    };
    for entry in [
        file("notes.txt", 1),
        file("notes.part", 1),
        file(&IMAGE.to_uppercase(), 7),
        file(&format!("{IMAGE}.part.part"), 7),
        file(&format!("{IMAGE}.qcow2"), 7),
        file(".part", 7),
        folder.clone(),
    ] {
        check(&[entry], None, &[("file", Extra, "", Remedy::None)]);
    }
    let lost = ("image-file", Missing, "image", Remedy::None);
    let strange = ("file", Extra, "", Remedy::None);
    check(&[folder], Some(image(Status::Ready)), &[strange, lost]);
}
