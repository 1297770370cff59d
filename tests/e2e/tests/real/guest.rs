//! What a test asks of guests, from the host that they run on.

use std::time::Duration;

use cairn_testkit::wait_for;

use crate::host::RealHost;

/// A guest boots in a few seconds on a machine that is its own.
const LIMIT: Duration = Duration::from_secs(120);

/// Where a guest is.
pub(crate) struct Guest {
    pub(crate) vm: String,
    pub(crate) ip: String,
}

impl Guest {
    /// Waits until the guest fetches a page from another one.
    pub(crate) async fn sees(&self, host: &RealHost, other: &Guest) {
        let what = format!("{} gets a page from {}", self.ip, other.ip);
        // The guest's own `wget -T` does not work.
        let script = format!("timeout 5 wget -q -O - http://{}/", other.ip);
        let expected = format!("{} ", other.ip);
        let look = async || {
            let page = self.run(host, &script).await?;
            (page.starts_with(&expected) && page.contains("exit=0")).then_some(())
        };
        wait_for(&what, look, LIMIT).await;
    }

    /// Runs a script in the guest, if it answers.
    pub(crate) async fn run(&self, host: &RealHost, script: &str) -> Option<String> {
        let mut command = host.namespace.command("timeout");
        command.args(["10", "busybox", "wget", "-q", "-O", "-"]);
        command.arg(format!("--post-data={script}"));
        command.arg(format!("http://{}/cgi-bin/run", self.ip));
        let output = tokio::process::Command::from(command).output().await;
        let output = output.unwrap();
        let page = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(page)
    }

    /// Waits until the guest wrote this to its console, so often.
    pub(crate) async fn wrote(&self, host: &RealHost, words: &str, times: usize) {
        let what = format!("`{words}` on the console of {}, {times} times", self.ip);
        let look = async || {
            let text = host.console(&self.vm);
            (text.matches(words).count() >= times).then_some(())
        };
        wait_for(&what, look, LIMIT).await;
    }
}
