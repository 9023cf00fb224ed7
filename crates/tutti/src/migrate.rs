//! `tutti store migrate`: names the two stores, and says what became of the copy. How it is made is the store's.

use crate::{parts::open_store, settings::StoreAddress};
use std::sync::Arc;
use tutti_base::{Clock, Random, SystemClock};
use tutti_model::Problem;
use tutti_store::{migrate::migrate, postgres::redacted};

/// Copies one store into another.
///
/// # Errors
/// `invalid` for an address that is none, `not_found` for a source that is not there, and what keeps either from being
/// opened, or copied.
pub(crate) async fn run(from: &str, to: &str, json: bool) -> Result<(), Problem> {
    let (source, target) = (address("from", from)?, address("to", to)?);
    if source == target {
        return Err(Problem::invalid("--from and --to are the same store"));
    }
    if let StoreAddress::Sqlite(path) = &source
        && !path.exists()
    {
        // Opened, it would be made.
        return Err(Problem::new(
            tutti_model::ErrorCode::NotFound,
            format!("there is no store at {}", path.display()),
        ));
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let random = Random::from_os();
    let (source, target) =
        (open_store(&source, &clock, &random).await?, open_store(&target, &clock, &random).await?);
    let done = migrate(&*source, &*target).await?;
    if json {
        let said = serde_json::json!({
            "keys": done.keys,
            "bytes": done.bytes,
            "digest": done.digest,
            "revision": done.revision,
        });
        println!("{said}");
    } else {
        let to = redacted(to);
        println!("copied {} keys, {} bytes, to {to}", done.keys, done.bytes);
        println!("both have {}; start with --store {to}", done.digest);
    }
    Ok(())
}

fn address(flag: &str, text: &str) -> Result<StoreAddress, Problem> {
    text.parse().map_err(|problem: Problem| {
        let said = Problem::invalid(format!("--{flag} {}: {}", redacted(text), problem.detail));
        match problem.hint {
            Some(hint) => said.hint(hint),
            None => said,
        }
    })
}
