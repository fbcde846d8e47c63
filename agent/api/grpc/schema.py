"""The messages of `inference.GRPCInferenceService`, as a table. The only file that imports protobuf.

Names, numbers and types are those of the Open Inference Protocol's open_inference_grpc.proto with
Triton's extensions (grpc_service.proto, and what clients read of model_config.proto). Message classes
are made from the table when the first of them is needed; no compiler, and no generated code.
"""

from functools import cache
from typing import Any

PACKAGE = "inference"
SERVICE = "GRPCInferenceService"

#: message -> "field:number:type" with * for repeated, "map T" for a map from string, @ for a oneof.
MESSAGES: dict[str, str] = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live:1:bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready:1:bool",
    "ModelReadyRequest": "name:1:string version:2:string",
    "ModelReadyResponse": "ready:1:bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name:1:string version:2:string extensions:3:*string",
    "ModelMetadataRequest": "name:1:string version:2:string",
    "ModelMetadataResponse": "name:1:string versions:2:*string platform:3:string"
    " inputs:4:*ModelMetadataResponse.TensorMetadata"
    " outputs:5:*ModelMetadataResponse.TensorMetadata",
    "ModelMetadataResponse.TensorMetadata": "name:1:string datatype:2:string shape:3:*int64",
    "InferParameter": "bool_param:1:bool@parameter_choice int64_param:2:int64@parameter_choice"
    " string_param:3:string@parameter_choice double_param:4:double@parameter_choice"
    " uint64_param:5:uint64@parameter_choice",
    "InferTensorContents": "bool_contents:1:*bool int_contents:2:*int32 int64_contents:3:*int64"
    " uint_contents:4:*uint32 uint64_contents:5:*uint64 fp32_contents:6:*float"
    " fp64_contents:7:*double bytes_contents:8:*bytes",
    "ModelInferRequest": "model_name:1:string model_version:2:string id:3:string"
    " parameters:4:map|InferParameter inputs:5:*ModelInferRequest.InferInputTensor"
    " outputs:6:*ModelInferRequest.InferRequestedOutputTensor raw_input_contents:7:*bytes",
    "ModelInferRequest.InferInputTensor": "name:1:string datatype:2:string shape:3:*int64"
    " parameters:4:map|InferParameter contents:5:InferTensorContents",
    "ModelInferRequest.InferRequestedOutputTensor": "name:1:string parameters:2:map|InferParameter",
    "ModelInferResponse": "model_name:1:string model_version:2:string id:3:string"
    " parameters:4:map|InferParameter outputs:5:*ModelInferResponse.InferOutputTensor"
    " raw_output_contents:6:*bytes",
    "ModelInferResponse.InferOutputTensor": "name:1:string datatype:2:string shape:3:*int64"
    " parameters:4:map|InferParameter contents:5:InferTensorContents",
    "ModelStreamInferResponse": "error_message:1:string infer_response:2:ModelInferResponse",
    "ModelConfigRequest": "name:1:string version:2:string",
    "ModelConfigResponse": "config:1:ModelConfig",
    "ModelConfig": "name:1:string platform:2:string max_batch_size:4:int32 input:5:*ModelInput"
    " output:6:*ModelOutput backend:17:string",
    "ModelInput": "name:1:string data_type:2:DataType dims:4:*int64",
    "ModelOutput": "name:1:string data_type:2:DataType dims:3:*int64",
    "ModelStatisticsRequest": "name:1:string version:2:string",
    "StatisticDuration": "count:1:uint64 ns:2:uint64",
    "InferStatistics": "success:1:StatisticDuration fail:2:StatisticDuration",
    "ModelStatistics": "name:1:string version:2:string last_inference:3:uint64"
    " inference_count:4:uint64 execution_count:5:uint64 inference_stats:6:InferStatistics",
    "ModelStatisticsResponse": "model_stats:1:*ModelStatistics",
    "ModelRepositoryParameter": "bool_param:1:bool@parameter_choice"
    " int64_param:2:int64@parameter_choice string_param:3:string@parameter_choice"
    " bytes_param:4:bytes@parameter_choice",
    "RepositoryIndexRequest": "repository_name:1:string ready:2:bool",
    "RepositoryIndexResponse": "models:1:*RepositoryIndexResponse.ModelIndex",
    "RepositoryIndexResponse.ModelIndex": "name:1:string version:2:string state:3:string"
    " reason:4:string",
    "RepositoryModelLoadRequest": "repository_name:1:string model_name:2:string"
    " parameters:3:map|ModelRepositoryParameter",
    "RepositoryModelLoadResponse": "",
    "RepositoryModelUnloadRequest": "repository_name:1:string model_name:2:string"
    " parameters:3:map|ModelRepositoryParameter",
    "RepositoryModelUnloadResponse": "",
    "SystemSharedMemoryStatusRequest": "name:1:string",
    "SystemSharedMemoryStatusResponse": "regions:1:map|SystemSharedMemoryStatusResponse.RegionStatus",
    "SystemSharedMemoryStatusResponse.RegionStatus": "name:1:string key:2:string offset:3:uint64"
    " byte_size:4:uint64",
    "SystemSharedMemoryRegisterRequest": "name:1:string key:2:string offset:3:uint64"
    " byte_size:4:uint64",
    "SystemSharedMemoryRegisterResponse": "",
    "SystemSharedMemoryUnregisterRequest": "name:1:string",
    "SystemSharedMemoryUnregisterResponse": "",
    "LogSettingsRequest": "settings:1:map|LogSettingsRequest.SettingValue",
    "LogSettingsRequest.SettingValue": "bool_param:1:bool@parameter_choice"
    " uint32_param:2:uint32@parameter_choice string_param:3:string@parameter_choice",
    "LogSettingsResponse": "settings:1:map|LogSettingsResponse.SettingValue",
    "LogSettingsResponse.SettingValue": "bool_param:1:bool@parameter_choice"
    " uint32_param:2:uint32@parameter_choice string_param:3:string@parameter_choice",
}

