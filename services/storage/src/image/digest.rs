//! What is learned of a file as it passes: its size, its SHA-256, its head.

use std::fmt::Write as _;

use cairn_proto::{fault::Fault, meta::Resource, storage::v1alpha1::Image};
use cairn_types::ErrorCode;
use ring::digest::{Context, SHA256};

use super::format::{HEAD, Head};

/// A file that passes, block by block.
pub(super) struct Passing {
    size: u64,
    digest: Context,
    head: Vec<u8>,
}

/// A file that has passed.
pub(super) struct Passed {
    pub(super) size: u64,
    pub(super) sha256: String,
    head: Vec<u8>,
}

impl Passing {
    pub(super) fn new() -> Self {
        Self {
            size: 0,
            digest: Context::new(&SHA256),
            head: Vec::new(),
        }
    }

    pub(super) fn take(&mut self, block: &[u8]) {
        self.size += block.len() as u64;
        self.digest.update(block);
        let missing = HEAD.saturating_sub(self.head.len());
        self.head.extend(block.iter().take(missing));
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn end(self) -> Passed {
        let mut sha256 = String::with_capacity(64);
        for byte in self.digest.finish().as_ref() {
            let _ = write!(sha256, "{byte:02x}");
        }
        Passed {
            size: self.size,
            sha256,
            head: self.head,
        }
    }
}

impl Passed {
    /// That it has the SHA-256 that it must have.
    pub(super) fn must_be(&self, image: &Image, sha256: &str) -> Result<(), Fault> {
        if self.sha256.eq_ignore_ascii_case(sha256) {
            return Ok(());
        }
        let problem = format!(
            "is {sha256}; the file has {}: take the right file, or its SHA-256",
            self.sha256
        );
        Err(Fault::field("sha256", problem).on(Image::NOUN, &image.uuid))
    }

    /// Fills in what the file says of the image.
    pub(super) fn describe(&self, image: &mut Image) -> Result<(), Fault> {
        let refused = |problem: String| {
            let message = format!("the file of image {} {problem}", image.uuid);
            Fault::new(ErrorCode::InvalidArgument, message).on(Image::NOUN, &image.uuid)
        };
        let head = Head::read(&self.head, self.size).map_err(refused)?;
        let least = head.size.next_multiple_of(512).max(super::SIZE_MIN);
        if least > super::SIZE_MAX {
            let most = super::SIZE_MAX;
            return Err(refused(format!(
                "has a disk of {least} bytes; {most} is the most"
            )));
        }
        // What the request wanted is in the row since it was made.
        if image.size_bytes != 0 && image.size_bytes < least {
            let problem = format!(
                "is {}, and the file has a disk of {least} bytes; give at least that, or nothing",
                image.size_bytes
            );
            return Err(Fault::field("size_bytes", problem).on(Image::NOUN, &image.uuid));
        }
        image.size_bytes = image.size_bytes.max(least);
        image.set_format(head.format);
        image.file_size_bytes = self.size;
        image.sha256.clone_from(&self.sha256);
        Ok(())
    }
}
