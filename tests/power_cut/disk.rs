//! A disk with a volatile write cache whose power can be cut at any instant.
//!
//! What a power cut takes is decided in three places: the page cache of the file system (gone),
//! the writes that the disk has taken and not been told to flush (each may or may not have reached
//! the platter, in any order), and a write that is under way (any of its sectors). Copying the
//! backing file of a loop device would show only the first. So the disk is a server of its own:
//!
//! ```text
//! ext4 ─> /dev/loopN ─> a FUSE file, written through ─> this: durable blocks + writes since the flush
//! ```
//!
//! A loop device turns the file system's barriers into fsyncs of its backing file, and FUSE hands
//! them on. [`Disk::cut`] takes the durable blocks, adds a seeded choice of the blocks written
//! since the last flush, and fails whatever is asked afterwards. The image that is left is mounted
//! again like any disk: the journal is replayed.
//!
//! Only the kernel's FUSE protocol is spoken, and of it only what one file needs (version 7.31).

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

/// What a disk writes whole or not at all.
const BLOCK_BYTES: usize = 4096;
/// The largest write that the kernel may hand over at once.
const WRITE_BYTES_MAX: usize = 128 * 1024;
/// Where nobody writes, the power goes after this long.
const CUT_MAX: Duration = Duration::from_secs(2);
const HEADER_BYTES: usize = 40;
/// Of a write and of a read, before the data.
const IO_HEADER_BYTES: usize = 40;

/// What survives of the blocks that were written since the last flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Nothing: the cache was as volatile as a cache may be.
    Lost,
    /// Everything: the disk had no cache.
    Kept,
    /// Each block by the toss of a coin.
    Torn,
}

/// What the disk went through, for whoever doubts that it is one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub writes: u64,
    pub flushes: u64,
    /// Blocks that were written and not flushed when the power was cut.
    pub unflushed_blocks: u64,
}

#[derive(Default)]
struct State {
    durable: Vec<u8>,
    /// What the host sees: durable, and everything written since.
    seen: Vec<u8>,
    /// Blocks in which the two differ, perhaps.
    unflushed: Vec<usize>,
    is_cut: bool,
    /// Writes until the power goes.
    writes_left: Option<u64>,
    counts: Counts,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    cut: Condvar,
}

/// A disk that is off: an image.
pub struct Image(Vec<u8>);

/// A disk that is on, with its file system mounted. Dropping it takes everything down.
pub struct Disk {
    shared: Arc<Shared>,
    directory: PathBuf,
    device: String,
    server: Option<JoinHandle<()>>,
}

impl Image {
    /// A new file system; `None` where none can be made.
    pub fn format(directory: &Path, bytes: u64) -> Option<Self> {
        let path = directory.join("blank.img");
        File::create(&path).and_then(|file| file.set_len(bytes)).ok()?;
        // Small and alike: no lazy initialisation that would write in the background.
        let options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        run("mkfs.ext4", &["-q", "-F", "-E", options, &text(&path)])?;
        let image = fs::read(&path).ok()?;
        fs::remove_file(&path).ok()?;
        Some(Self(image))
    }

    /// Switches the disk on and mounts its file system at `<directory>/mnt`; `None` where that
    /// isn't possible.
    pub fn power_on(self, directory: &Path) -> Option<Disk> {
        let bytes = self.0.len() as u64;
        let state = State { seen: self.0.clone(), durable: self.0, ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), cut: Condvar::new() });
        let file = directory.join("disk.img");
        let mount = directory.join("mnt");
        File::create(&file).ok()?;
        fs::create_dir_all(&mount).ok()?;
        let fuse = OpenOptions::new().read(true).write(true).open("/dev/fuse").ok()?;
        let server = mount_fuse(&fuse, &file)?;
        let served = Arc::clone(&shared);
        let server = std::thread::spawn(move || serve(server, &served, bytes));
        let mut disk = Disk {
            shared,
            directory: directory.into(),
            device: String::new(),
            server: Some(server),
        };
        disk.device = run("losetup", &["--find", "--show", &text(&file)])?.trim().to_string();
        // Nothing is to be written unless somebody asks for it.
        let options = "commit=300,errors=continue,noatime";
        run("mount", &["-t", "ext4", "-o", options, &disk.device, &text(&mount)])?;
        Some(disk)
    }
}

