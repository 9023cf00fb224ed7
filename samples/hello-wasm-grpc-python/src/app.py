"""com.example.HelloWorld: the component. What it answers is in service.py."""

import os

import service
from wit_world import exports
from wit_world.imports.call import MetadataValue_Text


class HelloWorld(exports.HelloWorld):
    def say_hello(self, ctx, request):
        # Which version has answered, for whoever looks at the reply's metadata.
        version = os.environ.get("VERSION") or os.environ.get("TUTTI_VERSION") or "dev"
        ctx.add_header("sample-version", MetadataValue_Text(version))
        return service.say_hello(request)
