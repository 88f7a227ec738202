//! Which modules a guest needs, what those need in turn, and in which order they are loaded.

use std::collections::BTreeMap;

use crate::error::{Error, ErrorKind};
use crate::module::Module;

/// When modules are loaded; `/modules` of the initramfs names each by its [`Group::word`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// At boot.
    Always,
    /// When the pod has a network interface.
    Net,
    /// When something is shared with the guest.
    Fs,
    /// When there is a disk to write to.
    Scratch,
}

impl Group {
    /// All of them, in the order they stand in `/modules`.
    pub const ALL: [Self; 4] = [Self::Always, Self::Net, Self::Fs, Self::Scratch];

    /// Returns the word for it in `/modules`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Net => "net",
            Self::Fs => "fs",
            Self::Scratch => "scratch",
        }
    }
}

/// A module that is wanted for its own sake.
struct Wanted {
    group: Group,
    name: &'static str,
    /// What a guest does with it.
    to: &'static str,
}

const WANTED: [Wanted; 8] = [
    Wanted { group: Group::Always, name: "virtio_mmio", to: "find its devices" },
    Wanted { group: Group::Always, name: "virtio_blk", to: "read its disk of images" },
    Wanted {
        group: Group::Always,
        name: "vmw_vsock_virtio_transport",
        to: "talk to the supervisor",
    },
    Wanted { group: Group::Always, name: "erofs", to: "mount the layers of images" },
    Wanted { group: Group::Always, name: "overlay", to: "put layers over each other" },
    Wanted { group: Group::Net, name: "virtio_net", to: "have a network interface" },
    Wanted { group: Group::Fs, name: "virtiofs", to: "mount volumes of the host" },
    Wanted { group: Group::Scratch, name: "ext4", to: "write to a disk" },
];

/// What ACPI calls a virtio device in memory: our devices are announced by it and by nothing else.
const ACPI_ALIAS: &str = "LNRO0005";
/// Soft dependencies that are named by an alias, and the module that is meant.
const ALIASES: [(&str, &str); 2] =
    [("crc32c", "crc32c_generic"), ("crypto_crc32c", "crc32c_generic")];
/// The most modules a guest is given; Debian's cloud kernel takes 15.
const MAX_MODULES: usize = 128;
/// The most bytes all of them have, in the initramfs and in the guest's memory; Debian's cloud
/// kernel has 2 MB of them.
const MAX_BYTES: usize = 128 << 20;

/// Where modules come from.
pub trait ModuleSource {
    /// Returns the file of module `name`, packed or not; none if there is no such module.
    ///
    /// # Errors
    ///
    /// [`Error::unreadable`].
    fn file(&self, name: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Tells whether module `name` is part of the kernel itself (`modules.builtin`).
    fn is_builtin(&self, name: &str) -> bool;

    /// Returns the aliases of a module that is part of the kernel (`modules.builtin.modinfo`);
    /// none if nobody has written them down.
    fn builtin_aliases(&self, name: &str) -> Option<Vec<String>>;
}

/// The modules of a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modules {
    /// What to load, as the lines of `/modules`.
    pub order: Vec<(Group, String)>,
    /// The modules, not packed, by their names.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// Finds what a guest of kernel `release` needs.
///
/// # Errors
///
/// [`ErrorKind::Missing`] names what the kernel lacks, [`ErrorKind::Mismatch`] a module of another
/// kernel; other kinds name a module that cannot be read.
pub fn modules(source: &dyn ModuleSource, release: &str) -> Result<Modules, Error> {
    let modules = Modules::default();
    let mut walk = Walk { source, release, modules, under_way: Vec::new(), bytes: 0 };
    for wanted in &WANTED {
        match walk.take(wanted.group, wanted.name)? {
            Found::There => {}
            Found::Nowhere => {
                return Err(Error::new(
                    ErrorKind::Missing,
                    format!(
                        "kernel {release} has no module `{}`, which a guest needs to {}",
                        wanted.name, wanted.to
                    ),
                ));
            }
            Found::UnderWay(name) => {
                return Err(Error::damaged(format!("module `{name}` needs itself")));
            }
        }
    }
    Ok(walk.modules)
}

/// What became of a module that is to be loaded.
enum Found {
    /// It is loaded, or part of the kernel.
    There,
    /// There is none.
    Nowhere,
    /// It cannot be loaded before this module, which waits for it.
    UnderWay(String),
}

struct Walk<'s> {
    source: &'s dyn ModuleSource,
    release: &'s str,
    modules: Modules,
    /// The modules that wait for the one that is looked at, outermost first.
    under_way: Vec<String>,
    /// Bytes of all modules so far.
    bytes: usize,
}

