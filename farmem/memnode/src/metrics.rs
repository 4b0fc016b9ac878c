//! What a node has done: for Prometheus over HTTP, and for a human in the log.
//!
//! Refuses to be a web server: one short GET at a time, answered and closed.

use crate::export::{Counter, Export};
use crate::listen::Node;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Longest HTTP request that is read.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// Longest wait for a client of the metrics, at each step.
const PATIENCE: Duration = Duration::from_secs(2);

/// The counters of a node, as Prometheus reads them.
pub struct Metrics(Registry);

impl Metrics {
    /// The metrics of this node.
    pub fn new(node: Arc<Node>) -> Metrics {
        let mut registry = Registry::with_prefix("remora_memnode");
        registry.register_collector(Box::new(NodeCollector(node)));
        Metrics(registry)
    }

    /// All of them, in the text format of OpenMetrics.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.0).expect("writing to a string cannot fail");
        text
    }
}

/// One line an export and one for the doors, for the log.
pub fn statistics(node: &Node) -> Vec<String> {
    let doors = &node.counters;
    let exports = node.exports().iter().map(|export| {
        let of = &export.counters;
        format!(
            "export '{}': {} of {} bytes stored; {} reads of {} bytes, {} writes of {} bytes, {} trims of {} \
             bytes, {} write zeroes, {} flushes, {} caches, {} refused",
            export.name,
            export.memory.stored_bytes(),
            export.memory.len(),
            of.reads.get(),
            of.read_bytes.get(),
            of.writes.get(),
            of.written_bytes.get(),
            of.trims.get(),
            of.trimmed_bytes.get(),
            of.zeroes.get(),
            of.flushes.get(),
            of.caches.get(),
            of.refused.get(),
        )
    });
    let clients = format!(
        "{} clients; {} came, {} broke off, {} turned away",
        node.connections(),
        doors.accepted.get(),
        doors.broken.get(),
        doors.turned_away.get()
    );
    exports.chain([clients]).collect()
}

#[derive(Clone)]
struct NodeCollector(Arc<Node>);

impl fmt::Debug for NodeCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeCollector")
    }
}

/// A counter of every export: which command it is about, if it is about one, and where to find it.
type OfExport = (Option<&'static str>, fn(&Export) -> &Counter);

const REQUESTS: &[OfExport] = &[
    (Some("read"), |export| &export.counters.reads),
    (Some("write"), |export| &export.counters.writes),
    (Some("trim"), |export| &export.counters.trims),
    (Some("write_zeroes"), |export| &export.counters.zeroes),
    (Some("flush"), |export| &export.counters.flushes),
    (Some("cache"), |export| &export.counters.caches),
];
const BYTES: &[OfExport] = &[
    (Some("read"), |export| &export.counters.read_bytes),
    (Some("write"), |export| &export.counters.written_bytes),
    (Some("trim"), |export| &export.counters.trimmed_bytes),
];
const REFUSED: &[OfExport] = &[(None, |export| &export.counters.refused)];

impl NodeCollector {
    fn counters(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        of: &[OfExport],
    ) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for export in self.0.exports().iter() {
            for (command, counter) in of {
                let labels = [("export", Some(export.name.as_str())), ("command", *command)];
                let value = counter(export).get();
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
            }
        }
        Ok(())
    }

    fn gauges(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        of: fn(&Export) -> u64,
    ) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for export in self.0.exports().iter() {
            let value = of(export) as i64;
            metric.encode_family(&[("export", export.name.as_str())])?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn doors(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let doors = &self.0.counters;
        for (name, help, counter) in [
            ("accepted", "Clients that came", &doors.accepted),
            ("broken", "Clients that ended by an error", &doors.broken),
            ("turned_away", "Clients that were too many", &doors.turned_away),
        ] {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            metric.encode_counter::<NoLabelSet, u64, u64>(&counter.get(), None)?;
        }
        let mut metric = encoder.encode_descriptor("connections", "Clients now", None, MetricType::Gauge)?;
        metric.encode_gauge(&(self.0.connections() as i64))
    }
}

impl Collector for NodeCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        self.counters(encoder, "requests", "Requests", REQUESTS)?;
        self.counters(encoder, "bytes", "Bytes that requests were about", BYTES)?;
        self.counters(encoder, "refused", "Requests that were answered with an error", REFUSED)?;
        self.gauges(encoder, "size_bytes", "What is lent", |export| export.memory.len())?;
        self.gauges(encoder, "stored_bytes", "What of it the host really gives", |export| {
            export.memory.stored_bytes()
        })?;
        self.doors(encoder)
    }
}

/// Serves the metrics at `/metrics`; tells where, since port 0 means any.
///
/// # Errors
/// What the kernel answers.
pub fn serve_metrics(metrics: Metrics, at: SocketAddr) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(at)?;
    let at = listener.local_addr()?;
    thread::Builder::new().name("metrics".to_owned()).spawn(move || {
        for stream in listener.incoming() {
            if let Err(error) = stream.and_then(|stream| answer(stream, &metrics)) {
                log::debug!("metrics: {error}");
            }
        }
    })?;
    Ok(at)
}

fn answer(mut stream: TcpStream, metrics: &Metrics) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut bytes = [0; 1024];
        let received = stream.read(&mut bytes)?;
        if received == 0 || request.len() > REQUEST_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no HTTP request"));
        }
        request.extend_from_slice(&bytes[..received]);
    }
    let (status, kind, body) = if request.starts_with(b"GET /metrics ") {
        ("200 OK", "application/openmetrics-text; version=1.0.0; charset=utf-8", metrics.text())
    } else {
        ("404 Not Found", "text/plain; charset=utf-8", "GET /metrics\n".to_owned())
    };
    let len = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}"
    )
}
