//! What the operating system tells of this process (`proc(5)`). What it does not tell is left out.

use std::fs;

/// Under the names that Prometheus' own libraries use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Process {
    pub(crate) resident_bytes: Option<u64>,
    pub(crate) virtual_bytes: Option<u64>,
    pub(crate) open_files: Option<u64>,
    pub(crate) max_files: Option<u64>,
    /// In user mode and in the kernel, in seconds.
    pub(crate) cpu: Option<f64>,
    pub(crate) threads: Option<u64>,
}

impl Process {
    pub(crate) fn look() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The second field is the program's name in parentheses, and may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        // From the third field on, as proc_pid_stat(5) counts from 1.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kibibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
        };
        Self {
            resident_bytes: kibibytes("VmRSS"),
            virtual_bytes: kibibytes("VmSize"),
            open_files: fs::read_dir("/proc/self/fd").ok().map(|files| (files.count() as u64).saturating_sub(1)),
            max_files: rlimit::Resource::NOFILE.get().ok().map(|(soft, _)| soft),
            cpu: field(14).zip(field(15)).map(|(user, system)| seconds(user + system)),
            threads: field(20),
        }
    }
}

/// Of ticks, a hundred of which are a second wherever Linux counts them for programs (USER_HZ).
#[expect(clippy::cast_precision_loss, reason = "ticks of 10 ms are exact for a million years")]
fn seconds(ticks: u64) -> f64 {
    ticks as f64 / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_files_and_threads() {
        let process = Process::look();
        assert!(process.resident_bytes > Some(1 << 20), "{process:?}");
        assert!(process.virtual_bytes >= process.resident_bytes && process.open_files > Some(2) && process.max_files >= process.open_files);
        assert!(process.cpu >= Some(0.0) && process.threads >= Some(1));
    }
}
