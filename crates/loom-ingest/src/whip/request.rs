use http::Method;

use super::{Fragment, Refusal};
use crate::limits;

/// The media type of offers and answers.
pub(super) const SDP: &str = "application/sdp";
/// The media type of trickled candidates.
pub(super) const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// A request's head, as far as WHIP looks at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) method: &'a Method,
    pub(super) resource: Resource,
    pub(super) content_type: Option<&'a str>,
    pub(super) accept: Option<&'a str>,
    pub(super) authorization: Option<&'a str>,
    pub(super) if_match: Option<&'a str>,
}

/// What a request is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource {
    /// The WHIP endpoint.
    Endpoint,
    /// A WHIP session.
    Session,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Call<'a> {
    Options,
    Publish {
        token: Option<&'a str>,
    },
    Trickle {
        token: Option<&'a str>,
        if_match: IfMatch,
    },
    End {
        token: Option<&'a str>,
    },
}

/// The `If-Match` of a `PATCH` (RFC 9110 §13.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfMatch(Option<String>);

impl IfMatch {
    /// From the header's value, where there is one.
    pub fn new(value: Option<&str>) -> Self {
        Self(value.map(str::to_owned))
    }

    /// Checks it against the session's entity tag, given without quotes.
    ///
    /// # Errors
    /// 428 where the header is missing, 412 where it names another tag (RFC 9725 §4.3.1).
    pub fn check(&self, etag: &str) -> Result<(), Refusal> {
        let Some(value) = &self.0 else {
            let detail = "send the ETag of the 201 response as If-Match";
            return Err(Refusal::new(428, "If-Match is missing", detail));
        };
        let quoted = format!("\"{etag}\"");
        if value.split(',').any(|tag| tag.trim() == quoted) {
            return Ok(());
        }
        Err(Refusal::new(
            412,
            "If-Match does not match",
            "the session's ICE has another ETag than the one sent",
        ))
    }

    /// Whether it is the `*` of an ICE restart (RFC 9725 §4.3.3).
    pub(super) fn is_restart(&self) -> bool {
        self.0.as_deref().map(str::trim) == Some("*")
    }
}

impl<'a> Head<'a> {
    /// What is asked for.
    ///
    /// # Errors
    /// 405, 406, 415 or 401 as RFC 9725 and RFC 9110 have it.
    pub(super) fn call(&self) -> Result<Call<'a>, Refusal> {
        if self.method == Method::OPTIONS {
            return Ok(Call::Options);
        }
        match (self.resource, self.method) {
            (Resource::Endpoint, &Method::POST) => {
                let token = self.token()?;
                self.check_content_type(SDP)?;
                if self.accept.is_some_and(|accept| !accepts(accept, SDP)) {
                    return Err(Refusal::new(
                        406,
                        "Not acceptable",
                        format!("the answer is {SDP}; accept that"),
                    ));
                }
                Ok(Call::Publish { token })
            }
            (Resource::Session, &Method::PATCH) => {
                let token = self.token()?;
                self.check_content_type(FRAGMENT)?;
                Ok(Call::Trickle {
                    token,
                    if_match: IfMatch::new(self.if_match),
                })
            }
            (Resource::Session, &Method::DELETE) => Ok(Call::End { token: self.token()? }),
            (resource, method) => Err(Refusal::new(
                405,
                "Method not allowed",
                format!("{method} is not among the methods here: {}", resource.methods()),
            )),
        }
    }

    /// The bearer token (RFC 6750 §2.1).
    fn token(&self) -> Result<Option<&'a str>, Refusal> {
        let Some(value) = self.authorization else {
            return Ok(None);
        };
        let token = value
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        match token.map(|(_, token)| token.trim()) {
            Some(token) if !token.is_empty() && token.len() <= limits::TOKEN_BYTES => Ok(Some(token)),
            _ => Err(Refusal::new(
                401,
                "Unauthorized",
                "send \"Authorization: Bearer\" and the token",
            )),
        }
    }

    fn check_content_type(&self, wanted: &str) -> Result<(), Refusal> {
        let given = self
            .content_type
            .map(|value| value.split(';').next().unwrap_or_default().trim());
        if given.is_some_and(|given| given.eq_ignore_ascii_case(wanted)) {
            return Ok(());
        }
        let given = given.unwrap_or("nothing");
        Err(Refusal::new(
            415,
            "Unsupported media type",
            format!("the body must be {wanted}, not {given}"),
        ))
    }
}

impl Resource {
    /// The methods it has, as `Allow` lists them (RFC 9110 §10.2.1).
    pub(super) fn methods(self) -> &'static str {
        match self {
            Self::Endpoint => "POST, OPTIONS",
            Self::Session => "PATCH, DELETE, OPTIONS",
        }
    }
}

