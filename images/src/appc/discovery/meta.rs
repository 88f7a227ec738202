//! The `<meta>` tags in the head of a page that nobody vouches for.
//!
//! No reader of HTML: what is looked at is where tags begin and end, what their attributes are, and
//! which elements hold text that only looks like tags. Nothing behind the head counts, because on many
//! sites strangers write there. One pass, nothing kept but tags that could be meant.

/// The longest page that is read, in bytes.
pub(crate) const MAX_PAGE: u64 = 1 << 20;

/// The most tags that are looked at; a head with more is no page for this purpose.
const MAX_TAGS: usize = 8192;
/// The most tags about images that are kept: each may be an address to ask.
const MAX_METAS: usize = 64;

/// What holds text, or parts of no page: what looks like tags in there is none.
const NO_TAGS_WITHIN: [&[u8]; 9] = [
    b"script",
    b"style",
    b"title",
    b"textarea",
    b"template",
    b"xmp",
    b"iframe",
    b"noembed",
    b"noframes",
];

/// What a tag is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// `ac-discovery`: where images lie.
    Images,
    /// `ac-discovery-pubkeys`: where keys lie.
    Keys,
}

/// One tag: `content="PREFIX REST"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) about: About,
    pub(super) prefix: String,
    pub(super) rest: String,
}

/// Finds the tags about images in a page; what is wrong with a page is told as the rest of a
/// sentence.
pub(super) fn metas(page: &[u8]) -> Result<Vec<Meta>, &'static str> {
    let mut scanner = Scanner { rest: page };
    let mut found = Vec::new();
    let mut tags = 0;
    while let Some(tag) = scanner.next_tag() {
        tags += 1;
        if tags > MAX_TAGS {
            return Err("has too many tags");
        }
        let is = |name: &[u8]| tag.name.eq_ignore_ascii_case(name);
        if (tag.closes && is(b"head")) || (!tag.closes && is(b"body")) {
            break;
        }
        if tag.closes {
            continue;
        }
        if let Some(name) = NO_TAGS_WITHIN.into_iter().find(|name| is(name)) {
            scanner.skip_to_end_of(name);
        } else if is(b"meta")
            && let Some(meta) = tag.meta()
        {
            if found.len() == MAX_METAS {
                return Err("has too many tags about images");
            }
            found.push(meta);
        }
    }
    Ok(found)
}

struct Scanner<'p> {
    rest: &'p [u8],
}

/// A tag, of whose attributes only two are kept.
#[derive(Default)]
struct Tag<'p> {
    name: &'p [u8],
    closes: bool,
    about: Option<&'p [u8]>,
    content: Option<&'p [u8]>,
}

