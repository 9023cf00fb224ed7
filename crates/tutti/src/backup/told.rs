//! What is said of a backup and of a restore: for people, or as JSON.

use super::{
    Manifest, Taken, Totals,
    artifacts::{Carried, Missing},
    format::WITH_ARTIFACTS,
};
use serde_json::{Value, json};
use tutti_base::{Clock as _, SystemClock};
use tutti_model::{Problem, Timestamp};
use tutti_store::migrate::Migrated;

/// What was restored.
pub(super) struct Restored {
    pub(super) state: Migrated,
    /// How many artifacts the state refers to.
    pub(super) referred: usize,
    pub(super) carried: Carried,
    /// What is not in the target's blobs, if that could be seen.
    pub(super) missing: Result<Missing, Problem>,
}

/// Of a backup; without a file it went to standard output.
pub(super) fn backed_up(taken: &Taken, file: Option<&str>, print_json: bool) -> String {
    let Taken { state, referred, carried } = taken;
    if print_json {
        return json!({
            "file": file,
            "keys": state.keys,
            "bytes": state.bytes,
            "digest": state.digest,
            "revision": state.revision,
            "artifacts": {
                "referred": referred,
                "included": carried.is_some(),
                "blobs": carried.as_ref().map_or(0, |carried| carried.blobs),
                "bytes": carried.as_ref().map_or(0, |carried| carried.bytes),
                "missing": carried.as_ref().map_or_else(Vec::new, |carried| named(&carried.missing)),
            },
        })
        .to_string();
    }
    let to = file.map(|file| format!(", to {file}")).unwrap_or_default();
    let mut text = format!("backed up {} keys, {} bytes{to}", state.keys, state.bytes);
    match carried {
        Some(carried) => {
            text.push_str(&format!(
                "\nwith {referred} artifacts: {} blobs, {} bytes",
                carried.blobs, carried.bytes
            ));
            lacks(&mut text, &carried.missing, "are lost or damaged where artifacts are kept, and not in it");
        }
        None if *referred > 0 => {
            text.push_str(&format!(
                "\nwithout the {referred} artifacts that it refers to: copy the folder or bucket of --blobs now, or use --artifacts"
            ));
        }
        None => {}
    }
    if let Some(file) = file {
        text.push_str(&format!("\nit has {}; check it with: tutti restore --check {file}", state.digest));
    }
    text
}

/// Of a file that was only read.
pub(super) fn checked(
    totals: &Totals,
    manifest: &Manifest,
    carried: &Carried,
    form: u32,
    print_json: bool,
) -> String {
    let Totals { keys, bytes, digest } = totals;
    let included = form == WITH_ARTIFACTS;
    if print_json {
        return json!({
            "whole": true,
            "keys": keys,
            "bytes": bytes,
            "digest": digest,
            "taken_at": manifest.taken_at,
            "release": manifest.release,
            "artifacts": { "included": included, "blobs": carried.blobs, "bytes": carried.bytes },
        })
        .to_string();
    }
    let artifacts = match included {
        true => format!("with artifacts: {} blobs, {} bytes", carried.blobs, carried.bytes),
        false => "without artifacts".to_owned(),
    };
    format!(
        "whole: {keys} keys, {bytes} bytes, {digest}\n{artifacts}\ntaken {} by release {}",
        ago(manifest.taken_at),
        manifest.release
    )
}

/// Of a restore.
pub(super) fn restored(restored: &Restored, manifest: &Manifest, print_json: bool) -> String {
    let Restored { state, referred, carried, missing } = restored;
    if print_json {
        return json!({
            "keys": state.keys,
            "bytes": state.bytes,
            "digest": state.digest,
            "taken_at": manifest.taken_at,
            "artifacts": {
                "referred": referred,
                "blobs": carried.blobs,
                "bytes": carried.bytes,
                "missing": missing.as_ref().map(named).ok(),
                "problem": missing.as_ref().err().map(|problem| &problem.detail),
            },
        })
        .to_string();
    }
    let mut text =
        format!("restored {} keys, {} bytes, taken {}", state.keys, state.bytes, ago(manifest.taken_at));
    if carried.blobs > 0 {
        text.push_str(&format!("\nwith artifacts: {} blobs, {} bytes", carried.blobs, carried.bytes));
    }
    match missing {
        Ok(missing) if missing.count == 0 => text.push_str("\nall its artifacts are there"),
        Ok(missing) => {
            lacks(&mut text, missing, "are not where --blobs says: put them there, or push them again");
        }
        Err(problem) => {
            text.push_str(&format!(
                "\nwhether its {referred} artifacts are there could not be seen: {}",
                problem.detail
            ));
        }
    }
    text.push_str("\nstart a control over this store");
    text
}

fn lacks(text: &mut String, missing: &Missing, what: &str) {
    if missing.count > 0 {
        text.push_str(&format!("\n{} artifacts {what}:", missing.count));
    }
    for (version, digest) in &missing.named {
        text.push_str(&format!("\n  {version}  {digest}"));
    }
    let more = missing.count - missing.named.len();
    if more > 0 {
        text.push_str(&format!("\n  and {more} more"));
    }
    if missing.unlooked > 0 {
        text.push_str(&format!("\n{} further ones were not looked for", missing.unlooked));
    }
}

fn named(missing: &Missing) -> Vec<Value> {
    let named = missing.named.iter();
    named.map(|(version, digest)| json!({ "version": version, "artifact": digest })).collect()
}

/// How long ago, for people.
fn ago(then: Timestamp) -> String {
    format!("{} s ago", SystemClock.now().0.saturating_sub(then.0) / 1000)
}