impl Disk {
    pub fn mount_point(&self) -> PathBuf {
        self.directory.join("mnt")
    }

    /// The power goes right after the so-manieth write from now, which is in the cache then; or in
    /// a while, if nobody writes. The host learns of it by errors; what it makes of them is its
    /// affair.
    pub fn cut(self, writes: u64, cache: Cache, rng: &mut fastrand::Rng) -> Cut {
        let mut state = lock(&self.shared.state);
        state.writes_left = Some(writes);
        let waited = self.shared.cut.wait_timeout_while(state, CUT_MAX, |state| !state.is_cut);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_cut = true;
        let mut image = std::mem::take(&mut state.durable);
        let mut unflushed = std::mem::take(&mut state.unflushed);
        unflushed.sort_unstable();
        unflushed.dedup();
        let counts = Counts { unflushed_blocks: unflushed.len() as u64, ..state.counts };
        for block in unflushed {
            let survives = match cache {
                Cache::Lost => false,
                Cache::Kept => true,
                Cache::Torn => rng.bool(),
            };
            if survives {
                let range = block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES;
                image[range.clone()].copy_from_slice(&state.seen[range]);
            }
        }
        drop(state);
        Cut { image: Image(image), counts, disk: self }
    }
}

/// What is left of a disk, and what it had gone through. The dead disk is still mounted.
pub struct Cut {
    image: Image,
    pub counts: Counts,
    disk: Disk,
}

impl Cut {
    /// Takes the dead disk down; nobody may use it any more.
    pub fn into_image(self) -> Image {
        drop(self.disk);
        self.image
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        take_down(&self.mount_point());
        if !self.device.is_empty() {
            run("losetup", &["-d", &self.device]);
        }
        let is_down = take_down(&self.directory.join("disk.img"));
        if let Some(server) = self.server.take()
            && is_down
        {
            let _ = server.join();
        }
    }
}

