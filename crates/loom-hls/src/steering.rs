//! Content steering (RFC 8216bis §7): several hosts that serve the same recording, and which of them viewers are to prefer.

use std::fmt::Write as _;
use std::time::Duration;

use crate::error::HlsError;
use crate::limits;
use crate::origin::{Answer, Body, Response};

/// A way by which viewers can get the same renditions, such as a CDN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pathway {
    /// `PATHWAY-ID`: `a-z A-Z 0-9 . - _` only (RFC 8216bis §4.4.6.2).
    pub id: String,
    /// Where it serves the recording's folder, with a slash at its end. `None`: where the multivariant playlist came from.
    pub base_url: Option<String>,
}

/// A pathway that is added while viewers watch, made of one that they know (RFC 8216bis §7.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathwayClone {
    /// The pathway it is made of.
    pub base_id: String,
    /// Its own name.
    pub id: String,
    /// `HOST` of its URLs.
    pub host: Option<String>,
    /// `PARAMS`: what is added to the query of its URLs.
    pub params: Vec<(String, String)>,
}

/// The steering manifest, and what it is made of.
///
/// ```
/// use std::time::Duration;
/// use loom_hls::{Answer, Body, Origin, Pathway, Steering};
///
/// let pathway = |id: &str| Pathway { id: id.into(), base_url: Some(format!("https://{id}.example/7f3a/")) };
/// let mut origin = Origin::new();
/// origin.set_steering(Steering::new(&[pathway("one"), pathway("two")], Duration::from_secs(10))?);
/// origin.set_ranking(&["two".into(), "one".into()])?; // the first is in trouble
/// let Answer::Ready(response) = origin.handle_request("steering.json", None) else {
///     panic!("there is steering");
/// };
/// let Body::Bytes(manifest) = response.body else { panic!("it is made here") };
/// assert!(String::from_utf8_lossy(&manifest).contains(r#"["two","one"]"#));
/// # Ok::<(), loom_hls::HlsError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steering {
    ttl: Duration,
    ranking: Vec<String>,
    known: Vec<String>,
    clones: Vec<PathwayClone>,
}

impl Steering {
    /// Pathways in the order given, the best first; players ask again after `ttl`.
    ///
    /// # Errors
    /// [`HlsError::Config`] where there are too many, or one has a name that breaks the rule or stands there twice.
    pub fn new(pathways: &[Pathway], ttl: Duration) -> Result<Self, HlsError> {
        check_pathways(pathways)?;
        let known: Vec<String> = pathways.iter().map(|pathway| pathway.id.clone()).collect();
        Ok(Self {
            // §7.2: seconds, at least one
            ttl: ttl.max(Duration::from_secs(1)),
            ranking: known.clone(),
            known,
            clones: Vec::new(),
        })
    }

    /// The pathways as they are ranked now.
    pub fn ranking(&self) -> &[String] {
        &self.ranking
    }

    /// Ranks the pathways anew, the best first. One that is left out is not used while another can be.
    ///
    /// # Errors
    /// [`HlsError::Config`] where it is empty, or names one that is unknown or one twice.
    pub fn set_ranking(&mut self, ranking: &[String]) -> Result<(), HlsError> {
        let known = |id: &String| self.known.contains(id) || self.clones.iter().any(|clone| clone.id == *id);
        let twice = ranking
            .iter()
            .enumerate()
            .any(|(at, id)| ranking[..at].contains(id));
        if ranking.is_empty() || twice || !ranking.iter().all(known) {
            return fail(
                format!("a ranking names pathways that there are, each once: {ranking:?}"),
                "RFC 8216bis §7.2",
            );
        }
        self.ranking = ranking.to_vec();
        Ok(())
    }

