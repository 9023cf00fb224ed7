"""A stock gRPC client of com.example.Echo (crates/isolate-wasm/tests/grpc_guest/echo.proto). Writes lines of JSON.

    grpc_streams.py ADDRESS shapes                 one call of each shape, and what it gave
    grpc_streams.py ADDRESS slow-reader STREAMS    server streams that are read a little, then not at all, until input ends
    grpc_streams.py ADDRESS slow-server STREAMS    streams that send while nobody reads the replies, until input ends
    grpc_streams.py ADDRESS ends                   calls of each shape that end by deadline, and by cancelling
    grpc_streams.py ADDRESS late SECONDS           streams whose first message comes so late

Run it where echo.proto is: its stubs are made from that.
"""

import json
import sys
import threading
import time

import grpc

# Where protos are looked for.
sys.path.insert(0, ".")
protos, services = grpc.protos_and_services("echo.proto")
Chunk, Wanted, Misdeed, Hello = protos.Chunk, protos.Wanted, protos.Misdeed, protos.HelloRequest

# No wait is longer.
PATIENCE = 60
SIZE = 64 * 1024
# Offered by each stream: 4 GiB, which nobody's buffers hold.
OFFERED = 65536
# Of each slow stream, this much is read.
READ = 200


def say(what):
    print(json.dumps(what), flush=True)


def shapes(echo):
    summary = echo.Upload(Chunk(data=b"x" * 1000, number=number) for number in range(100))
    downloaded = [chunk.number for chunk in echo.Download(Wanted(chunks=100, bytes=1000))]
    # Each reply before the next request.
    asked, told = threading.Semaphore(1), []

    def questions():
        for number in range(50):
            asked.acquire(timeout=PATIENCE)
            yield Chunk(number=number)

    for chunk in echo.Talk(questions(), timeout=PATIENCE):
        told.append(chunk.number)
        asked.release()
    say({
        "unary": echo.SayHello(Hello(name="x"), timeout=PATIENCE).talk_to_me,
        "client": [summary.chunks, summary.bytes],
        "server": downloaded == list(range(100)),
        "both": told == list(range(50)),
    })


def slow_reader(echo, streams):
    calls = [echo.Download(Wanted(chunks=OFFERED, bytes=SIZE)) for _ in range(streams)]
    for number in range(READ):
        for call in calls:
            assert next(call).number == number
    say({"read": READ * streams * SIZE})
    sys.stdin.readline()
    # They go on where they were.
    for call in calls:
        assert next(call).number == READ
        call.cancel()
    say({"alive": len(calls)})


def slow_server(echo, streams):
    """Whoever reads no replies is a slow server's picture: the guest waits with a reply, and takes no more requests."""
    taken = [0] * streams
    data = b"x" * SIZE

    def offer(stream):
        for number in range(OFFERED):
            taken[stream] = number
            # These have meanings of their own.
            yield Chunk(data=data, number=number if number < 900 else 0)

    calls = [echo.Talk(offer(stream)) for stream in range(streams)]
    for number in range(READ):
        for call in calls:
            assert next(call).number == number
    say({"read": READ * streams * SIZE})
    sys.stdin.readline()
    say({"taken": max(taken)})
    for call in calls:
        assert next(call).number == READ
        call.cancel()
    say({"alive": len(calls)})


def ended(call, shape):
    """How a call ended, which must be while what it asked for would still go on."""
    begun = time.monotonic()
    try:
        if shape in ("server", "both"):
            list(call)
        else:
            call.result(timeout=PATIENCE)
        return "OK"
    except grpc.FutureCancelledError:
        return "CANCELLED"
    except grpc.RpcError as error:
        return error.code().name
    finally:
        assert time.monotonic() - begun < PATIENCE, "it went on"


def ends(echo):
    def silent(stop):
        yield Chunk(number=1)
        stop.wait(PATIENCE)

    def call(shape, timeout, stop):
        if shape == "unary":
            return echo.Misbehave.future(Misdeed(sleep=PATIENCE * 2000), timeout=timeout)
        if shape == "client":
            return echo.Upload.future(silent(stop), timeout=timeout)
        if shape == "server":
            return echo.Download(Wanted(chunks=1 << 30, bytes=10, pause=5), timeout=timeout)
        return echo.Talk(silent(stop), timeout=timeout)

    for how in ["deadline", "cancel"]:
        for shape in ["unary", "client", "server", "both"]:
            stop = threading.Event()
            running = call(shape, 0.5 if how == "deadline" else None, stop)
            if how == "cancel":
                if shape in ("server", "both"):
                    next(running)
                else:
                    say({"running": shape})
                    sys.stdin.readline()
                running.cancel()
            code = ended(running, shape)
            stop.set()
            # The one place is free again.
            after = echo.SayHello(Hello(name="x"), timeout=PATIENCE / 2).talk_to_me
            say({"how": how, "shape": shape, "code": code, "after": after})


def late(echo, seconds):
    """Its messages are the only ones that a service with a short limit waits for longer than that."""
    def questions():
        for number in range(2):
            time.sleep(seconds)
            yield Chunk(number=number)

    told = [chunk.number for chunk in echo.Talk(questions(), timeout=PATIENCE)]
    summary = echo.Upload(questions(), timeout=PATIENCE)
    say({"both": told, "client": summary.chunks})


if __name__ == "__main__":
    address, what, *rest = sys.argv[1:]
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    with grpc.insecure_channel(address, options) as channel:
        stub = services.EchoStub(channel)
        if what == "shapes":
            shapes(stub)
        elif what == "slow-reader":
            slow_reader(stub, int(rest[0]))
        elif what == "slow-server":
            slow_server(stub, int(rest[0]))
        elif what == "ends":
            ends(stub)
        else:
            late(stub, float(rest[0]))
