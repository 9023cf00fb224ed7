//! Notices over NATS: core subjects, nothing is kept there.

use crate::carrier::Carrier;
use async_nats::{Client, ConnectOptions, Event, connection::State};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use std::{
    path::{Path, PathBuf},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tutti_model::Problem;

/// Most servers of one cluster of NATS.
const SERVERS: usize = 16;
/// Longest file of credentials that is read, in bytes.
const CREDENTIALS_BYTES: u64 = 64 * 1024;
/// How long one notice may wait for its connection before it is forgotten: others follow.
const PUBLISH: Duration = Duration::from_millis(200);
/// The longest pause between two tries to connect.
const RECONNECT: Duration = Duration::from_secs(1);
/// Most messages of one subscription that wait to be read; further ones are dropped, which is one more way to lose some.
const WAITING: usize = 64;
/// Pause before a subscription that was refused is tried again.
const RESUBSCRIBE: Duration = Duration::from_secs(1);

/// Where NATS is: `nats://HOST:PORT[,HOST:PORT…]`, or `tls://…` for TLS alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsAddress {
    servers: Vec<String>,
    tls: bool,
}

impl FromStr for NatsAddress {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let wrong = |why: &str| {
            Err(Problem::invalid(why.to_owned())
                .hint("write nats://HOST:PORT[,HOST:PORT…], or tls://… for TLS alone"))
        };
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme @ ("nats" | "tls"), rest)) => (scheme, rest),
            _ => return wrong("it is no address of NATS"),
        };
        if rest.contains('@') {
            // What stands here is seen by whoever lists processes.
            return Err(Problem::invalid("credentials do not stand in the address")
                .hint("put them into a file, and name it with notices_credentials"));
        }
        let servers: Vec<String> = rest.split(',').map(|server| format!("{scheme}://{server}")).collect();
        if rest.contains('/') || servers.len() > SERVERS {
            return wrong(&format!("it has a path, or more than {SERVERS} servers"));
        }
        if servers.iter().any(|server| server.parse::<async_nats::ServerAddr>().is_err()) || rest.is_empty() {
            return wrong("one of its servers is no HOST:PORT");
        }
        Ok(NatsAddress { servers, tls: scheme == "tls" })
    }
}

/// A connection to NATS, which comes back by itself whenever it is lost.
#[derive(Debug, Clone)]
pub struct Nats {
    client: Client,
}

impl Nats {
    /// Connects, now or whenever a server answers. `credentials` is a file with what NATS calls credentials (a JWT and
    /// an NKey), or one line: `USER:PASSWORD`, or a token. `roots` are certificates to trust beside the machine's.
    ///
    /// # Errors
    /// `invalid` for files that cannot be read.
    pub async fn connect(
        address: &NatsAddress,
        credentials: Option<&Path>,
        roots: Option<&Path>,
    ) -> Result<Nats, Problem> {
        let was_connected = Arc::new(AtomicBool::new(true));
        let options = ConnectOptions::new()
            .name("tutti")
            .retry_on_initial_connect()
            .require_tls(address.tls)
            .subscription_capacity(WAITING)
            .reconnect_delay_callback(|attempts| {
                let attempts = u32::try_from(attempts.min(6)).unwrap_or(6);
                RECONNECT.min(Duration::from_millis(50) * 2_u32.pow(attempts))
            })
            .event_callback(move |event| {
                told(&event, &was_connected);
                std::future::ready(())
            });
        let options = match roots {
            Some(file) => options.add_root_certificates(PathBuf::from(file)),
            None => options,
        };
        let options = match credentials {
            Some(file) => with_credentials(options, file)?,
            None => options,
        };
        let client = options.connect(address.servers.clone()).await.map_err(|error| {
            Problem::invalid(format!("notices cannot go over NATS: {error}"))
                .hint("see that the files of its credentials and certificates are right")
        })?;
        Ok(Nats { client })
    }
}

