//! Which cloud, with which token, and who said so: flags before the environment before the context before defaults.

use crate::{
    Globals,
    contexts::{Context, Contexts},
};
use http::Uri;
use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use tutti_api::Client;
use tutti_base::{Secret, SystemClock};
use tutti_model::{Problem, node::RoleAddress};
use tutti_pki::Pin;

/// Where a `tutti dev` without further words listens.
const DEFAULT_API: &str = "http://127.0.0.1:7070";
/// Longest token file that is read, in bytes. A secret is far shorter.
const TOKEN_FILE_BYTES: u64 = 4096;
/// Longest file of authorities that is read, in bytes; a root of ours has 600, those of a machine together 250,000.
const CA_FILE_BYTES: u64 = 1 << 20;

/// A value and who said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said<T> {
    pub(crate) value: T,
    pub(crate) by: String,
}

fn said<T>(value: T, by: impl Into<String>) -> Said<T> {
    Said { value, by: by.into() }
}

/// Where the token's secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// Given as it is.
    Secret(Secret<String>),
    /// In this file.
    File(PathBuf),
}

/// What counts, from all who have a say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Effective {
    pub(crate) api: Said<String>,
    pub(crate) token: Option<Said<Token>>,
    /// Who vouches for an https API; `None` for the authorities of this machine.
    pub(crate) ca: Option<Said<String>>,
    pub(crate) context: Option<Said<String>>,
    /// Where contexts are kept.
    pub(crate) file: PathBuf,
}

impl Effective {
    /// Reads flags, the environment of this process, and the user's contexts.
    ///
    /// # Errors
    /// A context that is not known, or cannot be read.
    pub(crate) fn of_process(globals: &Globals) -> Result<Self, Problem> {
        // Who has no configuration folder has no contexts, and names the cloud by flags or variables.
        let file = crate::contexts::path().unwrap_or_default();
        let contexts = Contexts::read(&file)?;
        Effective::read(
            globals,
            &|name| std::env::var(name).ok().filter(|value| !value.is_empty()),
            &contexts,
            &file,
        )
    }

    fn read(
        globals: &Globals,
        variable: &dyn Fn(&str) -> Option<String>,
        contexts: &Contexts,
        file: &Path,
    ) -> Result<Self, Problem> {
        let name = match (&globals.context, variable("TUTTI_CONTEXT"), &contexts.current) {
            (Some(name), _, _) => Some(said(name.clone(), "--context")),
            (None, Some(name), _) => Some(said(name, "$TUTTI_CONTEXT")),
            (None, None, Some(name)) => Some(said(name.clone(), "contexts file")),
            (None, None, None) => None,
        };
        let known: Option<&Context> = match &name {
            Some(name) => Some(contexts.get(&name.value)?),
            None => None,
        };
        let of_context = name.as_ref().map_or_else(String::new, |name| format!("context {}", name.value));
        let api = match (&globals.api, variable("TUTTI_API"), known) {
            (Some(api), _, _) => said(api.clone(), "--api"),
            (None, Some(api), _) => said(api, "$TUTTI_API"),
            (None, None, Some(context)) => said(context.api.clone(), of_context.clone()),
            (None, None, None) => said(DEFAULT_API.to_owned(), "default"),
        };
        // The token of one cloud is nobody else's business.
        let own =
            known.filter(|context| context.api.trim_end_matches('/') == api.value.trim_end_matches('/'));
        let token = match (&globals.token, &globals.token_file, variable("TUTTI_TOKEN")) {
            (Some(secret), _, _) => Some(said(Token::Secret(secret.clone()), "--token")),
            (None, Some(path), _) => Some(said(Token::File(path.clone()), "--token-file")),
            (None, None, Some(secret)) => Some(said(Token::Secret(Secret::new(secret)), "$TUTTI_TOKEN")),
            (None, None, None) => own
                .and_then(|context| context.token_file.clone())
                .map(|path| said(Token::File(path), of_context.clone())),
        };
        let ca = match (&globals.ca, variable("TUTTI_CA")) {
            (Some(ca), _) => Some(said(ca.clone(), "--ca")),
            (None, Some(ca)) => Some(said(ca, "$TUTTI_CA")),
            (None, None) => own.and_then(|context| context.ca.clone()).map(|ca| said(ca, of_context)),
        };
        Ok(Effective { api, token, ca, context: name, file: file.to_owned() })
    }

