"""What com.example.HelloWorld answers: true for whoever gave a name, and from version 1.1 on for everyone."""

from componentize_py_types import Err
from wit_world.imports import com_example_types as types
from wit_world.imports.call import Code, Status

# Longest name that is listened to, in characters.
NAME = 1024

try:
    # What makes version 1.1 another one than 1.0.
    from talkative import TALKATIVE
except ImportError:
    TALKATIVE = False


def say_hello(request: types.HelloRequest) -> types.HelloResponse:
    """One request, one reply."""
    if len(request.name) > NAME:
        raise Err(Status(Code.INVALID_ARGUMENT, f"the name is longer than {NAME} characters", b""))
    print(f"asked by {request.name!r}")
    return types.HelloResponse(talk_to_me=TALKATIVE or request.name != "")
