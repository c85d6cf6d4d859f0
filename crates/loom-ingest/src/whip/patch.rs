//! What a `PATCH` of a session asks for (RFC 9725 §4.3): the entity tag it names and the credentials it carries decide.

use super::{Fragment, Refusal};

/// A `PATCH` of a session (RFC 9725 §4.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// Which ICE session it is meant for.
    pub if_match: IfMatch,
    /// Its body.
    pub fragment: Fragment,
}

/// What a [`Patch`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatchKind<'a> {
    /// To note candidates (RFC 9725 §4.3.2): answered with 204.
    Trickle,
    /// To restart ICE with these credentials of the publisher's (RFC 9725 §4.3.3): answered with 200.
    Restart(RemoteIce<'a>),
}

/// A publisher's ICE credentials (RFC 8839 §5.4).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RemoteIce<'a> {
    /// `ice-ufrag`.
    pub fragment: &'a str,
    /// `ice-pwd`.
    pub password: &'a str,
}

/// Our side of ICE after a restart.
#[derive(Clone, PartialEq, Eq)]
pub struct IceRestart {
    /// Our new `ice-ufrag`.
    pub fragment: String,
    /// Our new `ice-pwd`.
    pub password: String,
    /// The values of `a=candidate`.
    pub candidates: Vec<String>,
    /// The entity tag of the new ICE session, without quotes.
    pub etag: String,
}

/// The `If-Match` of a `PATCH` (RFC 9110 §13.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfMatch(Option<String>);

impl Patch {
    /// What it asks of a session whose entity tag is `etag` (without quotes) and whose publisher is known by `current`.
    ///
    /// Credentials that are not the current ones mean a restart whatever the header says (RFC 9725 §4.3.3), as long as
    /// the header does not name another ICE session.
    ///
    /// # Errors
    /// 428 where `If-Match` is missing, 412 where it names another tag (RFC 9725 §4.3.1), 400 for half a restart.
    pub fn kind(&self, etag: &str, current: RemoteIce<'_>) -> Result<PatchKind<'_>, Refusal> {
        self.if_match.check(etag)?;
        let given = (&self.fragment.username_fragment, &self.fragment.password);
        match given {
            (None, None) if self.if_match.is_any() => Err(half(
                "an ICE restart carries the new ice-ufrag and ice-pwd (RFC 9725 §4.3.3)",
            )),
            (None, None) => Ok(PatchKind::Trickle),
            (fragment, password) => {
                let same = (
                    fragment.as_deref().is_none_or(|it| it == current.fragment),
                    password.as_deref().is_none_or(|it| it == current.password),
                );
                match (same, fragment, password) {
                    ((true, true), ..) => Ok(PatchKind::Trickle),
                    ((false, false), Some(fragment), Some(password)) => {
                        Ok(PatchKind::Restart(RemoteIce { fragment, password }))
                    }
                    _ => Err(half(
                        "an ICE restart changes both ice-ufrag and ice-pwd (RFC 8839 §4.4.1.1.1)",
                    )),
                }
            }
        }
    }
}

impl<'a> RemoteIce<'a> {
    /// The credentials of an offer's first section, on which its bundle connects (RFC 9143 §7.1.3).
    pub fn in_offer(offer: &'a str) -> Option<Self> {
        let first = |name: &str| {
            offer
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map(str::trim)
        };
        Some(Self {
            fragment: first("a=ice-ufrag:")?,
            password: first("a=ice-pwd:")?,
        })
    }
}

impl IfMatch {
    /// From the header's value, where there is one; several headers are joined with commas (RFC 9110 §5.3).
    pub fn new(value: Option<&str>) -> Self {
        Self(value.map(str::to_owned))
    }

    /// Whether it is the `*` of an ICE restart, which RFC 9725 §4.3.3 shows in quotes.
    pub fn is_any(&self) -> bool {
        matches!(self.0.as_deref().map(str::trim), Some("*" | "\"*\""))
    }

