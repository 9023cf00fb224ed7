use super::*;
use tutti_isolate::Layer;

/// An archive of entries: kind, name, content or link target, mode.
fn archive(entries: &[(tar::EntryType, &str, &str, u32)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, content, mode) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        // Written raw, since the library itself refuses to write names that lead out.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        let linked = matches!(kind, tar::EntryType::Symlink | tar::EntryType::Link);
        if linked {
            header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
        }
        let content = if linked { "" } else { content };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn try_unpack(bytes: &[u8]) -> (tempfile::TempDir, Result<PathBuf, DriverError>) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("layer.tar");
    fs::write(&path, bytes).unwrap();
    let digest = tutti_base::sha256::digest(bytes);
    let layer =
        Layer { media_type: MEDIA_TYPE.into(), digest: digest.clone(), size: bytes.len() as u64, path };
    let unpacked = Unpacked::new(root.path(), Random::seeded(1));
    let artifact = Artifact { digest: digest.clone(), layers: vec![layer] };
    let result = unpacked.unpack(&artifact).map(|()| {
        unpacked.unpack(&artifact).unwrap();
        unpacked.find(&digest).unwrap()
    });
    (root, result)
}

use tar::EntryType as T;

#[test]
fn files_folders_and_links_are_unpacked_read_only() {
    let (_root, result) = try_unpack(&archive(&[
        (T::Directory, "./", "", 0o755),
        (T::Regular, "bin/run", "#!", 0o4755),
        (T::Regular, "./lib/data.txt", "text", 0o644),
        (T::Symlink, "bin/data", "../lib/data.txt", 0o777),
        (T::Link, "copy", "lib/data.txt", 0o644),
    ]));
    let folder = result.unwrap();
    let mode = |name: &str| fs::metadata(folder.join(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("bin/run"), mode("lib/data.txt"), mode("bin"), mode(".")), (0o555, 0o444, 0o755, 0o755));
    assert_eq!(fs::read_to_string(folder.join("bin/data")).unwrap(), "text");
    assert_eq!(fs::read_to_string(folder.join("copy")).unwrap(), "text");
    assert_eq!(only_executable(&folder).unwrap(), "bin/run");
}

#[test]
fn what_leads_out_is_refused_and_leaves_nothing() {
    let hostile: &[&[(T, &str, &str, u32)]] = &[
        &[(T::Regular, "../evil", "x", 0o644)],
        &[(T::Regular, "/tmp/tutti-evil", "x", 0o644)],
        &[(T::Regular, "a/../../evil", "x", 0o644)],
        &[(T::Symlink, "link", "/etc", 0o777)],
        &[(T::Symlink, "link", "../..", 0o777)],
        &[(T::Symlink, "a/link", "../../x", 0o777)],
        // A file through a link, in either order.
        &[(T::Symlink, "link", ".", 0o777), (T::Regular, "link/evil", "x", 0o644)],
        &[(T::Regular, "link/evil", "x", 0o644), (T::Symlink, "link", ".", 0o777)],
        &[(T::Symlink, "one", ".", 0o777), (T::Symlink, "one/two", "x", 0o777)],
        &[(T::Link, "link", "../layer.tar", 0o644)],
        &[(T::Link, "link", "/etc/passwd", 0o644)],
        &[(T::Symlink, "soft", "x", 0o777), (T::Link, "hard", "soft", 0o644)],
        &[(T::Char, "null", "", 0o666)],
        &[(T::Block, "disk", "", 0o666)],
        &[(T::Fifo, "pipe", "", 0o666)],
        &[(T::Regular, "twice", "x", 0o644), (T::Regular, "twice", "y", 0o644)],
    ];
    for entries in hostile {
        let (root, result) = try_unpack(&archive(entries));
        assert!(matches!(result, Err(DriverError::Unrunnable(_))), "{entries:?}: {result:?}");
        assert!(!root.path().join("evil").exists() && !Path::new("/tmp/tutti-evil").exists());
        let left: Vec<_> =
            fs::read_dir(root.path().join("artifacts")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [BOOT], "{entries:?}");
    }
    let (_root, result) = try_unpack(b"this is no archive at all, just a sentence");
    assert!(result.is_err());
}

#[test]
fn links_over_links_bring_in_no_file_of_the_host() {
    // "down/.." is the archive's folder by its letters, and the one above by its links.
    let (root, result) = try_unpack(&archive(&[
        (T::Directory, "a/b/", "", 0o755),
        (T::Symlink, "a/b/top", "../..", 0o777),
        (T::Symlink, "out", "a/b/top/../..", 0o777),
        (T::Link, "stolen", "out/layer.tar", 0o644),
    ]));
    let text = result.unwrap_err().chain();
    assert!(text.contains("without \"..\" after a name"), "{text}");
    let left = fs::read_dir(root.path().join("artifacts")).unwrap().count();
    assert_eq!(left, 1, "only the boot file");
}

#[test]
fn heads_and_folders_are_bounded() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(T::GNULongName);
    header.set_size(HEAD_BYTES + 1);
    header.set_cksum();
    builder.append(&header, io::repeat(b'a').take(HEAD_BYTES + 1)).unwrap();
    let (_root, result) = try_unpack(&builder.into_inner().unwrap());
    let text = result.unwrap_err().chain();
    assert!(text.contains("a head is longer than"), "{text}");

    // Few entries with many folders in their names.
    let mut builder = tar::Builder::new(Vec::new());
    for entry in 0..4 {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        builder.append_data(&mut header, format!("{entry}{}/f", "/d".repeat(10)), io::empty()).unwrap();
    }
    let bytes = builder.into_inner().unwrap();
    let root = tempfile::tempdir().unwrap();
    let error = fill(&root.path().join("few"), bytes.as_slice(), 30).unwrap_err();
    assert_eq!(error.to_string(), "the archive is refused: it has more than 30 folders");
    fill(&root.path().join("enough"), bytes.as_slice(), 45).unwrap();
    let error = fill(&root.path().join("entries"), bytes.as_slice(), 3).unwrap_err();
    assert!(error.to_string().contains("more than 3"), "{error}");
}

#[test]
fn an_archive_cut_short_is_refused() {
    let whole = archive(&[(T::Regular, "run", &"x".repeat(5000), 0o755)]);
    let (_root, result) = try_unpack(&whole[..2000]);
    assert!(result.is_err());
}

#[test]
fn what_to_run_must_be_clear() {
    let (_root, none) = try_unpack(&archive(&[(T::Regular, "a.txt", "x", 0o644)]));
    assert!(only_executable(&none.unwrap()).unwrap_err().contains("no executable file"));
    let (_root, two) = try_unpack(&archive(&[(T::Regular, "a", "x", 0o755), (T::Regular, "b", "x", 0o755)]));
    assert!(only_executable(&two.unwrap()).unwrap_err().contains("2 executable files"));
}

#[test]
fn what_was_unpacked_before_the_machine_started_is_unpacked_again() {
    let (root, result) = try_unpack(&archive(&[(T::Regular, "run", "x", 0o755)]));
    let folder = result.unwrap();
    fs::write(root.path().join("artifacts").join(BOOT), "another start").unwrap();
    Unpacked::new(root.path(), Random::seeded(2)).forget_earlier_starts().unwrap();
    assert!(!folder.exists());
}
