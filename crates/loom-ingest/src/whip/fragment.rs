use super::Refusal;
use crate::limits;
use crate::restart::IceRestart;
use crate::sdp::ICE_OPTIONS;

/// What a publisher trickles: an SDP fragment (RFC 8840 §9) of type `application/trickle-ice-sdpfrag`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Fragment {
    /// `a=ice-ufrag`: whose candidates these are.
    pub username_fragment: Option<String>,
    /// `a=ice-pwd`.
    pub password: Option<String>,
    /// The values of `a=candidate`. Host names ending in `.local` are left as they are; nobody looks them up.
    pub candidates: Vec<String>,
    /// Whether `a=end-of-candidates` says that no more will come.
    pub is_last: bool,
    /// The lines that say what the candidates belong to, which an answer repeats: `a=group:BUNDLE`, `m=`, `a=mid`.
    group: Option<String>,
    media: Option<String>,
    mid: Option<String>,
}

impl Fragment {
    /// Reads a fragment. Of several media sections the first counts, which is the one that carries the bundle's ICE
    /// (RFC 9725 §4.3.2).
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
            let kind = line
                .split_once('=')
                .filter(|(kind, _)| matches!(*kind, "a" | "m"));
            let (kind, value) = kind.ok_or_else(|| {
                let why = "a fragment holds only \"a=\" and \"m=\" lines (RFC 8840 §9.2)";
                bad(at, "Not an SDP fragment", why)
            })?;
            if kind == "m" {
                if value.split_ascii_whitespace().count() < 4 {
                    let why = "a media line has a medium, a port, a protocol and formats (RFC 8840 §9.2)";
                    return Err(bad(at, "Not an SDP fragment", why));
                }
                fragment.media.get_or_insert_with(|| value.to_owned());
                continue;
            }
            fragment.attribute(at, value)?;
        }
        if lines == 0 {
            return Err(Refusal::new(400, "Not an SDP fragment", "the body is empty"));
        }
        Ok(fragment)
    }

    /// The body of the answer to an ICE restart (RFC 9725 §4.3.3), about the media section that this fragment is about.
    /// Its `ice-lite` and `ice-options` are those of the SDP answer, as they must be.
    pub fn answer(&self, restart: &IceRestart) -> String {
        let mut text = String::new();
        let mut put = |line: &str| {
            text.push_str(line);
            text.push_str("\r\n");
        };
        put("a=ice-lite");
        put(ICE_OPTIONS);
        if let Some(group) = &self.group {
            put(&format!("a=group:{group}"));
        }
        // RFC 8840 §9.2: what stands here but the kind has no meaning
        let media = self.media.as_deref().unwrap_or("audio 9 UDP/TLS/RTP/SAVPF 0");
        put(&format!("m={media}"));
        put(&format!("a=mid:{}", self.mid.as_deref().unwrap_or("0")));
        put(&format!("a=ice-ufrag:{}", restart.fragment));
        put(&format!("a=ice-pwd:{}", restart.password));
        for candidate in &restart.candidates {
            put(&format!(
                "a=candidate:{}",
                candidate.trim_start_matches("candidate:")
            ));
        }
        put("a=end-of-candidates");
        text
    }

    fn attribute(&mut self, at: usize, value: &str) -> Result<(), Refusal> {
        let (name, rest) = value.split_once(':').unwrap_or((value, ""));
        match name {
            "end-of-candidates" => self.is_last = true,
            "candidate" => {
                if !is_candidate(rest) {
                    let why = "the candidate lacks fields, or has wrong ones (RFC 8839 §5.1)";
                    return Err(bad(at, "Not a candidate", why));
                }
                self.candidates.push(rest.to_owned());
            }
            "ice-ufrag" => set(&mut self.username_fragment, at, rest, 4)?,
            "ice-pwd" => set(&mut self.password, at, rest, 22)?,
            "group" => {
                self.group.get_or_insert_with(|| rest.to_owned());
            }
            "mid" if self.media.is_some() => {
                self.mid.get_or_insert_with(|| rest.to_owned());
            }
            _ => {}
        }
        Ok(())
    }
}

impl std::fmt::Debug for Fragment {
    /// Tells no password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fragment")
            .field("username_fragment", &self.username_fragment)
            .field("candidates", &self.candidates)
            .field("is_last", &self.is_last)
            .finish_non_exhaustive()
    }
}

