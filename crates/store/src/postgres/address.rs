//! Where a database is, and who comes: `postgres://USER@HOST/DATABASE`.
//!
//! The form is that of PostgreSQL's own URLs, with the parameters that are heeded here; any other is refused, so that
//! nobody believes in a setting that does nothing. A password is taken from the URL, else from `PGPASSWORD`, else from
//! a password file, and shown nowhere.

use percent_encoding::percent_decode_str;
use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};
use tokio_postgres::config::{Config, SslMode, TargetSessionAttrs};
use tutti_base::Secret;
use tutti_model::Problem;

/// PostgreSQL's port.
const PORT: u16 = 5432;
/// Where Debian's servers have their sockets.
const SOCKETS: &str = "/var/run/postgresql";
/// Servers that may be named: a primary and its standbys.
const HOSTS: usize = 8;
/// Largest password file that is read, in bytes.
const PASSFILE_BYTES: u64 = 64 * 1024;
/// How long one address of one host may take to answer a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// After how long of silence a connection asks whether the other end is there, and how often then.
const KEEPALIVE: Duration = Duration::from_secs(5);
const KEEPALIVE_TRIES: u32 = 3;
/// How long bytes may be on their way unanswered before a connection counts as broken.
const UNANSWERED: Duration = Duration::from_secs(15);

/// How the way to the server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// Not: for sockets, loopback and networks that are trusted.
    Disable,
    /// Encrypted, whoever the server is: what PostgreSQL calls `require`.
    Require,
    /// Encrypted, and the server's certificate is of its name and signed by somebody trusted.
    VerifyFull,
}

/// Where a database is.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresAddress {
    hosts: Vec<Host>,
    user: String,
    password: Option<Secret<String>>,
    database: String,
    tls: Tls,
    /// The authorities that are trusted; `None` for the system's.
    pub(super) root: Option<PathBuf>,
    passfile: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Host {
    /// A name, an address, or the folder of a socket.
    name: String,
    port: u16,
}

impl Host {
    fn is_socket(&self) -> bool {
        self.name.starts_with('/')
    }

    fn is_here(&self) -> bool {
        self.is_socket()
            || self.name == "localhost"
            || self.name.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    }
}

impl fmt::Display for PostgresAddress {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postgres://{}@", self.user)?;
        for (index, host) in self.hosts.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let bracket = host.name.contains(':');
            let (open, close) = if bracket { ("[", "]") } else { ("", "") };
            write!(f, "{comma}{open}{}{close}:{}", host.name, host.port)?;
        }
        write!(f, "/{}", self.database)
    }
}

impl fmt::Debug for PostgresAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresAddress({self}, {:?})", self.tls)
    }
}

/// The text of an address, whole or not, with whatever could be a password left out.
#[must_use]
pub fn redacted(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let (rest, parameters) = match rest.split_once('?') {
        Some((rest, parameters)) => (rest, Some(parameters)),
        None => (rest, None),
    };
    let mut shown = format!("{scheme}://");
    match rest.rsplit_once('@') {
        Some((user, place)) => {
            match user.split_once(':') {
                Some((user, _)) => shown.push_str(&format!("{user}:[secret]@")),
                None => shown.push_str(&format!("{user}@")),
            }
            shown.push_str(place);
        }
        None => shown.push_str(rest),
    }
    for (index, parameter) in parameters.into_iter().flat_map(|text| text.split('&')).enumerate() {
        shown.push(if index == 0 { '?' } else { '&' });
        match parameter.split_once('=') {
            Some((name, _)) if name.to_ascii_lowercase().contains("password") => {
                shown.push_str(&format!("{name}=[secret]"));
            }
            _ => shown.push_str(parameter),
        }
    }
    shown
}

fn wrong(why: impl fmt::Display) -> Problem {
    Problem::invalid(format!("the address of a PostgreSQL database is wrong: {why}"))
        .hint("write postgres://USER@HOST/DATABASE, with the password in PGPASSWORD or a password file")
}

fn decoded(text: &str) -> Result<String, Problem> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| wrong("a part of it is not UTF-8"))?;
    if text.contains('\0') { Err(wrong("it has a zero byte")) } else { Ok(text.into_owned()) }
}

fn port(text: &str) -> Result<u16, Problem> {
    text.parse().ok().filter(|port| *port > 0).ok_or_else(|| wrong(format!("\"{text}\" is not a port")))
}

/// One of the hosts, as `NAME`, `NAME:PORT` or `[ADDRESS]:PORT`.
fn host(text: &str) -> Result<Host, Problem> {
    let (name, rest) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or_else(|| wrong("a bracket is not closed"))?,
        None => text.find(':').map_or((text, ""), |at| text.split_at(at)),
    };
    let port = match rest.strip_prefix(':') {
        Some(text) => port(text)?,
        None if rest.is_empty() => PORT,
        None => return Err(wrong(format!("\"{rest}\" follows a host"))),
    };
    let name = decoded(name)?;
    Ok(Host { name: if name.is_empty() { SOCKETS.to_owned() } else { name }, port })
}

