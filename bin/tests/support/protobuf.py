"""Protobuf messages by the numbers of their fields, for services that the stories start."""


def fields(message):
    """The fields of a protobuf message: (number, value) in order."""

    def varint(at):
        value, shift = 0, 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7

    at = 0
    while at < len(message):
        key, at = varint(at)
        if key & 7 == 0:
            value, at = varint(at)
        elif key & 7 == 1:
            value = int.from_bytes(message[at : at + 8], "little")
            at += 8
        else:
            length, at = varint(at)
            value = message[at : at + length]
            at += length
        yield key >> 3, value


def first(message, *path):
    for number in path:
        message = next((value for at, value in fields(message) if at == number), b"")
    return message


def mapped(message, number):
    entries = (dict(fields(value)) for at, value in fields(message) if at == number)
    return {entry.get(1, b"").decode(): entry.get(2, b"").decode() for entry in entries}


def message(*parts):
    """A protobuf message of (number, value)."""
    out = b""
    for number, value in parts:
        if isinstance(value, int):
            out += varint_of(number << 3) + varint_of(value)
        else:
            value = value.encode() if isinstance(value, str) else value
            out += varint_of(number << 3 | 2) + varint_of(len(value)) + value
    return out


def varint_of(value):
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def struct(key, text):
    return message((1, message((1, key), (2, message((3, text))))))
