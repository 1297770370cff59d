//! What every test ends with: the doctor finds nothing, but for what the test left on purpose.

use std::{collections::BTreeSet, time::Duration};

use cairn_proto::{
    call::Mesh,
    compute::v1alpha1::HostStatus,
    doctor::v1alpha1::{DoctorClient, ExamineRequest, ExamineResponse},
    fault::Fault,
};
use cairn_testkit::wait_until;

use crate::host_in;

/// How long what is under way at the end of a test may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Has the doctor examine everything.
///
/// # Errors
/// Why that failed.
pub async fn examine(mesh: &Mesh) -> Result<ExamineResponse, Fault> {
    let doctor = DoctorClient::new(mesh.clone());
    let examined = doctor.examine(ExamineRequest::default()).await;
    examined.map_err(|status| Fault::from_status(&status))
}

/// Waits until the doctor has examined these hosts, with nothing left to judge, and found things of
/// these kinds and no others.
///
/// # Panics
/// If it does not come to that, with what the doctor found.
pub async fn assert_sound(mesh: &Mesh, hosts: &[String], leaves: &BTreeSet<&str>) {
    for host in hosts {
        host_in(mesh, host, HostStatus::Connected).await;
    }
    let what = format!("the doctor finds {leaves:?} and nothing else");
    let sound = |examined: &Result<ExamineResponse, Fault>| {
        let Ok(examined) = examined else {
            return false;
        };
        let found: BTreeSet<_> = examined.findings.iter().map(|it| &*it.kind).collect();
        let mut unexamined = examined.unexamined_hosts.iter();
        found == *leaves
            && examined.unjudged_count == 0
            && !unexamined.any(|host| hosts.contains(&host.host_uuid))
    };
    let examined = wait_until(&what, async || examine(mesh).await, sound, LIMIT);
    drop(examined.await);
}