impl FromStr for PostgresAddress {
    type Err = Problem;

    fn from_str(text: &str) -> Result<PostgresAddress, Problem> {
        let rest = text
            .strip_prefix("postgres://")
            .or_else(|| text.strip_prefix("postgresql://"))
            .ok_or_else(|| wrong("it does not begin with postgres://"))?;
        let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let (credentials, place) = place.rsplit_once('@').unwrap_or(("", place));
        let (user, password) = match credentials.split_once(':') {
            Some((user, password)) => (user, Some(Secret::new(decoded(password)?))),
            None => (credentials, None),
        };
        let user = decoded(user)?;
        if user.is_empty() {
            return Err(wrong("it names no user"));
        }
        let (hosts, database) = place.split_once('/').unwrap_or((place, ""));
        let hosts = hosts.split(',').map(host).collect::<Result<Vec<_>, _>>()?;
        let database = decoded(database)?;
        let mut address = PostgresAddress {
            hosts,
            database: if database.is_empty() { user.clone() } else { database },
            user,
            password,
            tls: Tls::Disable,
            root: None,
            passfile: None,
        };
        let mut tls = None;
        for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = decoded(value)?;
            match name {
                "host" => {
                    address.hosts =
                        value.split(',').map(|name| Host { name: name.into(), port: PORT }).collect()
                }
                "port" => {
                    let port = port(&value)?;
                    address.hosts.iter_mut().for_each(|host| host.port = port);
                }
                "sslmode" => tls = Some(mode(&value)?),
                "sslrootcert" => address.root = (value != "system").then(|| PathBuf::from(value)),
                "passfile" => address.passfile = Some(PathBuf::from(value)),
                // Others cannot be written to.
                "target_session_attrs" if value == "read-write" || value == "primary" => {}
                "target_session_attrs" => return Err(wrong("a store needs target_session_attrs=read-write")),
                "password" => return Err(wrong("a password does not stand among the parameters")),
                _ => {
                    return Err(wrong(format!(
                        "there is no parameter \"{name}\"; there are host, port, sslmode, sslrootcert, passfile and \
                         target_session_attrs"
                    )));
                }
            }
        }
        if address.hosts.len() > HOSTS {
            return Err(wrong(format!(
                "it names {} hosts; at most {HOSTS} are allowed",
                address.hosts.len()
            )));
        }
        let here = address.hosts.iter().all(Host::is_here);
        address.tls = tls.unwrap_or(if here { Tls::Disable } else { Tls::VerifyFull });
        if address.tls != Tls::Disable && address.hosts.iter().any(Host::is_socket) {
            return Err(wrong("a socket has no TLS: write sslmode=disable, or name a host"));
        }
        Ok(address)
    }
}

fn mode(text: &str) -> Result<Tls, Problem> {
    match text {
        "disable" => Ok(Tls::Disable),
        "require" => Ok(Tls::Require),
        "verify-full" => Ok(Tls::VerifyFull),
        "allow" | "prefer" | "verify-ca" => Err(wrong(format!(
            "sslmode={text} is not known here: whether it protects depends on who answers; write disable, require or \
             verify-full"
        ))),
        _ => Err(wrong(format!("sslmode={text} is not disable, require or verify-full"))),
    }
}

impl PostgresAddress {
    /// How the way there is protected.
    #[must_use]
    pub fn tls(&self) -> Tls {
        self.tls
    }

    /// What a client is told, with the password that is found.
    pub(super) fn config(&self, variable: impl Fn(&str) -> Option<OsString>) -> Config {
        let mut config = Config::new();
        for host in &self.hosts {
            config.host(&host.name).port(host.port);
        }
        config
            .user(&self.user)
            .dbname(&self.database)
            .application_name("tutti")
            .ssl_mode(if self.tls == Tls::Disable { SslMode::Disable } else { SslMode::Require })
            .target_session_attrs(TargetSessionAttrs::ReadWrite)
            .connect_timeout(CONNECT)
            .keepalives_idle(KEEPALIVE)
            .keepalives_interval(KEEPALIVE)
            .keepalives_retries(KEEPALIVE_TRIES)
            .tcp_user_timeout(UNANSWERED);
        if let Some(password) = self.find_password(variable) {
            config.password(password.reveal());
        }
        config
    }

