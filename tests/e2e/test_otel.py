"""Spans in an OpenTelemetry collector: what it is sent is read by OpenTelemetry's own protobuf. `make otel` builds the server for it."""

import http.server
import os
import threading

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

import material
from conftest import watchable
from server import Server, until

pytestmark = pytest.mark.slow


class Collector(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        taken = ExportTraceServiceRequest.FromString(body)
        self.server.asked.append((self.path, self.headers["content-type"], taken))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.end_headers()
        self.wfile.write(ExportTraceServiceResponse().SerializeToString())

    def log_message(self, *_):
        pass


@pytest.fixture
def collector():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as sink:
        sink.asked = []
        threading.Thread(target=sink.serve_forever, daemon=True).start()
        yield sink
        sink.shutdown()


def attributes(of):
    return {it.key: it.value.string_value or it.value.int_value for it in of}


@pytest.mark.skipif("LOOM_OTEL" not in os.environ, reason="the server is built without OpenTelemetry: make otel")
def test_the_spans_of_a_recording_carry_its_id_through_every_stage(tmp_path, collector, publish):
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_BSP_SCHEDULE_DELAY": "500", "LOOM_CAPTIONS": "off"}
    settings["LOOM_STORE"] = f"file://{tmp_path}/kept"  # so that there is a job
    server = Server(tmp_path, **settings)
    try:
        recording = server.create("Traced")
        publisher = publish(recording, video=material.flashes(), rate=30, audio=material.beeps())
        until(lambda: watchable(server, recording) > 2, 60, "the first seconds")
        publisher.end()
        server.until_state(recording, "ready")
    finally:
        server.close()
    assert {(path, kind) for path, kind, _ in collector.asked} == {("/v1/traces", "application/x-protobuf")}
    groups = [group for *_, taken in collector.asked for group in taken.resource_spans]
    assert {attributes(group.resource.attributes)["service.name"] for group in groups} == {"loom-server"}
    spans = [span for group in groups for scope in group.scope_spans for span in scope.spans]
    own = [span for span in spans if attributes(span.attributes).get("recording") == recording["id"]]
    print(sorted({(span.name, (span.end_time_unix_nano - span.start_time_unix_nano) // 1_000_000) for span in own}))
    assert {"http", "recording", "arrival", "graph", "take", "packaging", "flush", "finish", "job"} <= {span.name for span in own}
    assert all(span.end_time_unix_nano >= span.start_time_unix_nano > 0 for span in own)
    # its stages are one trace, below the recording
    whole = next(span for span in own if span.name == "recording")
    stages = [span for span in own if span.name in ("arrival", "graph", "take", "packaging", "flush", "finish")]
    assert {span.trace_id for span in stages} == {whole.trace_id} and not whole.parent_span_id
    assert all(span.parent_span_id for span in stages)