/// Keeps the first of several equal credentials, of which sections may each have a copy.
fn set(place: &mut Option<String>, at: usize, value: &str, least: usize) -> Result<(), Refusal> {
    // RFC 8839 §5.4: ice-char
    let spelled = value
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    if !spelled || !(least..=256).contains(&value.len()) {
        let why = "ice-ufrag has 4 to 256 and ice-pwd 22 to 256 letters, digits, + and / (RFC 8839 §5.4)";
        return Err(bad(at, "Not ICE credentials", why));
    }
    place.get_or_insert_with(|| value.to_owned());
    Ok(())
}

/// RFC 8839 §5.1: foundation, component, transport, priority, address, port, `typ`, type. What they say is not looked at:
/// a transport or an address that we do not know is passed over in silence (RFC 9725 §4.3.2).
fn is_candidate(value: &str) -> bool {
    let fields: Vec<&str> = value.split_ascii_whitespace().collect();
    let [
        foundation,
        component,
        transport,
        priority,
        _address,
        port,
        typ,
        _kind,
        ..,
    ] = fields.as_slice()
    else {
        return false;
    };
    foundation.len() <= 32
        && component.parse::<u16>().is_ok_and(|it| (1..=256).contains(&it))
        && transport.bytes().all(|byte| byte.is_ascii_graphic())
        && priority.parse::<u32>().is_ok()
        && port.parse::<u16>().is_ok()
        && *typ == "typ"
}

fn bad(at: usize, title: &str, why: &str) -> Refusal {
    Refusal::new(400, title, format!("line {}: {why}", at + 1))
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
        assert_eq!(fragment.password.as_deref(), Some("bP+XJMM09aR8AiX1jdukzR6Y"));
        assert_eq!(fragment.candidates.len(), 1);
        assert!(fragment.is_last);
    }

    #[test]
    fn what_is_no_fragment_is_refused_in_words() {
        for (text, title) in [
            ("", "Not an SDP fragment"),
            ("hello", "Not an SDP fragment"),
            ("v=0\r\n", "Not an SDP fragment"),
            ("m=audio\r\n", "Not an SDP fragment"),
            ("a=candidate:1 1 udp\r\n", "Not a candidate"),
            (
                "a=candidate:1 1 udp high 192.0.2.1 9 typ host\r\n",
                "Not a candidate",
            ),
            ("a=candidate:1 1 udp 1 192.0.2.1 9 is host\r\n", "Not a candidate"),
            ("a=ice-ufrag:abc\r\n", "Not ICE credentials"),
            ("a=ice-pwd:short\r\n", "Not ICE credentials"),
            ("a=ice-ufrag:\"quoted\"\r\n", "Not ICE credentials"),
        ] {
            let refusal = Fragment::parse(text).unwrap_err();
            assert_eq!((refusal.status, refusal.title.as_str()), (400, title), "{text:?}");
        }
        assert_eq!(
            Fragment::parse(&"a=mid:0\r\n".repeat(10_000)).unwrap_err().status,
            413
        );
    }

    #[test]
    fn candidates_of_unknown_transports_and_addresses_are_no_fault() {
        let text = "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\n\
            a=candidate:1 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active\r\n\
            a=candidate:2 1 SCTP 1518280447 nowhere.invalid 9 typ host\r\n";
        assert_eq!(Fragment::parse(text).unwrap().candidates.len(), 2);
    }

    #[test]
    fn a_restarts_answer_is_about_the_section_that_was_asked_about() {
        let restart = IceRestart {
            fragment: "289b31b754eaa438".to_owned(),
            password: "0b66f472495ef0ccac7bda653ab6be49".to_owned(),
            candidates: vec!["1 1 udp 2130706431 198.51.100.1 39132 typ host".to_owned()],
            etag: "abccd".to_owned(),
        };
        let asked = Fragment::parse(
            "a=group:BUNDLE v a\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:v\r\na=ice-ufrag:ysXw\r\n",
        );
        assert_eq!(
            asked.unwrap().answer(&restart),
            "a=ice-lite\r\na=ice-options:ice2 trickle\r\na=group:BUNDLE v a\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:v\r\n\
             a=ice-ufrag:289b31b754eaa438\r\na=ice-pwd:0b66f472495ef0ccac7bda653ab6be49\r\n\
             a=candidate:1 1 udp 2130706431 198.51.100.1 39132 typ host\r\na=end-of-candidates\r\n"
        );
        let bare = Fragment::parse("a=ice-ufrag:ysXw\r\n").unwrap().answer(&restart);
        assert_eq!(Fragment::parse(&bare).unwrap().candidates, restart.candidates);
    }
}
