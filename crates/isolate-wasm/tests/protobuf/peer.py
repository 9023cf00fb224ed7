"""What Python's protobuf makes of messages.

Reads from standard input: two descriptor sets, then one request after the other until the end; writes one answer for each.
Everything is preceded by its length, four bytes, big end first. A request is the number of the set (one byte), the type's
name, a zero byte, and the message. An answer is one byte, 1 if the message is one, and its canonical form.
"""

import struct
import sys

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError


def read():
    prefix = sys.stdin.buffer.read(4)
    if len(prefix) < 4:
        return None
    return sys.stdin.buffer.read(struct.unpack(">I", prefix)[0])


def pool_of(serialized):
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(serialized).file:
        # Extensions are unknown fields to a component.
        del file.extension[:]
        pool.Add(file)
    return pool


def answer(pools, classes, request):
    name, _, message = request[1:].partition(b"\0")
    key = request[0], name
    if key not in classes:
        found = pools[request[0]].FindMessageTypeByName(name.decode())
        classes[key] = message_factory.GetMessageClass(found)
    parsed = classes[key]()
    try:
        parsed.ParseFromString(message)
        if not parsed.IsInitialized():
            return b"\0"
        parsed.DiscardUnknownFields()
        return b"\1" + parsed.SerializeToString(deterministic=True)
    except (DecodeError, UnicodeDecodeError):
        return b"\0"


def main():
    pools, classes = [pool_of(read()), pool_of(read())], {}
    while (request := read()) is not None:
        answered = answer(pools, classes, request)
        sys.stdout.buffer.write(struct.pack(">I", len(answered)) + answered)
    sys.stdout.buffer.flush()


main()
