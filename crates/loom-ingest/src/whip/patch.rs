//! What a `PATCH` of a session asks for (RFC 9725 §4.3): the entity tag it names and the credentials it carries decide.

use super::{Fragment, Refusal};
use crate::sdp::RemoteIce;

/// A `PATCH` of a session (RFC 9725 §4.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// Which ICE session it is meant for.
    pub if_match: IfMatch,
    /// Its body.
    pub fragment: Fragment,
}

/// What a [`Patch`] asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PatchKind {
    /// To note candidates (RFC 9725 §4.3.2): answered with 204.
    Trickle,
    /// To restart ICE with these credentials of the publisher's (RFC 9725 §4.3.3): answered with 200.
    Restart(RemoteIce),
}

/// The `If-Match` of a `PATCH` (RFC 9110 §13.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfMatch(Option<String>);

impl Patch {
    /// What it asks of a session whose entity tag is `etag` (without quotes) and whose publisher goes by `current`, the
    /// credentials of its offer or of its last restart.
    ///
    /// Other credentials mean a restart whatever the header says (RFC 9725 §4.3.3), as long as the header does not name
    /// another ICE session.
    ///
    /// # Errors
    /// 428 where `If-Match` is missing, 412 where it names another tag (RFC 9725 §4.3.1), 400 for half a restart.
    pub(crate) fn kind(&self, etag: &str, current: &[RemoteIce]) -> Result<PatchKind, Refusal> {
        self.if_match.check(etag)?;
        let fragment = self.fragment.username_fragment.as_deref();
        let password = self.fragment.password.as_deref();
        if fragment.is_none() && password.is_none() {
            if self.if_match.is_any() {
                let why = "an ICE restart carries the new ice-ufrag and ice-pwd (RFC 9725 §4.3.3)";
                return Err(half(why));
            }
            return Ok(PatchKind::Trickle);
        }
        let same_fragment = |it: &RemoteIce| fragment.is_none_or(|fragment| fragment == it.fragment);
        let same_password = |it: &RemoteIce| password.is_none_or(|password| password == it.password);
        if current.iter().any(|it| same_fragment(it) && same_password(it)) {
            return Ok(PatchKind::Trickle);
        }
        match (fragment, password) {
            (Some(fragment), Some(password))
                if !current.iter().any(|it| same_fragment(it) || same_password(it)) =>
            {
                let remote = RemoteIce::new(fragment, password)?;
                Ok(PatchKind::Restart(remote))
            }
            _ => Err(half(
                "an ICE restart changes both ice-ufrag and ice-pwd (RFC 8839 §4.4.1.1.1)",
            )),
        }
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

fn half(detail: &str) -> Refusal {
    Refusal::new(400, "Half an ICE restart", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(if_match: Option<&str>, body: &str) -> Result<String, u16> {
        let current = [
            RemoteIce::new("EsAw", "P2uYro0UCOQ4zxjKXaWCBui1").unwrap(),
            RemoteIce::new("Vide", "aDifferentSectionsPassword").unwrap(),
        ];
        let patch = Patch {
            if_match: IfMatch::new(if_match),
            fragment: Fragment::parse(body).unwrap(),
        };
        patch
            .kind("xyzzy", &current)
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
    fn candidates_of_another_section_of_the_offer_are_no_restart() {
        let video = "a=ice-ufrag:Vide\r\na=ice-pwd:aDifferentSectionsPassword\r\n";
        assert_eq!(kind(Some("\"xyzzy\""), video), Ok("trickle".to_owned()));
        let mixed = "a=ice-ufrag:Vide\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n";
        assert_eq!(kind(Some("\"xyzzy\""), mixed), Err(400));
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
