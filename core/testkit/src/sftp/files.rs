//! The files of a server, as its protocol asks for them.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::Arc,
};

use russh_sftp::{
    extensions::Statvfs,
    protocol::{
        Attrs, Data, ExtendedReply, File as Entry, FileAttributes, Handle, Name, OpenFlags, Packet,
        Status, StatusCode, Version,
    },
    server::Handler,
};

use super::{Refusal, Shared};

/// What a server without a limit says that it has.
const SPACE: u64 = 1 << 40;

/// How many entries of a folder one answer has.
const ENTRIES: usize = 100;

/// The open files of a connection.
pub(super) struct Files {
    shared: Arc<Shared>,
    open: HashMap<String, File>,
    /// Of open folders, what was not told yet.
    folders: HashMap<String, Vec<Entry>>,
    last: u64,
}

impl Files {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            open: HashMap::new(),
            folders: HashMap::new(),
            last: 0,
        }
    }

    fn next_handle(&mut self) -> String {
        self.last += 1;
        self.last.to_string()
    }

    fn file(&self, handle: &str) -> Result<&File, StatusCode> {
        self.open.get(handle).ok_or(StatusCode::Failure)
    }
}

fn code(error: &io::Error) -> StatusCode {
    match error.kind() {
        ErrorKind::NotFound => StatusCode::NoSuchFile,
        ErrorKind::PermissionDenied => StatusCode::PermissionDenied,
        _ => StatusCode::Failure,
    }
}

/// What a folder has, and itself and the one above it as servers say.
fn entries(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = vec![Entry::dummy("."), Entry::dummy("..")];
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let attributes = (&entry.metadata()?).into();
        let name = entry.file_name().to_string_lossy().into_owned();
        entries.push(Entry::new(name, attributes));
    }
    Ok(entries)
}

fn done(id: u32, result: io::Result<()>) -> Result<Status, StatusCode> {
    result.map_err(|error| code(&error))?;
    Ok(Status {
        id,
        status_code: StatusCode::Ok,
        error_message: "Ok".to_owned(),
        language_tag: "en".to_owned(),
    })
}

impl Handler for Files {
    type Error = StatusCode;

    fn unimplemented(&self) -> StatusCode {
        StatusCode::OpUnsupported
    }

    async fn init(&mut self, _: u32, _: HashMap<String, String>) -> Result<Version, StatusCode> {
        let mut version = Version::new();
        let mut offer = |name: &str, number: &str| {
            version
                .extensions
                .insert(name.to_owned(), number.to_owned())
        };
        offer(russh_sftp::extensions::STATVFS, "2");
        offer(russh_sftp::extensions::FSYNC, "1");
        Ok(version)
    }

    async fn open(
        &mut self,
        id: u32,
        path: String,
        flags: OpenFlags,
        _: FileAttributes,
    ) -> Result<Handle, StatusCode> {
        let mut options = OpenOptions::new();
        options
            .read(flags.contains(OpenFlags::READ))
            .write(flags.contains(OpenFlags::WRITE))
            .create(flags.contains(OpenFlags::CREATE))
            .truncate(flags.contains(OpenFlags::TRUNCATE));
        let file = options.open(self.shared.on_disk(&path));
        let file = file.map_err(|error| code(&error))?;
        let handle = self.next_handle();
        self.open.insert(handle.clone(), file);
        Ok(Handle { id, handle })
    }

    async fn close(&mut self, id: u32, handle: String) -> Result<Status, StatusCode> {
        self.open.remove(&handle);
        self.folders.remove(&handle);
        done(id, Ok(()))
    }

    async fn opendir(&mut self, id: u32, path: String) -> Result<Handle, StatusCode> {
        let listed = entries(&self.shared.on_disk(&path)).map_err(|error| code(&error))?;
        let handle = self.next_handle();
        self.folders.insert(handle.clone(), listed);
        Ok(Handle { id, handle })
    }

    async fn readdir(&mut self, id: u32, handle: String) -> Result<Name, StatusCode> {
        let rest = self.folders.get_mut(&handle).ok_or(StatusCode::Failure)?;
        let files: Vec<_> = rest.drain(..rest.len().min(ENTRIES)).collect();
        match files.is_empty() {
            true => Err(StatusCode::Eof),
            false => Ok(Name { id, files }),
        }
    }

