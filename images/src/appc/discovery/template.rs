//! Templates of addresses, such as `https://example.com/{os}/{arch}/{name}-{version}.{ext}`.
//!
//! `{name}` is put in whole, as every maker of images expects; labels are encoded, so that none of
//! them can be more than a part of a path. Who wrote the template is nobody we know: what comes out
//! is an address that may be asked, or nothing.

use super::wanted::AppcName;
use crate::platform::Platform;
use crate::registry::RegistryHost;

/// The longest address; servers refuse longer ones.
const MAX_URL: usize = 2048;

/// Where addresses may be of plain HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PlainHttp {
    /// Nowhere.
    Nowhere,
    /// On this machine's own loopback, as somebody asked for.
    OnLoopback,
}

/// What is wanted of what an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ext {
    Image,
    Signature,
}

impl Ext {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "aci",
            Self::Signature => "aci.asc",
        }
    }
}

/// Makes an address of a template; none if a field is unknown, `{ext}` is not there, or it would be
/// no address that may be asked.
pub(super) fn render(
    template: &str,
    (asked, platform): (&AppcName, &Platform),
    ext: Ext,
    plain: PlainHttp,
) -> Option<String> {
    let mut url = String::new();
    let mut rest = template;
    let mut has_ext = false;
    while let Some((literal, field)) = rest.split_once('{') {
        let (field, after) = field.split_once('}')?;
        url.push_str(literal);
        match field {
            "name" => url.push_str(asked.name()),
            "ext" => {
                has_ext = true;
                url.push_str(ext.as_str());
            }
            label => encode(&asked.field(label, platform)?, &mut url),
        }
        if url.len() > MAX_URL {
            return None;
        }
        rest = after;
    }
    url.push_str(rest);
    (has_ext && may_be_asked(&url, plain)).then_some(url)
}

/// Tells whether an address has the form of those that are asked.
pub(super) fn may_be_asked(url: &str, plain: PlainHttp) -> bool {
    let known = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>\\^`{|}".contains(&byte);
    if url.len() > MAX_URL || !url.bytes().all(known) {
        return false;
    }
    let (is_plain, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return false,
    };
    let Some((authority, _)) = rest.split_once('/') else { return false };
    // A user or a password in it would make it no host.
    RegistryHost::parse(authority)
        .is_ok_and(|host| !is_plain || (plain == PlainHttp::OnLoopback && host.is_loopback()))
}

/// Encodes what is no letter, digit or `-._~`.
fn encode(value: &str, to: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            to.push(char::from(byte));
        } else {
            to.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rendered(template: &str, word: &str, plain: PlainHttp) -> Option<String> {
        let (asked, platform) = (AppcName::parse(word).unwrap(), "linux/amd64".parse().unwrap());
        render(template, (&asked, &platform), Ext::Image, plain)
    }

    #[test]
    fn fields_are_filled_in() {
        let word = "example.com/worker:1.0.0+a/b,channel=beta";
        for (template, url) in [
            (
                "https://s.example.com/{os}/{arch}/{name}-{version}.{ext}",
                "https://s.example.com/linux/amd64/example.com/worker-1.0.0%2Ba%2Fb.aci",
            ),
            ("https://{name}.{ext}", "https://example.com/worker.aci"),
            ("https://h:8443/{channel}?e={ext}", "https://h:8443/beta?e=aci"),
        ] {
            assert_eq!(rendered(template, word, PlainHttp::Nowhere).as_deref(), Some(url));
        }
        let (asked, platform) = (AppcName::parse("e.org/a").unwrap(), Platform::host());
        let asked = (&asked, &platform);
        let url =
            render("https://e.org/{version}.{ext}", asked, Ext::Signature, PlainHttp::Nowhere);
        assert_eq!(url.as_deref(), Some("https://e.org/latest.aci.asc"));
    }

    #[test]
    fn what_does_not_become_an_address_is_passed_over() {
        for bad in [
            "",
            "{ext}",
            "https://h/a.aci",
            "https://h/{channel}.{ext}",
            "https://h/{}.{ext}",
            "https://h/{ext",
            "https://h/ext}{ext}",
            "https://h/{{ext}}",
            "https://{ext}",
            "ftp://h/{ext}",
            "file:///{ext}",
            "http://h/{ext}",
            "http://127.0.0.1/{ext}",
            "//h/{ext}",
            "https:///{ext}",
            "https://u@h/{ext}",
            "https://u:p@h/{ext}",
            "https://h:0/{ext}",
            "https://h\\x/{ext}",
            "https://h/{ext}#a",
            "https://h/a b{ext}",
            "https://h/\r\n{ext}",
            "https://h/é{ext}",
            "HTTPS://h/{ext}",
        ] {
            assert_eq!(rendered(bad, "example.com/a", PlainHttp::Nowhere), None, "{bad}");
        }
        let long = format!("https://h/{}{{ext}}", "a".repeat(2048));
        assert_eq!(rendered(&long, "example.com/a", PlainHttp::Nowhere), None);
        let long = format!("https://h/{}{{ext}}", "{name}".repeat(4096));
        assert_eq!(rendered(&long, "example.com/a", PlainHttp::Nowhere), None);
    }

    #[test]
    fn plain_http_is_for_the_loopback_of_who_asks() {
        for (template, good) in [
            ("http://127.0.0.1:80/{ext}", true),
            ("http://[::1]/{ext}", true),
            ("http://localhost/{ext}", true),
            ("http://localhost.example.com/{ext}", false),
            ("http://example.com/{ext}", false),
            ("http://localhost@example.com/{ext}", false),
            ("https://example.com/{ext}", true),
        ] {
            let url = rendered(template, "localhost/a", PlainHttp::OnLoopback);
            assert_eq!(url.is_some(), good, "{template}");
        }
    }

    proptest! {
        #[test]
        fn any_template_gives_an_address_or_nothing(
            template in "(https?://)?([a-z.:/@?#%]|\\{(name|ext|os|version|x)?\\}|[{}]|\\PC){0,30}",
        ) {
            if let Some(url) = rendered(&template, "localhost/a", PlainHttp::Nowhere) {
                prop_assert!(url.len() <= MAX_URL && url.starts_with("https://"));
                let left = url.contains(['{', '}', '#']);
                prop_assert!(!left && url.is_ascii());
                prop_assert!(!url[8..].split('/').next().unwrap().contains('@'));
            }
        }
    }
}
