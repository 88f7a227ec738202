//! What a kernel must have been built with, read from the `config-RELEASE` distributions put beside
//! it: what is missing is named when the kernel is prepared, not by a guest that does not boot.

use crate::error::{Error, ErrorKind};

/// What must be part of the kernel itself (`=y`), and what for. Modules are looked at themselves.
const NEEDED: &[(&str, &str)] = &[
    ("ACPI", "find processors and devices"),
    ("BINFMT_ELF", "run programs"),
    ("BLK_DEV_INITRD", "read its initramfs"),
    ("CGROUPS", "limit apps"),
    ("DEVTMPFS", "have devices"),
    ("KVM_GUEST", "know the time without a timer to calibrate by"),
    ("PCI", "start ACPI at all"),
    ("PID_NS", "have processes of apps apart"),
    ("PROC_FS", "run programs"),
    ("SECCOMP_FILTER", "filter system calls"),
    ("SYSFS", "have devices"),
    ("TMPFS", "have writable layers"),
    ("UNIX", "have sockets"),
    ("X86_64", "run at all"),
];
/// The longest configuration that is read, in bytes; Debian's has 180 KiB.
const MAX_CONFIG: usize = 2 << 20;

/// Checks the configuration of a kernel.
///
/// # Errors
///
/// [`ErrorKind::Missing`] names all that it lacks.
pub fn check_config(text: &str) -> Result<(), Error> {
    if text.len() > MAX_CONFIG {
        return Err(Error::new(ErrorKind::TooLarge, "its configuration is larger than any"));
    }
    let there = |symbol: &str| {
        text.lines().any(|line| {
            line.strip_prefix("CONFIG_")
                .and_then(|rest| rest.strip_prefix(symbol))
                .is_some_and(|rest| rest == "=y")
        })
    };
    let missing: Vec<String> = NEEDED
        .iter()
        .filter(|(symbol, _)| !there(symbol))
        .map(|(symbol, to)| format!("CONFIG_{symbol} (to {to})"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Missing, format!("it was built without {}", missing.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_something_is_named_with_all_it_lacks() {
        let full: String = NEEDED.iter().map(|(s, _)| format!("CONFIG_{s}=y\n")).collect();
        check_config(&full).unwrap();
        let less = full.replace("CONFIG_ACPI=y", "# CONFIG_ACPI is not set");
        let less = less.replace("CONFIG_PCI=y", "CONFIG_PCI=m");
        let error = check_config(&less).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Missing);
        assert_eq!(
            error.to_string(),
            "it was built without CONFIG_ACPI (to find processors and devices), \
             CONFIG_PCI (to start ACPI at all)"
        );
    }
}
