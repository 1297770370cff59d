//! The monitor of a virtual machine: QEMU's QMP, as far as the agent needs it.
//!
//! Replies are untyped on purpose: their schema differs between versions of QEMU, and the agent
//! only needs to know whether a command was taken.

use std::{
    io::{self, ErrorKind},
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::timeout,
};

use crate::KvmError;

/// The longest that QEMU may take to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// The longest message that is read.
const LONGEST: u64 = 1 << 20;

/// A connection to a monitor, which speaks with one at a time.
pub(crate) struct Monitor {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Monitor {
    /// Connects, and has one command run that takes no arguments.
    pub(crate) async fn tell(socket: &Path, command: &'static str) -> Result<(), KvmError> {
        let talk = async {
            let mut monitor = Self::connect(socket).await?;
            monitor.execute(command).await
        };
        match timeout(LIMIT, talk).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(cause)) => Err(KvmError::Monitor { command, cause }),
            Err(_) => Err(KvmError::TimedOut {
                what: format!("the answer of the virtual machine's monitor to `{command}`"),
                limit: LIMIT,
            }),
        }
    }

    async fn connect(socket: &Path) -> io::Result<Self> {
        let (reader, writer) = UnixStream::connect(socket).await?.into_split();
        let mut monitor = Self {
            reader: BufReader::new(reader),
            writer,
        };
        let greeting = monitor.read().await?;
        if greeting.get("QMP").is_none() {
            return Err(io::Error::other(format!("it greets with {greeting}")));
        }
        // Until this, a monitor takes no other command.
        monitor.execute("qmp_capabilities").await?;
        Ok(monitor)
    }

    async fn execute(&mut self, command: &str) -> io::Result<()> {
        let line = format!("{}\n", json!({ "execute": command }));
        self.writer.write_all(line.as_bytes()).await?;
        loop {
            let message = self.read().await?;
            if let Some(error) = message.get("error") {
                let words = error.get("desc").and_then(Value::as_str);
                let words = words.map_or_else(|| error.to_string(), str::to_owned);
                return Err(io::Error::other(words));
            }
            // Anything else is an event.
            if message.get("return").is_some() {
                return Ok(());
            }
        }
    }

    async fn read(&mut self) -> io::Result<Value> {
        let mut line = Vec::new();
        let mut bounded = (&mut self.reader).take(LONGEST);
        bounded.read_until(b'\n', &mut line).await?;
        if line.last() != Some(&b'\n') {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_slice(&line)?)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;

    /// Answers one connection with these lines: the first at once, the others one for each line
    /// that it gets.
    async fn answer(listener: UnixListener, lines: &[&str]) {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        for (index, line) in lines.iter().enumerate() {
            if index > 0 {
                stream.read_line(&mut String::new()).await.unwrap();
            }
            stream.write_all(line.as_bytes()).await.unwrap();
        }
        // What it is told next, if anything, it takes without an answer.
        stream.read_line(&mut String::new()).await.unwrap();
    }

    async fn check(lines: &[&str], expected: Result<(), &str>) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("qmp");
        let listener = UnixListener::bind(&socket).unwrap();
        let (told, ()) = tokio::join!(
            Monitor::tell(&socket, "system_reset"),
            answer(listener, lines)
        );
        let told = told.map_err(|error| cairn_types::chain(&error));
        match expected {
            Ok(()) => assert_eq!(told, Ok(())),
            Err(words) => assert!(told.as_ref().unwrap_err().contains(words), "{told:?}"),
        }
    }

    #[tokio::test]
    async fn a_command_is_told_past_events() {
        let greeting = "{\"QMP\": {}}\n";
        let done = "{\"return\": {}}\n";
        let event = "{\"event\": \"RESET\"}\n{\"return\": {}}\n";
        let refused = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"not now\"}}\n";
        check(&[greeting, done, event], Ok(())).await;
        check(&[greeting, done, refused], Err("not now")).await;
        check(&[greeting, done], Err("end of file")).await;
        check(&["{\"return\": {}}\n"], Err("it greets with")).await;
        check(&["hello\n"], Err("system_reset")).await;
    }
}
