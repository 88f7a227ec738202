//! Who an app runs as: `name|uid[:group|gid]`, looked up in the image's own `passwd` and `group`.
//!
//! The files come from images and are hostile: lines that make no sense are passed over, numbers
//! are plain decimal and at most [`MAX_ID`] (CVE-2024-40635), a word of digits is always a number
//! and never a name.

use pod_abi::app::{MAX_ID, User};

/// The most supplementary groups the kernel takes (`NGROUPS_MAX`).
const MAX_GROUPS: usize = 65_536;

/// The texts of an image's `/etc/passwd` and `/etc/group`; empty where it has none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    pub(crate) passwd: String,
    pub(crate) group: String,
}

/// A user with a home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Who {
    /// In numbers.
    pub(crate) user: User,
    /// The home directory, `/` if none is known.
    pub(crate) home: String,
}

/// Why a word is no user.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    #[error("`{0}` is no user: it takes USER[:GROUP], each a name or a number")]
    Form(String),
    #[error("`/etc/passwd` of the image has no user `{0}`")]
    NoUser(String),
    #[error("`/etc/group` of the image has no group `{0}`")]
    NoGroup(String),
    #[error("id `{0}` is larger than {MAX_ID}")]
    TooLarge(String),
    #[error("user `{0}` has too many groups")]
    TooManyGroups(String),
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Resolves a user; the empty word is root.
///
/// With a group given, that is the only one; otherwise the groups are those `passwd` and `group`
/// tell (runc's rule).
///
/// # Errors
///
/// [`UserError`], naming the part at fault.
pub(crate) fn resolve_user(word: &str, accounts: &Accounts) -> Result<Who, UserError> {
    let (user, group) = match word.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (word, None),
    };
    let odd = |group: &str| user.is_empty() || group.is_empty() || group.contains(':');
    if group.is_some_and(odd) {
        return Err(UserError::Form(word.to_owned()));
    }
    let user = if user.is_empty() { "0" } else { user };
    let account =
        match number(user)? {
            Some(uid) => account(&accounts.passwd, |account| account.uid == uid)
                .unwrap_or(Account { name: "", uid, gid: 0, home: "" }),
            None => account(&accounts.passwd, |account| account.name == user)
                .ok_or_else(|| UserError::NoUser(user.to_owned()))?,
        };
    let (gid, additional_gids) = match group {
        Some(group) => (group_id(group, &accounts.group)?, Vec::new()),
        None => (account.gid, groups_of(account.name, &accounts.group, account.gid)?),
    };
    let home = if account.home.starts_with('/') && !account.home.contains('\0') {
        account.home
    } else {
        "/"
    };
    let user = User { uid: account.uid, gid, additional_gids, umask: None };
    Ok(Who { user, home: home.to_owned() })
}

/// Resolves a group, by name or number.
///
/// # Errors
///
/// [`UserError`], naming it.
pub(crate) fn resolve_group(word: &str, accounts: &Accounts) -> Result<u32, UserError> {
    if word.is_empty() {
        return Err(UserError::NoGroup(String::new()));
    }
    group_id(word, &accounts.group)
}

/// Reads a word of digits; `None` if it is none.
fn number(word: &str) -> Result<Option<u32>, UserError> {
    if word.is_empty() || !word.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match word.parse::<u32>() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(UserError::TooLarge(word.chars().take(40).collect())),
    }
}

fn id(field: Option<&str>) -> Option<u32> {
    field.and_then(|field| number(field).ok().flatten())
}

fn account<'a>(passwd: &'a str, fits: impl Fn(&Account<'_>) -> bool) -> Option<Account<'a>> {
    passwd.lines().find_map(|line| {
        // name:password:uid:gid:gecos:home:shell
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = id(fields.nth(1))?;
        let gid = id(fields.next())?;
        let home = fields.nth(1).unwrap_or("");
        Some(Account { name, uid, gid, home }).filter(&fits)
    })
}

/// Reads `name:password:gid:members`.
fn group(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let gid = id(fields.nth(1))?;
    Some((name, gid, fields.next().unwrap_or("")))
}

fn group_id(word: &str, groups: &str) -> Result<u32, UserError> {
    if let Some(gid) = number(word)? {
        return Ok(gid);
    }
    let mut groups = groups.lines().filter_map(group);
    let found = groups.find(|(name, ..)| *name == word).map(|(_, gid, _)| gid);
    found.ok_or_else(|| UserError::NoGroup(word.to_owned()))
}

fn groups_of(name: &str, groups: &str, primary: u32) -> Result<Vec<u32>, UserError> {
    if name.is_empty() {
        return Ok(Vec::new());
    }
    let bears = |members: &str| members.split(',').any(|member| member == name);
    let mut gids: Vec<u32> = groups
        .lines()
        .filter_map(group)
        .filter(|(_, gid, members)| *gid != primary && bears(members))
        .map(|(_, gid, _)| gid)
        .collect();
    gids.sort_unstable();
    gids.dedup();
    if gids.len() > MAX_GROUPS {
        return Err(UserError::TooManyGroups(name.to_owned()));
    }
    Ok(gids)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\n\
                     broken\n\
                     evil:x:4294967295:0::/:\n\
                     1000:x:5:5::/five:\n\
                     www:x:33:33:web:/var/www:/bin/false\n"
                .to_owned(),
            group: "root:x:0:\nwww:x:33:\nadm:x:4:www,other\ntty:x:5:other,www\n\
                    dup:x:4:www\nhuge:x:99999999999:www\n"
                .to_owned(),
        }
    }

    #[test]
    fn users_are_resolved_as_this_table_says() {
        let table = [
            ("", 0, 0, &[][..], "/root"),
            ("root", 0, 0, &[], "/root"),
            ("www", 33, 33, &[4, 5], "/var/www"),
            ("33", 33, 33, &[4, 5], "/var/www"),
            ("www:adm", 33, 4, &[], "/var/www"),
            ("www:7", 33, 7, &[], "/var/www"),
            ("1000", 1000, 0, &[], "/"),
            ("7:8", 7, 8, &[], "/"),
        ];
        for (word, uid, gid, additional, home) in table {
            let who = resolve_user(word, &accounts()).unwrap();
            let user = User { uid, gid, additional_gids: additional.to_vec(), umask: None };
            assert_eq!(who, Who { user, home: home.to_owned() }, "{word}");
        }
    }

    #[test]
    fn what_is_no_user_is_refused() {
        let table = [
            ("nobody", "`/etc/passwd` of the image has no user `nobody`"),
            ("-1", "`/etc/passwd` of the image has no user `-1`"),
            ("0x10", "`/etc/passwd` of the image has no user `0x10`"),
            ("evil", "`/etc/passwd` of the image has no user `evil`"),
            ("4294967295", "id `4294967295` is larger than 2147483647"),
            ("99999999999", "id `99999999999` is larger than 2147483647"),
            ("root:nope", "`/etc/group` of the image has no group `nope`"),
            ("root:huge", "`/etc/group` of the image has no group `huge`"),
            (":adm", "`:adm` is no user: it takes USER[:GROUP], each a name or a number"),
            ("root:", "`root:` is no user: it takes USER[:GROUP], each a name or a number"),
            ("a:b:c", "`a:b:c` is no user: it takes USER[:GROUP], each a name or a number"),
        ];
        for (word, expected) in table {
            let error = resolve_user(word, &accounts()).unwrap_err();
            assert_eq!(error.to_string(), expected, "{word}");
        }
    }
}
