//! One module: what it says of itself in its section `.modinfo` (`include/linux/moduleinfo.h`):
//! `KEY=VALUE` and a NUL, again and again.

use crate::MAX_MODULE;
use crate::elf::{ET_REL, Elf};
use crate::error::{Error, ErrorKind};
use crate::packing::Packing;

/// The longest name of a module, in bytes (`MODULE_NAME_LEN`, less the end and a word).
const MAX_NAME: usize = 55;
/// The longest section `.modinfo` that is read, in bytes: aliases of a large driver.
const MAX_INFO: usize = 256 << 10;
/// The endings of files of modules.
const ENDINGS: [&str; 4] = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"];

/// A module that can be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name, with underscores.
    pub name: String,
    /// The modules it cannot be loaded without.
    pub depends: Vec<String>,
    /// Modules, or aliases of some, that are to be loaded before it if they are there.
    pub softly: Vec<String>,
    /// What devices and others call it by.
    pub aliases: Vec<String>,
    /// The release of the kernel it is for.
    pub release: String,
    /// The module itself, not packed.
    pub bytes: Vec<u8>,
}

/// Returns the name of a module as modules call each other: hyphens are underscores.
#[must_use]
pub fn module_name(word: &str) -> Option<String> {
    let sound = (1..=MAX_NAME).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    sound.then(|| word.replace('-', "_"))
}

/// Returns the name of the module in a file of this name, if it is one's.
#[must_use]
pub fn module_file(file: &str) -> Option<String> {
    ENDINGS.iter().find_map(|ending| file.strip_suffix(ending)).and_then(module_name)
}

impl Module {
    /// Reads a file of a module, packed or not.
    ///
    /// # Errors
    ///
    /// Of every kind but [`ErrorKind::Missing`].
    pub fn parse(file: &[u8]) -> Result<Self, Error> {
        if file.len() as u64 > MAX_MODULE {
            return Err(Error::new(ErrorKind::TooLarge, "it is larger than any module"));
        }
        let bytes = Packing::of(file)?.unpack(file, MAX_MODULE)?;
        let elf = Elf::parse(&bytes)?;
        if elf.kind != ET_REL {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "it is no module, but another ELF file",
            ));
        }
        let info = elf
            .section(".modinfo")?
            .filter(|info| info.len() <= MAX_INFO)
            .ok_or_else(|| Error::damaged("it does not say what it is"))?;
        let mut told = Told::default();
        for line in info.split(|byte| *byte == 0) {
            told.hear(line)?;
        }
        let Told { name: Some(name), release: Some(release), depends, softly, aliases } = told
        else {
            return Err(Error::damaged("it does not tell its name and the kernel it is for"));
        };
        Ok(Self { name, depends, softly, aliases, release, bytes })
    }
}

/// What was told so far.
#[derive(Debug, Default)]
struct Told {
    name: Option<String>,
    release: Option<String>,
    depends: Vec<String>,
    softly: Vec<String>,
    aliases: Vec<String>,
}

