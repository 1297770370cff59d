//! Which server and database, and how to log in.

use std::{fmt, str::FromStr as _, time::Duration};

use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// What a URL may say behind its `?`.
const KEYS: [&str; 5] = ["host", "sslmode", "sslrootcert", "sslcert", "sslkey"];

const EXAMPLE: &str = "write it as in postgres://cairn@db.example.org/cairn";

/// A database on a PostgreSQL server.
#[derive(Clone)]
pub struct PostgresConfig {
    pub(super) options: Box<PgConnectOptions>,
    /// How messages call it.
    pub(super) name: String,
    pub(super) connect_limit: Duration,
    /// How many writes may be under way at once; at least 1.
    pub write_connections: u32,
}

/// Why a URL, or what belongs to it, is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{wrong}; {right}")]
pub struct WrongConfig {
    /// What is wrong; nothing of a password is in it.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

impl PostgresConfig {
    /// From a URL `postgres://USER[:PASSWORD]@HOST[:PORT]/DATABASE[?KEY=VALUE&…]`.
    ///
    /// Without a `sslmode` a connection to another machine is `verify-full`: TLS, and the server
    /// has a certificate with that name, of an authority in `sslrootcert` or, without that, one
    /// that the system trusts. `sslcert` and `sslkey` are the client's own. A connection on the
    /// machine, to a loopback address or with `host=/DIRECTORY` to the server's socket, is without
    /// TLS unless `sslmode` says otherwise.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<Self, WrongConfig> {
        let wrong = |wrong: String, right: &str| WrongConfig {
            wrong,
            right: right.to_owned(),
        };
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(wrong("is no postgres:// URL".to_owned(), EXAMPLE));
        }
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let keys = query.split('&').filter(|pair| !pair.is_empty());
        let keys: Vec<&str> = keys
            .map(|pair| pair.split('=').next().unwrap_or_default())
            .collect();
        if let Some(key) = keys.iter().find(|key| !KEYS.contains(key)) {
            let right = format!("the keys are {}", KEYS.join(", "));
            return Err(wrong(format!("has `{key}`, which is no key"), &right));
        }
        let (_, base) = base.split_once("://").unwrap_or_default();
        let (authority, database) = base.split_once('/').unwrap_or((base, ""));
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if user.is_empty() || user.starts_with(':') {
            return Err(wrong("names no user".to_owned(), EXAMPLE));
        }
        if database.is_empty() {
            return Err(wrong("names no database".to_owned(), EXAMPLE));
        }
        if host.is_empty() && !keys.contains(&"host") {
            let right = "name one, or the directory of its socket as in ?host=/run/postgresql";
            return Err(wrong("names no server".to_owned(), right));
        }
        // The parser wants a server there also when `host` names the socket.
        let whole = match host {
            "" => url.replacen("@/", "@localhost/", 1),
            _ => url.to_owned(),
        };
        let Ok(options) = PgConnectOptions::from_str(&whole) else {
            // Not its words: they may hold the password.
            return Err(wrong("cannot be read as a URL".to_owned(), EXAMPLE));
        };
        let local = options.get_socket().is_some() || is_loopback(options.get_host());
        let mode = match (keys.contains(&"sslmode"), options.get_ssl_mode()) {
            (false, _) if local => PgSslMode::Disable,
            (false, _) => PgSslMode::VerifyFull,
            (true, mode @ (PgSslMode::VerifyFull | PgSslMode::VerifyCa)) => mode,
            (true, PgSslMode::Disable) if local => PgSslMode::Disable,
            (true, _) => {
                let problem = "has a sslmode that lets others read or pretend to be the server";
                let right = "leave it out for verify-full, or use verify-ca";
                return Err(wrong(problem.to_owned(), right));
            }
        };
        let place = match options.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let name = format!("{} at {place}", options.get_database().unwrap_or_default());
        // Of a server that is gone the connection hears nothing otherwise, and the server keeps
        // the lock of a node that is gone.
        let settings = [
            ("tcp_keepalives_idle", "10"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
        ];
        Ok(Self {
            options: Box::new(
                options
                    .ssl_mode(mode)
                    .application_name("cairn")
                    .options(settings),
            ),
            name,
            connect_limit: Duration::from_secs(10),
            write_connections: 4,
        })
    }

    /// The same with this password.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        self.options = Box::new(self.options.password(password));
        self
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    let address: Result<std::net::IpAddr, _> = host.parse();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Without the password.
impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("name", &self.name)
            .field("write_connections", &self.write_connections)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_or_told_what_is_wrong() {
        for (url, expected) in [
            ("postgres://u@db.example.org/c", "VerifyFull"),
            (
                "postgresql://u:p@10.0.0.1:6432/c?sslmode=verify-ca",
                "VerifyCa",
            ),
            (
                "postgres://u@10.0.0.1/c?sslrootcert=/etc/ca.pem",
                "VerifyFull",
            ),
            ("postgres://u@localhost/c", "Disable"),
            ("postgres://u@127.0.0.1/c?sslmode=verify-full", "VerifyFull"),
            ("postgres://u@[::1]:5433/c", "Disable"),
            ("postgres://u@/c?host=/run/postgresql", "Disable"),
            (
                "mysql://u@h/c",
                "is no postgres:// URL; write it as in postgres://cairn@db.example.org/cairn",
            ),
            (
                "postgres://h/c",
                "names no user; write it as in postgres://cairn@db.example.org/cairn",
            ),
            (
                "postgres://:secret@h/c",
                "names no user; write it as in postgres://cairn@db.example.org/cairn",
            ),
            (
                "postgres://u@h",
                "names no database; write it as in postgres://cairn@db.example.org/cairn",
            ),
            (
                "postgres://u@/c",
                "names no server; name one, or the directory of its socket as in \
                 ?host=/run/postgresql",
            ),
            (
                "postgres://u@h/c?sslmod=verify-ca",
                "has `sslmod`, which is no key; the keys are host, sslmode, sslrootcert, sslcert, \
                 sslkey",
            ),
            (
                "postgres://u@h/c?sslmode=require",
                "has a sslmode that lets others read or pretend to be the server; leave it out \
                 for verify-full, or use verify-ca",
            ),
            (
                "postgres://u@h/c?sslmode=disable",
                "has a sslmode that lets others read or pretend to be the server; leave it out \
                 for verify-full, or use verify-ca",
            ),
            (
                "postgres://u:secret@h:port/c",
                "cannot be read as a URL; write it as in postgres://cairn@db.example.org/cairn",
            ),
        ] {
            let found = match PostgresConfig::parse(url) {
                Ok(config) => format!("{:?}", config.options.get_ssl_mode()),
                Err(wrong) => wrong.to_string(),
            };
            assert_eq!(found, expected, "{url}");
        }
    }

    #[test]
    fn a_password_is_in_no_text() {
        let config = PostgresConfig::parse("postgres://u:secret@h/c").unwrap();
        let config = config.with_password("hidden");
        assert_eq!(config.name, "c at h:5432");
        let debug = format!("{config:?}");
        assert!(
            !debug.contains("secret") && !debug.contains("hidden"),
            "{debug}"
        );
    }
}
