//! The binary: everything is in the library.

/// The SDK's types for findings are tens of KB each and made by the hundred: glibc's allocator
/// spends a fifth of the CPU on them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    patchferry::cli::main()
}
