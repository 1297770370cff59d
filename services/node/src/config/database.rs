//! Which database a node keeps the cloud in.

use std::{
    fmt, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use cairn_boot::{Check, Problems, Spanned};
use cairn_store::{DatabaseConfig as StoreDatabase, PostgresConfig, StoreConfig, WrongConfig};
use serde::Deserialize;

/// Which database a node keeps the cloud in, and how many connections it has.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseConfig {
    /// A PostgreSQL database; SQLite in the data directory if absent.
    pub url: Option<Spanned<DatabaseUrl>>,
    /// A file with the password of the URL's user. An absolute path.
    pub password_file: Option<Spanned<PathBuf>>,
    /// Writes to PostgreSQL that may be under way at once; 1 to 64.
    pub write_connections: Spanned<u32>,
    /// Reads that may be under way at once; 1 to 64.
    pub read_connections: Spanned<u32>,
}

/// A URL that may have a password in it; its debug text has not.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(pub String);

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl")
    }
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self {
            url: None,
            password_file: None,
            write_connections: Spanned::new(0..0, 4),
            read_connections: Spanned::new(0..0, 4),
        }
    }
}

impl DatabaseConfig {
    /// The store of a node with this data directory.
    ///
    /// # Errors
    /// What is wrong with the URL or the file of the password.
    pub(crate) fn store(&self, directory: &Path) -> Result<StoreConfig, WrongConfig> {
        let mut store = StoreConfig::new(directory);
        store.read_connections = *self.read_connections.get_ref();
        if let Some(url) = &self.url {
            let mut postgres = PostgresConfig::parse(&url.get_ref().0)?;
            postgres.write_connections = *self.write_connections.get_ref();
            if let Some(file) = &self.password_file {
                postgres = postgres.with_password(&password(file.get_ref())?);
            }
            store.database = StoreDatabase::Postgres(postgres);
        }
        Ok(store)
    }
}

/// The first line of the file.
fn password(file: &Path) -> Result<String, WrongConfig> {
    let wrong = |wrong: String, right: &str| WrongConfig {
        wrong,
        right: right.to_owned(),
    };
    if !file.is_absolute() {
        return Err(wrong(
            "is a relative path".to_owned(),
            "use an absolute one",
        ));
    }
    let text = fs::read_to_string(file).and_then(|text| Ok((text, fs::metadata(file)?)));
    let (text, metadata) = text.map_err(|cause| {
        let right = "name a file with the password that the node may read";
        wrong(format!("cannot be read: {cause}"), right)
    })?;
    if metadata.permissions().mode() & 0o007 != 0 {
        let right = format!("run `chmod o= {}`", file.display());
        return Err(wrong("can be read by everybody".to_owned(), &right));
    }
    match text.lines().next() {
        Some(password) if !password.is_empty() => Ok(password.to_owned()),
        _ => {
            let right = "write the password into its first line";
            Err(wrong("has no password in it".to_owned(), right))
        }
    }
}

impl Check for DatabaseConfig {
    fn check(&self, problems: &mut Problems<'_>) {
        if let Some(url) = &self.url
            && let Err(WrongConfig { wrong, right }) = PostgresConfig::parse(&url.get_ref().0)
        {
            problems.at(url, wrong, right);
        }
        if let Some(file) = &self.password_file {
            if let Err(WrongConfig { wrong, right }) = password(file.get_ref()) {
                problems.at(file, wrong, right);
            }
            if self.url.is_none() {
                let right = "leave it out, or name the database in `database.url`";
                problems.at(file, "is of no use to SQLite", right);
            }
        }
        for connections in [&self.write_connections, &self.read_connections] {
            if !(1..=64).contains(connections.get_ref()) {
                problems.at(connections, "is out of range", "use 1 to 64");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cairn_boot::config::parse;

    use crate::Config;

    fn problems(database: &str) -> String {
        let text = format!("data_directory = '/x'\n[database]\n{database}\n");
        match parse::<Config>(&text, "node.toml") {
            Ok(config) => {
                let debug = format!("{config:?}");
                assert!(!debug.contains("secret"), "{debug}");
                String::new()
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn each_mistake_is_told_with_its_place_and_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str, mode: u32| {
            use std::os::unix::fs::PermissionsExt as _;
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&path, permissions).unwrap();
            path.display().to_string()
        };
        let (good, open, empty) = (
            file("good", "secret\n", 0o640),
            file("open", "secret\n", 0o644),
            file("empty", "\n", 0o600),
        );
        let url = "url = 'postgres://u@db.example.org/c'";
        for (database, expected) in [
            (String::new(), String::new()),
            (url.to_owned(), String::new()),
            ("url = 'postgres://u:secret@h/c'".to_owned(), String::new()),
            (format!("{url}\npassword_file = '{good}'"), String::new()),
            (
                "url = 'postgres://u:secret@h/c?sslmode=disable'".to_owned(),
                "node.toml:3:7: `database.url`: has a sslmode that lets others".to_owned(),
            ),
            (
                format!("{url}\npassword_file = '{open}'"),
                format!(
                    "node.toml:4:17: `database.password_file`: can be read by everybody; \
                     run `chmod o= {open}`"
                ),
            ),
            (
                format!("{url}\npassword_file = '{empty}'"),
                "has no password in it; write the password into its first line".to_owned(),
            ),
            (
                format!("{url}\npassword_file = 'x'"),
                "is a relative path; use an absolute one".to_owned(),
            ),
            (
                format!("{url}\npassword_file = '/does/not/exist'"),
                "cannot be read: No such file or directory".to_owned(),
            ),
            (
                format!("password_file = '{good}'"),
                "is of no use to SQLite; leave it out, or name the database".to_owned(),
            ),
            (
                "write_connections = 0".to_owned(),
                "`database.write_connections`: is out of range; use 1 to 64".to_owned(),
            ),
            (
                "read_connections = 65".to_owned(),
                "`database.read_connections`: is out of range; use 1 to 64".to_owned(),
            ),
        ] {
            let found = problems(&database);
            assert!(!found.contains("secret"), "{found}");
            assert!(found.contains(&expected), "{expected} is not in:\n{found}");
            assert_eq!(found.is_empty(), expected.is_empty(), "{found}");
        }
    }
}