    /// Adds pathways that are copies of known ones on other hosts; the ranking may name them from here on.
    ///
    /// # Errors
    /// [`HlsError::Config`] where one's base is unknown, its name is taken or breaks the rule, or there are too many.
    pub fn set_clones(&mut self, clones: Vec<PathwayClone>) -> Result<(), HlsError> {
        for (at, clone) in clones.iter().enumerate() {
            let earlier = || clones[..at].iter().map(|c| &c.id).chain(&self.known);
            if !earlier().any(|id| *id == clone.base_id)
                || earlier().any(|id| *id == clone.id)
                || !is_name(&clone.id)
                || clone.host.is_none() && clone.params.is_empty()
                || self.known.len() + clones.len() > limits::PATHWAYS
            {
                return fail(
                    format!("pathway {:?} cannot be made of {:?}", clone.id, clone.base_id),
                    "RFC 8216bis §7.3",
                );
            }
        }
        let gone = |id: &String| !self.known.contains(id) && !clones.iter().any(|clone| clone.id == *id);
        self.ranking.retain(|id| !gone(id));
        if self.ranking.is_empty() {
            self.ranking.clone_from(&self.known);
        }
        self.clones = clones;
        Ok(())
    }

    /// The answer to a request for the steering manifest. `_HLS_pathway` and `_HLS_throughput` (RFC 8216bis §7.4) are the player's
    /// own measure; the ranking is the host's, whatever they say.
    pub fn answer(&self, query: Option<&str>) -> Answer {
        if query.is_some_and(|query| query.len() > limits::REQUEST_BYTES) {
            return Answer::BadRequest(format!("a query is at most {} bytes", limits::REQUEST_BYTES));
        }
        Answer::Ready(Response {
            // §7.1
            content_type: "application/json",
            // a cache in front may hold it as long as a player does, but a change of ranking is to be seen soon
            cache_control: crate::origin::max_age(self.ttl / 2),
            body: Body::Bytes(self.manifest().into()),
        })
    }

    /// The manifest (§7.2).
    fn manifest(&self) -> String {
        let mut out = format!("{{\"VERSION\":1,\"TTL\":{}", self.ttl.as_secs());
        out.push_str(",\"RELOAD-URI\":\"steering.json\"");
        let ranking: Vec<String> = self.ranking.iter().map(|id| json(id)).collect();
        let _ = write!(out, ",\"PATHWAY-PRIORITY\":[{}]", ranking.join(","));
        if !self.clones.is_empty() {
            let clones: Vec<String> = self.clones.iter().map(PathwayClone::json).collect();
            let _ = write!(out, ",\"PATHWAY-CLONES\":[{}]", clones.join(","));
        }
        out.push_str("}\n");
        out
    }

    pub(crate) fn none() -> Result<(), HlsError> {
        fail("the recording has no pathways".to_owned(), "RFC 8216bis §7")
    }
}

impl PathwayClone {
    fn json(&self) -> String {
        let mut out = format!(
            "{{\"BASE-ID\":{},\"ID\":{},\"URI-REPLACEMENT\":{{",
            json(&self.base_id),
            json(&self.id)
        );
        if let Some(host) = &self.host {
            let _ = write!(out, "\"HOST\":{}", json(host));
        }
        if !self.params.is_empty() {
            let params: Vec<String> = self
                .params
                .iter()
                .map(|(name, value)| format!("{}:{}", json(name), json(value)))
                .collect();
            let comma = if self.host.is_some() { "," } else { "" };
            let _ = write!(out, "{comma}\"PARAMS\":{{{}}}", params.join(","));
        }
        out.push_str("}}");
        out
    }
}