    /// Checks it against the session's entity tag, given without quotes. The comparison is strong (RFC 9110 §8.8.3.2).
    ///
    /// # Errors
    /// 428 where the header is missing, 412 where it names other tags only (RFC 9725 §4.3.1).
    pub fn check(&self, etag: &str) -> Result<(), Refusal> {
        let Some(value) = &self.0 else {
            let detail = "send the ETag of the session's last answer as If-Match";
            return Err(Refusal::new(428, "If-Match is missing", detail));
        };
        let quoted = format!("\"{etag}\"");
        if self.is_any() || value.split(',').any(|tag| tag.trim() == quoted) {
            return Ok(());
        }
        Err(Refusal::new(
            412,
            "If-Match does not match",
            "the session's ICE has another ETag than the one sent",
        ))
    }
}

impl std::fmt::Debug for RemoteIce<'_> {
    /// Tells no password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteIce")
            .field("fragment", &self.fragment)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for IceRestart {
    /// Tells no password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceRestart")
            .field("fragment", &self.fragment)
            .field("candidates", &self.candidates)
            .field("etag", &self.etag)
            .finish_non_exhaustive()
    }
}

fn half(detail: &str) -> Refusal {
    Refusal::new(400, "Half an ICE restart", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CURRENT: RemoteIce<'_> = RemoteIce {
        fragment: "EsAw",
        password: "P2uYro0UCOQ4zxjKXaWCBui1",
    };

    fn kind(if_match: Option<&str>, body: &str) -> Result<String, u16> {
        let patch = Patch {
            if_match: IfMatch::new(if_match),
            fragment: Fragment::parse(body).unwrap(),
        };
        patch
            .kind("xyzzy", CURRENT)
            .map(|kind| match kind {
                PatchKind::Trickle => "trickle".to_owned(),
                PatchKind::Restart(ice) => format!("restart {} {}", ice.fragment, ice.password),
            })
            .map_err(|refusal| refusal.status)
    }

    const SAME: &str = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n";
    const NEW: &str = "a=ice-ufrag:ysXw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n";
    const BARE: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na=end-of-candidates\r\n";

    #[test]
    fn if_match_is_needed_and_compared_strongly() {
        assert_eq!(kind(None, SAME), Err(428));
        for good in ["\"xyzzy\"", "\"other\", \"xyzzy\"", " \"xyzzy\" "] {
            assert_eq!(kind(Some(good), SAME), Ok("trickle".to_owned()), "{good}");
        }
        for bad in ["xyzzy", "W/\"xyzzy\"", "\"other\"", "", "*, \"other\""] {
            assert_eq!(kind(Some(bad), SAME), Err(412), "{bad}");
        }
    }

    #[test]
    fn new_credentials_are_a_restart_whatever_if_match_says_and_the_current_ones_never_are() {
        let restart = Ok("restart ysXw vw5LmwG4y/e6dPP/zAP9Gp5k".to_owned());
        for any in ["*", "\"*\"", "\"xyzzy\""] {
            assert_eq!(kind(Some(any), NEW), restart, "{any}");
            assert_eq!(kind(Some(any), SAME), Ok("trickle".to_owned()), "{any}");
        }
        assert_eq!(kind(Some("\"other\""), NEW), Err(412));
        assert_eq!(kind(None, NEW), Err(428));
    }

    #[test]
    fn half_a_restart_is_a_bad_request() {
        let only_fragment = "a=ice-ufrag:ysXw\r\n";
        let only_password = "a=ice-ufrag:EsAw\r\na=ice-pwd:vw5LmwG4y/e6dPP/zAP9Gp5k\r\n";
        for body in [only_fragment, only_password] {
            assert_eq!(kind(Some("*"), body), Err(400), "{body}");
            assert_eq!(kind(Some("\"xyzzy\""), body), Err(400), "{body}");
        }
        assert_eq!(kind(Some("*"), BARE), Err(400));
        assert_eq!(kind(Some("\"xyzzy\""), BARE), Ok("trickle".to_owned()));
    }
}
