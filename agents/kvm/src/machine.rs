//! The command line of a virtual machine's QEMU. Pure: a specification in, words out.

use std::path::Path;

use serde_json::json;

use crate::{Accelerator, KvmError, network::check_name};
use cairn_agent_protocol::{NicSpec, StartVm, tap_name};

const MIB: u64 = 1 << 20;

/// The files of a virtual machine's folder that QEMU is told of.
pub(crate) struct MachineFiles<'a> {
    pub(crate) console: &'a Path,
    pub(crate) monitor: &'a Path,
    pub(crate) pid: &'a Path,
}

/// Refuses what QEMU would misunderstand or refuse late.
pub(crate) fn check(spec: &StartVm) -> Result<(), KvmError> {
    let refuse = |why: String| Err(KvmError::Invalid(why));
    if spec.cpu_count == 0 {
        return refuse("a virtual machine needs a CPU".to_owned());
    }
    if spec.memory_bytes < MIB || !spec.memory_bytes.is_multiple_of(MIB) {
        return refuse(format!(
            "{} bytes of memory are not a whole number of MiB",
            spec.memory_bytes
        ));
    }
    if spec.name.contains(char::is_control) {
        return refuse("the name has a control character".to_owned());
    }
    if !Path::new(&spec.root_volume_path).is_absolute() {
        return refuse(format!("`{}` is no absolute path", spec.root_volume_path));
    }
    for nic in &spec.nics {
        check_name(&nic.bridge)?;
        if !is_unicast_mac(&nic.mac) {
            return refuse(format!("`{}` is no hardware address", nic.mac));
        }
    }
    Ok(())
}

/// What QEMU is told. It goes to the background, into a session of its own, once the machine runs;
/// until then it stays, and a failure is its exit code.
pub(crate) fn arguments(
    spec: &StartVm,
    machine: &str,
    accelerator: Accelerator,
    files: &MachineFiles<'_>,
) -> Vec<String> {
    let name = spec.name.replace(',', ",,");
    let mut words = Words(Vec::new());
    words.option("-name", format!("guest={name}"));
    words.option("-uuid", spec.vm.to_string());
    words.option(
        "-machine",
        format!("{machine},accel={}", accelerator.name()),
    );
    words.option("-cpu", accelerator.cpu().to_owned());
    words.option("-smp", spec.cpu_count.to_string());
    words.option("-m", format!("{}M", spec.memory_bytes / MIB));
    words.flag("-nodefaults");
    words.flag("-no-user-config");
    words.option("-vga", "none".to_owned());
    words.option("-display", "none".to_owned());

    let console = escaped(files.console);
    words.option(
        "-chardev",
        format!("file,id=console,path={console},append=on"),
    );
    words.option("-serial", "chardev:console".to_owned());
    let monitor = escaped(files.monitor);
    words.option("-qmp", format!("unix:{monitor},server=on,wait=off"));
    words.option("-pidfile", files.pid.display().to_string());

    // The format is told and never guessed: what a guest writes to its disk must not make it
    // another one.
    let root = json!({
        "node-name": "root",
        "driver": "qcow2",
        "discard": "unmap",
        "file": {
            "driver": "file",
            "filename": spec.root_volume_path,
            "discard": "unmap",
        },
    });
    words.option("-blockdev", root.to_string());
    words.option(
        "-device",
        "virtio-blk-pci,drive=root,bootindex=1".to_owned(),
    );
    for (index, nic) in spec.nics.iter().enumerate() {
        words.nic(index, nic);
    }
    words.flag("-daemonize");
    words.0
}

struct Words(Vec<String>);

impl Words {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.to_owned());
    }

    fn option(&mut self, option: &str, value: String) {
        self.0.extend([option.to_owned(), value]);
    }

    fn nic(&mut self, index: usize, nic: &NicSpec) {
        let tap = tap_name(nic.nic);
        self.option(
            "-netdev",
            format!("tap,id=nic{index},ifname={tap},script=no,downscript=no"),
        );
        // Without its ROM, which could only boot from the network.
        let mac = &nic.mac;
        self.option(
            "-device",
            format!("virtio-net-pci,netdev=nic{index},mac={mac},romfile="),
        );
    }
}

