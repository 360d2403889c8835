//! A traced call of real nodes, told to a collector that speaks OTLP: where it went, and below what.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails where it cannot go on; the processes it starts and waits for run on the real clock"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use firebreak::cluster::{Cluster, ClusterPlan};
use firebreak_tests::{LIMIT, Place, binary};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use proto::v1;
use proto::v1::messages_client::MessagesClient;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A span as the collector got it.
#[derive(Clone, Debug)]
struct Got {
    node: String,
    trace: String,
    id: String,
    parent: String,
    name: String,
    began_ns: u64,
    ended_ns: u64,
}

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Got>>>);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut all = self.0.lock().unwrap();
        for of_node in request.into_inner().resource_spans {
            let attributes = of_node.resource.unwrap_or_default().attributes;
            let named = attributes.iter().find(|a| a.key == "service.instance.id");
            let node = format!("{:?}", named.unwrap().value);
            for span in of_node.scope_spans.into_iter().flat_map(|s| s.spans) {
                all.push(Got {
                    node: node.clone(),
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    name: span.name,
                    began_ns: span.start_time_unix_nano,
                    ended_ns: span.end_time_unix_nano,
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Begins on a port of its own; its endpoint.
    async fn begin(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(self.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(server);
        endpoint
    }

    /// The spans of a trace, once there are those that `whole` asks for.
    async fn whole(&self, trace: &str, whole: impl Fn(&[Got]) -> bool) -> Vec<Got> {
        let until = Instant::now() + LIMIT;
        loop {
            let all = self.0.lock().unwrap().clone();
            let spans: Vec<Got> = all.into_iter().filter(|s| s.trace == trace).collect();
            if whole(&spans) {
                return spans;
            }
            assert!(Instant::now() < until, "the trace is not whole: {spans:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn traced(collector: &Collector) -> (Place, Cluster) {
    let place = Place::new();
    let plan = ClusterPlan::three_dcs(place.path(), &binary(), 1);
    let endpoint = collector.begin().await;
    let settings = format!(
        "{}\n[traces]\nendpoint = \"{endpoint}\"\n\n[http]\ncanary = false\n",
        plan.settings
    );
    let cluster = Cluster::start(ClusterPlan { settings, ..plan })
        .await
        .unwrap();
    (place, cluster)
}

fn append(traceparent: Option<&str>) -> Request<v1::AppendMessageRequest> {
    let mut request = Request::new(v1::AppendMessageRequest {
        parent: "tenants/acme/conversations/traced".to_owned(),
        message: Some(v1::Message {
            sender: "ann".to_owned(),
            client_message_id: "1".to_owned(),
            r#type: "text".to_owned(),
            ..v1::Message::default()
        }),
        ..v1::AppendMessageRequest::default()
    });
    if let Some(header) = traceparent {
        let metadata = request.metadata_mut();
        metadata.insert("traceparent", header.parse().unwrap());
    }
    request
}

fn named<'a>(spans: &'a [Got], name: &str) -> Vec<&'a Got> {
    spans.iter().filter(|span| span.name == name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_append_shows_where_it_waited_on_gateway_leader_and_followers() {
    let collector = Collector::default();
    let (_place, cluster) = traced(&collector).await;
    // Through every node, so that two of them have to send it on to the leader.
    for (at, node) in cluster.nodes().iter().enumerate() {
        let header = format!("00-{TRACE}-{CALLER}-01");
        let other = format!("00-{TRACE}-{CALLER}-00");
        let mut client = MessagesClient::new(node.channel());
        // Its caller does not record it, so that nobody does.
        client.append_message(append(Some(&other))).await.unwrap();
        client.append_message(append(None)).await.unwrap();
        client.append_message(append(Some(&header))).await.unwrap();
        let appends = at + 1;
        let whole = |spans: &[Got]| {
            named(spans, "append").len() == appends
                && named(spans, "decide").len() == appends
                && named(spans, "replicate").len() >= 2 * appends
                && named(spans, "sync log").len() >= 3 * appends
        };
        collector.whole(TRACE, whole).await;
    }
    let spans = collector.whole(TRACE, |_| true).await;
    let by_id: BTreeMap<&str, &Got> = spans.iter().map(|s| (s.id.as_str(), s)).collect();
    assert_eq!(
        by_id.len(),
        spans.len(),
        "every span has a number of its own"
    );
    let above = |span: &Got| by_id.get(span.parent.as_str()).copied();
    let gateways: Vec<&Got> = named(&spans, "append");
    assert!(
        gateways.iter().all(|span| span.parent == CALLER),
        "{gateways:#?}"
    );
    let leader = &named(&spans, "decide")[0].node;
    for span in &spans {
        let parent = match span.name.as_str() {
            "append" => continue,
            "attempt" => "append",
            "queue" | "decide" => "attempt",
            "replicate" => "decide",
            "sync log" if span.node == *leader => "decide",
            "sync log" => "replicate",
            other => panic!("{other}"),
        };
        let above = above(span).unwrap_or_else(|| panic!("nothing is above {span:#?}"));
        assert_eq!(above.name, parent, "{span:#?}");
        assert!(span.began_ns <= span.ended_ns);
    }
    // Three syncs of an append, one on each node.
    let nodes = named(&spans, "sync log").into_iter().map(|s| &s.node);
    assert_eq!(nodes.collect::<std::collections::BTreeSet<_>>().len(), 3);
    let elsewhere = gateways.iter().filter(|span| span.node != *leader);
    assert_eq!(elsewhere.count(), 2, "two of three came in elsewhere");
}
