#!/usr/bin/env python3
"""Measures Tutti beside nginx and writes a table.

    bench.py TUTTI GUESTS OUTPUT [--seconds N]
    bench.py TUTTI GUESTS --deploys
    bench.py TUTTI GUESTS --idle [--versions N...]
    bench.py TUTTI GUESTS --grpc [--native PROGRAM] [--wasmtime PROGRAM] [--in-process PROGRAM]

Both are measured in one run, on the same machine, by the same wrk, on loopback, with what they front: Tutti's ingress
before a wasm component and before nginx's hello, and nginx as a proxy before the same hello. Cpu is what the kernel
counted for the processes in front of the load (/proc/PID/stat), so that wrk and the hello behind don't count.
"""

import argparse
import concurrent.futures
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

TICKS = os.sysconf("SC_CLK_TCK")
CONNECTIONS = 32
DEPLOYS = 5
PUSHES_AT_ONCE = 4
# Nothing here takes nearly so long on a machine that works.
PATIENCE = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.001)
    sys.exit(f"error: {what} did not come in {PATIENCE} s")


def tree(pid):
    """A process and all below it."""
    found = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += tree(int(child))
    return found


def cpu_seconds(pids):
    total = 0
    for pid in pids:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def resident_mib(pids):
    total = 0
    for pid in pids:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        total += int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.M)[1])
    return total / 1024


class Tutti:
    """`tutti dev` on free ports with a folder of its own."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.errors = open(folder / "tutti.log", "w")
        home = folder / "home"
        home.mkdir()
        self.environment = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "NO_COLOR": "1"}
        command = [binary, "dev", "-o", "json", "--data-dir", folder / "data"]
        command += ["--api", "127.0.0.1:0", "--http", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.errors, stdin=subprocess.DEVNULL, env=self.environment
        )
        line = self.process.stdout.readline()
        if not line:
            sys.exit("error: tutti dev ended before it was ready:\n" + (folder / "tutti.log").read_text())
        ready = json.loads(line)
        # What it prints later must not fill the pipe.
        threading.Thread(target=lambda: [None for _ in self.process.stdout], daemon=True).start()
        self.port = int(ready["http"].rstrip("/").rpartition(":")[2])
        token = pathlib.Path(ready["token_file"]).read_text().strip()
        self.environment |= {"TUTTI_API": ready["api"], "TUTTI_TOKEN": token}

    def run(self, *arguments):
        done = subprocess.run([self.binary, *arguments], env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"error: tutti {' '.join(map(str, arguments))}:\n{done.stdout}{done.stderr}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Nginx:
    """nginx with one worker, as `server` says, with a folder of its own."""

    def __init__(self, folder, name, server):
        self.port = free_port()
        prefix = folder / name
        prefix.mkdir()
        (prefix / "nginx.conf").write_text(
            f"""
            daemon off; worker_processes 1; pid {prefix}/pid; error_log {prefix}/error.log;
            events {{ worker_connections 1024; }}
            http {{
              access_log off; keepalive_requests 1000000000;
              client_body_temp_path {prefix}/b; proxy_temp_path {prefix}/p; fastcgi_temp_path {prefix}/f;
              uwsgi_temp_path {prefix}/u; scgi_temp_path {prefix}/s;
              {server(self.port)}
            }}"""
        )
        command = ["nginx", "-p", prefix, "-c", prefix / "nginx.conf", "-e", prefix / "error.log"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        wait_for(f"the {name} nginx", lambda: get(self.port, "x") is not None)

    def stop(self):
        self.process.terminate()
        self.process.wait(PATIENCE)


def hello(port):
    return f'server {{ listen 127.0.0.1:{port}; location / {{ return 200 "Hello from nginx\\n"; }} }}'


def proxy_to(upstream):
    return lambda port: f"""
        upstream hello {{ server 127.0.0.1:{upstream}; keepalive {CONNECTIONS}; }}
        server {{ listen 127.0.0.1:{port};
          location / {{ proxy_pass http://hello; proxy_http_version 1.1; proxy_set_header Connection "";
                        proxy_set_header Host $host; }} }}"""


def get(port, host):
    """The status of one request; None if nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/", headers={"Host": host})
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def get_grpc(port):
    """Whether the gRPC sample answers a call, by curl: the standard library has no HTTP/2."""
    done = subprocess.run(
        ["curl", "-s", "--http2-prior-knowledge", "-H", "content-type: application/grpc", "-H", "te: trailers"]
        + ["--data-binary", "@-", "-o", "/dev/null", "-D", "-"]
        + ["-H", "host: example.com", f"http://127.0.0.1:{port}/com.example.HelloWorld/SayHello"],
        input=b"\0\0\0\0\3\n\1x",
        capture_output=True,
    )
    return b"grpc-status: 0" in done.stdout


