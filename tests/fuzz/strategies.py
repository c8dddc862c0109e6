"""Messages that are well formed and make no sense: every field of a descriptor may be set to its extremes."""

import math
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

_INTEGERS: dict[int, tuple[int, int]] = {
    FieldDescriptor.CPPTYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, (1 << 64) - 1),
    FieldDescriptor.CPPTYPE_ENUM: (-(1 << 31), (1 << 31) - 1),
}
_DEPTH = 3
_TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["", "smollm2", "a:b", "*", "a\nb", "\0", "{0}", "../x", "x" * 2000, "(a+)+$", '{"a":' * 40, "ä", "\u202e", "1"]
    ),
)


def messages(descriptor: Descriptor, depth: int = 0) -> st.SearchStrategy[Message]:
    """Any message of a type, some fields left out."""
    kind = GetMessageClass(descriptor)
    fields = [f for f in _fields(descriptor).values() if f.message_type is None or depth < _DEPTH]
    chosen = st.fixed_dictionaries({}, optional={field.name: _values(field, depth) for field in fields})
    return chosen.map(lambda values: _filled(kind(), values))


def _filled(message: Message, values: dict[str, Any]) -> Message:
    for name, value in values.items():
        field = _fields(message.DESCRIPTOR)[name]
        if _is_map(field):
            for key, entry in value.items():
                getattr(message, name)[key] = entry
        elif field.is_repeated:
            getattr(message, name).extend(value)
        elif field.message_type is not None:
            getattr(message, name).CopyFrom(value)
        else:
            setattr(message, name, value)
    return message


def _values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if _is_map(field):
        assert field.message_type is not None
        entry = _fields(field.message_type)
        key, value = entry["key"], entry["value"]
        if value.message_type is not None:
            return st.just({})
        return st.dictionaries(_value(key, depth), _value(value, depth), max_size=3)
    value = _value(field, depth)
    return st.lists(value, max_size=3) if field.is_repeated else value


def _value(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type, depth + 1)
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return st.binary(max_size=40) if field.type == FieldDescriptor.TYPE_BYTES else _TEXTS
        case FieldDescriptor.CPPTYPE_BOOL:
            return st.booleans()
        case FieldDescriptor.CPPTYPE_FLOAT | FieldDescriptor.CPPTYPE_DOUBLE:
            width = 32 if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT else 64
            return st.one_of(st.floats(width=width), st.sampled_from([0.0, 1.0, math.nan, math.inf, -math.inf]))
        case FieldDescriptor.CPPTYPE_ENUM:
            assert field.enum_type is not None
            return st.one_of(st.sampled_from([v.number for v in field.enum_type.values]), st.sampled_from([-1, 99]))
        case _:
            low, high = _INTEGERS[field.cpp_type]
            return st.one_of(st.integers(low, high), st.integers(0, 20))


def _fields(descriptor: object) -> dict[str, FieldDescriptor]:
    """By name. The stubs know two kinds of descriptor, which are one."""
    return dict(cast("Descriptor", descriptor).fields_by_name)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def mutated(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Seeds with pieces cut out, put in, doubled, or flipped; and sometimes any bytes."""

    @st.composite
    def draw_one(draw: st.DrawFn) -> bytes:
        data = bytearray(draw(st.sampled_from(seeds)))
        for _ in range(draw(st.integers(0, 4))):
            at = draw(st.integers(0, len(data)))
            match draw(st.integers(0, 3)):
                case 0:
                    del data[at : at + draw(st.integers(1, 16))]
                case 1:
                    data[at:at] = draw(st.binary(min_size=1, max_size=16))
                case 2:
                    data[at:at] = data[at : at + draw(st.integers(1, 64))]
                case _:
                    if at < len(data):
                        data[at] ^= 1 << draw(st.integers(0, 7))
        return bytes(data)

    return st.one_of(draw_one(), st.binary(max_size=200))
