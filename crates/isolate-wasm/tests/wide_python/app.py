"""A component that gives every message back, as its sibling in Rust does; made by componentize-py."""

from wit_world import exports


class Wide(exports.Wide):
    def scalars(self, ctx, request):
        return request

    def optionals(self, ctx, request):
        return request

    def lists(self, ctx, request):
        return request

    def maps(self, ctx, request):
        return request

    def oneofs(self, ctx, request):
        return request

    def nested(self, ctx, request):
        return request

    def recursive(self, ctx, request):
        return request

    def known(self, ctx, request):
        return request

    def old(self, ctx, request):
        return request
