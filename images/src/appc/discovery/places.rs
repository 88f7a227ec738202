//! The pages to ask for a name, the nearest first: its own, its parents', its host's.

use super::template::PlainHttp;
use super::wanted::AppcName;

/// Lists the addresses of the pages, in the order they are asked.
pub(crate) fn places(asked: &AppcName, plain: PlainHttp) -> Vec<String> {
    let host = asked.host();
    let scheme = match plain {
        PlainHttp::OnLoopback if host.is_loopback() => "http",
        _ => "https",
    };
    let mut path = asked.name().find('/').map_or("", |slash| &asked.name()[slash..]);
    let mut pages = vec![page(scheme, &host.to_string(), path)];
    while let Some(slash) = path.rfind('/') {
        path = &path[..slash];
        pages.push(page(scheme, &host.to_string(), path));
    }
    pages
}

fn page(scheme: &str, host: &str, path: &str) -> String {
    // An address has a path, if only the root.
    let path = if path.is_empty() { "/" } else { path };
    format!("{scheme}://{host}{path}?ac-discovery=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_asked_from_the_name_up_to_the_host() {
        let of = |word: &str, plain| places(&AppcName::parse(word).unwrap(), plain);
        assert_eq!(
            of("example.com/a/b:1,os=linux", PlainHttp::Nowhere),
            [
                "https://example.com/a/b?ac-discovery=1",
                "https://example.com/a?ac-discovery=1",
                "https://example.com/?ac-discovery=1",
            ]
        );
        assert_eq!(
            of("example.com:1", PlainHttp::OnLoopback),
            ["https://example.com/?ac-discovery=1"]
        );
        assert_eq!(
            of("localhost:8080/a", PlainHttp::Nowhere)[0],
            "https://localhost:8080/a?ac-discovery=1"
        );
        assert_eq!(
            of("localhost:8080/a", PlainHttp::OnLoopback)[1],
            "http://localhost:8080/?ac-discovery=1"
        );
    }
}
