"""An S3 server that others wrote (moto), in this process, with a watch at its door that sees each put, can end somebody at it, and can keep
everybody waiting or shut it."""

import collections
import hashlib
import io
import itertools
import json
import logging
import re
import threading
import time
import urllib.parse

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

logging.getLogger("werkzeug").setLevel(logging.ERROR)

PREFIX = "kept/here"
BUCKETS = (f"loom-{number}" for number in itertools.count())  # moto has one memory for all of its servers


class S3:
    def __init__(self):
        self.bucket = next(BUCKETS)
        self.stored = []  # (key, SHA-256) of each put that was stored
        self.sent = {}  # key: how many times a put of it came, stored or not
        self.finished = []  # recordings, each as often as the store was told that it is over
        self.unnamed = []  # what a playlist named when it was put, and was not there
        self.at_put = None  # called with (number of puts so far, "before" or "after"); true: no answer is given
        self.delay = 0.0  # seconds that each answer takes, but for our own client
        self.lock = threading.Lock()
        self.app = DomainDispatcherApplication(create_backend_app)
        self._open(0)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.environment = {
            "LOOM_STORE": f"s3://{self.bucket}/{PREFIX}",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
        }
        self.client = boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )
        self.client.create_bucket(Bucket=self.bucket)

    def _open(self, port):
        self.http = make_server("127.0.0.1", port, self._watched, threaded=True)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()

    def go_down(self):
        """Nobody answers at its address from here on; what it has, it keeps."""
        self.http.shutdown()
        self.http.server_close()

    def come_back(self):
        self._open(self.http.server_port)

    def keys(self):
        """{key: size} of all that is there, below the prefix."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{PREFIX}/")
        return {it["Key"].removeprefix(f"{PREFIX}/"): it["Size"] for page in pages for it in page.get("Contents", [])}

    def get(self, key):
        return self.client.get_object(Bucket=self.bucket, Key=f"{PREFIX}/{key}")["Body"].read()

    def tags(self, key):
        found = self.client.get_object_tagging(Bucket=self.bucket, Key=f"{PREFIX}/{key}")
        return {it["Key"]: it["Value"] for it in found["TagSet"]}

    def assert_stored_once(self, under=""):
        """Nothing below this key that had arrived was sent again, and no medium was sent again as something else."""
        stored = [it for it in self.stored if it[0].startswith(under)]
        twice = [it for it, times in collections.Counter(stored).items() if times > 1]
        assert not twice, f"sent again though they had arrived: {twice}"
        media = [key for key, _ in stored if key.endswith((".m4s", ".mp4"))]
        assert media and len(media) == len(set(media)), f"sent twice: {[it for it, times in collections.Counter(media).items() if times > 1]}"

    def _watched(self, environment, respond):
        if "Boto" not in environment.get("HTTP_USER_AGENT", ""):
            time.sleep(self.delay)
        path = urllib.parse.unquote(environment["PATH_INFO"]).removeprefix(f"/{self.bucket}/{PREFIX}/")
        query = environment.get("QUERY_STRING", "")
        if environment["REQUEST_METHOD"] != "PUT" or path.startswith("/") or "tagging" in query:
            return self.app(environment, respond)
        body = environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
        environment["wsgi.input"] = io.BytesIO(body)
        with self.lock:
            self.sent[path] = self.sent.get(path, 0) + 1
            number = sum(self.sent.values())
            if self.at_put and self.at_put(number, "before"):
                raise ConnectionAbortedError("a test ended the client before this put")
            if path.endswith(".m3u8"):
                there = self.keys()
                folder = path.rsplit("/", 1)[0]
                # what a gap names is not there (RFC 8216bis §4.4.4.7)
                text = re.sub(r"^#EXT-X-GAP\n(?:#.*\n)*.*\n", "", body.decode(), flags=re.M)
                named = re.findall(r'^(?!#)(\S+)|URI="([^"]+)"', text, re.M)
                self.unnamed += [(path, name) for it in named for name in it if name and f"{folder}/{name}" not in there]
            answer = list(self.app(environment, respond))
            self.stored.append((path, hashlib.sha256(body).hexdigest()))
            if path.endswith("/recording.json") and json.loads(body)["state"] == "ready":
                self.finished.append(path.split("/")[0])
            if self.at_put and self.at_put(number, "after"):
                raise ConnectionAbortedError("a test ended the client before this answer")
            return answer
