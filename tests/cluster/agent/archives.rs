//! Archives made by hand: what push takes an agent unpacks, byte for byte; what an agent refuses push refuses, in the
//! same words.

use std::{collections::BTreeMap, fs, io::Write as _, os::unix::fs::PermissionsExt, path::Path, process::Command};

use slipway::{agent::unpack, archive::ArchiveLimits, cli::pack};
use tar::EntryType;

/// One entry with its name written raw, as builders refuse bad ones.
fn entry(name: &str, kind: u8, mode: u32, link: &str, data: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(mode);
    header.set_size(data.len() as u64);
    header.set_cksum();
    let mut out = header.as_bytes().to_vec();
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn file(name: &str) -> Vec<u8> {
    entry(name, b'0', 0o644, "", name.as_bytes())
}

fn dir(name: &str) -> Vec<u8> {
    entry(name, b'5', 0o755, "", b"")
}

fn link(name: &str, to: &str) -> Vec<u8> {
    entry(name, b'2', 0o777, to, b"")
}

fn hard(name: &str, to: &str) -> Vec<u8> {
    entry(name, b'1', 0o644, to, b"")
}

/// An extended header for what follows (`x`), or for everything that follows (`g`).
fn records(kind: u8, records: &[(&str, &str)]) -> Vec<u8> {
    let mut text = String::new();
    for (key, value) in records {
        let rest = format!(" {key}={value}\n");
        let mut length = rest.len();
        while length != rest.len() + length.to_string().len() {
            length = rest.len() + length.to_string().len();
        }
        text.push_str(&format!("{length}{rest}"));
    }
    entry("PaxHeaders/x", kind, 0o644, "", text.as_bytes())
}

fn whole(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut out = entries.concat();
    out.extend_from_slice(&[0; 1024]);
    out
}

/// What is below a directory: each name with its bytes, a link's target, or nothing for a directory.
fn tree(at: &Path, name: &str, seen: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(at).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{name}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().unwrap();
        let bytes = || String::from_utf8_lossy(&fs::read(entry.path()).unwrap()).into_owned();
        if kind.is_dir() {
            tree(&entry.path(), &format!("{name}/"), seen);
        } else if kind.is_symlink() {
            seen.insert(name, format!("-> {}", fs::read_link(entry.path()).unwrap().display()));
        } else {
            seen.insert(name, bytes());
        }
    }
}

/// Push's answer and an agent's, which must be the same: the files, or why not.
fn both(bytes: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let case = tempfile::tempdir().unwrap();
    let archive = case.path().join("archive");
    fs::write(&archive, bytes).unwrap();
    let pushed = pack::package(&archive, case.path()).map(drop).map_err(|e| {
        let said = e.to_string();
        said.strip_prefix(&format!("{}: ", archive.display())).unwrap_or(&said).to_string()
    });
    let target = case.path().join("releases/x");
    let unpacked = unpack::unpack(&archive, &case.path().join("staging"), &target, ArchiveLimits::default());
    assert_eq!(pushed, unpacked.map_err(|e| e.to_string()), "push and agent differ");
    pushed.map(|()| {
        let mut seen = BTreeMap::new();
        tree(&target, "", &mut seen);
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).unwrap();
        seen
    })
}

