from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Request(_message.Message):
    __slots__ = ("id", "is_ping", "is_test", "device", "exps")
    class Device(_message.Message):
        __slots__ = ("os", "idfa_md5sum", "imei_md5sum", "android_id_md5sum", "mac_md5sum", "oaid_md5sum", "doubtful_ids_list", "qaid_infos")
        class Qaid(_message.Message):
            __slots__ = ("version", "qaid", "origin_version", "qaid_md5sum")
            VERSION_FIELD_NUMBER: _ClassVar[int]
            QAID_FIELD_NUMBER: _ClassVar[int]
            ORIGIN_VERSION_FIELD_NUMBER: _ClassVar[int]
            QAID_MD5SUM_FIELD_NUMBER: _ClassVar[int]
            version: int
            qaid: str
            origin_version: str
            qaid_md5sum: str
            def __init__(self, version: _Optional[int] = ..., qaid: _Optional[str] = ..., origin_version: _Optional[str] = ..., qaid_md5sum: _Optional[str] = ...) -> None: ...
        OS_FIELD_NUMBER: _ClassVar[int]
        IDFA_MD5SUM_FIELD_NUMBER: _ClassVar[int]
        IMEI_MD5SUM_FIELD_NUMBER: _ClassVar[int]
        ANDROID_ID_MD5SUM_FIELD_NUMBER: _ClassVar[int]
        MAC_MD5SUM_FIELD_NUMBER: _ClassVar[int]
        OAID_MD5SUM_FIELD_NUMBER: _ClassVar[int]
        DOUBTFUL_IDS_LIST_FIELD_NUMBER: _ClassVar[int]
        QAID_INFOS_FIELD_NUMBER: _ClassVar[int]
        os: int
        idfa_md5sum: str
        imei_md5sum: str
        android_id_md5sum: str
        mac_md5sum: str
        oaid_md5sum: str
        doubtful_ids_list: _containers.RepeatedScalarFieldContainer[int]
        qaid_infos: _containers.RepeatedCompositeFieldContainer[Request.Device.Qaid]
        def __init__(self, os: _Optional[int] = ..., idfa_md5sum: _Optional[str] = ..., imei_md5sum: _Optional[str] = ..., android_id_md5sum: _Optional[str] = ..., mac_md5sum: _Optional[str] = ..., oaid_md5sum: _Optional[str] = ..., doubtful_ids_list: _Optional[_Iterable[int]] = ..., qaid_infos: _Optional[_Iterable[_Union[Request.Device.Qaid, _Mapping]]] = ...) -> None: ...
    class Experiment(_message.Message):
        __slots__ = ("exp_id",)
        EXP_ID_FIELD_NUMBER: _ClassVar[int]
        exp_id: int
        def __init__(self, exp_id: _Optional[int] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    IS_PING_FIELD_NUMBER: _ClassVar[int]
    IS_TEST_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    EXPS_FIELD_NUMBER: _ClassVar[int]
    id: str
    is_ping: bool
    is_test: bool
    device: Request.Device
    exps: _containers.RepeatedCompositeFieldContainer[Request.Experiment]
    def __init__(self, id: _Optional[str] = ..., is_ping: _Optional[bool] = ..., is_test: _Optional[bool] = ..., device: _Optional[_Union[Request.Device, _Mapping]] = ..., exps: _Optional[_Iterable[_Union[Request.Experiment, _Mapping]]] = ...) -> None: ...

class Response(_message.Message):
    __slots__ = ("request_id", "code", "processing_time_ms", "response_cache_time", "out_target_id", "target_infos")
    class Target(_message.Message):
        __slots__ = ("out_target_id", "user_weight_factor")
        OUT_TARGET_ID_FIELD_NUMBER: _ClassVar[int]
        USER_WEIGHT_FACTOR_FIELD_NUMBER: _ClassVar[int]
        out_target_id: str
        user_weight_factor: float
        def __init__(self, out_target_id: _Optional[str] = ..., user_weight_factor: _Optional[float] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    PROCESSING_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_CACHE_TIME_FIELD_NUMBER: _ClassVar[int]
    OUT_TARGET_ID_FIELD_NUMBER: _ClassVar[int]
    TARGET_INFOS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    code: int
    processing_time_ms: int
    response_cache_time: int
    out_target_id: _containers.RepeatedScalarFieldContainer[str]
    target_infos: _containers.RepeatedCompositeFieldContainer[Response.Target]
    def __init__(self, request_id: _Optional[str] = ..., code: _Optional[int] = ..., processing_time_ms: _Optional[int] = ..., response_cache_time: _Optional[int] = ..., out_target_id: _Optional[_Iterable[str]] = ..., target_infos: _Optional[_Iterable[_Union[Response.Target, _Mapping]]] = ...) -> None: ...