    /// A client of this cloud.
    ///
    /// # Errors
    /// An address that is none, or a token that cannot be read.
    pub(crate) fn client(&self) -> Result<Client, Problem> {
        if self.api.value.starts_with("unix:") {
            return self.over_socket();
        }
        let uri: Uri = self.api.value.parse().map_err(|_| {
            Problem::invalid(format!(
                "API address \"{}\" from {} is not an address",
                self.api.value, self.api.by
            ))
            .hint("write it as http://HOST:PORT or unix:/PATH")
        })?;
        let token = self.token.as_ref().map(|token| token.value.secret()).transpose()?;
        // What is typed is meant: over http nobody would be asked for a certificate.
        if let Some(ca) = self.ca.as_ref().filter(|ca| ca.by == "--ca")
            && uri.scheme_str() != Some("https")
        {
            return Err(Problem::invalid(format!(
                "--ca {} is for an https address, not {}",
                ca.value, self.api.value
            ))
            .hint("write the address as https://HOST:PORT, or leave --ca out"));
        }
        let pin = || self.ca.as_ref().map(|ca| pin(&ca.value)).transpose();
        Client::with_tls(&uri, token, || {
            tutti_pki::connects_publicly(pin()?.as_ref(), None, Arc::new(SystemClock))
        })
    }
}

impl Effective {
    /// A client over a socket of this machine, where no token is needed.
    fn over_socket(&self) -> Result<Client, Problem> {
        let RoleAddress::Socket(path) = self.api.value.parse()? else {
            return Err(Problem::invalid(format!("{} is not a socket of this machine", self.api.value)));
        };
        if let Some(ca) = self.ca.as_ref().filter(|ca| ca.by == "--ca") {
            let text = format!("--ca {} is for an https address, not a socket", ca.value);
            return Err(Problem::invalid(text).hint("leave --ca out: the kernel says who listens there"));
        }
        let token = self.token.as_ref().map(|token| token.value.secret()).transpose()?;
        Client::over_persons_socket(&path, token)
    }
}

/// Whom a text means that says who vouches for the API.
fn pin(text: &str) -> Result<Pin, Problem> {
    if text.starts_with("sha256:") {
        return text.parse().map(Pin::Fingerprint);
    }
    if text.trim_start().starts_with("-----BEGIN ") {
        return Ok(Pin::Authorities(text.to_owned()));
    }
    let mut pem = String::new();
    fs::File::open(text).and_then(|file| file.take(CA_FILE_BYTES).read_to_string(&mut pem)).map_err(
        |error| {
            Problem::invalid(format!("file of authorities {text} cannot be read: {error}"))
                .hint("name a PEM file with --ca, or the root's fingerprint as sha256:...")
        },
    )?;
    Ok(Pin::Authorities(pem))
}

