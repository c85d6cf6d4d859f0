use super::Refusal;
use crate::limits;

/// What a publisher trickles: an SDP fragment (RFC 8840 §9) of type `application/trickle-ice-sdpfrag`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fragment {
    /// `a=ice-ufrag`: whose candidates these are.
    pub username_fragment: Option<String>,
    /// The values of `a=candidate`. Host names ending in `.local` are left as they are; nobody looks them up.
    pub candidates: Vec<String>,
    /// Whether `a=end-of-candidates` says that no more will come.
    pub is_last: bool,
}

impl Fragment {
    /// Reads a fragment.
    ///
    /// # Errors
    /// 413 for one above [`limits::FRAGMENT_BYTES`], 400 for one that is not an SDP fragment.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.len() > limits::FRAGMENT_BYTES {
            let detail = format!("at most {} bytes are taken", limits::FRAGMENT_BYTES);
            return Err(Refusal::new(413, "Fragment too large", detail));
        }
        let mut fragment = Self::default();
        let mut lines = 0;
        for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            lines += 1;
            let Some((kind, value)) = line
                .split_once('=')
                .filter(|(kind, _)| matches!(*kind, "a" | "m"))
            else {
                let detail = format!(
                    "line {}: a fragment holds only \"a=\" and \"m=\" lines (RFC 8840 §9.1)",
                    at + 1
                );
                return Err(Refusal::new(400, "Not an SDP fragment", detail));
            };
            if kind == "m" {
                continue;
            }
            if value == "end-of-candidates" {
                fragment.is_last = true;
            } else if let Some(candidate) = value.strip_prefix("candidate:") {
                if candidate.split_ascii_whitespace().count() < 8 {
                    let detail = format!("line {}: the candidate lacks fields (RFC 8839 §5.1)", at + 1);
                    return Err(Refusal::new(400, "Not a candidate", detail));
                }
                fragment.candidates.push(candidate.to_owned());
            } else if let Some(fragment_name) = value.strip_prefix("ice-ufrag:") {
                fragment.username_fragment = Some(fragment_name.to_owned());
            }
        }
        if lines == 0 {
            return Err(Refusal::new(400, "Not an SDP fragment", "the body is empty"));
        }
        Ok(fragment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHROMIUM: &str = "a=ice-ufrag:EsAw\r\na=ice-pwd:bP+XJMM09aR8AiX1jdukzR6Y\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n\
        a=mid:0\r\na=candidate:1387637174 1 udp 2122260223 8b5a1e0c-4f0e-4a4e-8e1d-000000000000.local 61764 typ host\r\n\
        a=end-of-candidates\r\n";

    #[test]
    fn a_browsers_fragment_is_read_and_its_mdns_name_does_no_harm() {
        let fragment = Fragment::parse(CHROMIUM).unwrap();
        assert_eq!(fragment.username_fragment.as_deref(), Some("EsAw"));
        assert_eq!(fragment.candidates.len(), 1);
        assert!(fragment.is_last);
    }

    #[test]
    fn what_is_no_fragment_is_refused_in_words() {
        for (text, title) in [
            ("", "Not an SDP fragment"),
            ("hello", "Not an SDP fragment"),
            ("v=0\r\n", "Not an SDP fragment"),
            ("a=candidate:1 1 udp\r\n", "Not a candidate"),
        ] {
            let refusal = Fragment::parse(text).unwrap_err();
            assert_eq!((refusal.status, refusal.title.as_str()), (400, title), "{text:?}");
        }
        assert_eq!(
            Fragment::parse(&"a=mid:0\r\n".repeat(10_000)).unwrap_err().status,
            413
        );
    }
}
