//! What a page says of a name: where its image may lie, and where keys do.

use super::meta::{self, About, MAX_PAGE, Meta};
use super::template::{self, Ext, PlainHttp};
use super::wanted::AppcName;
use crate::platform::Platform;

/// The tags of a page that are about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said(Vec<Meta>);

/// Where an image may lie, and its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) image: String,
    pub(crate) signature: String,
}

impl Said {
    /// Reads a page; what is wrong with it is told as the rest of a sentence.
    pub(crate) fn read(page: &[u8], asked: &AppcName) -> Result<Self, &'static str> {
        if u64::try_from(page.len()).is_ok_and(|length| length > MAX_PAGE) {
            return Err("is longer than 1 MiB");
        }
        let mut metas = meta::metas(page)?;
        metas.retain(|meta| is_beneath(asked.name(), &meta.prefix));
        Ok(Self(metas))
    }

    /// Tells whether the page says where the image is, usable or not.
    pub(crate) fn is_about_images(&self) -> bool {
        self.0.iter().any(|meta| meta.about == About::Images)
    }

    /// Lists where the image may lie, in the order of the page, each once.
    pub(crate) fn endpoints(
        &self,
        asked: (&AppcName, &Platform),
        plain: PlainHttp,
    ) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        for meta in self.0.iter().filter(|meta| meta.about == About::Images) {
            let url = |ext| template::render(&meta.rest, asked, ext, plain);
            let both = url(Ext::Image).zip(url(Ext::Signature));
            let endpoint = both.map(|(image, signature)| Endpoint { image, signature });
            endpoints.extend(endpoint.filter(|endpoint| !endpoints.contains(endpoint)));
        }
        endpoints
    }

    /// Lists where the page says that keys lie.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        let keys = self.0.iter().filter(|meta| meta.about == About::Keys);
        // Nobody asks it here; who does, should not be led to plain HTTP.
        keys.map(|meta| meta.rest.as_str())
            .filter(|url| template::may_be_asked(url, PlainHttp::OnLoopback))
    }
}

/// Tells whether a name is `prefix` or lies beneath it, component by component.
fn is_beneath(name: &str, prefix: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        && !prefix.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_counts_by_components() {
        for (prefix, good) in [
            ("example.com", true),
            ("example.com/", true),
            ("example.com/app", true),
            ("example.com/app/web", true),
            ("example.com/ap", false),
            ("example.com/app/web/x", false),
            ("example.co", false),
            ("com", false),
            ("", false),
            ("/", false),
            ("Example.com", false),
        ] {
            assert_eq!(is_beneath("example.com/app/web", prefix), good, "{prefix}");
        }
    }

    #[test]
    fn endpoints_are_those_of_the_page_in_its_order() {
        let page = r#"<head>
            <meta name="ac-discovery" content="example.com http://mirror.org/{name}.{ext}">
            <meta name="ac-discovery" content="example.com https://a.org/{name}.{ext}">
            <meta name="ac-discovery" content="example.org https://b.org/{name}.{ext}">
            <meta name="ac-discovery" content="example.com/app https://c.org/{version}.{ext}">
            <meta name="ac-discovery" content="example.com https://a.org/{name}.{ext}">
            <meta name="ac-discovery-pubkeys" content="example.com https://example.com/keys.gpg">
            <meta name="ac-discovery-pubkeys" content="example.com ftp://example.com/keys.gpg">
            </head>"#;
        let (asked, platform) = (AppcName::parse("example.com/app:1").unwrap(), Platform::host());
        let said = Said::read(page.as_bytes(), &asked).unwrap();
        let endpoints = said.endpoints((&asked, &platform), PlainHttp::OnLoopback);
        let images: Vec<_> = endpoints.iter().map(|endpoint| endpoint.image.as_str()).collect();
        assert_eq!(images, ["https://a.org/example.com/app.aci", "https://c.org/1.aci"]);
        assert_eq!(endpoints[1].signature, "https://c.org/1.aci.asc");
        assert_eq!(said.keys().collect::<Vec<_>>(), ["https://example.com/keys.gpg"]);
        assert!(said.is_about_images());
        let other = AppcName::parse("example.net/app").unwrap();
        assert!(Said::read(&vec![b' '; (1 << 20) + 1], &asked).is_err());
        assert!(!Said::read(page.as_bytes(), &other).unwrap().is_about_images());
    }
}