def load(port, host, pids, seconds):
    """Requests a second, cpu microseconds a request of `pids`, p50 and p99 in ms; failed requests end the run."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", "--latency", "-H", f"Host: {host}", f"http://127.0.0.1:{port}/"]
    subprocess.run([*command, "-d2"], check=True, stdout=subprocess.DEVNULL)
    before = cpu_seconds(pids)
    output = subprocess.run([*command, f"-d{seconds}"], check=True, capture_output=True, text=True).stdout
    cpu = cpu_seconds(pids) - before
    if "Non-2xx" in output or "Socket errors" in output:
        sys.exit(f"error: requests failed:\n{output}")
    requests = int(re.search(r"(\d+) requests in", output)[1])
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])
    return rate, cpu / requests * 1e6, percentile(output, 50), percentile(output, 99)


def load_grpc(port, pids, seconds, folder):
    """The same for unary calls of com.example.HelloWorld, by h2load; a call that fails ends the run."""
    message = folder / "message"
    message.write_bytes(b"\0\0\0\0\7\n\5world")
    log = folder / "calls"
    command = ["h2load", "-t1", f"-c{CONNECTIONS}", "-m1", "-d", message, f"--connect-to=127.0.0.1:{port}"]
    command += ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    uri = "http://example.com/com.example.HelloWorld/SayHello"
    subprocess.run([*command, "-D2", uri], check=True, stdout=subprocess.DEVNULL)
    before = cpu_seconds(pids)
    done = subprocess.run([*command, f"-D{seconds}", f"--log-file={log}", uri], check=True, capture_output=True, text=True)
    cpu = cpu_seconds(pids) - before
    times = sorted(int(line.split()[2]) for line in log.read_text().splitlines())
    log.unlink()
    # A call that fails has no message in its answer, whatever its HTTP status.
    data = int(re.search(r"\((\d+)\) data", done.stdout)[1])
    if len(times) == 0 or data < 7 * len(times):
        sys.exit(f"error: calls failed:\n{done.stdout}")
    at = lambda share: times[int(len(times) * share)] / 1000
    return len(times) / seconds, cpu / len(times) * 1e6, at(0.5), at(0.99)


def percentile(output, which):
    number, unit = re.search(rf"^\s+{which}%\s+([\d.]+)(us|ms|s)$", output, re.M).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def unlike(component, number):
    """The same component with other bytes, a custom section at its end, so that it is compiled anew."""
    name = f"bench-{number}".encode()
    return component + bytes([0, len(name) + 1, len(name)]) + name


def first_answer(tutti, artifact, name, answered):
    """Milliseconds that `tutti push` took, and from the start of the `tutti deploy` right after it to the first answer."""
    begun = time.monotonic()
    tutti.run("push", artifact, f"{name}@1.0")
    started = time.monotonic()
    pushed = (started - begun) * 1000
    deploy = subprocess.Popen(
        [tutti.binary, "deploy", f"{name}@1.0", "100%"],
        env=tutti.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )
    wait_for(f"the first answer of {name}", lambda: deploy.poll() not in (None, 0) or answered())
    took = (time.monotonic() - started) * 1000
    _, errors = deploy.communicate()
    if deploy.returncode != 0:
        sys.exit(f"error: tutti deploy {name}@1.0: {errors.decode()}")
    return pushed, took


def measure_deploys(tutti, guests, folder):
    shutil.copytree(guests / "hello-wasm", folder / "wasm")
    component = folder / "wasm/hello_wasm.wasm"
    original = component.read_bytes()

    def deploys(name, artifact):
        for number in range(DEPLOYS):
            host = f"{name}{number}.example.com.localhost"
            yield first_answer(tutti, artifact(number), f"example.com:{name}{number}",
                               lambda: get(tutti.port, host) == 200)

    def new(number):
        component.write_bytes(unlike(original, number))
        return component

    pushed, wasm = zip(*deploys("hello", new))
    pushed_again, again = zip(*deploys("again", lambda _: component))
    _, process = first_answer(tutti, guests / "hello-grpc", "com.example.HelloWorld", lambda: get_grpc(tutti.port))
    deploy = "`tutti deploy` right after the push, to the first answer"
    return {
        "`tutti push` until it is ready to start: wasm, new bytes": (pushed, ""),
        "`tutti push` until it is ready to start: wasm, bytes pushed before": (pushed_again, ""),
        f"{deploy}: wasm, new bytes": (wasm, "100 ms"),
        f"{deploy}: wasm, bytes pushed before": (again, "100 ms"),
        f"{deploy}: process (gRPC sample)": ([process], ""),
    }


def call_ms(port, service="com.example.HelloWorld"):
    """Milliseconds that one unary call took from its connection on, by curl."""
    done = subprocess.run(
        ["curl", "-sS", "--http2-prior-knowledge", "-H", "content-type: application/grpc", "-H", "te: trailers"]
        + ["--data-binary", "@-", "-o", "/dev/null", "-w", "%{time_total} %{size_download}"]
        + ["-H", "host: example.com", f"http://127.0.0.1:{port}/{service}/SayHello"],
        input=b"\0\0\0\0\3\n\1x", capture_output=True, check=True,
    )
    took, size = done.stdout.split()
    if int(size) != 7:
        sys.exit(f"error: a call of {service} failed")
    return float(took) * 1000


def deploy_grpc(tutti, guests, folder, version, number):
    """Pushes the wasm HelloWorld, with bytes of its own, and gives it all calls."""
    sample = guests / "hello-wasm-grpc-rust"
    component = folder / "component.wasm"
    component.write_bytes(unlike((sample / "1.0/component.wasm").read_bytes(), number))
    shutil.copy(sample / "1.0/tutti.toml", folder)
    name = f"com.example.HelloWorld@{version}"
    tutti.run("push", sample / "hello.proto", component, name)
    tutti.run("deploy", name, "100%")


def measure_grpc(tutti, guests, folder, seconds, native, wasmtime, in_process):
    """Rows of calls a second, and what was timed once or a few times."""
    grpc = folder / "grpc"
    grpc.mkdir()
    rows, cold, warm = [], [], []
    if native:
        shutil.copytree(guests / "hello-grpc", grpc / "native")
        shutil.copy(native, grpc / "native/hello-grpc")
        tutti.run("push", grpc / "native", "com.example.HelloWorld@1.9")
        tutti.run("deploy", "com.example.HelloWorld@1.9", "100%")
        wait_for("the native service", lambda: get_grpc(tutti.port))
        pids = tree(tutti.process.pid)
        rows.append(("Tutti ingress → native tonic HelloWorld, a process", *load_grpc(tutti.port, pids, seconds, folder)))
    for number in range(DEPLOYS):
        deploy_grpc(tutti, guests, grpc, f"2.{number}", number)
        cold.append(call_ms(tutti.port))
        warm.append(call_ms(tutti.port))
    rows.append(("Tutti ingress → wasm HelloWorld", *load_grpc(tutti.port, tree(tutti.process.pid), seconds, folder)))
    answers = {
        "first gRPC call of a wasm version never called": (cold, ""),
        "second gRPC call of that version, by the same client": (warm, ""),
    }
    if wasmtime:
        rows.append(("`wasmtime serve` → wasm hello (HTTP/1.1)", *load_wasmtime(guests, wasmtime, seconds)))
    if in_process:
        done = subprocess.run([in_process, "--json"], check=True, capture_output=True, text=True)
        micros = json.loads(done.stdout)
    else:
        micros = None
    return rows, answers, micros


def load_wasmtime(guests, wasmtime, seconds):
    port = free_port()
    command = [wasmtime, "serve", "-Scli", f"--addr=127.0.0.1:{port}", guests / "hello_wasm.wasm"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for("wasmtime serve", lambda: get(port, "x") == 200)
        return load(port, "x", tree(process.pid), seconds)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def idle_memory(binary, guests, counts, same):
    """Resident MiB with so many idle versions, in the order of `counts`, each of bytes of its own or all of the same, and
    before the first. A process of its own for each, so that nothing else has been there. Nobody has called them."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tutti-idle-"))
    tutti = Tutti(binary, folder)
    original = (guests / "hello_wasm.wasm").read_bytes()

    def deploy(number):
        place = folder / f"idle-{number}"
        place.mkdir()
        # So little that a thousand fit on a small machine: what is promised to an idle version is not what it takes.
        (place / "tutti.toml").write_text('[service]\nisolate = "wasm"\nmemory = "4Mi"\ncpu = "1m"\n')
        (place / "component.wasm").write_bytes(original if same else unlike(original, f"idle-{number}"))
        tutti.run("push", place / "component.wasm", f"example.com:idle{number}@1.0")
        tutti.run("deploy", f"example.com:idle{number}@1.0", "100%")
        shutil.rmtree(place)

    try:
        # Caches of the start, and what a first version brings along for all, are not a version's.
        time.sleep(5)
        before, deployed, found = resident_mib([tutti.process.pid]), 0, []
        for count in counts:
            print(f"{count} idle versions, {'the same' if same else 'other'} bytes", file=sys.stderr)
            # Most of a push is waiting for what others do: the compiler, the store, loops.
            with concurrent.futures.ThreadPoolExecutor(PUSHES_AT_ONCE) as pool:
                list(pool.map(deploy, range(deployed, count)))
            deployed = max(deployed, count)
            # Memory of the pushes is given back.
            time.sleep(5)
            found.append((count, resident_mib([tutti.process.pid]), before))
        return found
    finally:
        tutti.stop()
        shutil.rmtree(folder, ignore_errors=True)


