//! What becomes no layer.

use proptest::prelude::*;

use super::*;

#[test]
fn what_lies_elsewhere_or_leads_there_is_refused_by_name() {
    for name in ["etc/passwd", "/rootfs/a", "rootfs/../a", "rootfs/.wh.a", "rootfsx"] {
        let error = Image::whole().file(name, b"").refusal();
        assert!(error.starts_with(&format!("entry `{name}` of the image ")), "{error}");
    }
    for target in ["manifest", "/rootfs/a", "rootfs/../../a", "a", "rootfs", ""] {
        let error = Image::whole().raw("rootfs/a", b'1', target, b"").refusal();
        assert!(error.starts_with("entry `rootfs/a` of the image is a hard link"), "{error}");
    }
    assert!(Image::whole().raw("rootfs/a", b'V', "", b"").reroot(None).is_err());
    assert!(Image::whole().raw("rootfs/a", b'5', "", b"x").reroot(None).is_err());
}

#[test]
fn there_is_one_manifest_and_a_root() {
    let file = |name: &str| Image::default().file(name, MANIFEST);
    assert_eq!(Image::default().data(b"text").refusal(), "the image is no tar archive");
    assert_eq!(Image::default().root().refusal(), "the image has no `manifest`");
    assert_eq!(file("manifest").refusal(), "the image has no `rootfs`");
    for (image, why) in [
        (Image::whole().file("./manifest", MANIFEST), "is there twice"),
        (Image::default().raw("manifest", b'5', "", b"").root(), "is no regular file"),
        (Image::default().raw("manifest", b'2', "rootfs/a", b"").root(), "is no regular file"),
        (file("manifest").file("rootfs", b""), "is no directory"),
        (Image::default().file("manifest", &vec![b' '; MAX_MANIFEST + 1]), "longer than 4 MiB"),
    ] {
        let error = image.refusal();
        assert!(error.ends_with(why), "{error}");
    }
}

#[test]
fn framing_that_readers_take_differently_is_refused() {
    let two = Image::whole().pax(&[("size", b"1024")]).file("rootfs/a", &[b'x'; 512]);
    assert!(two.refusal().ends_with("has two sizes that differ"));
    let dangling = Image::whole().pax(&[("path", b"rootfs/a")]);
    assert!(dangling.refusal().ends_with("is an extension header without an entry"));
    let global = Image::whole().raw("g", b'g', "", b"14 path=/etc\n\n").file("rootfs/a", b"");
    assert!(global.reroot(None).is_err());
    let many = Image::whole().raw("l", b'L', "", &vec![b'x'; 2 << 20]).file("rootfs/a", b"");
    assert!(many.refusal().ends_with("has more than 1 MiB of extension headers"));
    let mut cut = Cursor::new(Image::whole().file("rootfs/a", &[b'x'; 999]).0[..2600].to_vec());
    assert!(reroot(&mut cut, &mut Vec::new(), None).is_err());
}

proptest! {
    /// Whatever becomes a layer, its reader finds as many entries in it, or refuses it.
    #[test]
    fn spoilt_bytes_are_an_error_at_worst(
        spoilt in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        mend in any::<bool>(),
    ) {
        let mut image = Image::whole()
            .pax(&[("path", b"rootfs/b"), ("SCHILY.xattr.user.a", b"x")])
            .file("rootfs/a", b"content")
            .raw("rootfs/c", b'1', "rootfs/a", b"");
        for (at, with) in spoilt {
            let at = at.index(image.0.len());
            image.0[at] = with;
            if mend {
                let start = at / BLOCK * BLOCK;
                let block = &mut image.0[start..start + BLOCK];
                let mut header = Header::from_byte_slice(block).clone();
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
        }
        if let Ok((rerooted, layer)) = image.reroot(None) {
            let mut reader = Reader::new(Cursor::new(&layer[..]));
            let mut entries = 0;
            let end = loop {
                match reader.next() {
                    Ok(Some(_)) => entries += 1,
                    end => break end,
                }
            };
            prop_assert!(end.is_err() || entries == rerooted.entries);
        }
    }
}