/// What a `PATCH` body asks for.
///
/// # Errors
/// 400 and 413 for what is no fragment, 422 for an ICE restart.
pub(super) fn trickle(if_match: &IfMatch, body: &str) -> Result<Fragment, Refusal> {
    let fragment = Fragment::parse(body)?;
    if if_match.is_restart() {
        let detail = "ICE restarts are not supported; end the session and publish again";
        return Err(Refusal::new(422, "No ICE restart", detail));
    }
    Ok(fragment)
}

/// Whether an `Accept` value (RFC 9110 §12.5.1) takes `media_type`.
fn accepts(accept: &str, media_type: &str) -> bool {
    let main = media_type.split('/').next().unwrap_or_default();
    accept.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let range = parts.next().unwrap_or_default();
        let refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        let fits = range == "*/*"
            || range.eq_ignore_ascii_case(media_type)
            || range
                .strip_suffix("/*")
                .is_some_and(|it| it.eq_ignore_ascii_case(main));
        fits && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head<'a>(method: &'a Method, resource: Resource, content_type: Option<&'a str>) -> Head<'a> {
        Head {
            method,
            resource,
            content_type,
            accept: None,
            authorization: None,
            if_match: None,
        }
    }

    fn status(head: Head<'_>) -> u16 {
        head.call().map_or_else(|refusal| refusal.status, |_| 200)
    }

    #[test]
    fn each_resource_has_its_methods_and_no_other() {
        for method in [
            Method::GET,
            Method::HEAD,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ] {
            assert_eq!(
                status(head(&method, Resource::Endpoint, Some(SDP))),
                405,
                "{method} at the endpoint"
            );
        }
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::POST] {
            assert_eq!(
                status(head(&method, Resource::Session, Some(SDP))),
                405,
                "{method} at a session"
            );
        }
        assert_eq!(status(head(&Method::POST, Resource::Endpoint, Some(SDP))), 200);
        assert_eq!(
            status(head(&Method::PATCH, Resource::Session, Some(FRAGMENT))),
            200
        );
        assert_eq!(status(head(&Method::DELETE, Resource::Session, None)), 200);
        assert_eq!(status(head(&Method::OPTIONS, Resource::Session, None)), 200);
    }

    #[test]
    fn a_body_of_another_type_is_415() {
        for content_type in [None, Some("text/plain"), Some("application/json"), Some(FRAGMENT)] {
            assert_eq!(
                status(head(&Method::POST, Resource::Endpoint, content_type)),
                415,
                "{content_type:?}"
            );
        }
        assert_eq!(status(head(&Method::PATCH, Resource::Session, Some(SDP))), 415);
        assert_eq!(
            status(head(
                &Method::POST,
                Resource::Endpoint,
                Some("Application/SDP; charset=utf-8")
            )),
            200
        );
    }

    #[test]
    fn a_publisher_that_does_not_take_sdp_gets_406() {
        for (accept, expected) in [
            ("application/sdp", 200),
            ("*/*", 200),
            ("application/*;q=0.5, text/html", 200),
            ("application/json", 406),
            ("application/sdp;q=0", 406),
        ] {
            let post = Head {
                accept: Some(accept),
                ..head(&Method::POST, Resource::Endpoint, Some(SDP))
            };
            assert_eq!(status(post), expected, "{accept}");
        }
    }

    #[test]
    fn a_token_is_a_bearer_token() {
        let post = head(&Method::POST, Resource::Endpoint, Some(SDP));
        let with = |authorization| {
            Head {
                authorization: Some(authorization),
                ..post
            }
            .call()
        };
        assert_eq!(
            with("Bearer s3cret"),
            Ok(Call::Publish {
                token: Some("s3cret")
            })
        );
        assert_eq!(
            with("bearer  s3cret "),
            Ok(Call::Publish {
                token: Some("s3cret")
            })
        );
        for bad in ["Basic Zm9v", "Bearer", "Bearer ", "s3cret"] {
            assert_eq!(with(bad).unwrap_err().status, 401, "{bad:?}");
        }
    }

    #[test]
    fn if_match_is_needed_and_compared_strongly() {
        let check = |value| {
            IfMatch::new(value)
                .check("xyzzy")
                .map_err(|refusal| refusal.status)
        };
        assert_eq!(check(None), Err(428));
        assert_eq!(check(Some("\"xyzzy\"")), Ok(()));
        assert_eq!(check(Some("\"other\", \"xyzzy\"")), Ok(()));
        for bad in ["xyzzy", "W/\"xyzzy\"", "\"other\"", "*"] {
            assert_eq!(check(Some(bad)), Err(412), "{bad}");
        }
    }

    #[test]
    fn an_ice_restart_is_422() {
        let body = "a=ice-ufrag:new\r\na=ice-pwd:newpasswordnewpasswordnew\r\n";
        assert_eq!(trickle(&IfMatch::new(Some("*")), body).unwrap_err().status, 422);
        assert!(trickle(&IfMatch::new(Some("\"xyzzy\"")), body).is_ok());
    }
}