impl Token {
    fn secret(&self) -> Result<Secret<String>, Problem> {
        let path = match self {
            Token::Secret(secret) => return Ok(secret.clone()),
            Token::File(path) => path,
        };
        let mut text = String::new();
        fs::File::open(path).and_then(|file| file.take(TOKEN_FILE_BYTES).read_to_string(&mut text)).map_err(
            |error| Problem::invalid(format!("token file {} cannot be read: {error}", path.display())),
        )?;
        match text.trim() {
            "" => Err(Problem::invalid(format!("token file {} is empty", path.display()))),
            secret => Ok(Secret::new(secret.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn globals() -> Globals {
        Globals {
            api: None,
            token: None,
            token_file: None,
            ca: None,
            context: None,
            output: crate::Format::Table,
        }
    }

    fn known() -> Contexts {
        let context = |api: &str| Context {
            api: api.into(),
            token_file: Some("/dev-token".into()),
            ca: Some("/dev-ca".into()),
        };
        Contexts {
            current: Some("dev".into()),
            contexts: BTreeMap::from([
                ("dev".into(), context("http://127.0.0.1:7070")),
                ("shop".into(), context("http://shop:7070")),
            ]),
        }
    }

    fn read(globals: &Globals, variables: &[(&str, &str)]) -> Result<Effective, Problem> {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        let variable = |name: &str| variables.get(name).map(|value| (*value).to_owned());
        Effective::read(globals, &variable, &known(), Path::new("/contexts.toml"))
    }

    #[test]
    fn each_has_its_say_in_order() {
        let effective = read(&globals(), &[]).unwrap();
        assert_eq!(
            (effective.api.value.as_str(), effective.api.by.as_str()),
            ("http://127.0.0.1:7070", "context dev")
        );
        assert_eq!(effective.token.unwrap().value, Token::File("/dev-token".into()));

        let effective = read(&globals(), &[("TUTTI_CONTEXT", "shop"), ("TUTTI_TOKEN", "s")]).unwrap();
        assert_eq!(effective.api.value, "http://shop:7070");
        assert_eq!(effective.token.unwrap().by, "$TUTTI_TOKEN");

        let flags = Globals { context: Some("dev".into()), api: Some("http://flag".into()), ..globals() };
        let effective = read(&flags, &[("TUTTI_CONTEXT", "shop"), ("TUTTI_API", "http://variable")]).unwrap();
        assert_eq!((effective.api.value.as_str(), effective.api.by.as_str()), ("http://flag", "--api"));

        let none = Globals { context: Some("shp".into()), ..globals() };
        assert_eq!(read(&none, &[]).unwrap_err().hint.unwrap(), "did you mean \"shop\"?");
    }

    #[test]
    fn who_vouches_is_said_like_a_token_and_read_when_it_is_asked_for() {
        let ca = |effective: Effective| effective.ca.map(|ca| (ca.value, ca.by));
        assert_eq!(ca(read(&globals(), &[]).unwrap()), Some(("/dev-ca".into(), "context dev".into())));
        assert_eq!(ca(read(&globals(), &[("TUTTI_API", "https://elsewhere")]).unwrap()), None);
        let flags = Globals { ca: Some("/flag".into()), ..globals() };
        let effective = read(&flags, &[("TUTTI_CA", "/variable"), ("TUTTI_TOKEN", "s")]).unwrap();
        let plain = effective.client().unwrap_err();
        assert!(plain.detail.contains("is for an https address"), "{plain}");
        assert_eq!(ca(effective), Some(("/flag".into(), "--ca".into())));

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let of = |ca: &str| {
            let file = file.to_str().unwrap();
            let ca = if ca == "FILE" { file } else { ca };
            let variables =
                [("TUTTI_API", "https://cloud.example.com"), ("TUTTI_TOKEN", "s"), ("TUTTI_CA", ca)];
            read(&globals(), &variables).unwrap().client().map(|client| client.base().to_owned())
        };
        assert!(of("FILE").unwrap_err().detail.contains("cannot be read"));
        fs::write(&file, "junk").unwrap();
        assert!(of("FILE").unwrap_err().detail.contains("no certificate of an authority"));
        assert!(of("sha256:abc").is_err());
        assert_eq!(of(&format!("sha256:{}", "a".repeat(64))).unwrap(), "https://cloud.example.com");
    }

    #[test]
    fn a_socket_needs_neither_token_nor_authority() {
        let effective = read(&globals(), &[("TUTTI_API", "unix:/run/tutti/control.sock")]).unwrap();
        assert_eq!((effective.token.as_ref(), effective.ca.as_ref()), (None, None));
        assert_eq!(effective.client().unwrap().base(), "unix:/run/tutti/control.sock");
        let wrong = read(&globals(), &[("TUTTI_API", "unix:relative")]).unwrap().client().unwrap_err();
        assert!(wrong.to_string().contains("unix:"), "{wrong}");
        let flags =
            Globals { api: Some("unix:/run/c.sock".into()), ca: Some("sha256:00".into()), ..globals() };
        let refused = read(&flags, &[]).unwrap().client().unwrap_err();
        assert!(refused.detail.contains("not a socket"), "{refused}");
    }

    #[test]
    fn a_token_goes_to_its_own_cloud_only() {
        let effective = read(&globals(), &[("TUTTI_API", "http://elsewhere:7070")]).unwrap();
        assert_eq!(effective.token, None);
        let effective = read(&globals(), &[("TUTTI_API", "http://127.0.0.1:7070/")]).unwrap();
        assert!(effective.token.is_some());
    }
}