/// Says once that it is lost, and once that it is back.
fn told(event: &Event, was_connected: &AtomicBool) {
    match event {
        Event::Connected if !was_connected.swap(true, Ordering::Relaxed) => {
            tracing::info!("NATS is reached again")
        }
        Event::Connected => tracing::info!("NATS is reached"),
        event if was_connected.swap(false, Ordering::Relaxed) => {
            tracing::warn!(%event, "NATS is away; trying again");
        }
        event => tracing::debug!(%event, "NATS"),
    }
}

fn with_credentials(options: ConnectOptions, file: &Path) -> Result<ConnectOptions, Problem> {
    let unread = |why: String| Problem::invalid(format!("the credentials in {} {why}", file.display()));
    let size = std::fs::metadata(file).map_err(|error| unread(format!("cannot be read: {error}")))?.len();
    if size > CREDENTIALS_BYTES {
        return Err(unread(format!("are longer than {CREDENTIALS_BYTES} bytes")));
    }
    let text = std::fs::read_to_string(file).map_err(|error| unread(format!("cannot be read: {error}")))?;
    if text.contains("-----BEGIN") {
        return options.credentials(&text).map_err(|_| unread("are none that NATS knows".to_owned()));
    }
    let line = text.trim();
    if line.is_empty() || line.contains('\n') {
        return Err(unread("are neither one line nor what NATS writes".to_owned())
            .hint("write USER:PASSWORD, a token, or what nsc made"));
    }
    Ok(match line.split_once(':') {
        Some((user, password)) => options.user_and_password(user.to_owned(), password.to_owned()),
        None => options.token(line.to_owned()),
    })
}

#[async_trait]
impl Carrier for Nats {
    async fn publish(&self, subject: String, notice: Vec<u8>) {
        // What waited for a connection would come late, and be of no more use than what comes next.
        if self.is_connected() {
            let publish = self.client.publish(subject, notice.into());
            if !matches!(tokio::time::timeout(PUBLISH, publish).await, Ok(Ok(()))) {
                tracing::debug!("a notice was not sent");
            }
        }
    }

    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    fn subscribe(&self, subjects: Vec<String>) -> BoxStream<'static, Bytes> {
        let each = subjects.into_iter().map(|subject| {
            let client = self.client.clone();
            stream::once(async move {
                loop {
                    match client.subscribe(subject.clone()).await {
                        Ok(messages) => return messages.map(|message| message.payload),
                        Err(error) => {
                            tracing::debug!(%error, subject, "not subscribed yet");
                            tokio::time::sleep(RESUBSCRIBE).await;
                        }
                    }
                }
            })
            .flatten()
            .boxed()
        });
        stream::select_all(each).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let two: NatsAddress = "nats://a:4222,b".parse().unwrap();
        assert_eq!((two.servers, two.tls), (vec!["nats://a:4222".to_owned(), "nats://b".to_owned()], false));
        assert!("tls://a".parse::<NatsAddress>().unwrap().tls);
        for wrong in ["a:4222", "http://a", "nats://", "nats://a/b", "nats://a:x"] {
            assert!(wrong.parse::<NatsAddress>().is_err(), "{wrong}");
        }
        let secret = "nats://ada:hunter2@a".parse::<NatsAddress>().unwrap_err();
        assert!(
            !secret.to_string().contains("hunter2") && secret.hint.unwrap().contains("notices_credentials")
        );
        assert!(format!("nats://{}", vec!["a"; SERVERS + 1].join(",")).parse::<NatsAddress>().is_err());
    }

    #[tokio::test]
    async fn credentials_are_read_from_a_file_and_never_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nats");
        let refused = |text: &str| {
            std::fs::write(&file, text).unwrap();
            with_credentials(ConnectOptions::new(), &file).err().map(|problem| problem.to_string())
        };
        assert_eq!(refused("ada:hunter2\n"), None);
        assert_eq!(refused("a-token"), None);
        for wrong in ["", "hunter2\nhunter3", "-----BEGIN NATS USER JWT-----\nhunter2"] {
            let said = refused(wrong).unwrap();
            assert!(said.contains(file.to_str().unwrap()) && !said.contains("hunter"), "{said}");
        }
        assert!(refused(&"x".repeat(65 * 1024)).unwrap().contains("longer than"));
    }
}
