//! What `make` does around the build: scripts/probe.sh must try what the build uses, as a file's name proves nothing;
//! scripts/test.sh must let no test rewrite what it compares with, and must say what a run did not show;
//! .cargo/config.toml must keep failing properties from writing into the checkout.
//!
//! Not here: installing (`make fresh` does that, on a bare Debian).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join(name)
}

/// Whether libclang is found under another root, and what is said.
fn libclang(root: &Path) -> (bool, String) {
    let out =
        Command::new(script("probe.sh")).env_remove("LIBCLANG_PATH").env("SLIPWAY_PROBE_ROOT", root).output().unwrap();
    (out.status.success(), String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// A shared library that is certainly there, loads, and is no libclang.
fn a_library() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let libc = maps.split_whitespace().find(|f| f.contains("/libc.so") || f.contains("/libc-")).unwrap();
    PathBuf::from(libc)
}

#[test]
fn a_file_with_a_like_name_is_no_libclang() {
    let root = tempfile::tempdir().unwrap();
    let lib = root.path().join("usr/lib/x86_64-linux-gnu");
    fs::create_dir_all(&lib).unwrap();
    let (found, said) = libclang(root.path());
    assert!(!found && said == "there is no libclang", "{said}");
    // What a fresh Debian 12 with Rust has, from the package of a debugger or of Mesa.
    fs::copy(a_library(), lib.join("libclang-cpp.so.14")).unwrap();
    let (found, said) = libclang(root.path());
    assert!(!found && said == "there is no libclang", "{said}");
    fs::write(lib.join("libclang.so"), "INPUT(-lclang)").unwrap();
    let (found, said) = libclang(root.path());
    assert!(!found && said == "there is no libclang", "{said}");
    fs::copy(a_library(), lib.join("libclang-14.so.1")).unwrap();
    let (found, said) = libclang(root.path());
    assert!(!found && said.ends_with("it has no clang_createIndex"), "{said}");
}

#[test]
fn a_libclang_that_does_not_load_is_none() {
    let root = tempfile::tempdir().unwrap();
    let lib = root.path().join("usr/lib/llvm-14/lib");
    fs::create_dir_all(&lib).unwrap();
    let whole = fs::read(a_library()).unwrap();
    fs::write(lib.join("libclang.so.1"), &whole[..64]).unwrap();
    let (found, said) = libclang(root.path());
    assert!(!found && said.contains("it does not load"), "{said}");
}

#[test]
fn a_compiler_that_cannot_compile_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let cxx = dir.path().join("c++");
    fs::write(&cxx, "#!/bin/sh\necho \"fatal error: cstdint: No such file or directory\" >&2; exit 1\n").unwrap();
    fs::set_permissions(&cxx, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let out =
        Command::new(script("probe.sh")).env("PATH", format!("{}:{path}", dir.path().display())).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.code() == Some(3) && said.contains("c++ does not compile: fatal error: cstdint"), "{said}");
}

#[test]
fn a_setup_with_a_path_to_nothing_says_so_and_installs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("called");
    let apt = dir.path().join("apt-get");
    fs::write(&apt, format!("#!/bin/sh\necho \"$@\" >> {}\n", log.display())).unwrap();
    fs::set_permissions(&apt, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let out = Command::new(script("setup.sh"))
        .arg("build")
        .env("PATH", format!("{}:{path}", dir.path().display()))
        .env("LIBCLANG_PATH", dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("LIBCLANG_PATH is") && said.contains("there is no libclang"), "{said}");
    assert!(!log.exists(), "{}", fs::read_to_string(&log).unwrap());
}

#[test]
fn what_built_this_test_passes() {
    let out = Command::new(script("probe.sh")).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}

/// What scripts/test.sh prints, and whether it is content, when the tests are this shell script.
fn run_of(tests: &str) -> (bool, String) {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let cargo = dir.path().join("cargo");
    let nextest = "[ \"$2\" = --version ] && exit 0";
    let summary = "echo '     Summary [   1.0s] 9 tests run: 9 passed, 4 skipped'";
    fs::write(&cargo, format!("#!/bin/sh\n{nextest}\n{tests}\n{summary}\n")).unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap());
    let mut run = Command::new(script("test.sh"));
    run.env("PATH", path).env("GOLDEN", "write").env("SLIPWAY_GOLDEN", "write");
    let out = run.output().unwrap();
    (out.status.success(), String::from_utf8_lossy(&out.stdout).into_owned())
}

#[test]
fn a_run_of_all_tests_cannot_rewrite_what_it_compares_with() {
    let (content, said) = run_of("env");
    assert!(content && said.ends_with("test result: ok. 9 passed; 0 failed; 0 ignored; 0 measured; 4 filtered out\n"));
    assert!(said.contains("SLIPWAY_SKIP_LOG="), "{said}");
    let rewrites = |line: &str| line.starts_with("GOLDEN=") || line.starts_with("SLIPWAY_GOLDEN=");
    assert!(!said.lines().any(rewrites), "{said}");
    assert!(!said.contains("NOT SHOWN"), "{said}");
}

#[test]
fn a_run_says_at_its_end_what_it_did_not_show_and_fails_on_a_skip_that_nobody_allowed() {
    let skip = |line: &str| format!("echo '{line}' >>\"$SLIPWAY_SKIP_LOG\"\n");
    let dig = skip("dig_agrees: dig cannot be run: no such file: dig");
    let (content, said) = run_of(&dig.repeat(2));
    assert!(content, "{said}");
    let block = said.split("==== NOT SHOWN BY THIS RUN: 1 of its tests").nth(1).unwrap();
    assert!(block.contains("dig_agrees\n      not here: dig cannot be run: no such file: dig\n"), "{said}");
    assert!(block.contains("allowed:  needs dig"), "what stands in for it: {said}");
    assert!(said.ends_with("test result: ok. 8 passed; 0 failed; 1 ignored; 0 measured; 4 filtered out\n"), "{said}");

    let (content, said) = run_of(&(dig + &skip("a_new_one: no reason")));
    assert!(!content && said.contains("a_new_one\n      not here: no reason\n      SKIPPED BUT NOT IN"), "{said}");
    assert!(said.contains("NOT SHOWN BY THIS RUN: 2") && said.contains("test result: FAILED. 7 passed"), "{said}");

    // A test that went on without a part of it has passed; what it lacked is said all the same.
    let (content, said) = run_of(&skip("clients_see_one_register_each_under_faults/clocks: no libfaketime"));
    let block = said.split("==== NOT SHOWN BY THIS RUN: 0 of its tests cannot run here, others did without 1").nth(1);
    assert!(content && block.unwrap().contains("_under_faults/clocks\n      not here: no libfaketime\n"), "{said}");
    assert!(said.contains("test result: ok. 9 passed; 0 failed; 0 ignored"), "{said}");
}

#[test]
fn a_property_that_fails_writes_nothing_into_the_checkout() {
    assert_eq!(proptest::test_runner::Config::default().failure_persistence, None);
}
