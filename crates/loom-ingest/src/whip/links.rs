//! `Link` header fields (RFC 8288) for ICE servers and protocol extensions.

use http::HeaderValue;

use super::Extension;
use crate::config::IceServer;

/// One `Link` for each URL of each server (RFC 9725 §4.6). What cannot stand in a header is left out.
pub(super) fn ice_servers(servers: &[IceServer]) -> Vec<HeaderValue> {
    let links = servers.iter().flat_map(|server| {
        server.urls.iter().filter_map(|url| {
            let mut link = format!("<{}>; rel=\"ice-server\"", target(url)?);
            if let (Some(username), Some(credential)) = (&server.username, &server.credential) {
                link.push_str(&format!(
                    "; username={}; credential={}; credential-type=\"password\"",
                    quoted(username),
                    quoted(credential)
                ));
            }
            let mut value = HeaderValue::from_str(&link).ok()?;
            value.set_sensitive(server.credential.is_some());
            Some(value)
        })
    });
    links.collect()
}

/// One `Link` for each extension (RFC 9725 §4.9).
pub(super) fn extensions(extensions: &[Extension]) -> Vec<HeaderValue> {
    let links = extensions.iter().filter_map(|extension| {
        let link = format!("<{}>; rel={}", target(&extension.url)?, quoted(&extension.name));
        HeaderValue::from_str(&link).ok()
    });
    links.collect()
}

/// A URL as it may stand between < and > (RFC 8288 §3).
fn target(url: &str) -> Option<&str> {
    let fits = url
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'"'));
    (fits && !url.is_empty()).then_some(url)
}

/// A quoted-string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(links: &[HeaderValue]) -> Vec<&str> {
        links.iter().map(|link| link.to_str().unwrap()).collect()
    }

    #[test]
    fn each_url_has_a_link_and_credentials_are_quoted() {
        let stun = IceServer::new("stun:stun.example.net");
        let turn = IceServer {
            urls: vec![
                "turn:turn.example.net?transport=udp".to_owned(),
                "turns:turn.example.net?transport=tcp".to_owned(),
            ],
            username: Some("us\"er".to_owned()),
            credential: Some("my\\Password".to_owned()),
        };
        let links = ice_servers(&[stun, turn]);
        assert_eq!(
            told(&links),
            [
                "<stun:stun.example.net>; rel=\"ice-server\"",
                "<turn:turn.example.net?transport=udp>; rel=\"ice-server\"; username=\"us\\\"er\"; \
                 credential=\"my\\\\Password\"; credential-type=\"password\"",
                "<turns:turn.example.net?transport=tcp>; rel=\"ice-server\"; username=\"us\\\"er\"; \
                 credential=\"my\\\\Password\"; credential-type=\"password\"",
            ]
        );
        assert!(!format!("{links:?}").contains("Password"), "a log could tell it");
    }

    #[test]
    fn what_would_break_the_header_is_left_out() {
        for url in [
            "",
            "stun:a>; rel=x",
            "stun:a\r\nset-cookie: x",
            "stun:\u{fc}ber.example",
        ] {
            assert!(ice_servers(&[IceServer::new(url)]).is_empty(), "{url:?}");
        }
    }

    #[test]
    fn an_extension_is_named_by_its_relation() {
        let extension = Extension {
            name: "urn:ietf:params:whip:ext:example:server-sent-events".to_owned(),
            url: "https://whip.example.com/session/id/sse".to_owned(),
        };
        assert_eq!(
            told(&extensions(&[extension])),
            ["<https://whip.example.com/session/id/sse>; \
                 rel=\"urn:ietf:params:whip:ext:example:server-sent-events\""]
        );
    }
}