    async fn read(
        &mut self,
        id: u32,
        handle: String,
        offset: u64,
        len: u32,
    ) -> Result<Data, StatusCode> {
        let mut data = vec![0; len.min(1 << 18) as usize];
        let read = self.file(&handle)?.read_at(&mut data, offset);
        data.truncate(read.map_err(|error| code(&error))?);
        if data.is_empty() {
            return Err(StatusCode::Eof);
        }
        Ok(Data { id, data })
    }

    async fn write(
        &mut self,
        id: u32,
        handle: String,
        offset: u64,
        data: Vec<u8>,
    ) -> Result<Status, StatusCode> {
        match self.shared.take(data.len() as u64) {
            Ok(()) => {}
            Err(Refusal::Full) => return Err(StatusCode::Failure),
            // Its answer would be on the line before the cut.
            Err(Refusal::Cut) => std::future::pending().await,
        }
        done(id, self.file(&handle)?.write_all_at(&data, offset))
    }

    async fn lstat(&mut self, id: u32, path: String) -> Result<Attrs, StatusCode> {
        self.stat(id, path).await
    }

    async fn stat(&mut self, id: u32, path: String) -> Result<Attrs, StatusCode> {
        let metadata = fs::metadata(self.shared.on_disk(&path));
        let attrs = (&metadata.map_err(|error| code(&error))?).into();
        Ok(Attrs { id, attrs })
    }

    async fn fstat(&mut self, id: u32, handle: String) -> Result<Attrs, StatusCode> {
        let metadata = self.file(&handle)?.metadata();
        let attrs = (&metadata.map_err(|error| code(&error))?).into();
        Ok(Attrs { id, attrs })
    }

    async fn setstat(
        &mut self,
        id: u32,
        path: String,
        attributes: FileAttributes,
    ) -> Result<Status, StatusCode> {
        let size = attributes.size.ok_or(StatusCode::OpUnsupported)?;
        let file = OpenOptions::new()
            .write(true)
            .open(self.shared.on_disk(&path));
        done(id, file.and_then(|file| file.set_len(size)))
    }

    async fn remove(&mut self, id: u32, path: String) -> Result<Status, StatusCode> {
        done(id, fs::remove_file(self.shared.on_disk(&path)))
    }

    async fn mkdir(
        &mut self,
        id: u32,
        path: String,
        _: FileAttributes,
    ) -> Result<Status, StatusCode> {
        done(id, fs::create_dir(self.shared.on_disk(&path)))
    }

    async fn rename(&mut self, id: u32, from: String, to: String) -> Result<Status, StatusCode> {
        let (from, to) = (self.shared.on_disk(&from), self.shared.on_disk(&to));
        // As OpenSSH does: what is there is not replaced.
        let free = match to.exists() {
            true => Err(io::Error::from(ErrorKind::AlreadyExists)),
            false => Ok(()),
        };
        done(id, free.and_then(|()| fs::rename(from, to)))
    }

    async fn extended(
        &mut self,
        id: u32,
        request: String,
        _: Vec<u8>,
    ) -> Result<Packet, StatusCode> {
        match request.as_str() {
            russh_sftp::extensions::FSYNC => Ok(done(id, Ok(()))?.into()),
            russh_sftp::extensions::STATVFS => {
                let left = self.shared.space();
                let space = Statvfs {
                    block_size: 1,
                    fragment_size: 1,
                    blocks: SPACE,
                    blocks_free: left.min(SPACE),
                    blocks_avail: left.min(SPACE),
                    inodes: 1 << 20,
                    inodes_free: 1 << 20,
                    inodes_avail: 1 << 20,
                    fs_id: 1,
                    flags: 0,
                    name_max: 255,
                };
                let data = russh_sftp::ser::to_bytes(&space).map_err(|_| StatusCode::Failure)?;
                let data = data.to_vec();
                Ok(ExtendedReply { id, data }.into())
            }
            _ => Err(StatusCode::OpUnsupported),
        }
    }
}
