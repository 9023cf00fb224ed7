"""A name server for tests, over UDP: answers from a file that is read again for each question.

    dns.py FILE

Prints the port that it listens on. A line of the file is NAME and what is said of it: TXT and a text, EMPTY (the name
exists), SERVFAIL, or SILENT. A name that is not there does not exist.
"""

import socket
import struct
import sys

NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3
TXT = 16


def name_of(packet: bytes) -> tuple[str, int]:
    """The name of the first question, and where the question's type stands."""
    labels, at = [], 12
    while packet[at]:
        labels.append(packet[at + 1 : at + 1 + packet[at]].decode("ascii"))
        at += 1 + packet[at]
    return ".".join(labels).lower(), at + 1


def answer(packet: bytes, lines: list[str]) -> bytes | None:
    name, end = name_of(packet)
    (kind,) = struct.unpack_from("!H", packet, end)
    said = [line.split(maxsplit=2)[1:] for line in lines if line.split(maxsplit=1)[:1] == [name]]
    words = [entry[0] for entry in said]
    if "SILENT" in words:
        return None
    code = SERVFAIL if "SERVFAIL" in words else NOERROR if said else NXDOMAIN
    texts = [entry[1].encode() for entry in said if entry[0] == "TXT" and kind == TXT]
    flags = 0x8180 | code
    head = packet[:2] + struct.pack("!HHHHH", flags, 1, len(texts), 0, 0)
    records = b""
    for text in texts:
        data = bytes([len(text)]) + text
        records += struct.pack("!HHHIH", 0xC00C, TXT, 1, 1, len(data)) + data
    return head + packet[12 : end + 4] + records


def main() -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)
    while True:
        packet, who = server.recvfrom(4096)
        with open(sys.argv[1], encoding="utf-8") as file:
            said = answer(packet, file.read().splitlines())
        if said is not None:
            server.sendto(said, who)


main()