/// Unmounts; `false` if somebody still has something open there: then it goes with that.
fn take_down(mount: &Path) -> bool {
    let mount = text(mount);
    let is_down = run("umount", &[&mount]).is_some();
    if !is_down {
        run("umount", &["-l", &mount]);
    }
    is_down
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Standard output of a command that succeeds.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Mounts one FUSE file over `file`. `mount` gets the connection as its standard input.
fn mount_fuse(fuse: &File, file: &Path) -> Option<File> {
    let options = "fd=0,rootmode=100600,user_id=0,group_id=0";
    let status = Command::new("mount")
        .args(["-i", "-t", "fuse", "-o", options, "patchferry-disk"])
        .arg(file)
        .stdin(fuse.try_clone().ok()?)
        .stderr(Stdio::null())
        .status();
    status.ok()?.success().then(|| fuse.try_clone().ok())?
}

/// Answers until the connection is gone.
fn serve(mut fuse: File, shared: &Shared, bytes: u64) {
    let mut buffer = vec![0; HEADER_BYTES + IO_HEADER_BYTES + WRITE_BYTES_MAX + BLOCK_BYTES];
    loop {
        let length = match fuse.read(&mut buffer) {
            Ok(length) if length >= HEADER_BYTES => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            _ => return,
        };
        let (header, body) = buffer[..length].split_at(HEADER_BYTES);
        let unique = u64_at(header, 8);
        let Some(reply) = answer(u32_at(header, 4), body, shared, bytes) else { continue };
        let (error, payload) = match reply {
            Ok(payload) => (0, payload),
            Err(errno) => (-errno, Vec::new()),
        };
        let total = u32::try_from(16 + payload.len()).expect("replies are small");
        let mut out = Vec::with_capacity(16 + payload.len());
        out.extend(total.to_ne_bytes());
        out.extend(error.to_ne_bytes());
        out.extend(unique.to_ne_bytes());
        out.extend(payload);
        // Whoever asked may have gone away.
        let _ = fuse.write(&out);
    }
}

type Reply = Result<Vec<u8>, i32>;

/// `None`: nobody waits for an answer.
fn answer(opcode: u32, body: &[u8], shared: &Shared, bytes: u64) -> Option<Reply> {
    const FORGET: u32 = 2;
    const GETATTR: u32 = 3;
    const SETATTR: u32 = 4;
    const OPEN: u32 = 14;
    const READ: u32 = 15;
    const WRITE: u32 = 16;
    const STATFS: u32 = 17;
    const RELEASE: u32 = 18;
    const FSYNC: u32 = 20;
    const FLUSH: u32 = 25;
    const INIT: u32 = 26;
    const INTERRUPT: u32 = 36;
    const DESTROY: u32 = 38;
    const BATCH_FORGET: u32 = 42;
    Some(match opcode {
        FORGET | BATCH_FORGET | INTERRUPT => return None,
        INIT => Ok(init()),
        GETATTR | SETATTR => Ok(attributes(bytes)),
        OPEN => Ok([0_u64.to_ne_bytes(), 2_u64.to_ne_bytes()].concat()),
        STATFS => Ok(vec![0; 80]),
        RELEASE | FLUSH | DESTROY => Ok(Vec::new()),
        READ => read(body, &shared.state),
        WRITE => write(body, shared),
        FSYNC => flush(&shared.state),
        _ => Err(libc::ENOSYS),
    })
}

fn init() -> Vec<u8> {
    const BIG_WRITES: u32 = 1 << 5;
    let mut out = Vec::new();
    for word in [7, 31, 128 * 1024, BIG_WRITES] {
        out.extend(u32::to_ne_bytes(word));
    }
    // max_background and congestion_threshold: the kernel's own.
    out.extend([0; 4]);
    out.extend(u32::try_from(WRITE_BYTES_MAX).expect("a small constant").to_ne_bytes());
    out.extend(1_u32.to_ne_bytes());
    out.resize(64, 0);
    out
}

fn attributes(bytes: u64) -> Vec<u8> {
    let mut out = Vec::new();
    // Valid for an hour: nobody else changes it.
    for word in [3_600, 0, 1, bytes, bytes / 512, 0, 0, 0] {
        out.extend(u64::to_ne_bytes(word));
    }
    let (regular_0600, links) = (0o100_600, 1);
    for word in [0, 0, 0, regular_0600, links, 0, 0, 0, 4096, 0] {
        out.extend(u32::to_ne_bytes(word));
    }
    out
}

fn read(body: &[u8], state: &Mutex<State>) -> Reply {
    let (from, length) = (index_at(body, 8), u32_at(body, 16) as usize);
    let state = lock(state);
    if state.is_cut {
        return Err(libc::EIO);
    }
    let from = from.min(state.seen.len());
    let to = (from + length).min(state.seen.len());
    Ok(state.seen[from..to].to_vec())
}

fn write(body: &[u8], shared: &Shared) -> Reply {
    let (from, length) = (index_at(body, 8), u32_at(body, 16) as usize);
    let data = &body[IO_HEADER_BYTES..IO_HEADER_BYTES + length];
    let mut state = lock(&shared.state);
    if state.is_cut || from + length > state.seen.len() {
        return Err(libc::EIO);
    }
    state.seen[from..from + length].copy_from_slice(data);
    let blocks = from / BLOCK_BYTES..=(from + length - 1) / BLOCK_BYTES;
    state.unflushed.extend(blocks);
    state.counts.writes += 1;
    state.writes_left = state.writes_left.map(|left| left.saturating_sub(1));
    if state.writes_left == Some(0) {
        state.is_cut = true;
        shared.cut.notify_all();
        return Err(libc::EIO);
    }
    Ok([(u32_at(body, 16)).to_ne_bytes(), [0; 4]].concat())
}

fn flush(state: &Mutex<State>) -> Reply {
    let mut state = lock(state);
    if state.is_cut {
        return Err(libc::EIO);
    }
    for block in std::mem::take(&mut state.unflushed) {
        let range = block * BLOCK_BYTES..(block + 1) * BLOCK_BYTES;
        let State { durable, seen, .. } = &mut *state;
        durable[range.clone()].copy_from_slice(&seen[range]);
    }
    state.counts.flushes += 1;
    Ok(Vec::new())
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn index_at(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u64_at(bytes, at)).expect("offsets into an image in memory")
}
