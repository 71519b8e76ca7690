//! Good archives in each form, and every kind of archive that must not be unpacked.

use std::io::Write;

use tar::EntryType;

use super::*;

struct Case {
    dir: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn run(&self, bytes: &[u8], limits: ArchiveLimits) -> Result<(), UnpackError> {
        let archive = self.dir.path().join("archive");
        fs::write(&archive, bytes).unwrap();
        unpack(&archive, &self.dir.path().join("staging"), &self.target(), limits)
    }

    fn target(&self) -> PathBuf {
        self.dir.path().join("releases/x")
    }
}

/// One entry, with its name written raw: the builder itself would refuse bad ones.
fn entry(name: &str, kind: EntryType, mode: u32, link: &str, data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(data.len() as u64);
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn file(name: &str) -> Vec<u8> {
    entry(name, EntryType::Regular, 0o644, "", b"data")
}

fn link(name: &str, to: &str) -> Vec<u8> {
    entry(name, EntryType::Symlink, 0o777, to, b"")
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut out = entries.concat();
    out.extend_from_slice(&[0; 1024]);
    out
}

fn good() -> Vec<u8> {
    archive(&[
        entry("./", EntryType::Directory, 0o755, "", b""),
        entry("bin/run", EntryType::Regular, 0o755, "", b"#!/bin/sh\n"),
        entry("bin/", EntryType::Directory, 0o755, "", b""),
        file("./share/text"),
        link("bin/again", "run"),
        link("share/up", "../bin/run"),
        entry("share/hard", EntryType::Link, 0o644, "share/text", b""),
    ])
}

#[test]
fn plain_gzip_and_zstd_are_unpacked_read_only() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&good()).unwrap();
    let forms = [good(), gzip.finish().unwrap(), zstd::encode_all(good().as_slice(), 1).unwrap()];
    for bytes in forms {
        let case = Case::new();
        case.run(&bytes, ArchiveLimits::default()).unwrap();
        let at = |name: &str| case.target().join(name);
        assert_eq!(fs::read(at("share/up")).unwrap(), b"#!/bin/sh\n");
        assert_eq!(fs::read(at("share/hard")).unwrap(), b"data");
        let mode = |p: PathBuf| fs::metadata(p).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(at("bin/run")), mode(at("share/text")), mode(at("bin"))), (0o555, 0o444, 0o555));
        assert!(!case.dir.path().join("staging").exists());
        case.run(b"not looked at: it is there", ArchiveLimits::default()).unwrap();
    }
}

#[test]
fn what_is_unsafe_is_refused_and_nothing_is_put_into_place() {
    let device = |kind| archive(&[entry("d", kind, 0o644, "", b"")]);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("absolute", archive(&[file("/etc/x")]), "absolute"),
        ("parent", archive(&[file("a/../../x")]), "'..'"),
        ("absolute link", archive(&[link("l", "/etc/passwd")]), "only relative links"),
        ("link out", archive(&[link("l", "../../../etc")]), "link"),
        ("link out by way of a link", archive(&[link("here", "."), link("l", "here/..")]), "out of the package"),
        ("dangling link", archive(&[link("l", "nothing")]), "leads nowhere"),
        ("loop", archive(&[link("a", "b"), link("b", "a")]), "leads nowhere"),
        ("file through a link", archive(&[link("l", "."), file("l/x")]), "no directory"),
        ("file through a file", archive(&[file("f"), file("f/x")]), "no directory"),
        ("duplicate", archive(&[file("f"), file("./f")]), "twice"),
        ("link over a file", archive(&[file("f"), link("f", "g")]), "twice"),
        ("file over a directory", archive(&[file("d/x"), file("d")]), ""),
        ("hard link out", archive(&[entry("h", EntryType::Link, 0o644, "../x", b"")]), "'..'"),
        (
            "hard link to a link",
            archive(&[file("f"), link("l", "f"), entry("h", EntryType::Link, 0o644, "l", b"")]),
            "no file",
        ),
        ("setuid", archive(&[entry("s", EntryType::Regular, 0o4755, "", b"")]), "setuid"),
        ("setgid", archive(&[entry("s", EntryType::Regular, 0o2755, "", b"")]), "setgid"),
        ("character device", device(EntryType::Char), "neither file"),
        ("block device", device(EntryType::Block), "neither file"),
        ("fifo", device(EntryType::Fifo), "neither file"),
        ("not a tar", b"this is text, not an archive".repeat(40), "neither a .tar.gz"),
        ("empty", archive(&[]), "empty"),
        ("truncated", good()[..700].to_vec(), ""),
    ];
    for (what, bytes, says) in cases {
        let case = Case::new();
        let error = case.run(&bytes, ArchiveLimits::default()).err().unwrap_or_else(|| panic!("{what} was unpacked"));
        assert!(error.to_string().contains(says), "{what}: {error}");
        assert!(!case.target().exists() && !case.dir.path().join("staging").exists(), "{what} left something");
    }
}

#[test]
fn caps_hold() {
    let many: Vec<Vec<u8>> = (0..20).map(|n| file(&format!("f{n}"))).collect();
    let limits = ArchiveLimits { entries: 10, ..ArchiveLimits::default() };
    assert!(Case::new().run(&archive(&many), limits).unwrap_err().to_string().contains("more than 10 entries"));
    let zeros = archive(&[entry("z", EntryType::Regular, 0o644, "", &vec![0; 1 << 20])]);
    let bomb = zstd::encode_all(zeros.as_slice(), 1).unwrap();
    let limits = ArchiveLimits { bytes: 64 << 10, ..ArchiveLimits::default() };
    assert!(Case::new().run(&bomb, limits).unwrap_err().to_string().contains("larger than allowed"));
}

#[test]
fn headers_that_would_fill_memory_are_refused() {
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader, EntryType::XGlobalHeader] {
        let long = entry("long", kind, 0o644, "", &vec![b'a'; 8 << 20]);
        let refused = Case::new().run(&archive(&[long, file("x")]), ArchiveLimits::default());
        assert!(matches!(&refused, Err(UnpackError::Refused(_))), "{kind:?}: {refused:?}");
    }
    // A long file is none of that.
    let long = entry("long", EntryType::Regular, 0o644, "", &vec![b'a'; 8 << 20]);
    Case::new().run(&archive(&[long, file("x")]), ArchiveLimits::default()).unwrap();
}