def idle_rows(memory):
    lines = []
    for bytes_, found in memory.items():
        for count, resident, before in found:
            aim = "300 MiB" if count == 1000 else ""
            what = f"resident memory with {count:,} idle wasm versions {bytes_} ({before:.0f} MiB without)"
            lines.append(f"| {what} | {resident:.0f} MiB | | 1 | {aim} |")
    return lines


def measure_idle(binary, guests, counts):
    what = {"of other bytes each": False, "of the same bytes": True}
    return {name: idle_memory(binary, guests, counts, same) for name, same in what.items()}


def grpc_rows(rows):
    lines = ["| | calls/s | cpu µs/call | p50 ms | p99 ms |", "|---|---:|---:|---:|---:|"]
    return lines + [f"| {name} | {rate:,.0f} | {cpu:.1f} | {p50:.2f} | {p99:.2f} |" for name, rate, cpu, p50, p99 in rows]


def grpc_report(rows, answers, micros, memory):
    lines = ["## gRPC", ""] + grpc_rows(rows) + ["", "| | median | worst | of | aim |", "|---|---:|---:|---:|---:|"]
    for what, (took, aim) in answers.items():
        lines.append(f"| {what} | {statistics.median(took):.1f} ms | {max(took):.1f} ms | {len(took)} | {aim} |")
    if micros:
        lines.append(f"| a call in process, from request to encoded reply, p50 | {micros['p50_us']:.0f} µs | | 20000 | 50 µs |")
        lines.append(f"| the same, p99 | {micros['p99_us']:.0f} µs | | 20000 | |")
    lines += idle_rows(memory)
    return "\n".join(lines) + "\n"