    fn find_password(&self, variable: impl Fn(&str) -> Option<OsString>) -> Option<Secret<String>> {
        if self.password.is_some() {
            return self.password.clone();
        }
        if let Some(password) = variable("PGPASSWORD").and_then(|password| password.into_string().ok()) {
            return Some(Secret::new(password));
        }
        let path = self
            .passfile
            .clone()
            .or_else(|| variable("PGPASSFILE").map(PathBuf::from))
            .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".pgpass")))?;
        let text = read_passfile(&path)?;
        text.lines().find_map(|line| self.password_of(line))
    }

    /// The password in a line `host:port:database:user:password` that is about this database.
    fn password_of(&self, line: &str) -> Option<Secret<String>> {
        let mut fields = vec![String::new()];
        let mut letters = line.chars();
        while let Some(letter) = letters.next() {
            match letter {
                // The password is the last field, and may have colons.
                ':' if fields.len() < 5 => fields.push(String::new()),
                '\\' => fields.last_mut()?.extend(letters.next()),
                letter => fields.last_mut()?.push(letter),
            }
        }
        let [name, port, database, user, password] = fields.as_slice() else { return None };
        let is = |field: &str, wanted: &str| field == "*" || field == wanted;
        let host = self.hosts.iter().any(|host| {
            let name_is = is(name, &host.name) || (host.is_socket() && name == "localhost");
            name_is && is(port, &host.port.to_string())
        });
        (!line.starts_with('#') && host && is(database, &self.database) && is(user, &self.user))
            .then(|| Secret::new(password.clone()))
    }
}

/// The password file, if only its owner may read it.
fn read_passfile(path: &Path) -> Option<String> {
    use std::{io::Read as _, os::unix::fs::PermissionsExt as _};
    let file = std::fs::File::open(path).ok()?;
    let mode = file.metadata().ok()?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "the password file is left out: others than its owner may open it");
        return None;
    }
    let mut text = String::new();
    file.take(PASSFILE_BYTES).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> PostgresAddress {
        text.parse().unwrap_or_else(|problem| panic!("{text}: {problem}"))
    }

    fn password(address: &PostgresAddress, variables: &[(&str, &str)]) -> Option<String> {
        let find =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        address.find_password(find).map(|password| password.reveal().clone())
    }

    #[test]
    fn an_address_is_read_whole_and_shown_without_its_password() {
        let address = parse("postgres://me:s%40cret@one:6000,two/some%20db?sslmode=require");
        assert_eq!(address.to_string(), "postgres://me@one:6000,two:5432/some db");
        assert_eq!(address.tls(), Tls::Require);
        assert_eq!(password(&address, &[("PGPASSWORD", "other")]).as_deref(), Some("s@cret"));
        assert!(!format!("{address:?} {address}").contains("cret"), "{address:?}");
        assert!(!format!("{:?}", address.config(|_| None)).contains("cret"));
        let socket = parse("postgresql://me@%2Frun%2Fpg/db");
        assert_eq!(
            (socket.to_string().as_str(), socket.tls()),
            ("postgres://me@/run/pg:5432/db", Tls::Disable)
        );
        assert_eq!(parse("postgres://me@/?host=/run/x&port=7").to_string(), "postgres://me@/run/x:7/me");
        assert_eq!(parse("postgres://me@[::1]:7/db").to_string(), "postgres://me@[::1]:7/db");
        assert_eq!(parse("postgres://me@localhost/db").tls(), Tls::Disable);
        assert_eq!(parse("postgres://me@db.example/db").tls(), Tls::VerifyFull);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for text in [
            "mysql://me:secret@h/d",
            "postgres://h/d",
            "postgres://:secret@h/d",
            "postgres://me:secret@h:x/d",
            "postgres://me:secret@[::1/d",
            "postgres://me:secret@h/d?sslmode=prefer",
            "postgres://me:secret@h/d?sslmode=maybe",
            "postgres://me:secret@h/d?password=secret",
            "postgres://me:secret@h/d?options=x",
            "postgres://me:secret@h/d?target_session_attrs=any",
            "postgres://me:secret@/d?sslmode=require",
            "postgres://me:secret@a,b,c,d,e,f,g,h,i/d",
        ] {
            let problem = text.parse::<PostgresAddress>().unwrap_err();
            assert!(!format!("{problem:?}").contains("secret"), "{problem:?}");
        }
    }

    #[test]
    fn a_text_is_redacted_whether_or_not_it_is_an_address() {
        for (text, shown) in [
            ("postgres://me:secret@h/d", "postgres://me:[secret]@h/d"),
            ("postgres://me:se/cr@et@h/d", "postgres://me:[secret]@h/d"),
            ("postgres://me@h/d?password=secret&port=1", "postgres://me@h/d?password=[secret]&port=1"),
            ("postgres://me@h/d", "postgres://me@h/d"),
            ("sqlite:store.db", "sqlite:store.db"),
        ] {
            assert_eq!(redacted(text), shown);
        }
    }

    #[test]
    fn a_password_file_is_searched_if_it_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pass");
        std::fs::write(&path, "# one:5432:db:me:no\nother:*:*:*:no\none:5432:db:me:a\\:b:c\n*:*:*:*:any\n")
            .unwrap();
        let file = path.to_str().unwrap();
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o600);
        assert_eq!(
            password(&parse("postgres://me@one/db"), &[("PGPASSFILE", file)]).as_deref(),
            Some("a:b:c")
        );
        let named = parse(&format!("postgres://you@two/db?passfile={file}"));
        assert_eq!(password(&named, &[]).as_deref(), Some("any"));
        assert_eq!(password(&named, &[("PGPASSWORD", "first")]).as_deref(), Some("first"));
        mode(0o640);
        assert_eq!(password(&named, &[]), None);
    }
}