/// A comma ends a value in an option of QEMU, unless it is doubled.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

fn is_unicast_mac(text: &str) -> bool {
    let octets: Vec<_> = text.split(':').collect();
    let octet = |text: &&str| text.len() == 2 && text.chars().all(|c| c.is_ascii_hexdigit());
    octets.len() == 6
        && octets.iter().all(octet)
        && u8::from_str_radix(octets[0], 16).is_ok_and(|first| first & 1 == 0)
}

#[cfg(test)]
mod tests {
    use cairn_types::Uuid;

    use super::*;

    fn spec() -> StartVm {
        StartVm {
            vm: Uuid::from_u128(7),
            name: "web, first".to_owned(),
            cpu_count: 2,
            memory_bytes: 128 * MIB,
            root_volume_path: "/pool/volumes/a,b.qcow2".to_owned(),
            nics: vec![NicSpec {
                nic: Uuid::from_u128(0xabc),
                mac: "52:54:00:00:00:01".to_owned(),
                bridge: "br0".to_owned(),
                ip: None,
            }],
        }
    }

    #[test]
    fn a_machine_is_told_as_documented() {
        let files = MachineFiles {
            console: Path::new("/d,e/console"),
            monitor: Path::new("/d,e/qmp"),
            pid: Path::new("/d,e/qemu.pid"),
        };
        let line = arguments(&spec(), "q35", Accelerator::Tcg, &files).join(" ");
        assert_eq!(
            line,
            "-name guest=web,, first -uuid 00000000-0000-0000-0000-000000000007 \
             -machine q35,accel=tcg -cpu max -smp 2 -m 128M -nodefaults -no-user-config -vga none \
             -display none -chardev file,id=console,path=/d,,e/console,append=on \
             -serial chardev:console -qmp unix:/d,,e/qmp,server=on,wait=off \
             -pidfile /d,e/qemu.pid \
             -blockdev {\"discard\":\"unmap\",\"driver\":\"qcow2\",\"file\":{\"discard\":\"unmap\",\
             \"driver\":\"file\",\"filename\":\"/pool/volumes/a,b.qcow2\"},\"node-name\":\"root\"} \
             -device virtio-blk-pci,drive=root,bootindex=1 \
             -netdev tap,id=nic0,ifname=tap000000000abc,script=no,downscript=no \
             -device virtio-net-pci,netdev=nic0,mac=52:54:00:00:00:01,romfile= -daemonize"
        );
        let line = arguments(&spec(), "pc", Accelerator::Kvm, &files).join(" ");
        assert!(line.contains("-machine pc,accel=kvm -cpu host"), "{line}");
    }

    #[test]
    fn what_qemu_would_misunderstand_is_refused() {
        let check = |change: fn(&mut StartVm), right: bool| {
            let mut spec = spec();
            change(&mut spec);
            assert_eq!(super::check(&spec).is_ok(), right, "{spec:?}");
        };
        check(|_| {}, true);
        check(|spec| spec.cpu_count = 0, false);
        check(|spec| spec.memory_bytes += 1, false);
        check(|spec| spec.memory_bytes = 0, false);
        check(|spec| spec.name = "a\nb".to_owned(), false);
        check(|spec| spec.root_volume_path = "a".to_owned(), false);
        check(|spec| spec.nics[0].bridge = "a,b".to_owned(), false);
        check(|spec| spec.nics[0].mac = "52:54:00:00:00".to_owned(), false);
        check(
            |spec| spec.nics[0].mac = "52:54:00:00:00:0g".to_owned(),
            false,
        );
        check(
            |spec| spec.nics[0].mac = "53:54:00:00:00:01".to_owned(),
            false,
        );
        check(|spec| spec.nics[0].mac.push_str(",x=y"), false);
    }
}
