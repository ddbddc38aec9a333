"""libaravis 0.8 through ctypes: the C functions that the adapter calls, and their errors.

Why not PyGObject: its compiled part belongs to one interpreter, Debian's python3, while edgead runs in environments of any
Python. The library's C interface is stable for the whole 0.8 series and ctypes is in every Python
(https://aravisproject.github.io/aravis/aravis-stable/, decision 0011).
"""

from __future__ import annotations

import ctypes as c
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from edgead.errors import CameraError, MissingExtra

NAMES = ("libaravis-0.8.so.0", "libaravis-0.8.0.dylib")
INSTALL = "apt-get install libaravis-0.8-0"

_P, _S, _I, _U, _I64, _U64, _D = c.c_void_p, c.c_char_p, c.c_int, c.c_uint, c.c_int64, c.c_uint64, c.c_double
_SIZE = c.POINTER(c.c_size_t)

# name: (result, arguments); a trailing "error" stands for GError **
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "arv_update_device_list": (None, ()),
    "arv_get_n_devices": (_U, ()),
    "arv_get_device_id": (_S, (_U,)),
    "arv_get_device_physical_id": (_S, (_U,)),
    "arv_get_device_address": (_S, (_U,)),
    "arv_get_device_vendor": (_S, (_U,)),
    "arv_get_device_model": (_S, (_U,)),
    "arv_get_device_serial_nbr": (_S, (_U,)),
    "arv_get_device_protocol": (_S, (_U,)),
    "arv_camera_new": (_P, (_S, "error")),
    "arv_camera_get_device": (_P, (_P,)),
    "arv_camera_is_gv_device": (_I, (_P,)),
    "arv_camera_get_payload": (_U, (_P, "error")),
    "arv_camera_create_stream": (_P, (_P, _P, _P, "error")),
    "arv_camera_start_acquisition": (None, (_P, "error")),
    "arv_camera_stop_acquisition": (None, (_P, "error")),
    "arv_gv_device_is_controller": (_I, (_P,)),
    "arv_stream_push_buffer": (None, (_P, _P)),
    "arv_stream_try_pop_buffer": (_P, (_P,)),
    "arv_stream_timeout_pop_buffer": (_P, (_P, _U64)),
    "arv_stream_get_n_infos": (_U, (_P,)),
    "arv_stream_get_info_name": (_S, (_P, _U)),
    "arv_stream_get_info_uint64_by_name": (_U64, (_P, _S)),
    "arv_buffer_new_allocate": (_P, (c.c_size_t,)),
    "arv_buffer_get_status": (_I, (_P,)),
    "arv_buffer_get_payload_type": (_I, (_P,)),
    "arv_buffer_get_frame_id": (_U64, (_P,)),
    "arv_buffer_get_system_timestamp": (_U64, (_P,)),
    "arv_buffer_get_timestamp": (_U64, (_P,)),
    "arv_buffer_get_image_data": (_P, (_P, _SIZE)),
    "arv_buffer_get_image_pixel_format": (c.c_uint32, (_P,)),
    "arv_buffer_get_image_width": (_I, (_P,)),
    "arv_buffer_get_image_height": (_I, (_P,)),
    "arv_buffer_get_image_padding": (None, (_P, c.POINTER(_I), c.POINTER(_I))),
    "arv_device_get_feature": (_P, (_P, _S)),
    "arv_device_is_feature_available": (_I, (_P, _S, "error")),
    "arv_device_execute_command": (None, (_P, _S, "error")),
    "arv_device_get_boolean_feature_value": (_I, (_P, _S, "error")),
    "arv_device_set_boolean_feature_value": (None, (_P, _S, _I, "error")),
    "arv_device_get_string_feature_value": (_S, (_P, _S, "error")),
    "arv_device_set_string_feature_value": (None, (_P, _S, _S, "error")),
    "arv_device_get_integer_feature_value": (_I64, (_P, _S, "error")),
    "arv_device_set_integer_feature_value": (None, (_P, _S, _I64, "error")),
    "arv_device_get_integer_feature_bounds": (None, (_P, _S, c.POINTER(_I64), c.POINTER(_I64), "error")),
    "arv_device_get_integer_feature_increment": (_I64, (_P, _S, "error")),
    "arv_device_get_float_feature_value": (_D, (_P, _S, "error")),
    "arv_device_set_float_feature_value": (None, (_P, _S, _D, "error")),
    "arv_device_get_float_feature_bounds": (None, (_P, _S, c.POINTER(_D), c.POINTER(_D), "error")),
    "arv_device_get_float_feature_increment": (_D, (_P, _S, "error")),
    "arv_device_dup_available_enumeration_feature_values_as_strings": (c.POINTER(_S), (_P, _S, c.POINTER(_U), "error")),
    "arv_gc_enumeration_get_type": (c.c_size_t, ()),
    "arv_gc_boolean_get_type": (c.c_size_t, ()),
    "arv_gc_command_get_type": (c.c_size_t, ()),
    "arv_gc_float_get_type": (c.c_size_t, ()),
    "arv_gc_integer_get_type": (c.c_size_t, ()),
    "arv_gc_string_get_type": (c.c_size_t, ()),
    # GLib, which libaravis is linked with
    "g_object_unref": (None, (_P,)),
    "g_free": (None, (_P,)),
    "g_error_free": (None, (_P,)),
    "g_type_check_instance_is_a": (_I, (_P, c.c_size_t)),
}


