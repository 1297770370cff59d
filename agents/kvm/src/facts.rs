//! What the host is and has.

use std::fs;

use crate::{
    KvmError,
    programs::{Programs, SHORT},
};

/// CPUs and memory in bytes.
pub(crate) fn size() -> Result<(u32, u64), KvmError> {
    Ok((
        count_cpus(&read("/proc/cpuinfo")?),
        total_memory(&read("/proc/meminfo")?),
    ))
}

/// Name and version of the operating system.
pub(crate) fn operating_system() -> Result<String, KvmError> {
    let text = read("/etc/os-release")?;
    Ok(pretty_name(&text).unwrap_or("Linux").to_owned())
}

/// Name and version of the hypervisor.
pub(crate) async fn hypervisor(programs: &Programs, qemu: &str) -> Result<String, KvmError> {
    let text = programs.run(qemu, &["--version"], SHORT).await?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn read(path: &str) -> Result<String, KvmError> {
    fs::read_to_string(path).map_err(KvmError::file(path))
}

fn count_cpus(cpuinfo: &str) -> u32 {
    let keys = cpuinfo.lines().filter_map(|line| line.split(':').next());
    let count = keys.filter(|key| key.trim() == "processor").count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn total_memory(meminfo: &str) -> u64 {
    let mut lines = meminfo.lines();
    let total = lines.find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or(0u64) * 1024
}

/// See os-release(5).
fn pretty_name(os_release: &str) -> Option<&str> {
    let mut lines = os_release.lines();
    let value = lines.find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_files_are_understood() {
        let cpuinfo = "processor\t: 0\nmodel name\t: some processor\n\nprocessor\t: 1\n";
        assert_eq!(count_cpus(cpuinfo), 2);
        let meminfo = "MemTotal:       24576 kB\nMemFree:        1 kB\n";
        assert_eq!(total_memory(meminfo), 24576 * 1024);
        let release = "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(pretty_name(release), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(pretty_name("NAME=x\n"), None);
    }
}