def measure(tutti, guests, folder, seconds):
    # Nothing happens: the caches of the start are gone by then.
    time.sleep(5)
    idle = resident_mib([tutti.process.pid])
    answers = measure_deploys(tutti, guests, folder)

    back = Nginx(folder, "hello", hello)
    front = Nginx(folder, "proxy", proxy_to(back.port))
    tutti.run("service", "create", "example.com:behind", "--upstream", f"127.0.0.1:{back.port}")
    wait_for("the upstream service", lambda: get(tutti.port, "behind.example.com.localhost") == 200)
    try:
        rows = [
            ("nginx → nginx hello", *load(front.port, "x", tree(front.process.pid), seconds)),
            ("Tutti ingress → nginx hello",
             *load(tutti.port, "behind.example.com.localhost", [tutti.process.pid], seconds)),
            ("Tutti ingress → wasm hello",
             *load(tutti.port, "hello0.example.com.localhost", [tutti.process.pid], seconds)),
        ]
    finally:
        front.stop()
        back.stop()
    return idle, answers, rows


def times(answers):
    """A line of the second table for each thing that was timed."""
    return [
        f"| {what} | {statistics.median(took):.0f} ms | {max(took):.0f} ms | {len(took)} | {aim} |"
        for what, (took, aim) in answers.items()
    ]