impl Told {
    fn hear(&mut self, line: &[u8]) -> Result<(), Error> {
        let Some((key, value)) = str::from_utf8(line).ok().and_then(|line| line.split_once('='))
        else {
            return Ok(()); // an author's name in some other encoding, padding
        };
        let sound = |word: &str| {
            module_name(word).ok_or_else(|| Error::damaged("it names a module that can be none"))
        };
        match key {
            "name" => self.name = Some(sound(value)?),
            "vermagic" => self.release = value.split(' ').next().map(str::to_owned),
            "alias" => self.aliases.push(value.to_owned()),
            "depends" => {
                for word in value.split(',').filter(|word| !word.is_empty()) {
                    self.depends.push(sound(word)?);
                }
            }
            // `pre: a b post: c`
            "softdep" => {
                let mut before = false;
                for word in value.split_whitespace() {
                    match word {
                        "pre:" => before = true,
                        "post:" => before = false,
                        word if before => self.softly.extend(module_name(word)),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An ELF file of a module with this `.modinfo`, the smallest there is.
    pub(crate) fn made(info: &[&str]) -> Vec<u8> {
        let info = info.join("\0") + "\0";
        let names = b"\0.modinfo\0.names\0";
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        file.extend([1, 0, 62, 0, 1, 0, 0, 0]); // ET_REL
        file.extend([0; 16]); // e_entry, e_phoff
        let sections = (64 + info.len() + names.len()) as u64;
        file.extend(sections.to_le_bytes());
        file.extend([0; 4]); // e_flags
        for half in [64_u16, 0, 0, 64, 3, 2] {
            file.extend(half.to_le_bytes());
        }
        file.extend(info.as_bytes());
        file.extend(names);
        let infos = (64, info.len());
        let names = (64 + info.len(), names.len());
        for (name, (at, length)) in [(0, (0, 0)), (1, infos), (10, names)] {
            let mut row = [0; 64];
            row[..4].copy_from_slice(&u32::to_le_bytes(name));
            row[24..32].copy_from_slice(&(at as u64).to_le_bytes());
            row[32..40].copy_from_slice(&(length as u64).to_le_bytes());
            file.extend(row);
        }
        file
    }

    #[test]
    fn a_module_tells_what_it_needs() {
        let file = made(&[
            "license=GPL",
            "softdep=pre: crypto-crc32c other post: after",
            "depends=libcrc32c,virtio-ring",
            "alias=fs-erofs",
            "name=erofs",
            "vermagic=6.1.0-56-cloud-amd64 SMP preempt mod_unload modversions ",
        ]);
        let module = Module::parse(&file).unwrap();
        assert_eq!(module.name, "erofs");
        assert_eq!(module.depends, ["libcrc32c", "virtio_ring"]);
        assert_eq!(module.softly, ["crypto_crc32c", "other"]);
        assert_eq!(module.aliases, ["fs-erofs"]);
        assert_eq!(module.release, "6.1.0-56-cloud-amd64");
        assert_eq!(module.bytes, file);
        let packed = zstd::encode_all(&file[..], 3).unwrap();
        assert_eq!(Module::parse(&packed).unwrap(), module);
    }

    #[test]
    fn names_of_modules_cannot_be_ways_elsewhere() {
        for bad in ["depends=../x", "depends=a,/b", "name=", "depends=a b"] {
            let file = made(&["name=x", "vermagic=6.1 ", bad]);
            assert_eq!(Module::parse(&file).unwrap_err().kind(), ErrorKind::Damaged, "{bad}");
        }
        assert_eq!(module_file("virtio-blk.ko.xz").as_deref(), Some("virtio_blk"));
        assert_eq!(module_file("a.ko.zst").as_deref(), Some("a"));
        assert_eq!(module_file("modules.dep"), None);
        assert_eq!(module_file(".ko"), None);
    }

    #[test]
    fn tables_that_lie_are_refused() {
        let fine = made(&["name=x", "vermagic=6.1 "]);
        assert!(Module::parse(&fine).is_ok());
        let sections = fine.len() - 3 * 64;
        for (at, bytes) in [
            (40, &u64::MAX.to_le_bytes()[..]),             // e_shoff
            (58, &[0, 0]),                                 // e_shentsize
            (60, &[255, 255]),                             // e_shnum
            (62, &[3, 0]),                                 // e_shstrndx
            (62, &[0, 0]),                                 // … without names
            (sections + 64 + 24, &u64::MAX.to_le_bytes()), // sh_offset
            (sections + 64 + 32, &1_u64.to_le_bytes()),    // sh_size, too short
            (sections + 2 * 64 + 32, &u64::MAX.to_le_bytes()),
            (16, &[2, 0]), // e_type
        ] {
            let mut bad = fine.clone();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            assert!(Module::parse(&bad).is_err(), "{at}");
        }
    }
}
