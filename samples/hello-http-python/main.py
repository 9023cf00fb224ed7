"""An HTTP service that runs as a process on Tutti. See README.md for its paths."""

import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

VERSION = os.environ.get("VERSION") or os.environ.get("TUTTI_VERSION", "none")
STOPPING = threading.Event()
ACTIVE = 0
IDLE = threading.Condition()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "hello-http-python"

    def do_GET(self):
        global ACTIVE
        with IDLE:
            ACTIVE += 1
        try:
            self.route()
        finally:
            with IDLE:
                ACTIVE -= 1
                IDLE.notify_all()

    do_POST = do_PUT = do_GET

    def route(self):
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if url.path == "/":
            bad = os.environ.get("ERRORS") == "1"
            self.answer(500 if bad else 200, f"hello from version {VERSION}\n".encode())
        elif url.path == "/healthz":
            self.answer(503 if os.environ.get("HEALTH") == "bad" else 200, b"")
        elif url.path == "/echo":
            self.answer(200, body)
        elif url.path == "/slow":
            time.sleep(number(query, "ms", 60_000) / 1000)
            self.answer(200, b"at last\n")
        elif url.path == "/events":
            self.events(number(query, "n", 1_000))
        elif url.path == "/crash":
            print("crashing as asked", flush=True)
            os._exit(3)
        else:
            self.answer(404, b"no such path\n")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Sample-Version", VERSION)
        if STOPPING.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def events(self, count):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for number_of_event in range(1, count + 1):
            self.wfile.write(f"data: {number_of_event}\n\n".encode())
            self.wfile.flush()
            time.sleep(0.01)

    def log_message(self, format, *args):
        print(f"{self.command} {self.path} {args[1] if len(args) > 1 else ''}", flush=True)


def number(query, name, most):
    try:
        return max(0, min(int(query.get(name, ["0"])[0]), most))
    except ValueError:
        return 0


class Server(ThreadingHTTPServer):
    daemon_threads = True
    # A burst of connections waits here rather than being refused.
    request_queue_size = 128


def main():
    port = os.environ.get("PORT")
    if port is None:
        sys.exit("PORT is not set")
    if os.environ.get("START") == "fail":
        print("cannot start: START=fail", file=sys.stderr, flush=True)
        sys.exit(1)
    server = Server(("127.0.0.1", int(port)), Handler)

    def stop(*_):
        STOPPING.set()
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"hello-http-python version {VERSION} listens on 127.0.0.1:{port}", flush=True)
    server.serve_forever(poll_interval=0.05)
    with IDLE:
        IDLE.wait_for(lambda: ACTIVE == 0, timeout=60)
    print("hello-http-python has stopped", flush=True)


if __name__ == "__main__":
    main()
