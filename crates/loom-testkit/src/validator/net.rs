//! Requests, as any client of the origin would make them.

use std::io::Read as _;
use std::time::{Duration, Instant};

use ureq::Agent;
use url::Url;

use super::media::Range;

/// A client that follows no proxy of the environment and takes every status for an answer.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    agent: Agent,
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    /// Without its content encoding.
    pub(crate) body: Vec<u8>,
    pub(crate) sent: Instant,
    pub(crate) received: Instant,
}

impl Client {
    pub(crate) fn new() -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .user_agent("loom-validator")
            .timeout_connect(Some(Duration::from_secs(10)))
            .max_idle_connections_per_host(64)
            .build();
        Self {
            agent: config.new_agent(),
        }
    }

    /// `Err` says why there was no answer at all.
    pub(crate) fn fetch(&self, url: &Url, range: Option<Range>, limit: Duration) -> Result<Answer, String> {
        let sent = Instant::now();
        let mut request = self
            .agent
            .get(url.as_str())
            .header("accept-encoding", "gzip")
            .header("origin", "https://player.example");
        if let Some(range) = range {
            let last = range.offset + range.length.max(1) - 1;
            request = request.header("range", format!("bytes={}-{last}", range.offset));
        }
        let mut response = request
            .config()
            .timeout_global(Some(limit))
            .build()
            .call()
            .map_err(|why| why.to_string())?;
        let headers: Vec<(String, String)> = response
            .headers()
            .iter()
            .map(|(name, value)| {
                (
                    name.as_str().to_owned(),
                    String::from_utf8_lossy(value.as_bytes()).into_owned(),
                )
            })
            .collect();
        let mut body = Vec::new();
        let mut reader = response.body_mut().as_reader().take(BODY);
        reader.read_to_end(&mut body).map_err(|why| why.to_string())?;
        Ok(Answer {
            status: response.status().as_u16(),
            headers,
            body,
            sent,
            received: Instant::now(),
        })
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether it came compressed. The client decodes such a body and takes its `Content-Encoding` and `Content-Length` away; of
    /// one in chunks, which has no length anyhow, only `Vary` tells.
    pub(crate) fn gzipped(&self) -> bool {
        let lengthless = self.header("content-length").is_none();
        let chunked = self.header("transfer-encoding").is_some();
        let varies = self
            .header("vary")
            .is_some_and(|fields| fields.to_ascii_lowercase().contains("accept-encoding"));
        lengthless && (!chunked || varies)
    }

    pub(crate) fn content_type(&self) -> String {
        let whole = self.header("content-type").unwrap_or_default();
        whole
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
    }

    /// Seconds of `max-age`; 0 for `no-store` and `no-cache`; `None` where nothing is said.
    pub(crate) fn max_age(&self) -> Option<u64> {
        let told = self.header("cache-control")?.to_ascii_lowercase();
        if told.contains("no-store") || told.contains("no-cache") {
            return Some(0);
        }
        let age = told
            .split(',')
            .find_map(|word| word.trim().strip_prefix("max-age="))?;
        age.parse().ok()
    }

    pub(crate) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.body).ok()
    }
}

/// The same URL with delivery directives, in UTF-8 order as §6.3.2 wants it.
pub(crate) fn with_query(url: &Url, directives: &[(&str, String)]) -> Url {
    let mut url = url.clone();
    let mut pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    pairs.extend(
        directives
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone())),
    );
    pairs.sort();
    url.query_pairs_mut().clear().extend_pairs(pairs);
    url
}

/// The largest body that is read.
const BODY: u64 = 256 << 20;