impl Walk<'_> {
    /// Has module `name` loaded with `group`, behind all it needs.
    fn take(&mut self, group: Group, name: &str) -> Result<Found, Error> {
        let there =
            |(of, named): &(Group, String)| named == name && (*of == group || *of == Group::Always);
        if self.modules.order.iter().any(there) {
            return Ok(Found::There);
        }
        if self.under_way.iter().any(|waiting| waiting == name) {
            return Ok(Found::UnderWay(name.to_owned()));
        }
        if self.modules.files.len() + self.under_way.len() >= MAX_MODULES {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("a guest would need more than {MAX_MODULES} modules"),
            ));
        }
        if self.source.is_builtin(name) {
            check_announced(name, self.source.builtin_aliases(name).as_deref())?;
            return Ok(Found::There);
        }
        let Some(file) = self.source.file(name)? else { return Ok(Found::Nowhere) };
        let module = Module::parse(&file).map_err(|error| error.of(&format!("module `{name}`")))?;
        self.check(name, &module)?;
        self.bytes += module.bytes.len();
        if self.bytes > MAX_BYTES {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("a guest would need more than {MAX_BYTES} bytes of modules"),
            ));
        }
        self.under_way.push(name.to_owned());
        let waits_for = self.take_needs(group, name, &module)?;
        self.under_way.pop();
        if let Some(other) = waits_for {
            return Ok(Found::UnderWay(other));
        }
        self.modules.order.push((group, name.to_owned()));
        self.modules.files.insert(name.to_owned(), module.bytes);
        Ok(Found::There)
    }

    /// Has all loaded that `module` needs. Returns the module it needs that cannot be, because that
    /// waits for this one.
    fn take_needs(
        &mut self,
        group: Group,
        name: &str,
        module: &Module,
    ) -> Result<Option<String>, Error> {
        for needed in &module.softly {
            let real = ALIASES.iter().find(|(alias, _)| alias == needed);
            // Softly: it is done without what is not there, or waits for this very module.
            let _ = self.take(group, real.map_or(needed, |(_, real)| real))?;
        }
        for needed in &module.depends {
            match self.take(group, needed)? {
                Found::There => {}
                Found::Nowhere => {
                    return Err(Error::new(
                        ErrorKind::Missing,
                        format!("module `{name}` needs module `{needed}`, which is not there"),
                    ));
                }
                Found::UnderWay(other) => return Ok(Some(other)),
            }
        }
        Ok(None)
    }

    fn check(&self, name: &str, module: &Module) -> Result<(), Error> {
        if module.release != self.release {
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!(
                    "module `{name}` is for kernel {}, the kernel is {}",
                    module.release, self.release
                ),
            ));
        }
        if module.name != name {
            return Err(Error::new(
                ErrorKind::Mismatch,
                format!("the file of module `{name}` is module `{}`", module.name),
            ));
        }
        check_announced(name, Some(&module.aliases))
    }
}

