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
        self.long = 0
        self.versions = {}
        self.failures = []

    def failed(self, what, error):
        why = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.RpcError) else error
        with self.lock:
            if len(self.failures) < 20:
                self.failures.append(f"{what}: {why}")

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

    def count(self, counted, upto):
        """Reads a stream until it ends, or, once it is time to stop, has gone `upto` messages further."""
        last, after = 0, 0
        for message in counted:
            number = unvarint(message[1:])
            if number != last + 1:
                raise AssertionError(f"{number} after {last}")
            last = number
            after += self.stop.is_set()
            if after > upto:
                counted.cancel()
                break
        return last

    def short_streams(self):
        with channel(self.address) as own:
            count = own.unary_stream(COUNT)
            while not self.stop.is_set():
                try:
                    last = self.count(count(b"\x08" + varint(500), timeout=TIMEOUT), 500)
                    assert last == 500, f"ended at {last}"
                    with self.lock:
                        self.streams += 1
                except (grpc.RpcError, AssertionError) as error:
                    self.failed("short stream", error)

    def long_stream(self):
        """One that its instance is busy with all the time: it must be alive when everything else has been done."""
        with channel(self.address) as own:
            request = b"\x08" + varint(1_000_000) + b"\x10" + varint(5)
            try:
                self.long = self.count(own.unary_stream(COUNT)(request, timeout=4 * TIMEOUT), 10)
                assert self.stop.is_set(), f"ended by itself at {self.long}"
            except (grpc.RpcError, AssertionError) as error:
                self.failed("long stream", error)

    def run(self):
        jobs = [(self.unary, ())] * 3 + [(self.short_streams, ()), (self.long_stream, ())]
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
            "calls": self.calls, "streams": self.streams, "long": self.long, "versions": self.versions,
            "failures": self.failures,
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
