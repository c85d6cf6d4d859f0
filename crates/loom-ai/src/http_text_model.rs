use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use crate::{AiError, TextModel};

/// Where a model is asked that speaks OpenAI's chat completions, as llama.cpp's server, vLLM, Ollama and hosted ones do.
#[derive(Clone)]
#[non_exhaustive]
pub struct HttpTextModelConfig {
    /// The address before `/chat/completions`, such as `http://127.0.0.1:8081/v1`.
    pub url: String,
    /// The model's name there.
    pub model: String,
    /// Sent as a bearer token.
    pub key: Option<String>,
    /// How long an answer may take.
    pub timeout: Duration,
}

impl HttpTextModelConfig {
    /// The model called `model` at `url`, without a key, a minute's patience.
    pub fn new(url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            model: model.into(),
            key: None,
            timeout: Duration::from_secs(60),
        }
    }
}

/// The key is not told.
impl fmt::Debug for HttpTextModelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTextModelConfig")
            .field("url", &self.url)
            .field("model", &self.model)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// A [`TextModel`] behind HTTP.
///
/// ```no_run
/// use loom_ai::{Brief, HttpTextModel, HttpTextModelConfig, Transcript};
///
/// # fn example(transcript: Transcript) -> Result<(), loom_ai::AiError> {
/// let model = HttpTextModel::new(HttpTextModelConfig::new("http://127.0.0.1:8081/v1", "qwen3"))?;
/// let brief = Brief::of(&transcript, &model)?;
/// println!("{}: {}", brief.title, brief.summary);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct HttpTextModel {
    config: HttpTextModelConfig,
    agent: ureq::Agent,
}

/// Bytes an answer may have.
const MOST_ANSWER: u64 = 1 << 20;

impl HttpTextModel {
    /// Nothing is sent until it is asked.
    ///
    /// # Errors
    /// [`AiError::Config`] where the address is no HTTP address.
    pub fn new(config: HttpTextModelConfig) -> Result<Self, AiError> {
        if !config.url.starts_with("http://") && !config.url.starts_with("https://") {
            return Err(AiError::Config {
                field: "url",
                rule: "must begin with http:// or https://",
            });
        }
        let agent = ureq::Agent::config_builder()
            .tls_config(crate::download::tls())
            .timeout_global(Some(config.timeout))
            .build()
            .into();
        Ok(Self { config, agent })
    }
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
}

impl TextModel for HttpTextModel {
    fn name(&self) -> &str {
        &self.config.model
    }

    fn answer(&self, instruction: &str, text: &str) -> Result<String, AiError> {
        let failed = |reason: String| AiError::TextModel {
            model: self.config.model.clone(),
            reason,
        };
        let url = format!("{}/chat/completions", self.config.url.trim_end_matches('/'));
        let body = serde_json::json!({
            "model": self.config.model,
            "temperature": 0,
            "messages": [{"role": "system", "content": instruction}, {"role": "user", "content": text}],
        });
        let mut request = self.agent.post(&url).header("content-type", "application/json");
        if let Some(key) = &self.config.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut answer = request
            .send(body.to_string())
            .map_err(|e| failed(e.to_string()))?;
        let raw = answer
            .body_mut()
            .with_config()
            .limit(MOST_ANSWER)
            .read_to_vec()
            .map_err(|e| failed(e.to_string()))?;
        let it: Completion =
            serde_json::from_slice(&raw).map_err(|e| failed(format!("not a chat completion: {e}")))?;
        let first = it.choices.into_iter().next().and_then(|it| it.message.content);
        first.ok_or_else(|| failed("an answer without a choice".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_address_that_is_none_is_refused_and_a_dead_one_named() {
        let error = HttpTextModel::new(HttpTextModelConfig::new("localhost", "m")).unwrap_err();
        assert!(error.to_string().starts_with("url: "), "{error}");
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let model =
            HttpTextModel::new(HttpTextModelConfig::new(format!("http://{free}/v1"), "little")).unwrap();
        let error = model.answer("do", "nothing").unwrap_err();
        assert!(error.to_string().contains("little"), "{error}");
    }

    #[test]
    fn a_chat_completion_is_asked_for_and_read() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let serving = std::thread::spawn(move || {
            let (mut peer, _) = server.accept().unwrap();
            let (mut asked, mut some) = (Vec::new(), [0; 4096]);
            while !asked.ends_with(b"}]}") && !asked.ends_with(b"}") {
                let n = peer.read(&mut some).unwrap();
                asked.extend_from_slice(&some[..n]);
            }
            let body = r#"{"choices":[{"message":{"role":"assistant","content":"A title"}}]}"#;
            write!(
                peer,
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
            String::from_utf8(asked).unwrap()
        });
        let mut config = HttpTextModelConfig::new(format!("http://{address}/v1/"), "little");
        config.key = Some("secret".to_owned());
        let model = HttpTextModel::new(config).unwrap();
        assert!(!format!("{model:?}").contains("secret"));
        assert_eq!(model.answer("a title", "some text").unwrap(), "A title");
        let asked = serving.join().unwrap();
        assert!(asked.starts_with("POST /v1/chat/completions HTTP/1.1"), "{asked}");
        assert!(
            asked.contains("Bearer secret") && asked.contains("some text"),
            "{asked}"
        );
    }
}
