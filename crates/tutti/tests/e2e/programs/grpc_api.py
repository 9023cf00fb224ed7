"""A stock client of the management API that knows its services by reflection only. Writes one line of JSON.

    grpc_api.py ADDRESS services                     the names of the services
    grpc_api.py ADDRESS services-v1                  the same, by the newer reflection
    grpc_api.py ADDRESS call TOKEN METHOD MESSAGE    the answers and the status of a call, such as
                                                     tutti.v1.Domains/Deploy '{"service": ...}'

GRPC_AUTHORITY names the host that is meant, where that is not the address.
"""

import json
import os
import sys

import grpc
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

TIMEOUT = 60
REFLECTION_V1 = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


def services_v1(channel):
    """The messages of both reflections are the same but for their package."""
    ask = channel.stream_stream(
        REFLECTION_V1,
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = next(iter(ask(iter([question]), timeout=TIMEOUT)))
    return [service.name for service in answer.list_services_response.service]


def call(channel, database, token, method, message):
    service, name = method.split("/")
    described = DescriptorPool(database).FindServiceByName(service).FindMethodByName(name)
    wanted, given = GetMessageClass(described.input_type), GetMessageClass(described.output_type)
    kind = channel.unary_stream if described.server_streaming else channel.unary_unary
    invoke = kind(
        "/" + method, request_serializer=wanted.SerializeToString, response_deserializer=given.FromString
    )
    metadata = [("authorization", "Bearer " + token)] if token else []
    request = json_format.ParseDict(json.loads(message), wanted())
    said = {"answers": [], "code": "OK"}
    try:
        answer = invoke(request, timeout=TIMEOUT, metadata=metadata)
        for one in answer if described.server_streaming else [answer]:
            said["answers"].append(json_format.MessageToDict(one, preserving_proto_field_name=True))
    except grpc.RpcError as error:
        said.update(code=error.code().name, message=error.details())
        whole = rpc_status.from_call(error)
        for detail in whole.details if whole else []:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                said.update(reason=info.reason, domain=info.domain, metadata=dict(info.metadata))
    return said


def main():
    address, command, *rest = sys.argv[1:]
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    if authority := os.environ.get("GRPC_AUTHORITY"):
        options.append(("grpc.default_authority", authority))
    with grpc.insecure_channel(address, options) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        if command == "services":
            said = list(database.get_services())
        elif command == "services-v1":
            said = services_v1(channel)
        else:
            said = call(channel, database, *rest)
    print(json.dumps(said))


main()