/// What it is, its bytes, and the files that must come of it.
type Taken = (&'static str, Vec<u8>, &'static [(&'static str, &'static str)]);

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// As of `zstd --long=31`: the largest window there is (2 GiB), unless the frame says that it holds less (`of`).
fn zstd_of_a_long_window(bytes: &[u8], of: Option<u64>) -> Vec<u8> {
    let mut out = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    out.window_log(31).unwrap();
    out.set_pledged_src_size(of).unwrap();
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[test]
fn what_an_agent_would_refuse_push_refuses_with_the_same_words() {
    let long = "n".repeat(99);
    let deep = |n: usize| vec!["d".repeat(50); n].join("/");
    let part = "p".repeat(256);
    let sparse = |name: &str| {
        let records = records(b'x', &[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", name)]);
        whole(&[records, entry("GNUSparseFile.7/x", b'0', 0o755, "", b"1\n0\n512\n")])
    };
    let kind = |kind| whole(&[file("f"), entry("odd", kind, 0o644, "", b"")]);
    let circle: Vec<Vec<u8>> = vec![link("a", "b"), link("b", "a")];
    let chain: Vec<Vec<u8>> = (0..45).map(|n| link(&format!("l{n:02}"), &format!("l{:02}", n + 1))).collect();
    let good = whole(&[file("bin/svc")]);
    let zipped = gzip(&whole(&[entry("bin/svc", b'0', 0o755, "", &[b'x'; 9000])]));
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("pax sparse", sparse("bin/svc"), "\"bin/svc\" is a sparse file"),
        ("GNU sparse", kind(b'S'), "sparse"),
        ("twice", whole(&[file("bin/svc"), file("./bin/svc")]), "is there twice"),
        ("a file where a directory is", whole(&[file("d/x"), file("d")]), "is there twice"),
        ("dangling link", whole(&[file("f"), link("l", "nothing")]), "there is no \"nothing\""),
        ("dangling by way of a file", whole(&[file("f"), link("l", "f/x")]), "\"f\" is no directory"),
        ("a file as a directory", whole(&[file("f"), link("l", "f/.")]), "\"f\" is no directory"),
        ("circle of links", whole(&[circle, vec![file("f")]].concat()), "a circle of them"),
        ("long chain of links", whole(&[chain, vec![file("l45")]].concat()), "too many links"),
        ("link out", whole(&[file("f"), link("l", "../f")]), "leads out of the package"),
        ("link out by a link", whole(&[file("f"), link("here", "."), link("l", "here/../f")]), "leads out"),
        ("absolute link", whole(&[file("f"), link("l", "/etc/passwd")]), "only relative links"),
        ("empty link", whole(&[file("f"), link("l", "")]), "only relative links"),
        ("through a link", whole(&[link("l", "."), file("l/x")]), "goes through \"l\""),
        ("through a file", whole(&[file("f"), file("f/x")]), "goes through \"f\""),
        ("hard link to a later file", whole(&[hard("h", "f"), file("f")]), "no file before it"),
        ("hard link to a link", whole(&[file("f"), link("l", "f"), hard("h", "l")]), "no file before it"),
        ("hard link out", whole(&[file("f"), hard("h", "../f")]), "holds '..'"),
        ("hard link with contents", whole(&[file("f"), entry("h", b'1', 0o644, "f", b"other")]), "contents of its own"),
        ("absolute", whole(&[file("/etc/x")]), "absolute path"),
        ("parent", whole(&[file("a/../x")]), "holds '..'"),
        ("setuid", whole(&[entry("s", b'0', 0o4755, "", b"x")]), "setuid"),
        (
            "capability",
            whole(&[records(b'x', &[("SCHILY.xattr.security.capability", "1")]), file("f")]),
            "capabilities",
        ),
        ("FIFO", kind(b'6'), "neither file"),
        ("character device", kind(b'3'), "neither file"),
        ("block device", kind(b'4'), "neither file"),
        ("volume label", kind(b'V'), "neither file"),
        ("long name", whole(&[records(b'x', &[("path", &deep(30))]), file("f")]), "is too long"),
        ("long part of a name", whole(&[records(b'x', &[("path", &part)]), file("f")]), "a part of a name has 256"),
        ("long target", whole(&[file("f"), records(b'x', &[("linkpath", &part)]), link("l", "f")]), "has 256"),
        ("NUL in a name", whole(&[records(b'x', &[("path", "a\0b")]), file("f")]), "NUL"),
        ("newline in a record", whole(&[records(b'x', &[("path", "a\nb")]), file("f")]), "cannot be read"),
        ("broken record", whole(&[entry("p", b'x', 0o644, "", b"99 path=z\n"), file("f")]), "cannot be read"),
        ("global name", whole(&[records(b'g', &[("path", "z")]), file("f")]), "global header"),
        ("global length", whole(&[records(b'g', &[("size", "1")]), file("f")]), "global header"),
        ("no end", file("bin/svc"), "cut short"),
        ("cut in a file", entry(&long, b'0', 0o644, "", &[b'x'; 3000])[..2048].to_vec(), "cut short"),
        ("two joined", [good.clone(), whole(&[file("bin/other")])].concat(), "more follows its end"),
        ("cut gzip", zipped[..zipped.len() - 4].to_vec(), "cut short"),
        ("damaged gzip", [&zipped[..zipped.len() - 8], &[1, 2, 3, 4, 5, 6, 7, 8]].concat(), "damaged"),
        ("zstd with a long window", zstd_of_a_long_window(&good, None), "too much memory"),
        ("xz", [b"\xfd7zXZ\0".as_slice(), &good].concat(), "compressed with xz"),
        ("zip", b"PK\x03\x04 and so on".repeat(60), "compressed with zip"),
        ("text", b"these are notes ".repeat(60), "neither a .tar.gz"),
        ("text in gzip", gzip(&b"these are notes ".repeat(60)), "no tar archive inside"),
        ("no bytes", vec![], "neither a .tar.gz"),
        ("no entries", whole(&[]), "is empty"),
        ("directories alone", whole(&[dir("a/"), dir("a/b/")]), "is empty"),
    ];
    for (what, bytes, says) in cases {
        let refused = both(&bytes).err().unwrap_or_else(|| panic!("{what} was taken"));
        assert!(refused.starts_with("package refused: ") && refused.contains(says), "{what}: {refused}");
    }
}

#[test]
fn what_push_takes_is_unpacked_as_it_was_packed() {
    let small = whole(&[file("f")]);
    let want = |files: &[(&str, &str)]| {
        Ok(files.iter().map(|(name, text)| (name.to_string(), text.to_string())).collect::<BTreeMap<_, _>>())
    };
    let cases: Vec<Taken> = vec![
        (
            "links up, down and through directories",
            whole(&[
                dir("./"),
                file("bin/svc"),
                link("share/up", "../bin/svc"),
                link("b", "bin"),
                link("again", "b/../share/up"),
                hard("h", "./bin/svc"),
            ]),
            &[
                ("bin/svc", "bin/svc"),
                ("share/up", "-> ../bin/svc"),
                ("b", "-> bin"),
                ("again", "-> b/../share/up"),
                ("h", "bin/svc"),
            ],
        ),
        ("a directory named twice", whole(&[dir("bin/"), file("bin/svc"), dir("bin/")]), &[("bin/svc", "bin/svc")]),
        (
            "a setgid directory",
            whole(&[entry("bin/", b'5', 0o2755, "", b""), file("bin/svc")]),
            &[("bin/svc", "bin/svc")],
        ),
        (
            "a directory as old archives have it",
            whole(&[entry("bin/", b'0', 0o755, "", b""), file("bin/svc")]),
            &[("bin/svc", "bin/svc")],
        ),
        (
            "git's global comment",
            whole(&[records(b'g', &[("comment", "74ef8ad")]), file("bin/svc")]),
            &[("bin/svc", "bin/svc")],
        ),
        (
            "an extended name and length",
            whole(&[records(b'x', &[("path", "bin/svc"), ("size", "3")]), file("abc")]),
            &[("bin/svc", "abc")],
        ),
        ("blocks of zeros behind the end", [whole(&[file("f")]), vec![0; 8192]].concat(), &[("f", "f")]),
        (
            "gzip in two parts",
            {
                let all = whole(&[file("f"), file("g")]);
                [gzip(&all[..700]), gzip(&all[700..])].concat()
            },
            &[("f", "f"), ("g", "g")],
        ),
        (
            "zstd with a long window around little",
            zstd_of_a_long_window(&small, Some(small.len() as u64)),
            &[("f", "f")],
        ),
    ];
    for (what, bytes, files) in cases {
        assert_eq!(both(&bytes), want(files), "{what}");
    }
}

#[test]
fn sparse_files_of_gnu_tar_are_refused_by_name_in_each_of_its_formats() {
    let dir = tempfile::tempdir().unwrap();
    let image = fs::File::create(dir.path().join("data.img")).unwrap();
    image.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&image, b"here", 700_000).unwrap();
    for format in ["--format=gnu", "--format=pax", "--sparse-version=0.0", "--sparse-version=0.1"] {
        let form = if format.starts_with("--sparse") { "--format=pax" } else { "--sparse" };
        let out =
            Command::new("tar").args(["-cS", format, form, "-C"]).arg(dir.path()).arg("data.img").output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let refused = both(&out.stdout).unwrap_err();
        assert!(refused.contains("\"data.img\" is a sparse file"), "{format}: {refused}");
    }
}

#[test]
fn push_says_which_modes_a_package_does_not_keep_and_which_script_cannot_start() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (name, text, mode) in
        [("key.pem", "secret", 0o600), ("run", "#!/bin/sh\r\nexit\r\n", 0o755), ("text", "x\r\n", 0o644)]
    {
        fs::write(at(name), text).unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    let scratch = tempfile::tempdir().unwrap();
    let packed = pack::package(dir.path(), scratch.path()).unwrap();
    let ready = Command::new("tar").args(["-cz", "-C"]).arg(dir.path()).arg(".").output().unwrap().stdout;
    let archive = scratch.path().join("a.tgz");
    fs::write(&archive, ready).unwrap();
    for notes in [packed.notes.lines(), pack::package(&archive, scratch.path()).unwrap().notes.lines()] {
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].contains("\"key.pem\"") && notes[0].contains("every user of a worker"), "{notes:?}");
        assert!(notes[1].contains("\"run\"") && notes[1].contains("CR LF"), "{notes:?}");
    }
}