/// Checks that the driver of virtio devices in memory finds them by ACPI, as far as is known.
fn check_announced(name: &str, aliases: Option<&[String]>) -> Result<(), Error> {
    let found = |aliases: &[String]| aliases.iter().any(|alias| alias.contains(ACPI_ALIAS));
    if name == "virtio_mmio" && !aliases.is_none_or(found) {
        return Err(Error::new(
            ErrorKind::Missing,
            format!(
                "module `virtio_mmio` does not look for devices by ACPI (no alias `{ACPI_ALIAS}`): \
                 a guest would find none"
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::tests::made;

    /// What a module says of itself whose file is as long as few are.
    const HEAVY: &str = "heavy=30 MiB";

    /// Modules by name, with what each says of itself beside its name.
    #[derive(Default)]
    struct Shelf {
        modules: BTreeMap<String, Vec<String>>,
        builtin: Vec<(String, Option<Vec<String>>)>,
    }

    impl Shelf {
        /// All that is wanted, without a need.
        fn full() -> Self {
            let mut shelf = Self::default();
            for wanted in &WANTED {
                shelf.put(wanted.name, &["alias=acpi*:LNRO0005:*"]);
            }
            shelf
        }

        fn put(&mut self, name: &str, lines: &[&str]) {
            let lines = lines.iter().map(|line| (*line).to_owned()).collect();
            self.modules.insert(name.to_owned(), lines);
        }

        fn built_in(mut self, name: &str, aliases: Option<&[&str]>) -> Self {
            self.modules.remove(name);
            let aliases = aliases.map(|a| a.iter().map(|alias| (*alias).to_owned()).collect());
            self.builtin.push((name.to_owned(), aliases));
            self
        }
    }

    impl ModuleSource for Shelf {
        fn file(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
            let Some(lines) = self.modules.get(name) else { return Ok(None) };
            let mut all = vec![format!("name={name}"), "vermagic=6.1-x SMP ".to_owned()];
            all.extend_from_slice(lines);
            let mut file = made(&all.iter().map(String::as_str).collect::<Vec<_>>());
            if lines.iter().any(|line| line == HEAVY) {
                file.resize(30 << 20, 0);
            }
            Ok(Some(file))
        }

        fn is_builtin(&self, name: &str) -> bool {
            self.builtin.iter().any(|(builtin, _)| builtin == name)
        }

        fn builtin_aliases(&self, name: &str) -> Option<Vec<String>> {
            self.builtin.iter().find(|(builtin, _)| builtin == name)?.1.clone()
        }
    }

    fn names(modules: &Modules, group: Group) -> Vec<&str> {
        let of_group = modules.order.iter().filter(|(of, _)| *of == group);
        of_group.map(|(_, name)| name.as_str()).collect()
    }

    #[test]
    fn what_a_module_needs_is_loaded_before_it_and_once_a_group() {
        let mut shelf = Shelf::full();
        shelf.put("virtio", &[]);
        shelf.put("virtio_ring", &["depends=virtio"]);
        shelf.put("failover", &[]);
        shelf.put("virtio_blk", &["depends=virtio_ring,virtio"]);
        shelf.put("virtio_net", &["depends=virtio_ring,failover"]);
        shelf.put("virtiofs", &["depends=failover,virtio"]);
        shelf.put("erofs", &["softdep=pre: crc32c nobody"]);
        shelf.put("crc32c_generic", &[]);
        let modules = modules(&shelf, "6.1-x").unwrap();
        assert_eq!(
            names(&modules, Group::Always),
            [
                "virtio_mmio",
                "virtio",
                "virtio_ring",
                "virtio_blk",
                "vmw_vsock_virtio_transport",
                "crc32c_generic",
                "erofs",
                "overlay"
            ]
        );
        assert_eq!(names(&modules, Group::Net), ["failover", "virtio_net"]);
        assert_eq!(names(&modules, Group::Fs), ["failover", "virtiofs"]);
        assert_eq!(names(&modules, Group::Scratch), ["ext4"]);
        assert_eq!(modules.files.len(), 12);
    }

    #[test]
    fn what_is_missing_is_named() {
        for wanted in &WANTED {
            let mut shelf = Shelf::full();
            shelf.modules.remove(wanted.name);
            let error = modules(&shelf, "6.1-x").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Missing);
            assert!(error.to_string().contains(&format!("`{}`", wanted.name)), "{error}");
        }
        let mut shelf = Shelf::full();
        shelf.put("erofs", &["depends=nobody"]);
        let error = modules(&shelf, "6.1-x").unwrap_err();
        assert_eq!(error.to_string(), "module `erofs` needs module `nobody`, which is not there");
        let mut shelf = Shelf::full();
        shelf.put("virtio_mmio", &["alias=of:N*T*Cvirtio,mmio"]);
        assert!(modules(&shelf, "6.1-x").unwrap_err().to_string().contains("LNRO0005"));
        let shelf = Shelf::full().built_in("virtio_mmio", Some(&["of:N*"]));
        assert!(modules(&shelf, "6.1-x").unwrap_err().to_string().contains("LNRO0005"));
    }

    #[test]
    fn what_is_built_in_is_not_loaded() {
        let shelf = Shelf::full()
            .built_in("virtio_mmio", Some(&["acpi*:LNRO0005:*"]))
            .built_in("ext4", None)
            .built_in("overlay", None);
        let found = modules(&shelf, "6.1-x").unwrap();
        assert_eq!(names(&found, Group::Scratch), [""; 0]);
        assert_eq!(names(&found, Group::Always)[0], "virtio_blk");
        // Of a kernel that is all in one piece nothing is known but its list.
        let all = WANTED.iter().fold(Shelf::default(), |shelf, w| shelf.built_in(w.name, None));
        assert_eq!(modules(&all, "6.1-x").unwrap(), Modules::default());
    }

    #[test]
    fn what_is_needed_softly_may_need_who_needs_it() {
        let mut shelf = Shelf::full();
        shelf.put("erofs", &["softdep=pre: a b"]);
        shelf.put("a", &["depends=c", "softdep=pre: erofs"]);
        shelf.put("c", &[]);
        shelf.put("b", &["depends=erofs"]);
        let modules = modules(&shelf, "6.1-x").unwrap();
        assert_eq!(names(&modules, Group::Always)[3..], ["c", "a", "erofs", "overlay"]);
    }

    #[test]
    fn all_modules_together_are_bounded() {
        let mut shelf = Shelf::full();
        for name in ["virtio_blk", "erofs", "overlay", "virtio_net"] {
            shelf.put(name, &[HEAVY]);
        }
        assert!(modules(&shelf, "6.1-x").is_ok());
        shelf.put("ext4", &[HEAVY]);
        assert_eq!(modules(&shelf, "6.1-x").unwrap_err().kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn circles_and_modules_of_another_kernel_are_refused() {
        let mut shelf = Shelf::full();
        shelf.put("a", &["depends=b"]);
        shelf.put("b", &["depends=a"]);
        shelf.put("erofs", &["depends=a"]);
        assert!(modules(&shelf, "6.1-x").unwrap_err().to_string().contains("needs itself"));
        let mut shelf = Shelf::full();
        shelf.put("erofs", &["depends=m0"]);
        for n in 0..200 {
            shelf.put(&format!("m{n}"), &[&format!("depends=m{}", n + 1)]);
        }
        assert_eq!(modules(&shelf, "6.1-x").unwrap_err().kind(), ErrorKind::TooLarge);
        let error = modules(&Shelf::full(), "6.1-y").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Mismatch);
    }
}
