//! Spans to an OpenTelemetry collector (feature `otel`): OTLP by HTTP and protobuf, set by the standard's own variables.

use std::env;

use anyhow::{Context, Result};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// The way of spans out of the process.
#[derive(Debug)]
pub(crate) struct Spans(SdkTracerProvider);

impl Spans {
    /// Where `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` names a collector, and `OTEL_SDK_DISABLED` does not say
    /// `true`.
    pub(crate) fn start() -> Result<Option<Self>> {
        let said = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let named = ENDPOINTS.iter().any(|name| said(name).is_some());
        let disabled = said("OTEL_SDK_DISABLED").is_some_and(|it| it.eq_ignore_ascii_case("true"));
        if !named || disabled {
            return Ok(None);
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .build()
            .context("the OpenTelemetry exporter cannot be made; look at the OTEL_ variables")?;
        let mut resource = Resource::builder();
        if said("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(env!("CARGO_PKG_NAME"));
        }
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_batch_exporter(exporter)
            .build();
        Ok(Some(Self(provider)))
    }

    /// What hands them over: Loom's own spans, and what it logs within them.
    pub(crate) fn layer<S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync>(
        &self,
    ) -> impl Layer<S> + use<S> {
        let is_ours = |it: &Metadata<'_>| {
            it.target().starts_with("loom") && (it.is_span() || *it.level() <= Level::INFO)
        };
        tracing_opentelemetry::layer::<S>()
            .with_tracer(self.0.tracer("loom"))
            .with_filter(filter_fn(is_ours))
    }

    /// Sends what is left. Blocks, at most for as long as a send may take.
    pub(crate) fn finish(self) {
        if let Err(why) = self.0.shutdown() {
            eprintln!("The last spans were not sent: {why}");
        }
    }
}

const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
];