#: The element types of model_config.proto, in the order of their numbers.
DATA_TYPES = (
    "TYPE_INVALID", "TYPE_BOOL", "TYPE_UINT8", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64", "TYPE_INT8",
    "TYPE_INT16", "TYPE_INT32", "TYPE_INT64", "TYPE_FP16", "TYPE_FP32", "TYPE_FP64", "TYPE_STRING",
    "TYPE_BF16",
)  # fmt: skip

_SCALARS = {
    "double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "bool": 8, "string": 9, "bytes": 12,
    "uint32": 13,
}  # fmt: skip
_MESSAGE, _ENUM = 11, 14
_OPTIONAL, _REPEATED = 1, 3


@cache
def message(name: str) -> Any:
    """The class of a message, for example "ModelInferRequest"."""
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))


@cache
def _pool() -> Any:
    """A pool of our own: another library in the process may have the same messages."""
    from google.protobuf import descriptor_pb2, descriptor_pool

    file = descriptor_pb2.FileDescriptorProto(
        name="edge_agent/inference.proto", package=PACKAGE, syntax="proto3"
    )
    types = file.enum_type.add(name="DataType")
    for number, label in enumerate(DATA_TYPES):
        types.value.add(name=label, number=number)
    made: dict[str, Any] = {}
    for name, fields in MESSAGES.items():
        outer, _, inner = name.rpartition(".")
        holder = made[outer].nested_type if outer else file.message_type
        made[name] = holder.add(name=inner)
        for field in fields.split():
            _add_field(made[name], name, field)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _add_field(owner: Any, owner_name: str, text: str) -> None:
    name, number, kind = text.split(":")
    kind, _, choice = kind.partition("@")
    field = owner.field.add(name=name, number=int(number), label=_OPTIONAL)
    if kind.startswith("map|"):
        entry = _map_entry(owner, name, kind.removeprefix("map|"))
        field.label, field.type = _REPEATED, _MESSAGE
        field.type_name = f".{PACKAGE}.{owner_name}.{entry}"
        return
    if kind.startswith("*"):
        field.label, kind = _REPEATED, kind[1:]
    _set_type(field, kind)
    if choice:
        if not owner.oneof_decl:
            owner.oneof_decl.add(name=choice)
        field.oneof_index = 0


def _map_entry(owner: Any, field: str, value: str) -> str:
    """The nested message that protobuf makes of a map; returns its name."""
    name = f"{field.title().replace('_', '')}Entry"
    entry = owner.nested_type.add(name=name)
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=_OPTIONAL, type=_SCALARS["string"])
    _set_type(entry.field.add(name="value", number=2, label=_OPTIONAL), value)
    return name


def _set_type(field: Any, kind: str) -> None:
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type = _ENUM if kind == "DataType" else _MESSAGE
        field.type_name = f".{PACKAGE}.{kind}"
