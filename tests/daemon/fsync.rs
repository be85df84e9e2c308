//! Sees the system calls: what the daemon accepts is fsynced before the hub hears of it.
//!
//! The child runs under `ptrace` and stops at every system call; the test looks at those that
//! make data durable, and at what the simulator had been asked by then. Were sled left to its
//! ways, there would be `sync_file_range` here, and no `fsync` (see `src/store/durability.rs`).

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use nix::{
    errno::Errno,
    sys::{
        ptrace::{self, Options},
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use patchferry::simulator::{Control, FleetConfig, SimulatorConfig};

use crate::harness::{
    ACCOUNT, REGION,
    child::{EAGER, Site, skipped},
};

/// A durability call as the child made it.
#[derive(Debug)]
struct Call {
    name: &'static str,
    /// What its file descriptor was, from `/proc`.
    file: String,
    /// Requests that had reached the simulator before.
    states_read: u64,
    patches_read: u64,
    imports: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_accepted_is_fsynced_before_the_hub_hears_of_it() {
    let simulator = SimulatorConfig::new(5).lane(ACCOUNT, REGION, FleetConfig::of(20));
    let site = Site::new(simulator, Some(EAGER)).await;
    // The shell waits for a line, so that it is seized before it becomes the daemon.
    let mut command = Command::new("/bin/sh");
    site.prepare(&mut command);
    command
        .args(["-c", "read -r go; exec \"$0\" run", env!("CARGO_BIN_EXE_patchferry")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    let control = site.control.clone();
    let (started, pid) = tokio::sync::oneshot::channel();
    let tracer = std::thread::spawn(move || {
        trace(command, &control, |pid| {
            let _ = started.send(pid);
        })
    });
    let Ok(pid) = pid.await else {
        let error = tracer.join().unwrap().expect_err("it ended before it began");
        skipped(&format!("ptrace isn't permitted here ({error}), so no fsync can be seen"));
        return;
    };
    let patience = std::time::Duration::from_secs(120);
    let imported = site.control.wait_until(|control| control.stats_total().accepted > 0);
    tokio::time::timeout(patience, imported).await.expect("a traced daemon delivers, too");
    kill(pid, Signal::SIGTERM).unwrap();
    let calls = tokio::task::spawn_blocking(move || tracer.join().unwrap()).await.unwrap().unwrap();

    let ranges: Vec<&Call> = calls.iter().filter(|call| call.name == "sync_file_range").collect();
    assert!(ranges.is_empty(), "sync_file_range reached the kernel: {ranges:#?}");
    let between: Vec<&Call> = calls
        .iter()
        .filter(|call| call.file.contains("/store-1/"))
        .filter(|call| call.states_read > 0 && call.patches_read > 0 && call.imports == 0)
        .collect();
    // One for the observations, one for the outbox entry.
    assert!(between.len() >= 2, "no fsync of the store between reading and sending: {calls:#?}");
}

/// Runs `command` under ptrace to its end; tells its pid once it is held.
#[allow(clippy::zombie_processes)] // reaped below, by waitpid, with all its threads
fn trace(
    mut command: Command,
    control: &Control,
    tell: impl FnOnce(Pid),
) -> Result<Vec<Call>, Errno> {
    let mut child = command.spawn().expect("there is a shell");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    if let Err(error) = ptrace::seize(pid, options).and_then(|()| ptrace::interrupt(pid)) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(error);
    }
    child.stdin.take().expect("its input is a pipe").write_all(b"\n").unwrap();
    tell(pid);
    let mut calls = Vec::new();
    let mut entering = std::collections::HashMap::<Pid, bool>::new();
    // Only children of this thread: the other tests have their own.
    let flags = Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD);
    loop {
        match waitpid(None, flags) {
            Ok(WaitStatus::PtraceSyscall(thread)) => {
                let enters = entering.entry(thread).or_insert(true);
                if *enters && let Some(call) = call_of(thread, control) {
                    calls.push(call);
                }
                *enters = !*enters;
                go_on(thread, None);
            }
            // A new thread, an exec, a group stop.
            Ok(WaitStatus::PtraceEvent(thread, _, _)) => go_on(thread, None),
            Ok(WaitStatus::Stopped(thread, signal)) => go_on(thread, Some(signal)),
            Ok(WaitStatus::Exited(ended, _) | WaitStatus::Signaled(ended, _, _))
                if ended == pid =>
            {
                return Ok(calls);
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// A thread that has gone meanwhile is no error.
fn go_on(thread: Pid, signal: Option<Signal>) {
    match ptrace::syscall(thread, signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("ptrace can't let {thread} go on: {error}"),
    }
}

/// The durability call that a thread is about to make.
fn call_of(thread: Pid, control: &Control) -> Option<Call> {
    let (number, descriptor) = registers(thread)?;
    let name = match number {
        libc::SYS_fsync => "fsync",
        libc::SYS_fdatasync => "fdatasync",
        libc::SYS_sync_file_range => "sync_file_range",
        _ => return None,
    };
    let file = std::fs::read_link(format!("/proc/{thread}/fd/{descriptor}"));
    let stats = control.stats_total();
    let asked = |operation: &str| stats.requests.get(operation).copied().unwrap_or(0);
    Some(Call {
        name,
        file: file.map_or_else(|error| error.to_string(), |path| path.display().to_string()),
        states_read: asked("DescribeInstancePatchStates"),
        patches_read: asked("DescribeInstancePatches"),
        imports: stats.import_requests,
    })
}

/// A system call's number and its first argument.
fn registers(thread: Pid) -> Option<(i64, u64)> {
    let registers = ptrace::getregs(thread).ok()?;
    #[cfg(target_arch = "x86_64")]
    return Some((registers.orig_rax.cast_signed(), registers.rdi));
    #[cfg(target_arch = "aarch64")]
    return Some((registers.regs[8].cast_signed(), registers.regs[0]));
}
