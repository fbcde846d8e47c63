"""The table of messages, against the definitions that Triton's client brings."""

import pytest
from google.protobuf.descriptor import FieldDescriptor
from tritonclient.grpc import model_config_pb2, service_pb2

from agent.api.grpc import schema
from agent.api.grpc.methods import Methods

STANDARD = {
    **service_pb2.DESCRIPTOR.message_types_by_name,
    **model_config_pb2.DESCRIPTOR.message_types_by_name,
}


def standard(name: str):
    outer, _, inner = name.partition(".")
    found = STANDARD[outer]
    return found.nested_types_by_name[inner] if inner else found


def described(field: FieldDescriptor) -> tuple[object, ...]:
    kind = field.message_type or field.enum_type
    inner = kind.name if kind else ""
    entry = field.message_type is not None and field.message_type.GetOptions().map_entry
    value = described(field.message_type.fields_by_name["value"]) if entry else ()
    choice = field.containing_oneof.name if field.containing_oneof else ""
    return (field.name, field.number, field.type, field.is_repeated, inner, choice, value)


@pytest.mark.parametrize("name", schema.MESSAGES)
def test_every_field_is_the_standards(name: str) -> None:
    theirs = {field.number: described(field) for field in standard(name).fields}
    for field in schema.message(name).DESCRIPTOR.fields:
        assert described(field) == theirs[field.number]


def test_requests_for_inference_have_every_field() -> None:
    for name in ("ModelInferRequest", "ModelInferResponse", "InferTensorContents"):
        assert len(schema.message(name).DESCRIPTOR.fields) == len(standard(name).fields)


def test_element_types_have_the_standards_numbers() -> None:
    theirs = model_config_pb2.DataType.items()
    assert [name for name, _ in sorted(theirs, key=lambda item: item[1])] == list(schema.DATA_TYPES)


def test_every_method_of_the_service_is_answered() -> None:
    service = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    offered = set(Methods(None).names)  # type: ignore[arg-type]  # asked for its table only
    assert {method.name for method in service.methods} <= offered
