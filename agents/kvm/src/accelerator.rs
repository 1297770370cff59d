//! How guests run: on the processor itself, or emulated.
//!
//! That `/dev/kvm` is there and opens says little: where virtual machines are nested, guests may
//! hang under it, or crawl. So KVM proves itself before it is used: a guest must get through the
//! firmware and its boot sector to a known point, and about as soon as an emulated one does.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use crate::{KvmError, config::AcceleratorChoice, programs::Programs};
use cairn_types::chain;

/// What runs a guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU's emulation: anywhere, and many times slower.
    Tcg,
}

/// Firmware and boot sector take a few tenths of a second, emulated too.
const PROOF_LIMIT: Duration = Duration::from_secs(10);
/// How many times as long as emulation KVM may take. They are about even up to this point, most of
/// which is the start of QEMU; where KVM crawls, each look of the firmware at a device is slow, and
/// what the rest of a guest needs is slower still.
const SLOWER_AT_MOST: u32 = 2;
/// What the boot sector writes to the exit device.
const PROOF: u8 = 0x2a;
const PROOF_PORT: u8 = 0xf4;

impl Accelerator {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// QEMU's name for a CPU with all that the accelerator can offer.
    pub(crate) fn cpu(self) -> &'static str {
        match self {
            Self::Kvm => "host",
            Self::Tcg => "max",
        }
    }

    /// The accelerator that the configuration asks for. `folder` is for the proof's disk.
    pub(crate) async fn choose(
        choice: AcceleratorChoice,
        programs: &Programs,
        (qemu, machine): (&str, &str),
        folder: &Path,
    ) -> Result<Self, KvmError> {
        match choice {
            AcceleratorChoice::Kvm => return Ok(Self::Kvm),
            AcceleratorChoice::Tcg => return Ok(Self::Tcg),
            AcceleratorChoice::Auto => {}
        }
        let disk = folder.join("proof.raw");
        std::fs::write(&disk, boot_disk()).map_err(KvmError::file(&disk))?;
        let begun = Instant::now();
        let emulated = Self::Tcg.prove(programs, (qemu, machine), &disk, PROOF_LIMIT);
        let limit = match emulated.await {
            Ok(()) => begun.elapsed() * SLOWER_AT_MOST,
            // It is the same QEMU: what is wrong with it is told below.
            Err(_) => PROOF_LIMIT,
        };
        let proved = Self::Kvm
            .prove(programs, (qemu, machine), &disk, limit)
            .await;
        std::fs::remove_file(&disk).map_err(KvmError::file(&disk))?;
        match proved {
            Ok(()) => {
                info!("KVM runs guests here");
                Ok(Self::Kvm)
            }
            Err(error) => {
                let error = chain(&error);
                warn!(error, "KVM does not run guests here: they are emulated");
                Ok(Self::Tcg)
            }
        }
    }

    /// Runs a guest to the end of its boot sector.
    async fn prove(
        self,
        programs: &Programs,
        (qemu, machine): (&str, &str),
        disk: &Path,
        limit: Duration,
    ) -> Result<(), KvmError> {
        let machine = format!("{machine},accel={}", self.name());
        let disk = serde_json::json!({
            "node-name": "proof",
            "driver": "raw",
            "read-only": true,
            "file": { "driver": "file", "filename": disk },
        })
        .to_string();
        let exit = format!("isa-debug-exit,iobase={PROOF_PORT:#x},iosize=1");
        // With the CPU that virtual machines get, so that what this host cannot offer shows here.
        let mut arguments = vec!["-machine", &machine, "-cpu", self.cpu(), "-m", "32"];
        arguments.extend(["-nodefaults", "-no-user-config", "-vga", "none"]);
        arguments.extend(["-display", "none", "-device", &exit]);
        arguments.extend(["-blockdev", &disk, "-device", "virtio-blk-pci,drive=proof"]);
        // The device ends QEMU with twice the value and one: never with a success.
        let expected = format!("exit status: {}", (u32::from(PROOF) << 1) | 1);
        match programs.run(qemu, &arguments, limit).await {
            Err(KvmError::Failed { status, .. }) if status == expected => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(KvmError::Refused(
                "the guest ended before its boot sector did".to_owned(),
            )),
        }
    }
}

/// A disk whose boot sector writes to the exit device, and halts.
fn boot_disk() -> Vec<u8> {
    const CODE: [u8; 7] = [
        0xb0, PROOF, // mov al, PROOF
        0xe6, PROOF_PORT, // out PROOF_PORT, al
        0xf4,       // hlt
        0xeb, 0xfd, // jmp to hlt
    ];
    // The firmware does not boot from a disk without a cylinder.
    let mut disk = vec![0; 1 << 20];
    disk[..CODE.len()].copy_from_slice(&CODE);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By emulation, which runs guests anywhere: what fails here is the proof.
    #[tokio::test]
    async fn the_proof_holds_where_guests_run() {
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("disk");
        std::fs::write(&disk, boot_disk()).unwrap();
        let (programs, qemu) = (Programs::default(), ("qemu-system-x86_64", "q35"));
        let prove = async |limit| Accelerator::Tcg.prove(&programs, qemu, &disk, limit).await;
        prove(PROOF_LIMIT).await.unwrap();
        let late = prove(Duration::ZERO).await;
        assert!(matches!(late, Err(KvmError::TimedOut { .. })));

        std::fs::write(&disk, vec![0; 1 << 20]).unwrap();
        let never = prove(Duration::from_secs(2)).await;
        assert!(matches!(never, Err(KvmError::TimedOut { .. })));
    }
}
