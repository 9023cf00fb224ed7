"""Answers `here`, and says to BEATS over UDP, every 5 ms for as long as it runs, which instance it is."""

import http.server
import os
import socket
import threading
import time

host, port = os.environ["BEATS"].rsplit(":", 1)
name = os.environ["TUTTI_INSTANCE"].encode()


def beat():
    out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    while True:
        out.sendto(name, (host, int(port)))
        time.sleep(0.005)


class Here(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"here\n")

    def log_message(self, *_):
        pass


threading.Thread(target=beat, daemon=True).start()
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Here).serve_forever()
