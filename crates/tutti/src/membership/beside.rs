//! The machine's key and its cluster's root as other programs read them, in PEM beside the membership's own files, and a
//! word to such a program when the certificate is another: NATS, which operators of `tutti bootstrap` run with them.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};
use tutti_model::Problem;
use tutti_pki::Chain;
use zeroize::Zeroizing;

/// The key, which `pki` keeps in another form.
pub(crate) const KEY: &str = "key.pem";
/// The chain, as `pki` keeps it.
pub(crate) const CHAIN: &str = "chain.pem";
/// The root.
pub(crate) const ROOT: &str = "root.pem";
/// Where a program that uses these files leaves its process id.
pub(crate) const PID: &str = "reload.pid";
/// That program, as the kernel names it: a number alone may be another's by now.
const PROGRAM: &str = "nats-server";
/// Letters of a line of PEM (RFC 7468, 2).
const LINE: usize = 64;

/// Puts key and root there, unless they are.
///
/// # Errors
/// What cannot be read or written, with its place.
pub(crate) fn put(folder: &Path, chain: &Chain) -> Result<(), Problem> {
    let failed =
        |error: io::Error| Problem::unavailable(format!("{}, for other programs: {error}", folder.display()));
    let key = Zeroizing::new(fs::read(folder.join("key.der")).map_err(failed)?);
    write(folder, KEY, &pem("PRIVATE KEY", &key)).map_err(failed)?;
    match chain.root() {
        Some(root) => write(folder, ROOT, &pem("CERTIFICATE", root)).map_err(failed),
        None => Ok(()),
    }
}

/// Has the program read the certificate again. Where there is none, nobody is told.
pub(crate) fn tell(folder: &Path) {
    if let Some(pid) = running(folder) {
        match kill_process(pid, Signal::HUP) {
            Ok(()) => tracing::info!("{PROGRAM} was told to read the certificate again"),
            Err(error) => tracing::warn!(%error, "{PROGRAM} was not told that there is a new certificate"),
        }
    }
}

fn running(folder: &Path) -> Option<Pid> {
    let pid: i32 = fs::read_to_string(folder.join(PID)).ok()?.trim().parse().ok()?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    if name.trim() == PROGRAM { Pid::from_raw(pid) } else { None }
}

fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(BASE64.encode(der));
    let mut text = Zeroizing::new(format!("-----BEGIN {label}-----\n"));
    for line in body.as_bytes().chunks(LINE) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// Replaces a file whole, if it is another. Several roles of a machine write here, so each has a name of its own until
/// then.
fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let (path, new) = (folder.join(name), folder.join(format!("{name}.{}", std::process::id())));
    if fs::read_to_string(&path).map(Zeroizing::new).is_ok_and(|known| *known == text) {
        return Ok(());
    }
    let _ = fs::remove_file(&new);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_as_long_as_others_read_them() {
        let text = pem("CERTIFICATE", &[7; 100]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "-----BEGIN CERTIFICATE-----");
        assert_eq!((lines[1].len(), lines.last()), (64, Some(&"-----END CERTIFICATE-----")));
        assert_eq!(BASE64.decode(lines[1..lines.len() - 1].concat()).unwrap(), [7; 100]);
    }

    #[test]
    fn nobody_but_that_program_is_told() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(running(folder.path()), None);
        // This process has the number, and is another program: the signal would end it.
        fs::write(folder.path().join(PID), format!("{}\n", std::process::id())).unwrap();
        assert_eq!(running(folder.path()), None);
        tell(folder.path());
    }
}
