//! Where a store is: a SQLite file, or a PostgreSQL database by URL.

use std::fmt;
use std::path::{Path, PathBuf};

use postgres::config::{Config, Host, SslMode};

/// Where a store is. Shown without passwords.
#[derive(Clone, Debug)]
pub struct Location(pub(crate) Place);

/// What the crate opens.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A SQLite file.
    File(PathBuf),
    /// A PostgreSQL database. The configuration's own `Debug` hides the password.
    Server(Box<Config>),
}

/// Why a text names no store; it never repeats a URL, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why} (want postgres://USER@HOST/DATABASE or sqlite:PATH)")]
pub struct NotALocation {
    why: String,
}

impl Location {
    /// Names the SQLite file that is used below `home` unless something else is asked for.
    pub fn below(home: &Path) -> Self {
        Self(Place::File(home.join("store.sqlite")))
    }

    /// Reads `postgres://…`, `postgresql://…` or `sqlite:PATH`. Connections are not encrypted, so a
    /// URL that requires it is refused.
    pub fn parse(text: &str) -> Result<Self, NotALocation> {
        let refused = |why: String| NotALocation { why };
        if let Some(path) = text.strip_prefix("sqlite:") {
            if path.is_empty() {
                return Err(refused("sqlite: without a path".to_owned()));
            }
            return Ok(Self(Place::File(PathBuf::from(path))));
        }
        if !["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| text.starts_with(scheme))
        {
            return Err(refused("unknown kind of store".to_owned()));
        }
        let mut config: Config = text.parse().map_err(|error: postgres::Error| {
            // The source names the option at fault, and quotes no more than its name.
            let source = std::error::Error::source(&error).map(ToString::to_string);
            refused(format!(
                "the PostgreSQL URL is wrong: {}",
                source.unwrap_or_else(|| error.to_string())
            ))
        })?;
        if config.get_hosts().is_empty() {
            return Err(refused("the PostgreSQL URL names no host".to_owned()));
        }
        if config.get_ssl_mode() == SslMode::Require {
            return Err(refused(
                "sslmode=require: this program does not encrypt its connections to PostgreSQL"
                    .to_owned(),
            ));
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(std::time::Duration::from_secs(10));
        }
        if config.get_application_name().is_none() {
            config.application_name("tuxtape");
        }
        Ok(Self(Place::Server(Box::new(config))))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::File(path) => path.display().fmt(f),
            Place::Server(config) => {
                let hosts: Vec<String> = config
                    .get_hosts()
                    .iter()
                    .map(|host| match host {
                        Host::Tcp(name) => name.clone(),
                        Host::Unix(folder) => folder.display().to_string(),
                    })
                    .collect();
                let database = config.get_dbname().or(config.get_user()).unwrap_or("");
                write!(f, "PostgreSQL {database} at {}", hosts.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        for text in [
            "postgres://ann:s3cret@db.example.org:5433/tuxtape",
            "postgresql:///tuxtape?host=/run/postgresql&user=ann&password=s3cret",
        ] {
            let location = Location::parse(text).unwrap();
            assert!(!format!("{location} {location:?}").contains("s3cret"));
            assert!(location.to_string().starts_with("PostgreSQL tuxtape at "));
        }
        for text in [
            "postgres://ann:s3cret@db:99999999/x",
            "postgres://ann:s3cret@db/x?sslmode=s3cret",
            "postgres://ann:s3cret@db/x?s3cret=1",
            "postgres://ann:s3cret@db/x?port=s3cret",
            "mysql://ann:s3cret@db/x",
            "postgres://",
            "sqlite:",
            "",
        ] {
            let error = Location::parse(text).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(":s3cret"), "{shown}");
        }
    }

    #[test]
    fn encryption_that_is_required_is_refused_and_said_to_be_missing() {
        for text in [
            "postgres://ann:s3cret@db/x?sslmode=require",
            "postgresql:///x?host=db&sslmode=require",
        ] {
            let error = Location::parse(text).unwrap_err().to_string();
            assert!(
                error.starts_with("sslmode=require: this program does not encrypt"),
                "{error}"
            );
            assert!(!error.contains("s3cret"), "{error}");
        }
        for mode in ["prefer", "disable"] {
            Location::parse(&format!("postgres://ann@db/x?sslmode={mode}")).unwrap();
        }
    }

    #[test]
    fn a_file_is_named_by_its_path() {
        assert_eq!(
            Location::parse("sqlite:/var/lib/x.db").unwrap().to_string(),
            "/var/lib/x.db"
        );
        assert_eq!(
            Location::below(Path::new("/h")).to_string(),
            "/h/store.sqlite"
        );
    }
}
