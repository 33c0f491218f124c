//! The functions that SQLite calls. See <https://www.sqlite.org/c3ref/vfs.html> and <https://www.sqlite.org/c3ref/io_methods.html>.

#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, MutexGuard, Once};
use std::time::Duration;

use rusqlite::ffi::{self, sqlite3_file, sqlite3_io_methods, sqlite3_vfs};

use super::locks::{Held, Level, SLOTS, Shared};
use super::{Disk, Fault, Op, State};

/// The time that SQLite is told, in milliseconds of the Julian day: 22 November 2026.
const JULIAN_MS: i64 = 212_661_720_000_000;

/// The longest path.
const PATH_BYTES_MAX: c_int = 1024;

/// An open file.
struct Handle {
    disk: Disk,
    name: String,
    /// The disk's power when it was opened.
    power: u64,
    level: Level,
    shared: Option<Arc<Shared>>,
    held: Held,
    delete_on_close: bool,
}

/// What SQLite allocates for an open file.
#[repr(C)]
struct Slot {
    base: sqlite3_file,
    handle: *mut Handle,
}

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(raise),
    xUnlock: Some(lower),
    xCheckReservedLock: Some(check_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Makes this SQLite's default file system, once for the process.
pub(super) fn register() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let vfs = Box::leak(Box::new(sqlite3_vfs {
            iVersion: 2,
            szOsFile: size_of::<Slot>() as c_int,
            mxPathname: PATH_BYTES_MAX,
            pNext: std::ptr::null_mut(),
            zName: c"memory-disks".as_ptr(),
            pAppData: std::ptr::null_mut(),
            xOpen: Some(open),
            xDelete: Some(delete),
            xAccess: Some(access),
            xFullPathname: Some(full_path),
            xDlOpen: None,
            xDlError: None,
            xDlSym: None,
            xDlClose: None,
            xRandomness: Some(randomness),
            xSleep: Some(sleep),
            xCurrentTime: Some(time_days),
            xGetLastError: None,
            xCurrentTimeInt64: Some(time_ms),
            xSetSystemCall: None,
            xGetSystemCall: None,
            xNextSystemCall: None,
        }));
        // SAFETY: the counters of memory are switched off before SQLite is initialised (they are a lock that all connections of the
        // process share); afterwards the call is refused, which does no harm. The vfs is never freed, as registering it asks.
        let code = unsafe {
            ffi::sqlite3_config(ffi::SQLITE_CONFIG_MEMSTATUS, 0 as c_int);
            ffi::sqlite3_vfs_register(vfs, 1)
        };
        assert_eq!(code, ffi::SQLITE_OK, "the file system is registered");
    });
}

/// The handle of an open file.
///
/// # Safety
/// `file` is one that [`open`] filled and [`close`] has not had; SQLite calls no two methods of one file at the same time.
unsafe fn handle<'a>(file: *mut sqlite3_file) -> &'a mut Handle {
    // SAFETY: as above: the slot is ours and its handle a live box.
    unsafe { &mut *(*file.cast::<Slot>()).handle }
}

impl Handle {
    /// The disk's state, where the power has not been cut since this file was opened.
    fn state(&self) -> Option<MutexGuard<'_, State>> {
        Some(self.disk.state()).filter(|state| state.power == self.power)
    }

    fn change(&self, op: Op, failure: c_int) -> c_int {
        let Some(mut state) = self.state() else { return failure };
        let failing = state.fails(Fault::Write);
        let longer = match &op {
            Op::Write { at, data } => at + data.len() > state.files.get(&self.name).map_or(0, Vec::len),
            _ => false,
        };
        let full = longer && state.fails(Fault::Full);
        if !failing && !full {
            state.change(&self.name, op);
            return ffi::SQLITE_OK;
        }
        match op {
            Op::Write { at, data } => state.change(&self.name, Op::Write { at, data: data[..data.len() / 2].into() }),
            Op::Sync => state.change(&self.name, Op::SyncFailed),
            _ => {}
        }
        if full { ffi::SQLITE_FULL } else { failure }
    }

    fn unmap(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.give(&mut self.held, 0..SLOTS);
        }
    }

    fn lower(&mut self, level: Level) {
        let mut state = self.disk.state();
        if state.power == self.power {
            state.locks.entry(self.name.clone()).or_default().lower(&mut self.level, level);
        }
    }
}

