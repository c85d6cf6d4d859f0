//! What a host decides, and what it is asked with.

use std::fmt;
use std::future::{Future, ready};
use std::net::IpAddr;

use super::{Patch, Refusal};
use crate::config::IceServer;
use crate::ingest::Answer;
use crate::restart::IceRestart;
use crate::session::SessionId;

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Client<'a> {
    /// Its bearer token (RFC 6750 §2.1).
    pub token: Option<&'a str>,
    /// Where the TCP connection comes from: the client, or the last proxy before us. Known where the router is served with
    /// `into_make_service_with_connect_info::<SocketAddr>()`.
    pub address: Option<IpAddr>,
}

/// A publisher that was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Names the session in its URL.
    pub session: SessionId,
    /// What the publisher gets.
    pub answer: Answer,
    /// The protocol extensions that the session has (RFC 9725 §4.9).
    pub extensions: Vec<Extension>,
}

/// A protocol extension that a session offers (RFC 9725 §4.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Its registered name, which begins with `urn:ietf:params:whip:ext`.
    pub name: String,
    /// Where its requests go.
    pub url: String,
}

/// Another node that takes a publisher in (RFC 9725 §4.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The URL of that node's WHIP endpoint.
    pub to: String,
    /// For how long this holds.
    pub kind: RedirectKind,
}

/// For how long a redirect holds. Both keep the method and the body (RFC 9110 §15.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectKind {
    /// 307: this time.
    Temporary,
    /// 308: from now on.
    Permanent,
}

/// Who decides about publishers.
///
/// An endpoint is named by the path part before `whip`, a session by the part behind it.
///
/// Cancellation: where a client hangs up before it is answered its request's future is dropped, at any point at which it waits.
pub trait WhipHost: Send + Sync + 'static {
    /// May `client` do anything with this endpoint, or with this session of it? Asked before all else, for every request
    /// but an `OPTIONS`, whose answer only lacks the ICE servers where this refuses.
    ///
    /// # Errors
    /// 401 without a good token and 403 for a good one that does not reach here ([`Refusal::unauthorized`],
    /// [`Refusal::forbidden`]); 404 or 410 for an endpoint or a session that is not there.
    fn authorize(
        &self,
        endpoint: &str,
        session: Option<&str>,
        client: Client<'_>,
    ) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Where a publisher should go instead, as when this node is busy (RFC 9725 §4.5). Asked before its offer is read.
    fn redirect(
        &self,
        _endpoint: &str,
        _client: Client<'_>,
    ) -> impl Future<Output = Option<Redirect>> + Send {
        ready(None)
    }

    /// The STUN and TURN servers that `client` should use (RFC 9725 §4.6), for the 201 answer and for one to `OPTIONS`.
    fn ice_servers(
        &self,
        _endpoint: &str,
        _client: Client<'_>,
    ) -> impl Future<Output = Vec<IceServer>> + Send {
        ready(Vec::new())
    }

    /// A publisher wants to send to `endpoint`.
    ///
    /// # Errors
    /// 4xx for an offer that cannot be used, 503 where there is no room.
    fn publish(
        &self,
        endpoint: &str,
        client: Client<'_>,
        offer: String,
    ) -> impl Future<Output = Result<Published, Refusal>> + Send;

    /// A publisher trickles candidates or restarts ICE: [`SessionHandle::patch`](crate::SessionHandle::patch) does what there
    /// is to do, and gives what a restart's answer needs.
    ///
    /// # Errors
    /// 404 for a session that is not there, and those of the handle; the session goes on as it was then.
    fn patch(
        &self,
        endpoint: &str,
        session: &str,
        patch: &Patch,
    ) -> impl Future<Output = Result<Option<IceRestart>, Refusal>> + Send;

    /// A publisher ends its session.
    ///
    /// # Errors
    /// 404 for a session that is not there.
    fn end(&self, endpoint: &str, session: &str) -> impl Future<Output = Result<(), Refusal>> + Send;
}

impl fmt::Debug for Client<'_> {
    /// Tells no token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("token", &self.token.map(|_| "…"))
            .field("address", &self.address)
            .finish()
    }
}
