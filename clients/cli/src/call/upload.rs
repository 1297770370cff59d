//! A file that is uploaded in pieces. It is read once and never held: what the server has already
//! is only hashed, and the rest is sent too. A cut is survived, also by ending here and beginning
//! again another day.

use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use prost_reflect::{DynamicMessage, MethodDescriptor, Value};
use ring::digest::{Context, SHA256};

use super::{Session, called, operation, retries::Retries, text_in};
use crate::{
    action::{Action, Kind, Upload},
    connection,
    error::{CliError, Outcome},
    grammar::Invocation,
    table,
    terminal::Bar,
};

/// How large a piece is.
const PIECE: usize = 1 << 20;

/// Creates what the file is for if it is not there yet, uploads it, and prints the result.
pub(super) async fn run(
    session: &mut Session<'_, '_>,
    invocation: &Invocation<'_>,
) -> Result<(), CliError> {
    let (Some(path), Some(upload)) = (&invocation.file, &invocation.action.upload) else {
        return Ok(());
    };
    // Before anything is made for it.
    let (file, size) = open(path)?;
    let uuid = match invocation.action.kind {
        Kind::Upload => text_in(&invocation.request, "uuid"),
        _ => text_in(&operation::ended(session, invocation).await?, "uuid"),
    };
    let noun = &invocation.action.noun;
    let job = Job {
        invocation,
        upload,
        path,
        size,
        uuid: uuid.clone(),
    };
    let ended = job.run(session, file).await;
    let last = ended.map_err(|cause| CliError::Upload {
        resume: format!(
            "`cairn {noun} upload {uuid} --file {}` goes on, `cairn {noun} delete {uuid}` gives it \
             up",
            path.display()
        ),
        cause: Box::new(cause),
    })?;
    session.print(&last, &table::details(&last))
}

struct Job<'a> {
    invocation: &'a Invocation<'a>,
    upload: &'a Upload,
    path: &'a Path,
    size: u64,
    uuid: String,
}

impl Job<'_> {
    async fn run(
        &self,
        session: &mut Session<'_, '_>,
        file: File,
    ) -> Result<DynamicMessage, CliError> {
        let bar = Bar::new(session.terminal.progress && !session.json, self.size);
        let sent = self.send(session.connection, file, &bar);
        let sha256 = tokio::select! {
            sent = sent => sent?,
            () = session.interrupt.as_mut() => {
                return Err(CliError::Interrupted(Outcome::Read));
            }
        };
        drop(bar);
        let method = &self.upload.complete;
        let request = self.request(
            method,
            [
                ("file_size_bytes", Value::U64(self.size)),
                ("sha256", Value::String(sha256)),
            ],
        );
        let action = Action {
            method: method.clone(),
            kind: Kind::Operation,
            upload: None,
            ..self.invocation.action.clone()
        };
        let complete = Invocation::of(&action, request);
        operation::ended(session, &complete).await
    }

    /// Sends what the server does not have; gives the SHA-256 of the whole file.
    async fn send(
        &self,
        connection: &connection::Connection,
        mut file: File,
        bar: &Bar,
    ) -> Result<String, CliError> {
        let mut there = self.piece(connection, 0, &[], bar).await?;
        if there > self.size {
            return Err(CliError::OtherFile {
                path: self.path.to_owned(),
                there,
                size: self.size,
            });
        }
        let (mut digest, mut begin) = (Context::new(&SHA256), 0);
        let mut block = vec![0; PIECE];
        loop {
            let length = fill(&mut file, &mut block).map_err(unreadable(self.path))?;
            if length == 0 {
                break;
            }
            let piece = &block[..length];
            digest.update(piece);
            let end = begin + length as u64;
            // What the server has may end within this piece, and after a cut it may be less than
            // was told.
            while there < end {
                let skip = usize::try_from(there.saturating_sub(begin)).unwrap_or(length);
                there = self.piece(connection, there, &piece[skip..], bar).await?;
                if there < begin {
                    return Err(CliError::Answer(format!(
                        "the upload goes on at {there}, which was taken before"
                    )));
                }
            }
            begin = end;
            bar.at(begin);
        }
        let mut text = String::with_capacity(64);
        for byte in digest.finish().as_ref() {
            let _ = write!(text, "{byte:02x}");
        }
        Ok(text)
    }

    /// Sends a piece; gives where the next one begins.
    async fn piece(
        &self,
        connection: &connection::Connection,
        offset: u64,
        data: &[u8],
        bar: &Bar,
    ) -> Result<u64, CliError> {
        let method = &self.upload.piece;
        let mut retries = Retries::new();
        let mut data = data;
        loop {
            let request = self.request(
                method,
                [
                    ("offset", Value::U64(offset)),
                    ("data", Value::Bytes(data.to_vec().into())),
                ],
            );
            let status = match connection.unary(method, request, None).await {
                Ok(answer) => {
                    bar.say("");
                    let next = answer.get_field_by_name("next_offset");
                    return Ok(next.and_then(|next| next.as_u64()).unwrap_or_default());
                }
                Err(status) => status,
            };
            if !connection::is_cut(&status) {
                return Err(called(self.invocation, &status, None));
            }
            bar.say("the connection was cut");
            if !retries.again().await {
                return Err(CliError::Lost {
                    outcome: Outcome::Read,
                    cause: Box::new(status),
                });
            }
            // Whether the piece was taken, is asked.
            data = &[];
        }
    }

    fn request<const N: usize>(
        &self,
        method: &MethodDescriptor,
        fields: [(&str, Value); N],
    ) -> DynamicMessage {
        let mut request = DynamicMessage::new(method.input());
        request.set_field_by_name("uuid", Value::String(self.uuid.clone()));
        for (name, value) in fields {
            request.set_field_by_name(name, value);
        }
        request
    }
}

/// A file and its size.
fn open(path: &Path) -> Result<(File, u64), CliError> {
    let file = File::open(path).map_err(unreadable(path))?;
    let metadata = file.metadata().map_err(unreadable(path))?;
    if metadata.is_dir() {
        return Err(unreadable(path)(io::ErrorKind::IsADirectory.into()));
    }
    Ok((file, metadata.len()))
}

/// Reads as much as there is, up to the length of the block.
fn fill(file: &mut File, block: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < block.len() {
        match file.read(&mut block[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
            Err(cause) => return Err(cause),
        }
    }
    Ok(length)
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> CliError {
    move |cause| CliError::File {
        path: path.to_owned(),
        cause,
    }
}
