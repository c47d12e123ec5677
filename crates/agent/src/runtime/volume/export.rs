//! An NFS export, mounted by the kernel's client through `mount.nfs`.

use std::fs;
use std::path::Path;

use mooring_types::job::{Export, VolumeMode};
use tokio::process::Command;

use crate::error::Result;
use crate::runtime::tool::{has_program, has_word, run};

/// Returns whether this host has the program, and its kernel an NFS client or its module.
pub(super) fn is_possible() -> bool {
    let in_kernel = || {
        has_word("/proc/filesystems", "nfs").unwrap_or(false) || has_word("/proc/filesystems", "nfs4").unwrap_or(false)
    };
    has_program("mount.nfs") && (in_kernel() || has_module())
}

fn has_module() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let list = fs::read_to_string(Path::new("/lib/modules").join(release.trim()).join("modules.dep"));
    list.unwrap_or_default().lines().any(|line| {
        let module = line.split(':').next().unwrap_or_default();
        ["/nfs.ko", "/nfs.ko.xz", "/nfs.ko.zst", "/nfs.ko.gz"].iter().any(|name| module.ends_with(name))
    })
}

/// Mounts the export.
pub(super) async fn mount(export: &Export, mode: VolumeMode, directory: &Path) -> Result<()> {
    let mut mount = Command::new("mount");
    mount.args(arguments(export, mode)).arg(directory);
    run(mount).await
}

fn arguments(export: &Export, mode: VolumeMode) -> Vec<String> {
    let mode = if mode == VolumeMode::ReadOnly { "ro" } else { "rw" };
    // The user's options come last and win, except those that a job must not have.
    let options = [mode, "vers=4"].map(str::to_owned).into_iter().chain(export.options.iter().cloned());
    let options: Vec<String> = options.chain(["nosuid", "nodev"].map(str::to_owned)).collect();
    let source = format!("{}:{}", export.server, export.path);
    ["-t".into(), "nfs".into(), "-o".into(), options.join(","), source].into()
}

#[cfg(test)]
mod tests {
    use mooring_types::job::Volume;

    use super::*;

    #[test]
    fn it_is_mounted_as_it_was_asked_for() {
        let volume: Volume = "[opts=\"vers=3,nolock\"]nfs://10.0.0.4/exports/a:/mnt:ro".parse().unwrap();
        let export = Export::of(&volume).unwrap();
        assert_eq!(
            arguments(&export, volume.mode),
            ["-t", "nfs", "-o", "ro,vers=4,vers=3,nolock,nosuid,nodev", "10.0.0.4:/exports/a"]
        );
    }
}