/// A path of SQLite's.
///
/// # Safety
/// `name` is a string that ends with a zero and lives for as long as the result.
unsafe fn path<'a>(name: *const c_char) -> &'a Path {
    // SAFETY: as above.
    Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes()))
}

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives memory of `szOsFile` bytes for the file; without methods it will not call `close`.
    unsafe { (*file).pMethods = std::ptr::null() };
    let (disk, name) = if name.is_null() {
        // A temporary file: on a disk of its own.
        (Disk::default(), String::new())
    } else {
        // SAFETY: a name that is not null is a string.
        match Disk::find(unsafe { path(name) }) {
            Some(found) => found,
            None => return ffi::SQLITE_CANTOPEN,
        }
    };
    let mut state = disk.state();
    if !state.files.contains_key(&name) {
        if flags & ffi::SQLITE_OPEN_CREATE == 0 {
            return ffi::SQLITE_CANTOPEN;
        }
        state.files.insert(name.clone(), Vec::new());
    }
    let power = state.power;
    drop(state);
    let handle = Handle {
        disk,
        name,
        power,
        level: Level::None,
        shared: None,
        held: Held::default(),
        delete_on_close: flags & ffi::SQLITE_OPEN_DELETEONCLOSE != 0,
    };
    // SAFETY: the memory is a slot's, and `out_flags` may be written where it is not null.
    unsafe {
        (*file.cast::<Slot>()).handle = Box::into_raw(Box::new(handle));
        (*file).pMethods = &raw const METHODS;
        if !out_flags.is_null() {
            *out_flags = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: an open file, closed once: its handle is a live box that nothing else refers to.
    let mut handle = unsafe { Box::from_raw((*file.cast::<Slot>()).handle) };
    handle.unmap();
    handle.lower(Level::None);
    if handle.delete_on_close
        && let Some(mut state) = handle.state()
    {
        state.change(&handle.name, Op::Delete { durable: false });
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(file: *mut sqlite3_file, to: *mut c_void, count: c_int, at: i64) -> c_int {
    // SAFETY: an open file, and memory of `count` bytes.
    let (handle, to) =
        unsafe { (handle(file), std::slice::from_raw_parts_mut(to.cast::<u8>(), count.unsigned_abs() as usize)) };
    let Some(mut state) = handle.state() else { return ffi::SQLITE_IOERR_READ };
    if state.fails(Fault::Read) {
        return ffi::SQLITE_IOERR_READ;
    }
    let bytes = state.files.get(&handle.name).map_or(&[][..], Vec::as_slice);
    let from = bytes.get(at.unsigned_abs() as usize..).unwrap_or_default();
    let there = from.len().min(to.len());
    to[..there].copy_from_slice(&from[..there]);
    to[there..].fill(0);
    if there == to.len() { ffi::SQLITE_OK } else { ffi::SQLITE_IOERR_SHORT_READ }
}

unsafe extern "C" fn write(file: *mut sqlite3_file, from: *const c_void, count: c_int, at: i64) -> c_int {
    // SAFETY: an open file, and `count` bytes.
    let (handle, from) =
        unsafe { (handle(file), std::slice::from_raw_parts(from.cast::<u8>(), count.unsigned_abs() as usize)) };
    handle.change(Op::Write { at: at.unsigned_abs() as usize, data: from.into() }, ffi::SQLITE_IOERR_WRITE)
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, length: i64) -> c_int {
    // SAFETY: an open file.
    let handle = unsafe { handle(file) };
    handle.change(Op::Truncate(length.unsigned_abs() as usize), ffi::SQLITE_IOERR_TRUNCATE)
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _: c_int) -> c_int {
    // SAFETY: an open file.
    unsafe { handle(file) }.change(Op::Sync, ffi::SQLITE_IOERR_FSYNC)
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut i64) -> c_int {
    // SAFETY: an open file.
    let handle = unsafe { handle(file) };
    let Some(state) = handle.state() else { return ffi::SQLITE_IOERR_FSTAT };
    // SAFETY: a place for the answer.
    unsafe { *size = state.files.get(&handle.name).map_or(0, Vec::len) as i64 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn raise(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: an open file.
    let handle = unsafe { handle(file) };
    let mut own = handle.level;
    let Some(mut state) = handle.state() else { return ffi::SQLITE_IOERR_LOCK };
    let done = state.locks.entry(handle.name.clone()).or_default().raise(&mut own, Level::from_code(level));
    drop(state);
    handle.level = own;
    if done { ffi::SQLITE_OK } else { ffi::SQLITE_BUSY }
}

unsafe extern "C" fn lower(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: an open file.
    unsafe { handle(file) }.lower(Level::from_code(level));
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved(file: *mut sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: an open file.
    let handle = unsafe { handle(file) };
    let Some(state) = handle.state() else { return ffi::SQLITE_IOERR_CHECKRESERVEDLOCK };
    // SAFETY: a place for the answer.
    unsafe { *out = c_int::from(state.locks.get(&handle.name).is_some_and(super::FileLocks::has_writer)) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn control(_: *mut sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut sqlite3_file) -> c_int {
    4096
}

unsafe extern "C" fn characteristics(_: *mut sqlite3_file) -> c_int {
    // As on Linux: a torn write damages none but the bytes that it writes.
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    region: c_int,
    bytes: c_int,
    make: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: an open file.
    let handle = unsafe { handle(file) };
    if handle.shared.is_none() {
        let Some(mut state) = handle.state() else { return ffi::SQLITE_IOERR_SHMMAP };
        let known = state.shared.get(&handle.name).and_then(std::sync::Weak::upgrade);
        let shared = known.unwrap_or_default();
        state.shared.insert(handle.name.clone(), Arc::downgrade(&shared));
        drop(state);
        handle.shared = Some(shared);
    }
    let place = handle
        .shared
        .as_ref()
        .and_then(|shared| shared.region(region.unsigned_abs() as usize, bytes.unsigned_abs() as usize, make != 0));
    // SAFETY: a place for the answer. The region outlives the handle's share of it, which ends with `shm_unmap` or `close`.
    unsafe { *out = place.unwrap_or(std::ptr::null_mut()) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_lock(file: *mut sqlite3_file, first: c_int, count: c_int, flags: c_int) -> c_int {
    // SAFETY: an open file.
    let handle = unsafe { handle(file) };
    let alive = handle.state().is_some();
    let Some(shared) = handle.shared.clone() else { return ffi::SQLITE_IOERR_SHMLOCK };
    let range = first.unsigned_abs() as usize..(first + count).unsigned_abs() as usize;
    if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        shared.give(&mut handle.held, range);
        ffi::SQLITE_OK
    } else if !alive {
        ffi::SQLITE_IOERR_SHMLOCK
    } else if shared.take(&mut handle.held, range, flags & ffi::SQLITE_SHM_EXCLUSIVE != 0) {
        ffi::SQLITE_OK
    } else {
        ffi::SQLITE_BUSY
    }
}

unsafe extern "C" fn shm_barrier(_: *mut sqlite3_file) {
    fence(Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, _: c_int) -> c_int {
    // SAFETY: an open file.
    unsafe { handle(file) }.unmap();
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, name: *const c_char, durable: c_int) -> c_int {
    // SAFETY: a string.
    let Some((disk, name)) = Disk::find(unsafe { path(name) }) else { return ffi::SQLITE_IOERR_DELETE_NOENT };
    let mut state = disk.state();
    if !state.files.contains_key(&name) {
        return ffi::SQLITE_IOERR_DELETE_NOENT;
    }
    if state.fails(Fault::Write) {
        return ffi::SQLITE_IOERR_DELETE;
    }
    state.change(&name, Op::Delete { durable: durable != 0 });
    ffi::SQLITE_OK
}

unsafe extern "C" fn access(_: *mut sqlite3_vfs, name: *const c_char, _: c_int, out: *mut c_int) -> c_int {
    // SAFETY: a string.
    let found = Disk::find(unsafe { path(name) });
    // As on Linux: an empty file is as good as none.
    let there = found.is_some_and(|(disk, name)| disk.state().files.get(&name).is_some_and(|bytes| !bytes.is_empty()));
    // SAFETY: a place for the answer.
    unsafe { *out = c_int::from(there) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_path(_: *mut sqlite3_vfs, name: *const c_char, room: c_int, out: *mut c_char) -> c_int {
    // SAFETY: a string.
    let bytes = unsafe { CStr::from_ptr(name) }.to_bytes_with_nul();
    if bytes.len() > room.unsigned_abs() as usize {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: `out` has room for `room` bytes, and is not the name.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), out.cast(), bytes.len()) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn randomness(_: *mut sqlite3_vfs, count: c_int, out: *mut c_char) -> c_int {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    for n in 0..count.unsigned_abs() as usize {
        let drawn = DRAWN.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // SAFETY: memory of `count` bytes.
        unsafe { out.add(n).cast::<u8>().write((drawn >> 56) as u8) };
    }
    count
}

unsafe extern "C" fn sleep(_: *mut sqlite3_vfs, microseconds: c_int) -> c_int {
    std::thread::sleep(Duration::from_micros(u64::from(microseconds.unsigned_abs())));
    microseconds
}

unsafe extern "C" fn time_days(_: *mut sqlite3_vfs, out: *mut f64) -> c_int {
    // SAFETY: a place for the answer.
    unsafe { *out = JULIAN_MS as f64 / 86_400_000.0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn time_ms(_: *mut sqlite3_vfs, out: *mut i64) -> c_int {
    // SAFETY: a place for the answer.
    unsafe { *out = JULIAN_MS };
    ffi::SQLITE_OK
}
