use http::Method;

use super::{Fragment, IfMatch, Patch, Refusal};
use crate::limits;

/// The media type of offers and answers.
pub(super) const SDP: &str = "application/sdp";
/// The media type of trickled candidates and ICE restarts.
pub(super) const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// A request's head, as far as WHIP looks at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) method: &'a Method,
    pub(super) resource: Resource,
    pub(super) content_type: Option<&'a str>,
    pub(super) content_encoding: Option<&'a str>,
    pub(super) accept: Option<&'a str>,
    pub(super) authorization: Option<&'a str>,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// `OPTIONS`.
    Options,
    /// `GET` and `HEAD`.
    Look,
    /// `POST` to an endpoint.
    Publish,
    /// `PATCH` of a session.
    Patch,
    /// `DELETE` of a session.
    End,
}

impl<'a> Head<'a> {
    /// What is asked for.
    ///
    /// # Errors
    /// 405 for a method that the resource does not have (RFC 9110 §15.5.6).
    pub(super) fn call(&self) -> Result<Call, Refusal> {
        match (self.resource, self.method) {
            (_, &Method::OPTIONS) => Ok(Call::Options),
            // RFC 9725 §4.1
            (_, &Method::GET | &Method::HEAD) => Ok(Call::Look),
            (Resource::Endpoint, &Method::POST) => Ok(Call::Publish),
            (Resource::Session, &Method::PATCH) => Ok(Call::Patch),
            (Resource::Session, &Method::DELETE) => Ok(Call::End),
            (resource, method) => Err(Refusal::new(
                405,
                "Method not allowed",
                format!("{method} is not among the methods here: {}", resource.methods()),
            )),
        }
    }

    /// The bearer token (RFC 6750 §2.1).
    ///
    /// # Errors
    /// 401 for an `Authorization` that is none.
    pub(super) fn token(&self) -> Result<Option<&'a str>, Refusal> {
        let Some(value) = self.authorization else {
            return Ok(None);
        };
        let token = value
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        match token.map(|(_, token)| token.trim()) {
            Some(token) if !token.is_empty() && token.len() <= limits::TOKEN_BYTES => Ok(Some(token)),
            _ => Err(Refusal::unauthorized(
                "send \"Authorization: Bearer\" and the token",
            )),
        }
    }

    /// Checks that the body is what the method takes, and its answer what the client takes.
    ///
    /// # Errors
    /// 415 for another type or a compressed body, 406 for a client that does not take SDP.
    pub(super) fn check_types(&self, wanted: &str) -> Result<(), Refusal> {
        let given = self
            .content_type
            .map(|value| value.split(';').next().unwrap_or_default().trim());
        if !given.is_some_and(|given| given.eq_ignore_ascii_case(wanted)) {
            let given = given.unwrap_or("nothing");
            return Err(Refusal::new(
                415,
                "Unsupported media type",
                format!("the body must be {wanted}, not {given}"),
            ));
        }
        // RFC 9110 §8.4
        if let Some(coding) = self
            .content_encoding
            .filter(|coding| !coding.trim().eq_ignore_ascii_case("identity"))
        {
            return Err(Refusal::new(
                415,
                "Unsupported content coding",
                format!("the body must come as it is, not as {coding}"),
            ));
        }
        if wanted == SDP && self.accept.is_some_and(|accept| !accepts(accept, SDP)) {
            let detail = format!("the answer is {SDP}; accept that");
            return Err(Refusal::new(406, "Not acceptable", detail));
        }
        Ok(())
    }
}

impl Resource {
    /// The methods it has, as `Allow` lists them (RFC 9110 §10.2.1).
    pub(super) fn methods(self) -> &'static str {
        match self {
            Self::Endpoint => "GET, HEAD, POST, OPTIONS",
            Self::Session => "GET, HEAD, PATCH, DELETE, OPTIONS",
        }
    }
}

/// What a `PATCH` carries.
///
/// # Errors
/// 400 and 413 for what is no fragment.
pub(super) fn patch(if_match: Option<&str>, body: &str) -> Result<Patch, Refusal> {
    Ok(Patch {
        if_match: IfMatch::new(if_match),
        fragment: Fragment::parse(body)?,
    })
}

