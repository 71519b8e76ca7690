//! Hostile bytes against the decoders of commands and snapshots: an answer or an error, never a panic, never a large
//! allocation.
//!
//! `fuzz` is a plain function, as a libFuzzer target wants it. Frames are sealed anew after a mutation, so that the
//! bytes reach the decoder behind the checksum. The decoders of Raft's own messages are tested the same way in
//! `raft/codec/tests.rs`, those of files in `storage`.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    fs,
    path::Path,
};

use proptest::prelude::*;
use slipway::state::codec::{self, CodecError};

thread_local! {
    /// The largest single allocation of this thread so far: other tests run beside this one in the same process.
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

struct Watched;

// SAFETY: every call goes to the system's allocator unchanged; the counter is made at compile time, has no destructor
// and does not allocate.
unsafe impl GlobalAlloc for Watched {
    // SAFETY: the caller's promises are passed on.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = LARGEST.try_with(|l| l.set(l.get().max(layout.size())));
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: the caller's promises are passed on.
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

/// A frame of a kind around any payload.
fn sealed(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = codec::MAGIC.to_vec();
    bytes.extend([kind, codec::FORMAT]);
    bytes.extend(codec::LEVEL.to_le_bytes());
    bytes.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), payload);
    bytes.extend(crc.to_le_bytes());
    bytes.extend(payload);
    bytes
}

/// One run: raw, and as the payload of a sound frame of each kind.
fn fuzz(data: &[u8]) {
    let _ = codec::decode_command(data);
    let _ = codec::decode_snapshot(data);
    let _ = codec::decode_command(&sealed(1, data));
    let _ = codec::decode_snapshot(&sealed(2, data));
}

fn golden(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/codec").join(name)).unwrap()
}

/// The payloads of the frames of a golden file.
fn payloads(name: &str) -> Vec<Vec<u8>> {
    let bytes = golden(name);
    let (mut at, mut found) = (0, Vec::new());
    while at < bytes.len() {
        let len = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        found.push(bytes[at + codec::HEADER..at + codec::HEADER + len].to_vec());
        at += codec::HEADER + len;
    }
    found
}

fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let seeds: Vec<Vec<u8>> = payloads("commands.bin").into_iter().chain(payloads("snapshot-full.bin")).collect();
    let change =
        (any::<prop::sample::Index>(), prop_oneof![Just(0xfb_u8), Just(0xfc), Just(0xfd), Just(0xff), any::<u8>()]);
    (prop::sample::select(seeds), prop::collection::vec(change, 1..6), any::<bool>()).prop_map(
        |(mut bytes, changes, cut)| {
            for (at, value) in changes {
                let at = at.index(bytes.len().max(1));
                if cut && at > 2 {
                    bytes.truncate(at);
                } else if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_an_answer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        fuzz(&bytes);
        prop_assert!(LARGEST.get() < 16 << 20, "{} bytes at once", LARGEST.get());
    }

    #[test]
    fn a_changed_payload_is_an_answer_or_an_error(bytes in mutated()) {
        fuzz(&bytes);
        // Lengths within a payload of some hundred bytes may claim gigabytes.
        prop_assert!(LARGEST.get() < 16 << 20, "{} bytes at once", LARGEST.get());
    }

    #[test]
    fn a_flipped_bit_of_a_frame_is_refused(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        for (name, snapshot) in [("command.bin", false), ("snapshot-full.bin", true)] {
            let mut bytes = golden(name);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let refused = if snapshot { codec::decode_snapshot(&bytes).is_err() } else { codec::decode_command(&bytes).is_err() };
            prop_assert!(refused, "{} byte {}", name, at);
        }
    }
}

#[test]
fn a_claimed_length_is_refused_before_anything_is_allocated() {
    for kind in [1, 2] {
        let mut bytes = sealed(kind, b"");
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        let refused =
            if kind == 1 { codec::decode_command(&bytes).err() } else { codec::decode_snapshot(&bytes).err() };
        assert!(matches!(refused, Some(CodecError::TooLarge { len: 0xffff_ffff, .. })), "{refused:?}");
    }
}