def report(load, idle, answers, rows, seconds):
    memory = re.search(r"^MemTotal:\s+(\d+) kB", pathlib.Path("/proc/meminfo").read_text(), re.M)[1]
    cpus = re.findall(r"^model name\s*:\s*(.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    version = subprocess.run(["nginx", "-v"], capture_output=True, text=True).stderr.strip().rpartition("/")[2]
    _, base_rate, base_cpu, _, _ = rows[0]
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench` on {time.strftime('%Y-%m-%d')}: {len(cpus)} × {cpus[0] if cpus else 'cpu'}, "
        f"{int(memory) / 2**20:.0f} GiB, Linux {os.uname().release}; load average {load:.1f} before the "
        f"start; release build, nginx {version} with one worker, wrk with one thread and {CONNECTIONS} connections for "
        f"{seconds} s each, everything on this one machine and in one run. Cpu is that of the process in front of the "
        "load: with the wasm hello that is everything there is, with a hello behind it is the proxy alone.",
        "",
        "| | requests/s | × nginx | cpu µs/request | × nginx | p50 ms | p99 ms |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, rate, cpu, p50, p99 in rows:
        lines.append(
            f"| {name} | {rate:,.0f} | {rate / base_rate:.2f} | {cpu:.1f} | {cpu / base_cpu:.2f} | {p50:.2f} | {p99:.2f} |"
        )
    lines += ["", "| | median | worst | of | aim |", "|---|---:|---:|---:|---:|"]
    lines += times(answers)
    proxy = rows[1][2]
    lines += [
        f"| cpu of the ingress for one request to a hello behind it | {proxy:.0f} µs | | 1 | 40 µs |",
        f"| resident memory of a new, idle `tutti dev` | {idle:.0f} MiB | | 1 | 60 MiB |",
        "",
    ]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tutti", type=pathlib.Path)
    parser.add_argument("guests", type=pathlib.Path)
    parser.add_argument("output", type=pathlib.Path, nargs="?")
    parser.add_argument("--deploys", action="store_true", help="only pushes and deploys, without writing a page")
    parser.add_argument("--grpc", action="store_true", help="only gRPC, without writing a page")
    parser.add_argument("--idle", action="store_true", help="only the memory of idle versions, without writing a page")
    parser.add_argument("--native", type=pathlib.Path, help="a release build of samples/hello-grpc")
    parser.add_argument("--wasmtime", type=pathlib.Path, help="wasmtime's own program")
    parser.add_argument("--in-process", type=pathlib.Path, help="the example grpc_latency of the wasm isolate")
    parser.add_argument("--versions", type=int, nargs="*", default=[1, 100, 1000], help="idle versions to hold")
    parser.add_argument("--seconds", type=int, default=10)
    options = parser.parse_args()
    if not (options.output or options.deploys or options.grpc or options.idle):
        parser.error("where is the page to be written?")
    if options.idle:
        memory = measure_idle(options.tutti.resolve(), options.guests.resolve(), options.versions)
        print("\n".join(idle_rows(memory)))
        return
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tutti-bench-"))
    load_before = os.getloadavg()[0]
    tutti = Tutti(options.tutti.resolve(), folder)
    try:
        if options.deploys:
            print("\n".join(times(measure_deploys(tutti, options.guests.resolve(), folder))))
            return
        guests = options.guests.resolve()
        text = "" if options.grpc else report(load_before, *measure(tutti, guests, folder, options.seconds), options.seconds)
        programs = options.native, options.wasmtime, options.in_process
        calls = measure_grpc(tutti, guests, folder, options.seconds, *programs)
        tutti.stop()
        memory = measure_idle(tutti.binary, guests, options.versions)
        text += "\n" * bool(text) + grpc_report(*calls, memory)
    finally:
        tutti.stop()
        shutil.rmtree(folder, ignore_errors=True)
    if options.output:
        options.output.parent.mkdir(exist_ok=True)
        options.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
