//! What the head of a file says of its disk. The format of qcow2 is in QEMU's
//! docs/interop/qcow2.rst.

use cairn_proto::storage::v1alpha1::ImageFormat;

/// How much of a file is looked at.
pub(super) const HEAD: usize = 512;

const QCOW2: &[u8] = b"QFI\xfb";
/// An incompatible feature of qcow2: its data is in another file.
const EXTERNAL_DATA: u64 = 1 << 2;

/// Formats that no host uses as they are, by how they begin.
const OTHERS: [(&[u8], &str, &str); 8] = [
    (b"KDMV", "VMDK", CONVERT),
    (b"# Disk DescriptorFile", "VMDK", CONVERT),
    (b"vhdxfile", "VHDX", CONVERT),
    (b"conectix", "VHD", CONVERT),
    (b"\x1f\x8b", "gzip", UNPACK),
    (b"\xfd7zXZ\0", "xz", UNPACK),
    (b"\x28\xb5\x2f\xfd", "zstd", UNPACK),
    (b"BZh", "bzip2", UNPACK),
];
const CONVERT: &str = "convert it with `qemu-img convert -O qcow2`";
const UNPACK: &str = "unpack it first";

/// What a file is, and how large the disk in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) format: ImageFormat,
    pub(super) size: u64,
}

impl Head {
    /// Reads the first [`HEAD`] bytes of a file of that size, or says what is wrong with them.
    pub(super) fn read(head: &[u8], file_size: u64) -> Result<Self, String> {
        if file_size == 0 {
            return Err("is empty; give one with a disk in it".to_owned());
        }
        if head.starts_with(QCOW2) {
            return qcow2(head);
        }
        let other = OTHERS.iter().find(|(magic, ..)| head.starts_with(magic));
        if let Some((_, name, remedy)) = other {
            return Err(format!("is in the format {name}; {remedy}"));
        }
        Ok(Self {
            format: ImageFormat::Raw,
            size: file_size,
        })
    }
}

fn qcow2(head: &[u8]) -> Result<Head, String> {
    let cut = || "is a qcow2 image that was cut off; give the whole file".to_owned();
    let version = number::<4>(head, 4).ok_or_else(cut)?;
    if !(2..=3).contains(&version) {
        return Err(format!(
            "is a qcow2 image of version {version}; 2 and 3 are known"
        ));
    }
    let size = number::<8>(head, 24).ok_or_else(cut)?;
    let features = match version {
        2 => 0,
        _ => number::<8>(head, 72).ok_or_else(cut)?,
    };
    // A file that it names would be read on the host, and shown to whoever uses the image.
    let alone = "give one that stands on its own";
    if number::<8>(head, 8).ok_or_else(cut)? != 0 {
        return Err(format!("is a qcow2 image with a backing file; {alone}"));
    }
    if features & EXTERNAL_DATA != 0 {
        return Err(format!(
            "is a qcow2 image with its data in another file; {alone}"
        ));
    }
    Ok(Head {
        format: ImageFormat::Qcow2,
        size,
    })
}

/// A big-endian number.
fn number<const LENGTH: usize>(head: &[u8], at: usize) -> Option<u64> {
    let bytes = head.get(at..at + LENGTH)?;
    Some(
        bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(version: u32, backing: u64, size: u64, features: u64) -> Vec<u8> {
        let mut head = QCOW2.to_vec();
        head.extend(version.to_be_bytes());
        head.extend(backing.to_be_bytes());
        head.extend([0; 8]);
        head.extend(size.to_be_bytes());
        head.resize(72, 0);
        head.extend(features.to_be_bytes());
        head
    }

    #[test]
    fn a_disk_is_as_large_as_its_head_says() {
        let read = |head: &[u8]| Head::read(head, 7 << 20).unwrap();
        for version in [2, 3] {
            let head = read(&image(version, 0, 5 << 30, 0));
            assert_eq!((head.format, head.size), (ImageFormat::Qcow2, 5 << 30));
        }
        let head = read(&[0; HEAD]);
        assert_eq!((head.format, head.size), (ImageFormat::Raw, 7 << 20));
        assert_eq!(Head::read(b"x", 1).unwrap().size, 1);
    }

    #[test]
    fn what_no_host_can_use_is_refused_with_the_remedy() {
        for (head, part) in [
            (image(3, 512, 1 << 30, 0), "backing file"),
            (image(3, 0, 1 << 30, EXTERNAL_DATA), "another file"),
            (image(4, 0, 1 << 30, 0), "version 4"),
            (image(3, 0, 1 << 30, 0)[..70].to_vec(), "cut off"),
            (QCOW2.to_vec(), "cut off"),
            (b"KDMV....".to_vec(), "qemu-img convert"),
            (b"\x1f\x8b\x08\0".to_vec(), "unpack"),
        ] {
            let problem = Head::read(&head, 1 << 20).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        }
        assert!(Head::read(b"", 0).unwrap_err().contains("empty"));
    }
}
