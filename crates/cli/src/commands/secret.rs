//! `tutti secret`: a value goes from a file or standard input to control, and nothing shows it again.

use super::{Session, now, show, tables};
use crate::{args::SecretCommand, exit::Failed};
use std::{
    fs::File,
    io::{self, IsTerminal as _, Read},
    path::Path,
};
use tutti_api::{client::Filter, wire::SetSecret};
use tutti_model::{ErrorCode, Kind, Problem, Resource, limits, secret::SecretSpec};

pub(super) async fn secret(session: &Session<'_>, command: SecretCommand) -> Result<(), Failed> {
    match command {
        SecretCommand::Set { secret, file } => {
            let value = value(file.as_deref())?;
            let set = session.client.set_secret(&secret, &SetSecret { value }).await?;
            session.ui.result(&set, || {
                format!("secret {} set; instances that start from now on have it\n", set.name)
            })
        }
        SecretCommand::List { domain } => {
            let mut secrets: Vec<Resource<SecretSpec>> = session.client.list(&Filter::default()).await?;
            secrets
                .retain(|secret| domain.as_ref().is_none_or(|domain| secret.spec.secret.domain == *domain));
            session.ui.result(&secrets, || tables::secrets(&secrets, now()).show(session.ui))
        }
        SecretCommand::Show { secret } => {
            show::show::<SecretSpec>(session, &secret.to_string(), |secret, ui| {
                show::secret(secret, ui, now())
            })
            .await
        }
        SecretCommand::Delete { secret } => session.delete(Kind::Secret, &secret.to_string()).await,
    }
}

/// The value, from a file or standard input, without the line end at its end.
fn value(file: Option<&Path>) -> Result<String, Problem> {
    match file {
        Some(path) => {
            let place = path.display().to_string();
            let opened = File::open(path)
                .map_err(|error| Problem::invalid(format!("{place} cannot be read: {error}")))?;
            read(opened, &place)
        }
        None if io::stdin().is_terminal() => Err(Problem::invalid(
            "the value comes from a file or from standard input, and neither was given",
        )
        .hint("name a file with --file FILE, or write: printf %s \"$KEY\" | tutti secret set DOMAIN:NAME")),
        None => read(io::stdin().lock(), "standard input"),
    }
}

fn read(from: impl Read, place: &str) -> Result<String, Problem> {
    // One more than fits, with the line end that is left out, so that a value that is too long is seen.
    let most = limits::SECRET_VALUE_BYTES + 3;
    let mut bytes = Vec::new();
    from.take(u64::try_from(most).unwrap_or(u64::MAX))
        .read_to_end(&mut bytes)
        .map_err(|error| Problem::invalid(format!("{place} cannot be read: {error}")))?;
    // What it is instead is not said.
    let mut text = String::from_utf8(bytes).map_err(|_| {
        Problem::invalid(format!("{place} is not text in UTF-8, which a value is"))
            .hint("encode the bytes, for example with base64")
    })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.len() > limits::SECRET_VALUE_BYTES {
        return Err(Problem::new(
            ErrorCode::QuotaExceeded,
            format!("{place} holds more than the {} bytes that a value may have", limits::SECRET_VALUE_BYTES),
        ));
    }
    if text.is_empty() {
        return Err(
            Problem::invalid(format!("{place} is empty")).hint("give the value, or delete the secret")
        );
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_loses_one_line_end_and_nothing_else() {
        for (given, value) in [
            ("hunter2", "hunter2"),
            ("hunter2\n", "hunter2"),
            ("hunter2\r\n", "hunter2"),
            (" a\n\n", " a\n"),
            ("ü", "ü"),
        ] {
            assert_eq!(read(given.as_bytes(), "it").unwrap(), value);
        }
        assert_eq!(read("x".repeat(limits::SECRET_VALUE_BYTES).as_bytes(), "it").unwrap().len(), 65536);
    }

    #[test]
    fn what_is_no_value_is_refused_without_being_shown() {
        let long = "hunter2".repeat(limits::SECRET_VALUE_BYTES);
        for bad in [b"\xffhunter2".as_slice(), b"", b"\n", long.as_bytes()] {
            let problem = read(bad, "it").unwrap_err();
            assert!(problem.detail.starts_with("it ") && !problem.detail.contains("hunter2"), "{problem}");
        }
    }
}
