"""A process with the shapes of traffic that the samples do not have.

    /headers           the request's headers, as JSON
    /websocket         echoes text frames
    /events            one event, and the second only once somebody has asked for /go
    /upload            length and SHA-256 of the body, which is read piece by piece
    /download?bytes=N  N bytes, in pieces
    /slow?ms=N         answers late
    /die               closes the connection without an answer
    /print?line=TEXT   writes TEXT to standard output and standard error

With SILENT=1 it accepts connections and never says anything.
"""

import base64
import hashlib
import json
import os
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

GO = threading.Event()
PIECE = 64 * 1024


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        url = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(url.query).items()}
        getattr(self, "on_" + url.path.strip("/"), self.on_nothing)()

    do_POST = do_PUT = do_GET

    def answer(self, body, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def on_nothing(self):
        self.answer(b"here\n", 200 if self.path == "/" else 404)

    def on_headers(self):
        self.answer(json.dumps({name.lower(): value for name, value in self.headers.items()}).encode())

    def on_slow(self):
        time.sleep(int(self.query["ms"]) / 1000)
        self.answer(b"at last\n")

    def on_die(self):
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def on_print(self):
        print(self.query["line"], flush=True)
        print(self.query["line"] + " on stderr", file=sys.stderr, flush=True)
        self.answer(b"printed\n")

    def on_go(self):
        GO.set()
        self.answer(b"gone\n")

    def on_events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"data: first\n\n")
        GO.wait(timeout=60)
        self.wfile.write(b"data: second\n\n")

    def pieces(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline().strip(), 16):
                while size:
                    piece = self.rfile.read(min(size, PIECE))
                    size -= len(piece)
                    yield piece
                self.rfile.readline()
            self.rfile.readline()
        else:
            left = int(self.headers.get("Content-Length", "0"))
            while left:
                piece = self.rfile.read(min(left, PIECE))
                left -= len(piece)
                yield piece

    def on_upload(self):
        length, digest = 0, hashlib.sha256()
        for piece in self.pieces():
            length += len(piece)
            digest.update(piece)
        self.answer(f"{length} {digest.hexdigest()}".encode())

    def on_download(self):
        left = int(self.query["bytes"])
        self.send_response(200)
        self.send_header("Content-Length", str(left))
        self.end_headers()
        while left:
            piece = b"d" * min(left, PIECE)
            self.wfile.write(piece)
            left -= len(piece)

    def on_websocket(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.close_connection = True
        while head := self.rfile.read(2):
            first, length = head
            length &= 0x7F
            if length == 126:
                (length,) = struct.unpack(">H", self.rfile.read(2))
            mask = self.rfile.read(4)
            text = bytes(byte ^ mask[index % 4] for index, byte in enumerate(self.rfile.read(length)))
            size = bytes([length]) if length < 126 else b"\x7e" + struct.pack(">H", length)
            self.wfile.write(bytes([first]) + size + text)
            if first & 0x0F == 8:
                return

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main():
    address = ("127.0.0.1", int(os.environ["PORT"]))
    if os.environ.get("SILENT") == "1":
        listener = socket.create_server(address)
        kept = []
        while True:
            kept.append(listener.accept())
    print("server.py listens", flush=True)
    Server(address, Handler).serve_forever()


if __name__ == "__main__":
    main()
