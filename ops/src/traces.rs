//! Sends spans of traced calls to a collector, by OTLP over gRPC. What does not fit its queue is lost: calls
//! never wait for a collector, and one that is away costs nothing but its spans.

use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Context as _;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor as _,
};
use raft::Span;
use server::Config;
use server::world::{Spans, Traces};

/// Spans of one node on their way to a collector.
struct Otlp {
    to: BatchSpanProcessor,
    scope: InstrumentationScope,
}

/// Where the traced calls of a node go to. Must run on a tokio runtime.
///
/// # Errors
/// When the endpoint cannot be used at all. One that does not answer is no error.
pub fn of(config: &Config) -> anyhow::Result<Traces> {
    let Some(endpoint) = &config.traces.endpoint else {
        return Ok(Traces::default());
    };
    let exporter = SpanExporter::builder().with_tonic();
    let exporter = exporter.with_endpoint(endpoint.clone()).build();
    let exporter = exporter.with_context(|| format!("traces.endpoint {endpoint}"))?;
    let mut to = BatchSpanProcessor::builder(exporter).build();
    let place = &config.locality;
    let resource = Resource::builder_empty()
        .with_service_name("firebreak")
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", config.name.clone()),
            KeyValue::new("firebreak.dc", place.dc.clone()),
            KeyValue::new("firebreak.region", place.region.clone()),
        ])
        .build();
    to.set_resource(&resource);
    let scope = InstrumentationScope::builder("firebreak")
        .with_version(env!("CARGO_PKG_VERSION"))
        .build();
    tracing::info!(%endpoint, sample_ppm = config.traces.sample_ppm, "calls are traced");
    Ok(Traces::new(
        Arc::new(Otlp { to, scope }),
        config.traces.sample_ppm,
    ))
}

impl Spans for Otlp {
    fn ended(&self, span: Span) {
        // As long ago as the runtime's clock says.
        let ended = span.began.elapsed().saturating_sub(span.took);
        let end_time = SystemTime::now().checked_sub(ended);
        let end_time = end_time.unwrap_or(SystemTime::UNIX_EPOCH);
        let start_time = end_time.checked_sub(span.took);
        let context = SpanContext::new(
            TraceId::from(span.context.trace),
            SpanId::from(span.context.span),
            TraceFlags::SAMPLED,
            false,
            TraceState::default(),
        );
        let shard = span
            .shard
            .map(|shard| KeyValue::new("firebreak.shard", i64::from(shard.0)));
        let peer = span
            .peer
            .map(|peer| KeyValue::new("firebreak.peer", peer.to_string()));
        self.to.on_end(SpanData {
            span_context: context,
            parent_span_id: SpanId::from(span.parent),
            parent_span_is_remote: false,
            span_kind: match span.name {
                "append" | "list" => SpanKind::Server,
                _ => SpanKind::Internal,
            },
            name: span.name.into(),
            start_time: start_time.unwrap_or(SystemTime::UNIX_EPOCH),
            end_time,
            attributes: shard.into_iter().chain(peer).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.failed.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        });
    }
}