impl<'p> Scanner<'p> {
    /// Returns the next tag; none at the end, or within a tag that has none.
    fn next_tag(&mut self) -> Option<Tag<'p>> {
        loop {
            self.skip_past(b"<")?;
            if let Some(comment) = self.rest.strip_prefix(b"!--") {
                self.rest = comment;
                // `<!-->` is a whole comment.
                if !comment.starts_with(b">") {
                    self.skip_past(b"-->")?;
                }
                continue;
            }
            let closes = self.rest.first() == Some(&b'/');
            if closes {
                self.rest = &self.rest[1..];
            }
            match self.rest.first()? {
                letter if letter.is_ascii_alphabetic() => return self.tag(closes),
                b'!' | b'?' => self.skip_past(b">")?,
                _ if closes => self.skip_past(b">")?,
                // A lone `<` is text.
                _ => {}
            }
        }
    }

    fn tag(&mut self, closes: bool) -> Option<Tag<'p>> {
        let name = self.take_until(|byte| byte.is_ascii_whitespace() || b"/>".contains(&byte));
        let mut tag = Tag { name, closes, ..Tag::default() };
        loop {
            self.take_until(|byte| !byte.is_ascii_whitespace() && byte != b'/');
            if *self.rest.first()? == b'>' {
                self.rest = &self.rest[1..];
                return Some(tag);
            }
            let (name, value) = self.attribute()?;
            // Of an attribute that is there twice, the first counts.
            if name.eq_ignore_ascii_case(b"name") {
                tag.about.get_or_insert(value);
            } else if name.eq_ignore_ascii_case(b"content") {
                tag.content.get_or_insert(value);
            }
        }
    }

    /// Reads an attribute, which begins here; one without a value has an empty one.
    fn attribute(&mut self) -> Option<(&'p [u8], &'p [u8])> {
        let all = self.rest;
        // An `=` at the beginning is part of the name.
        self.rest = &self.rest[1..];
        self.take_until(|byte| byte.is_ascii_whitespace() || b"/>=".contains(&byte));
        let name = &all[..all.len() - self.rest.len()];
        self.take_until(|byte| !byte.is_ascii_whitespace());
        let Some(value) = self.rest.strip_prefix(b"=") else { return Some((name, b"")) };
        self.rest = value;
        self.take_until(|byte| !byte.is_ascii_whitespace());
        let value = match *self.rest.first()? {
            quote @ (b'"' | b'\'') => {
                self.rest = &self.rest[1..];
                let value = self.take_until(|byte| byte == quote);
                self.rest = self.rest.get(1..)?;
                value
            }
            _ => self.take_until(|byte| byte.is_ascii_whitespace() || byte == b'>'),
        };
        Some((name, value))
    }

    fn take_until(&mut self, ends: impl Fn(u8) -> bool) -> &'p [u8] {
        let end = self.rest.iter().position(|byte| ends(*byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn skip_past(&mut self, word: &[u8]) -> Option<()> {
        let at = self.rest.windows(word.len()).position(|window| window == word)?;
        self.rest = &self.rest[at + word.len()..];
        Some(())
    }

    /// Goes on at the closing tag of an element; without one, the page ends in it.
    fn skip_to_end_of(&mut self, name: &[u8]) {
        let closes = |window: &[u8]| {
            window.starts_with(b"</") && window[2..name.len() + 2].eq_ignore_ascii_case(name) && {
                let after = window[name.len() + 2];
                after.is_ascii_whitespace() || b"/>".contains(&after)
            }
        };
        let at = self.rest.windows(name.len() + 3).position(closes);
        self.rest = at.map_or(&[], |at| &self.rest[at..]);
    }
}

impl Tag<'_> {
    fn meta(&self) -> Option<Meta> {
        let name = self.about?.trim_ascii();
        let about = if name.eq_ignore_ascii_case(b"ac-discovery") {
            About::Images
        } else if name.eq_ignore_ascii_case(b"ac-discovery-pubkeys") {
            About::Keys
        } else {
            return None;
        };
        let content = str::from_utf8(self.content?).ok()?.replace("&amp;", "&");
        let mut words = content.split_ascii_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(prefix), Some(rest), None) => {
                Some(Meta { about, prefix: prefix.to_owned(), rest: rest.to_owned() })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lists what is found as words.
    fn found(page: &str) -> Vec<String> {
        let metas = metas(page.as_bytes()).unwrap();
        let word = |meta: Meta| match meta.about {
            About::Images => format!("{} {}", meta.prefix, meta.rest),
            About::Keys => format!("keys {} {}", meta.prefix, meta.rest),
        };
        metas.into_iter().map(word).collect()
    }

    #[test]
    fn tags_are_found_however_they_are_written() {
        for page in [
            r#"<meta name="ac-discovery" content="e.org https://e.org/{ext}">"#,
            r#"<meta content="e.org https://e.org/{ext}" name="ac-discovery">"#,
            r"<META NAME='AC-Discovery' CONTENT=' e.org	https://e.org/{ext} '/>",
            "<meta\n name = \"ac-discovery\"\n content\n=\n\"e.org\n https://e.org/{ext}\"\n/>",
            r#"<meta name=ac-discovery content="e.org https://e.org/{ext}">"#,
            r#"<meta x name="ac-discovery" name="other" content="e.org https://e.org/{ext}" content="no" y>"#,
            r#"<!doctype html><html><head><title><meta></title><meta charset=utf-8><meta name="ac-discovery" content="e.org https://e.org/{ext}"></head>"#,
            r#"1 < 2 <3 </> </ x> <?php <x> <!-- --><meta name="ac-discovery" content="e.org https://e.org/{ext}">"#,
            r#"<!--><meta name="ac-discovery" content="e.org https://e.org/{ext}">"#,
            r#"<a title="<!-- >"><meta name="ac-discovery" content="e.org https://e.org/{ext}">"#,
            r#"<script>"</scripty>"</SCRIPT ><meta name="ac-discovery" content="e.org https://e.org/{ext}">"#,
        ] {
            assert_eq!(found(page), ["e.org https://e.org/{ext}"], "{page}");
        }
        let page = r#"<meta name="ac-discovery-pubkeys" content="e.org https://e.org/?a=1&amp;b=&amp;amp;">"#;
        assert_eq!(found(page), ["keys e.org https://e.org/?a=1&b=&amp;"]);
    }

    #[test]
    fn what_only_looks_like_a_tag_is_none() {
        let tag = r#"<meta name="ac-discovery" content="e.org https://e.org/{ext}">"#;
        for page in [
            format!("<!-- {tag} -->"),
            format!("<!-- {tag}"),
            format!("<script>{tag}</script>"),
            format!("<script>{tag}"),
            format!("<Style>{tag}</scripts></style>"),
            format!("<title>{tag}</title>"),
            format!("<template>{tag}</template>"),
            format!("<a title='{tag}'>"),
            format!("<a title='{tag}"),
            format!("</head>{tag}"),
            format!("<BODY class=x>{tag}"),
            tag.replace("<meta", "<metadata"),
            tag.replace("<meta", "</meta"),
            tag.replace("<meta", "< meta"),
            tag.replace("ac-discovery", "ac-discoveries"),
            tag.replace("name=", "property="),
            tag.replace("e.org https", "e.orghttps"),
            tag.replace("{ext}", "{ext} more"),
            tag.replace("\">", "\""),
            r#"<meta name="ac-discovery">"#.to_owned(),
            r#"<meta name="ac-discovery" content="">"#.to_owned(),
        ] {
            assert_eq!(found(&page), Vec::<String>::new(), "{page}");
        }
        let mut bytes = tag.as_bytes().to_vec();
        let at = bytes.iter().position(|byte| *byte == b'{').unwrap();
        bytes[at] = 0xff;
        assert_eq!(metas(&bytes), Ok(Vec::new()));
    }

    #[test]
    fn heads_are_not_read_for_ever() {
        let tag = r#"<meta name="ac-discovery" content="e.org https://e.org/{ext}">"#;
        assert_eq!(found(&tag.repeat(64)).len(), 64);
        assert!(metas(tag.repeat(65).as_bytes()).is_err());
        assert!(metas("<a>".repeat(8193).as_bytes()).is_err());
        for hostile in [
            "<",
            "<!--",
            "<a ",
            "<a x=",
            "<a x='",
            "<script>",
            "</",
            "<script></script",
            "=",
            "<a/",
        ] {
            let _ = metas(hostile.repeat(100_000).as_bytes());
        }
    }

    proptest! {
        #[test]
        fn any_page_is_read_or_refused(
            page in "(<meta |<|>|</|!--|-->|name=|content=|\"|'|ac-discovery|a.b https://x|script|head|/|=| |\\PC){0,60}",
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            for page in [page.as_bytes(), &bytes] {
                if let Ok(found) = metas(page) {
                    prop_assert!(found.len() <= MAX_METAS);
                }
            }
        }
    }
}