/// Whether an `Accept` value (RFC 9110 §12.5.1) takes `media_type`: the most specific range that fits decides.
fn accepts(accept: &str, media_type: &str) -> bool {
    let main = media_type.split('/').next().unwrap_or_default();
    let fits = accept.split(',').filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        let range = parts.next().unwrap_or_default();
        let refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        let precision = if range.eq_ignore_ascii_case(media_type) {
            3
        } else if range
            .strip_suffix("/*")
            .is_some_and(|it| it.eq_ignore_ascii_case(main))
        {
            2
        } else if range == "*/*" {
            1
        } else {
            return None;
        };
        Some((precision, !refused))
    });
    fits.max().is_some_and(|(_, taken)| taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head<'a>(method: &'a Method, resource: Resource, content_type: Option<&'a str>) -> Head<'a> {
        Head {
            method,
            resource,
            content_type,
            content_encoding: None,
            accept: None,
            authorization: None,
        }
    }

    #[test]
    fn each_resource_has_its_methods_and_no_other() {
        for (method, endpoint, session) in [
            (Method::GET, Some(Call::Look), Some(Call::Look)),
            (Method::HEAD, Some(Call::Look), Some(Call::Look)),
            (Method::OPTIONS, Some(Call::Options), Some(Call::Options)),
            (Method::POST, Some(Call::Publish), None),
            (Method::PATCH, None, Some(Call::Patch)),
            (Method::DELETE, None, Some(Call::End)),
            (Method::PUT, None, None),
            (Method::TRACE, None, None),
        ] {
            for (resource, expected) in [(Resource::Endpoint, endpoint), (Resource::Session, session)] {
                let call = head(&method, resource, None)
                    .call()
                    .map_err(|refusal| refusal.status);
                assert_eq!(call, expected.ok_or(405), "{method} at {resource:?}");
                let listed = resource.methods().split(", ").any(|it| it == method.as_str());
                assert_eq!(listed, expected.is_some(), "{method} at {resource:?}");
            }
        }
    }

    #[test]
    fn a_body_of_another_type_is_415() {
        let status = |content_type, wanted| {
            head(&Method::POST, Resource::Endpoint, content_type)
                .check_types(wanted)
                .map_or_else(|refusal| refusal.status, |()| 200)
        };
        for content_type in [None, Some("text/plain"), Some("application/json"), Some(FRAGMENT)] {
            assert_eq!(status(content_type, SDP), 415, "{content_type:?}");
        }
        assert_eq!(status(Some(SDP), FRAGMENT), 415);
        assert_eq!(status(Some("Application/SDP; charset=utf-8"), SDP), 200);
    }

    #[test]
    fn a_compressed_body_is_415() {
        for (coding, expected) in [("gzip", Err(415)), ("br", Err(415)), ("identity", Ok(()))] {
            let post = Head {
                content_encoding: Some(coding),
                ..head(&Method::POST, Resource::Endpoint, Some(SDP))
            };
            let checked = post.check_types(SDP).map_err(|refusal| refusal.status);
            assert_eq!(checked, expected, "{coding}");
        }
    }

    #[test]
    fn a_publisher_that_does_not_take_sdp_gets_406() {
        for (accept, expected) in [
            ("application/sdp", Ok(())),
            ("*/*", Ok(())),
            ("application/*;q=0.5, text/html", Ok(())),
            ("application/json", Err(406)),
            ("application/sdp;q=0", Err(406)),
            ("*/*, application/sdp;q=0", Err(406)),
            ("application/sdp, */*;q=0", Ok(())),
        ] {
            let post = Head {
                accept: Some(accept),
                ..head(&Method::POST, Resource::Endpoint, Some(SDP))
            };
            let checked = post.check_types(SDP).map_err(|refusal| refusal.status);
            assert_eq!(checked, expected, "{accept}");
        }
    }

    #[test]
    fn a_token_is_a_bearer_token() {
        let post = head(&Method::POST, Resource::Endpoint, Some(SDP));
        let token = |authorization| {
            Head {
                authorization,
                ..post
            }
            .token()
            .map_err(|refusal| refusal.status)
        };
        assert_eq!(token(None), Ok(None));
        assert_eq!(token(Some("Bearer s3cret")), Ok(Some("s3cret")));
        assert_eq!(token(Some("bearer  s3cret ")), Ok(Some("s3cret")));
        for bad in ["Basic Zm9v", "Bearer", "Bearer ", "s3cret"] {
            assert_eq!(token(Some(bad)), Err(401), "{bad:?}");
        }
    }
}
