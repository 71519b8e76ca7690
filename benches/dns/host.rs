//! The machine: its description and its cores.

/// Binds the calling thread, and what it starts from now on, to one core.
pub fn pin(core: usize) {
    // SAFETY: a set is an array of integers; zero is the empty one, and the call only reads it, within the size that is
    // given.
    let failed = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    assert!(failed == 0, "this process cannot be bound to core {core}: {}", std::io::Error::last_os_error());
}

/// Cores, model and kernel.
pub fn describe() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|l| l.strip_prefix("model name")).map_or("?", |l| l.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores, {model}, Linux {}, load {:.2}", kernel.trim(), load())
}

/// Processes that wanted to run, on average over the last minute.
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or_default()
}
