"""Replays vectors.txt against Python's protobuf (json_format) and says where the two differ.

    compare.py DESCRIPTORS    DESCRIPTORS: a FileDescriptorSet of vectors.proto with its imports

Where Python is laxer than protobuf's own page on purpose or by its nature, LAXER names the line with the reason.
"""

import json
import pathlib
import sys

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

# What Python's json_format accepts and we refuse.
LAXER = {
    '{"aDouble":NaN}': "its JSON parser knows NaN, which JSON does not",
    '{"aDouble":"nan"}': "it hands text to float()",
    '{"aDouble":"inf"}': "it hands text to float()",
    '{"aString":"\\ud800"}': "its strings may hold half a surrogate pair until they are encoded",
    '{"mask":"foo_bar"}': "it takes names as they are",
    '{"someBytes":"!"}': "its base64 passes over what is not of the alphabet",
    '{"color":1.5}': "it cuts the fraction off",
    '{"color":true}': "true is 1 in Python",
    '{"inner":[]}': "what is empty is an empty message",
    "[]": "what is empty is an empty message",
    '""': "what is empty is an empty message",
    '{"anInt32":1,"an_int32":2}': "it compares names as they are written",
    '{"any":{"@type":"test.json.Inner"}}': "it takes a type without a slash",
}
# What it refuses and we take: the largest float, whose shortest decimal is above it and is rounded to it by others.
STRICTER = {'{"aFloat":3.4028235e38}'}


def main() -> int:
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet.FromString(pathlib.Path(sys.argv[1]).read_bytes())
    for file in files.file:
        pool.Add(file)
    everything = message_factory.GetMessageClass(pool.FindMessageTypeByName("test.json.Everything"))
    vectors = pathlib.Path(__file__).with_name("vectors.txt").read_text(encoding="utf-8")
    wrong, count = 0, 0
    for line in vectors.splitlines():
        if not line or line.startswith("#"):
            continue
        count += 1
        text, expected = line.rsplit(" | ", 1)
        refused = text.startswith("! ")
        text = text.removeprefix("! ")
        try:
            message = json_format.Parse(text, everything(), descriptor_pool=pool)
            found = json.loads(json_format.MessageToJson(message, descriptor_pool=pool))
        except Exception as error:  # Whatever it raises, it refuses.
            found = error
        if refused and not isinstance(found, Exception):
            if text not in LAXER:
                print(f"{text}: Python takes it: {found}")
                wrong += 1
        elif not refused and text not in STRICTER:
            wanted = json.loads(text if expected == "=" else expected)
            if found != wanted:
                print(f"{text}: Python gives {found!r}, not {wanted!r}")
                wrong += 1
    print(f"{count} lines compared, {wrong} differ")
    return 1 if wrong else 0


sys.exit(main())
