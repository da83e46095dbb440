"""
Compares the messages given on stdin, a FileDescriptorProto, with those of a client: `kserve` or `triton`.

In a process for each, as the two define the same names.
"""

import importlib
import sys

from google.protobuf import descriptor_pb2

MODULES = {"kserve": "kserve.protocol.grpc.grpc_predict_v2_pb2", "triton": "tritonclient.grpc.service_pb2"}
# KServe's copy is older than the protocol here.
ABSENT = {"kserve": {"double_param", "uint64_param"}, "triton": set()}[sys.argv[1]]


def fields(message) -> dict:
    return {field.name: (field.number, field.type, field.label, field.type_name) for field in message.field}


def compare(one, other) -> int:
    theirs = fields(other)
    for name, field in fields(one).items():
        assert name in ABSENT or theirs[name] == field, (one.name, name, field, theirs.get(name))
    nested = {message.name: message for message in other.nested_type}
    return 1 + sum(compare(message, nested[message.name]) for message in one.nested_type)


ours = descriptor_pb2.FileDescriptorProto.FromString(sys.stdin.buffer.read())
theirs = descriptor_pb2.FileDescriptorProto()
importlib.import_module(MODULES[sys.argv[1]]).DESCRIPTOR.CopyToProto(theirs)
assert theirs.package == ours.package
messages = {message.name: message for message in theirs.message_type}
assert sum(compare(one, messages[one.name]) for one in ours.message_type) > 20
[service] = theirs.service
methods = {method.name: (method.input_type, method.output_type) for method in service.method}
assert service.name == ours.service[0].name
for method in ours.service[0].method:
    assert methods[method.name] == (method.input_type, method.output_type), method.name
