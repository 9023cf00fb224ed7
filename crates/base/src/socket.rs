//! Sockets between roles on one machine: files that only their owner can open, and the check of who is at the other
//! end.
//!
//! The kernel vouches for both sides, so nothing is encrypted and no token is asked for. Between machines roles meet
//! over TLS instead; what is spoken is the same.

use std::{
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
};
use tokio::net::{UnixListener, UnixStream};

/// Listens on a socket file that only this process's user can open. One that a dead process left there is replaced.
///
/// # Errors
/// `AddrInUse` if somebody listens there; whatever the file system says otherwise.
pub async fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something else than a socket is there",
            ));
        }
        Ok(_) if UnixStream::connect(path).await.is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    // Whoever connects between these two lines is refused by `is_own` all the same.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to a socket file, and makes sure that this process's user, or root, listens there.
///
/// # Errors
/// `PermissionDenied` if somebody else listens; whatever the file system says otherwise.
pub async fn connect(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path).await?;
    if is_own(&stream)? {
        Ok(stream)
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user listens there"))
    }
}

/// As [`connect`], for a command that a person gives. Root may also call what another user runs, if that is the user
/// whose file it is: a person who names a file means its owner, and believes the answer no more than that. A role does
/// not, since it does what it is told there.
///
/// # Errors
/// As of [`connect`].
pub async fn connect_as_person(path: &Path) -> io::Result<UnixStream> {
    let owner = std::fs::symlink_metadata(path)?.uid();
    let stream = UnixStream::connect(path).await?;
    let peer = stream.peer_cred()?.uid();
    if is_believed(rustix::process::geteuid().as_raw(), peer, owner) {
        Ok(stream)
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user listens there"))
    }
}

/// Whether a person of this user believes a process of the user `peer` that listens on a file of the user `owner`.
const fn is_believed(own: u32, peer: u32, owner: u32) -> bool {
    peer == 0 || peer == own || (own == 0 && peer == owner)
}

/// Whether this process's own user, or root, is at the other end. For both sides: the one who accepts, since a file's
/// mode does not hold everywhere (unix(7), "Pathname socket ownership and permissions"), and the one who connects,
/// since another may have put a socket there.
///
/// # Errors
/// Whatever the kernel says if it cannot tell.
pub fn is_own(stream: &UnixStream) -> io::Result<bool> {
    let peer = stream.peer_cred()?.uid();
    Ok(peer == 0 || peer == rustix::process::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_its_owners_alone_and_a_stale_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("role.sock");
        let listener = listen(&path).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (near, far) = tokio::join!(connect(&path), listener.accept());
        assert!(is_own(&near.unwrap()).unwrap() && is_own(&far.unwrap().0).unwrap());
        assert_eq!(listen(&path).await.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        connect_as_person(&path).await.unwrap();
        drop(listener);
        assert_eq!(connect(&path).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        drop(listen(&path).await.unwrap());
    }

    #[test]
    fn root_believes_the_owner_of_a_file_and_a_user_only_their_own_processes_and_root() {
        for (own, peer, owner, is) in [
            (1000, 1000, 1000, true),
            (1000, 0, 0, true),
            (1000, 1001, 1001, false),
            (0, 1000, 1000, true),
            (0, 1001, 1000, false),
            (0, 0, 1000, true),
        ] {
            assert_eq!(is_believed(own, peer, owner), is, "{own} {peer} {owner}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("role.sock");
        std::fs::write(&path, "mine").unwrap();
        assert_eq!(listen(&path).await.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
