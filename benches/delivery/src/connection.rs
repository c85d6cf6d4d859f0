//! One HTTP/1.1 connection that is kept open, and no more of HTTP than the servers under test speak.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) struct Connection {
    stream: TcpStream,
    host: SocketAddr,
    buffer: Vec<u8>,
}

pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Connection {
    pub(crate) async fn open(host: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(host).await.context("connect")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, host, buffer: Vec::new() })
    }

    /// Sends a request and reads its whole answer.
    pub(crate) async fn get(&mut self, path: &str, gzip: bool) -> Result<Answer<'_>> {
        let encoding = if gzip { "Accept-Encoding: gzip\r\n" } else { "" };
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{encoding}\r\n", self.host);
        self.stream.write_all(request.as_bytes()).await.context("send")?;
        self.buffer.clear();
        let head = loop {
            if let Some(at) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let text = std::str::from_utf8(&self.buffer[..head]).context("the head is no text")?;
        let status = text.get(9..12).and_then(|status| status.parse().ok()).context("no status")?;
        let length = text
            .split("\r\n")
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let Some((_, length)) = length else { bail!("an answer without a length: {text}") };
        let length: usize = length.trim().parse().context("a length")?;
        self.buffer.reserve((head + length).saturating_sub(self.buffer.len()));
        while self.buffer.len() < head + length {
            self.more().await?;
        }
        Ok(Answer { status, body: &self.buffer[head..head + length] })
    }

    async fn more(&mut self) -> Result<()> {
        if self.buffer.capacity() - self.buffer.len() < 2_048 {
            self.buffer.reserve(4_096);
        }
        match self.stream.read_buf(&mut self.buffer).await.context("receive")? {
            0 => bail!("the server closed the connection"),
            _ => Ok(()),
        }
    }
}
