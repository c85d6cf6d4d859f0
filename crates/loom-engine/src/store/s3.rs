//! S3, and what speaks its protocol. This is the one file that opens connections to a store.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector as Plain};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsAuthorizer, AwsCredentialProvider};
use object_store::client::{
    ClientOptions, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpService,
};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{BackoffConfig, RetryConfig};

use super::objects::{Objects, path};
use super::{CLASS_TAG, StorageClass, Store, StoreError};
use crate::limits;

/// Opens `//BUCKET/PREFIX`, as the environment says.
pub(super) fn open(place: &str) -> Result<Arc<dyn Store>, String> {
    let place = place.strip_prefix("//").ok_or("it is s3://BUCKET/PREFIX")?;
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    if bucket.is_empty() {
        return Err("it names no bucket: s3://BUCKET/PREFIX".to_owned());
    }
    let prefix = Path::parse(prefix.trim_end_matches('/')).map_err(|why| why.to_string())?;
    let http = Http::new()?;
    let builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_http_connector(http.clone());
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
    let build = |builder: AmazonS3Builder| builder.build().map_err(|why| why.to_string());
    // What failed on its way may have arrived. A read is asked again; before a put is, we look whether that is so.
    let puts = build(builder.clone().with_retry(retry(0)))?;
    let reads = build(builder.with_retry(retry(READ_RETRIES)))?;
    let tagger = Tagger {
        credentials: puts.credentials().clone(),
        bucket: reads.clone(),
        prefix: prefix.clone(),
        region: region.unwrap_or_else(|| "us-east-1".to_owned()),
        http: HttpClient::new(http),
    };
    Ok(Arc::new(Objects::below(&prefix, puts, reads, tagger)))
}

fn retry(max_retries: usize) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries,
        retry_timeout: READ_PATIENCE,
    }
}

/// Tags objects anew (`PutObjectTagging`), for which `object_store` has no call.
#[derive(Debug)]
pub(super) struct Tagger {
    bucket: AmazonS3,
    credentials: AwsCredentialProvider,
    prefix: Path,
    region: String,
    http: HttpClient,
}

impl Tagger {
    pub(super) async fn tag(&self, key: &str, class: StorageClass) -> Result<(), StoreError> {
        let failed = |why: Box<dyn std::error::Error + Send + Sync>| StoreError::failed("tag", key, why);
        let object: Path = self.prefix.parts().chain(path(key)?.parts()).collect();
        // where the object is, as the store's own signer says; what that signs is replaced by our question
        let at = self
            .bucket
            .signed_url(http::Method::PUT, &object, SIGNED_FOR)
            .await;
        let mut at = at.map_err(|why| failed(why.into()))?;
        at.set_query(Some("tagging="));
        let body = format!(
            "<Tagging xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><TagSet><Tag><Key>{CLASS_TAG}</Key><Value>{class}</Value></Tag></TagSet></Tagging>"
        );
        let mut request = http::Request::put(at.as_str())
            .header(http::header::CONTENT_TYPE, "application/xml")
            .body(HttpRequestBody::from(body))
            .map_err(|why| failed(why.into()))?;
        let credential = self.credentials.get_credential().await;
        let credential = credential.map_err(|why| failed(why.into()))?;
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .try_authorize(&mut request, None)
            .map_err(|why| failed(why.into()))?;
        let answer = self.http.execute(request).await;
        match answer.map_err(|why| failed(why.into()))?.status() {
            status if status.is_success() => Ok(()),
            status => Err(failed(format!("it answered {status}").into())),
        }
    }
}

/// HTTP for `object_store`, by hyper, which is in the build already. TLS is ring's, and trusts whom the system trusts.
#[derive(Debug, Clone)]
struct Http(Client<HttpsConnector<Plain>, HttpRequestBody>);

impl Http {
    fn new() -> Result<Self, String> {
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(|why| format!("the system's certificates cannot be read: {why}"))?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Self(client))
    }
}

impl HttpConnector for Http {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Http {
    /// The whole answer, which is never longer than an object, within [`limits::REQUEST`].
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = async {
            let answer = self.0.request(request).await.map_err(|why| {
                let kind = match why.is_connect() {
                    true => HttpErrorKind::Connect,
                    false => HttpErrorKind::Interrupted,
                };
                HttpError::new(kind, why)
            })?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, limits::OBJECT_BYTES as usize).collect().await;
            let body =
                body.map_err(|why| HttpError::new(HttpErrorKind::Interrupted, std::io::Error::other(why)))?;
            Ok(HttpResponse::from_parts(head, body.to_bytes().into()))
        };
        match tokio::time::timeout(limits::REQUEST, answer).await {
            Ok(answer) => answer,
            Err(late) => Err(HttpError::new(HttpErrorKind::Timeout, late)),
        }
    }
}

/// How often a read that failed is asked again.
const READ_RETRIES: usize = 4;

/// How long after the first time.
const READ_PATIENCE: Duration = Duration::from_secs(20);

/// How long a connection that nobody uses is kept: less than S3 does.
const IDLE: Duration = Duration::from_secs(15);

/// The signature that nobody uses.
const SIGNED_FOR: Duration = Duration::from_secs(60);
