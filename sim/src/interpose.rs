//! Chance and clocks of the process, taken over for the thread that simulates.
//!
//! Hash maps inside of dependencies, thread-local generators and openraft's timeouts draw from the
//! operating system; h2 asks the real clock how old a closed stream is. All of them end up in
//! `getrandom` and `clock_gettime` of the C library. Here these two names are defined anew, for
//! this program only: on a thread that called [`enter`] they give seeded bytes and simulated time,
//! on every other thread they are the plain system calls.
//!
//! A process makes one seeded run: some counters of dependencies (futures' `select!`) are
//! process-wide, and a second run would find them where the first left them.

#![allow(
    unsafe_code,
    reason = "the C library's functions can only be replaced by functions of its kind"
)]

use std::cell::Cell;
use std::time::Duration;

use libc::{c_int, c_uint, c_void, clockid_t, size_t, ssize_t, timespec};

use crate::dice::derive;
use crate::net::now_us;

thread_local! {
    // No destructors: they are read while threads begin and end.
    static STATE: Cell<u64> = const { Cell::new(0) };
    static ENTERED: Cell<bool> = const { Cell::new(false) };
    static TURNS: Cell<u64> = const { Cell::new(0) };
}

/// Where the simulated clocks begin, seconds: 15 October 2022, 15:19 in Seoul.
pub const EPOCH_S: i64 = 1_665_814_740;

/// From now on this thread's chance comes from `seed` and its clocks show simulated time.
pub fn enter(seed: u64) {
    STATE.set(derive(seed, "process"));
    TURNS.set(derive(seed, "yields"));
    ENTERED.set(true);
}

/// Real time for this thread again.
pub fn leave() {
    ENTERED.set(false);
}

/// Runs something that does not belong to the simulation and would take from its chance: a library
/// that opens files, as RocksDB does.
#[cfg(feature = "rocksdb")]
pub(crate) fn outside<T>(run: impl FnOnce() -> T) -> T {
    let entered = ENTERED.replace(false);
    let done = run();
    ENTERED.set(entered);
    done
}

/// Whether the replacements are in force: draws the way dependencies do, and looks where it came
/// from.
pub fn works() -> bool {
    let draw = || {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map(|()| bytes)
    };
    let before = (ENTERED.get(), STATE.get());
    enter(1);
    let first = draw();
    enter(1);
    let second = draw();
    ENTERED.set(before.0);
    STATE.set(before.1);
    matches!((first, second), (Ok(a), Ok(b)) if a == b)
}

/// Draws with one chance in eight; for tasks that may let others go first.
pub(crate) fn yields() -> bool {
    let (state, drawn) = next(TURNS.get());
    TURNS.set(state);
    drawn & 7 == 0
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn next(state: u64) -> (u64, u64) {
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (state, z ^ (z >> 31))
}

/// # Safety
/// `buffer` must be valid for `length` bytes.
unsafe fn fill(buffer: *mut c_void, length: size_t) {
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), length) };
    for chunk in bytes.chunks_mut(8) {
        let (state, drawn) = next(STATE.get());
        STATE.set(state);
        chunk.copy_from_slice(&drawn.to_le_bytes()[..chunk.len()]);
    }
}

/// The C library's `getrandom`.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    if ENTERED.get() {
        // SAFETY: the caller's promise.
        unsafe { fill(buffer, length) };
        return ssize_t::try_from(length).unwrap_or(ssize_t::MAX);
    }
    // SAFETY: the caller's promise; the kernel checks the rest.
    let count = unsafe { libc::syscall(libc::SYS_getrandom, buffer, length, flags) };
    ssize_t::try_from(count).unwrap_or(-1)
}

/// The C library's `getentropy`.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getentropy(buffer: *mut c_void, length: size_t) -> c_int {
    // SAFETY: the caller's promise.
    let count = unsafe { getrandom(buffer, length, 0) };
    if usize::try_from(count) == Ok(length) {
        0
    } else {
        -1
    }
}

/// The C library's `clock_gettime`.
///
/// # Safety
/// As the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    if ENTERED.get() && !time.is_null() {
        let since = Duration::from_micros(now_us());
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let base = if clock == libc::CLOCK_REALTIME {
            EPOCH_S
        } else {
            1_000
        };
        // SAFETY: not null, and the caller's promise.
        unsafe {
            (*time).tv_sec = base.saturating_add(seconds);
            (*time).tv_nsec = i64::from(since.subsec_nanos());
        }
        return 0;
    }
    // SAFETY: the caller's promise; the kernel checks the rest.
    let done = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    c_int::try_from(done).unwrap_or(-1)
}

/// How long the program has really run, whatever the thread believes.
pub fn real_elapsed() -> Duration {
    really(libc::CLOCK_MONOTONIC)
}

/// How long the thread has really computed.
pub fn cpu_elapsed() -> Duration {
    really(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn really(clock: clockid_t) -> Duration {
    let mut time = timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for the call.
    unsafe {
        libc::syscall(libc::SYS_clock_gettime, clock, &raw mut time);
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::hash::{BuildHasher as _, RandomState};

    use super::*;

    #[test]
    fn the_replacements_reach_the_crates_that_draw_from_the_system() {
        assert!(works());
    }

    #[test]
    fn a_seed_repeats_and_seeds_differ() {
        let draw = |seed| {
            // A thread of its own, since the hasher's keys are drawn once for each thread.
            let hash = move || {
                enter(seed);
                RandomState::new().hash_one(7)
            };
            #[allow(clippy::disallowed_methods, reason = "nothing is simulated here")]
            std::thread::spawn(hash).join().unwrap()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn other_threads_keep_real_chance_and_time() {
        let drawn: BTreeSet<u64> = (0..8).map(|_| rand::random()).collect();
        assert_eq!(drawn.len(), 8);
        let before = real_elapsed();
        assert!(real_elapsed() >= before);
    }
}
