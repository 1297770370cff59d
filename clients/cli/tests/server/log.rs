//! Logs: the end of one, so many lines of it, and what is added while it is followed.

use serde_json::json;
use tonic::Status;

use crate::{
    UUID, cairn, cairn_until,
    fake::{Fake, Step},
};

/// A part of a log, by the base64 of what was written.
fn part(content: &str, offset: u64, total: u64) -> Step {
    Step::Send(json!({
        "content": content,
        "offset": offset.to_string(),
        "totalBytes": total.to_string(),
    }))
}

const TWO_LINES: &str = "b25lCnR3bwo="; // "one\ntwo\n"
const STEERING: &str = "G1szMW1yZWQbWzBtDQobXTA7eAdvawo="; // a colour, CR, a window's title

#[tokio::test]
async fn the_end_of_a_log_is_shown() {
    let fake = Fake::start().await;
    for (flags, answer, out) in [
        ("", part(TWO_LINES, 0, 8), "one\ntwo\n"),
        // It begins in the middle of a line.
        ("", part(TWO_LINES, 3, 11), "two\n"),
        (" --offset 3", part(TWO_LINES, 3, 11), "one\ntwo\n"),
        (" --lines 1", part(TWO_LINES, 0, 8), "two\n"),
        ("", part("b25l", 0, 3), "one\n"),
        ("", part("", 0, 0), ""),
        ("", part(STEERING, 0, 24), "red\nok\n"),
    ] {
        fake.script("GetGadgetLog", [answer]);
        let ran = cairn(&fake, &format!("gadget log {UUID}{flags}")).await;
        assert_eq!((ran.code, ran.out.as_str()), (0, out), "{flags}: {ran:?}");
    }
    let calls = fake.calls();
    assert_eq!(calls[0].request, json!({"uuid": UUID}));
    assert_eq!(
        calls[3].request,
        json!({"uuid": UUID, "limitBytes": 1 << 20})
    );

    fake.script("GetGadgetLog", [part(STEERING, 0, 24)]);
    let ran = cairn(&fake, &format!("gadget log {UUID} --json")).await;
    assert_eq!(ran.json(), json!({"content": STEERING, "totalBytes": "24"}));

    fake.script("GetGadgetLog", [Step::Fail(Status::not_found("gone"))]);
    let ran = cairn(&fake, &format!("gadget log {UUID}")).await;
    assert!(ran.err.starts_with("error: NOT_FOUND: gone"), "{ran:?}");
}

#[tokio::test]
async fn a_log_is_followed_from_where_it_ended() {
    let fake = Fake::start().await;
    fake.script("GetGadgetLog", [part(TWO_LINES, 0, 8)])
        .script("GetGadgetLog", [part("dGhyZWUK", 8, 14)]) // "three\n"
        .script("GetGadgetLog", [Step::Cut])
        .script("GetGadgetLog", [part("", 14, 14)])
        // It was begun anew.
        .script("GetGadgetLog", [part("", 3, 3)])
        .script("GetGadgetLog", [part("b25l", 0, 3)])
        .script("GetGadgetLog", [Step::Hang]);
    let line = format!("gadget log {UUID} --lines 1 --follow");
    let ran = cairn_until(&fake, &line, fake.called(7)).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran:?}");
    assert_eq!(ran.out, "two\nthree\none");
    let offsets: Vec<_> = fake
        .calls()
        .into_iter()
        .map(|call| call.request["offset"].as_str().map(str::to_owned))
        .collect();
    let expected = [
        None,
        Some("8"),
        Some("14"),
        Some("14"),
        Some("14"),
        Some("0"),
        Some("3"),
    ];
    assert_eq!(offsets, expected.map(|offset| offset.map(str::to_owned)));
}