pub(crate) fn check_pathways(pathways: &[Pathway]) -> Result<(), HlsError> {
    if pathways.len() > limits::PATHWAYS {
        return fail(
            format!("there are more than {} pathways", limits::PATHWAYS),
            "RFC 8216bis §7",
        );
    }
    for (at, pathway) in pathways.iter().enumerate() {
        let twice = pathways[..at].iter().any(|before| before.id == pathway.id);
        if twice || !is_name(&pathway.id) {
            return fail(
                format!(
                    "pathway {:?} stands there twice, or its name holds other than a-z A-Z 0-9 . - _",
                    pathway.id
                ),
                "RFC 8216bis §4.4.6.2",
            );
        }
        let base = pathway.base_url.as_deref().unwrap_or("https://host/");
        let plain = base
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'?');
        if !plain || !base.contains("://") || !base.ends_with('/') {
            return fail(
                format!(
                    "pathway {:?} is served at {base:?}, which is no URL that ends in a slash",
                    pathway.id
                ),
                "RFC 8216bis §4.1",
            );
        }
    }
    Ok(())
}

fn is_name(id: &str) -> bool {
    (1..=64).contains(&id.len())
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// A JSON string.
fn json(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn fail<T>(what: String, clause: &'static str) -> Result<T, HlsError> {
    Err(HlsError::Config { what, clause })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pathways() -> Vec<Pathway> {
        let pathway = |id: &str, base: Option<&str>| Pathway {
            id: id.to_owned(),
            base_url: base.map(str::to_owned),
        };
        vec![
            pathway("here", None),
            pathway("cdn-b", Some("https://b.example/v/")),
        ]
    }

    fn text(answer: Answer) -> String {
        let Answer::Ready(Response {
            body: Body::Bytes(text),
            content_type: "application/json",
            ..
        }) = answer
        else {
            panic!("{answer:?}")
        };
        String::from_utf8(text.to_vec()).unwrap()
    }

    #[test]
    fn the_manifest_has_the_ranking_and_its_clones() {
        let mut steering = Steering::new(&pathways(), Duration::from_secs(10)).unwrap();
        assert_eq!(
            text(steering.answer(None)),
            "{\"VERSION\":1,\"TTL\":10,\"RELOAD-URI\":\"steering.json\",\"PATHWAY-PRIORITY\":[\"here\",\"cdn-b\"]}\n"
        );
        steering
            .set_clones(vec![PathwayClone {
                base_id: "cdn-b".to_owned(),
                id: "cdn-c".to_owned(),
                host: Some("c.example".to_owned()),
                params: vec![("token".to_owned(), "a\"b".to_owned())],
            }])
            .unwrap();
        steering
            .set_ranking(&["cdn-c".to_owned(), "here".to_owned()])
            .unwrap();
        assert_eq!(
            text(steering.answer(Some("_HLS_pathway=%22here%22&_HLS_throughput=5140000"))),
            "{\"VERSION\":1,\"TTL\":10,\"RELOAD-URI\":\"steering.json\",\"PATHWAY-PRIORITY\":[\"cdn-c\",\"here\"],\
             \"PATHWAY-CLONES\":[{\"BASE-ID\":\"cdn-b\",\"ID\":\"cdn-c\",\"URI-REPLACEMENT\":{\"HOST\":\"c.example\",\
             \"PARAMS\":{\"token\":\"a\\\"b\"}}}]}\n"
        );
        steering.set_clones(Vec::new()).unwrap();
        assert_eq!(steering.ranking(), ["here"]);
    }

    #[test]
    fn what_cannot_be_ranked_is_refused() {
        let mut steering = Steering::new(&pathways(), Duration::ZERO).unwrap();
        for ranking in [&[][..], &["other"], &["here", "here"]] {
            let ranking: Vec<String> = ranking.iter().map(|&id| id.to_owned()).collect();
            assert!(steering.set_ranking(&ranking).is_err(), "{ranking:?}");
        }
        for (id, base) in [
            ("a b", None),
            ("", None),
            ("x", Some("https://b.example")),
            ("x", Some("b/")),
            ("x", Some("https://b/\"/")),
        ] {
            let pathway = Pathway {
                id: id.to_owned(),
                base_url: base.map(str::to_owned),
            };
            assert!(
                Steering::new(&[pathway], Duration::from_secs(10)).is_err(),
                "{id} {base:?}"
            );
        }
    }
}