_SINCE: dict[str, Callable[[c.CDLL], Any]] = {  # newer than 0.8.20 of Ubuntu 22.04 and JetPack 6, and what stands in there
    "arv_buffer_get_image_data": lambda library: library.arv_buffer_get_data,
    "arv_buffer_get_image_padding": lambda library: c.CFUNCTYPE(None, _P, c.POINTER(_I), c.POINTER(_I))(lambda *_: None),
}


class _GError(c.Structure):
    _fields_ = (("domain", c.c_uint32), ("code", _I), ("message", _S))


class Aravis:
    """Every function of the table above by its name; one that takes a GError raises CameraError instead."""

    def __init__(self, library: c.CDLL) -> None:
        self._library = library
        self._functions = {name: self._bind(name, *signature) for name, signature in _SIGNATURES.items()}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        try:
            return self._functions[name]
        except KeyError:
            raise AttributeError(name) from None

    def _bind(self, name: str, result: Any, arguments: tuple[Any, ...]) -> Callable[..., Any]:
        newer = name in _SINCE and not hasattr(self._library, name)
        function = _SINCE[name](self._library) if newer else getattr(self._library, name)
        function.restype = result
        if not arguments or arguments[-1] != "error":
            function.argtypes = arguments
            return function  # type: ignore[no-any-return]
        function.argtypes = (*arguments[:-1], c.POINTER(c.POINTER(_GError)))

        def checked(*args: Any) -> Any:
            error = c.POINTER(_GError)()
            answer = function(*args, c.byref(error))
            if error:
                text = (error.contents.message or b"unknown error").decode(errors="replace")
                self.g_error_free(error)
                raise CameraError(text)
            return answer

        return checked


@lru_cache(maxsize=1)
def load() -> Aravis:
    """The library, loaded once.

    Raises:
        MissingExtra: not installed, or a version without what is needed (tested with 0.8.26 of Debian 12).
    """
    for name in NAMES:
        try:
            library = c.CDLL(name)
        except OSError:
            continue
        try:
            return Aravis(library)
        except AttributeError as error:
            raise MissingExtra(f"this {name} is too old: {error}", hint="Aravis 0.8.20 or newer is needed") from error
    raise MissingExtra("GigE Vision and USB3 Vision cameras need the library Aravis, which is not installed", hint=INSTALL)
