"""A stock gRPC client of com.example.HelloWorld. Writes one line of JSON.

    grpc_client.py split ADDRESS CALLS       counts which versions answered
    grpc_client.py load ADDRESS              unary calls and streams until standard input ends
    grpc_client.py status ADDRESS HOST PATH  the status of one call, by name
"""

import json
import sys
import threading
import time

import grpc

TIMEOUT = 60
SAY_HELLO = "/com.example.HelloWorld/SayHello"
COUNT = "/com.example.HelloWorld/Count"
HELLO = b"\x0a\x01x"


def varint(number):
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def unvarint(data):
    return sum((byte & 0x7F) << (7 * index) for index, byte in enumerate(data))


def channel(address, host=None):
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    if host:
        options.append(("grpc.default_authority", host))
    return grpc.insecure_channel(address, options)


def value(metadata, key):
    return next((value for name, value in metadata or () if name == key), None)


def split(address, calls):
    """Spread over a few channels; both the platform's and the program's word for the version are counted."""
    counts = {}
    lock = threading.Lock()

    def worker(share):
        with channel(address) as own:
            say = own.unary_unary(SAY_HELLO)
            mine = {}
            for _ in range(share):
                answer, call = say.with_call(HELLO, timeout=TIMEOUT)
                assert answer == b"\x08\x01", answer
                platform = value(call.initial_metadata(), "tutti-version")
                program = value(call.initial_metadata(), "sample-version")
                key = f"{platform} {program}"
                mine[key] = mine.get(key, 0) + 1
        with lock:
            for key, count in mine.items():
                counts[key] = counts.get(key, 0) + count

    threads = [threading.Thread(target=worker, args=(calls // 4,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"counts": counts}))


class Load:
    def __init__(self, address):
        self.address = address
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.calls = 0
        self.streams = 0
        self.versions = {}
        self.failures = []

    def failed(self, what, error):
        with self.lock:
            if len(self.failures) < 20:
                self.failures.append(f"{what}: {error.code().name}: {error.details()}")

    def unary(self):
        with channel(self.address) as own:
            say = own.unary_unary(SAY_HELLO)
            while not self.stop.is_set():
                try:
                    _, call = say.with_call(HELLO, timeout=TIMEOUT)
                    version = value(call.initial_metadata(), "sample-version")
                    with self.lock:
                        self.calls += 1
                        self.versions[version] = self.versions.get(version, 0) + 1
                except grpc.RpcError as error:
                    self.failed("unary", error)

    def count(self, counted, to):
        """Reads a stream slowly until it is time to stop, and then to its end."""
        last = 0
        for message in counted:
            number = unvarint(message[1:])
            if number != last + 1:
                raise AssertionError(f"{number} after {last}")
            last = number
            if number % 20 == 0 and not self.stop.is_set():
                self.stop.wait(0.002)
        if last != to:
            raise AssertionError(f"ended at {last} of {to}")

    def stream(self, to, again):
        with channel(self.address) as own:
            count = own.unary_stream(COUNT)
            while True:
                try:
                    self.count(count(b"\x08" + varint(to), timeout=4 * TIMEOUT), to)
                    with self.lock:
                        self.streams += 1
                except grpc.RpcError as error:
                    self.failed(f"stream of {to}", error)
                except AssertionError as error:
                    with self.lock:
                        self.failures.append(f"stream of {to}: {error}")
                if not again or self.stop.is_set():
                    return

    def run(self):
        jobs = [(self.unary, ())] * 3 + [(self.stream, (2_000, True)), (self.stream, (200_000, False))]
        threads = [threading.Thread(target=job, args=arguments) for job, arguments in jobs]
        for thread in threads:
            thread.start()
        while self.calls == 0 and not self.failures:
            time.sleep(0.01)
        print("loaded", flush=True)
        sys.stdin.read()
        self.stop.set()
        for thread in threads:
            thread.join()
        print(json.dumps({
            "calls": self.calls, "streams": self.streams, "versions": self.versions, "failures": self.failures,
        }))


def status(address, host, path):
    with channel(address, host) as own:
        try:
            own.unary_unary(path)(HELLO, timeout=TIMEOUT)
            print(json.dumps({"code": "OK"}))
        except grpc.RpcError as error:
            print(json.dumps({"code": error.code().name, "details": error.details()}))


if __name__ == "__main__":
    what, address, *rest = sys.argv[1:]
    if what == "split":
        split(address, int(rest[0]))
    elif what == "load":
        Load(address).run()
    else:
        status(address, *rest)
