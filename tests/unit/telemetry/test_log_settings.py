"""The file that says what is logged: what it may say, and that anything else is refused with a reason."""

import pytest

from telemetry.log_settings import LogSettings, read_log_settings

DEFAULT = LogSettings("INFO")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"{}", DEFAULT),
        (b'{"level": "DEBUG"}', LogSettings("DEBUG")),
        (b'{"request_share": 0.25}', LogSettings("INFO", 0.25)),
        (b' {"request_share": 1, "level": "ERROR"}\n', LogSettings("ERROR", 1.0)),
    ],
)
def test_what_is_left_out_is_as_at_the_start(text: bytes, expected: LogSettings) -> None:
    assert read_log_settings(text, DEFAULT) == expected


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (b"DEBUG", "is no JSON object"),
        (b'"DEBUG"', "is no JSON object"),
        (b"\xff\xfe", "is no JSON object"),
        (b'{"level": "debug"}', "level: is none of DEBUG, INFO"),
        (b'{"level": null}', "level: is none of"),
        (b'{"level": ["DEBUG"]}', "level: is none of"),
        (b'{"request_share": 1.5}', "request_share: is no number from 0 to 1"),
        (b'{"request_share": -1}', "request_share: is no number"),
        (b'{"request_share": true}', "request_share: is no number"),
        (b'{"request_share": "0.1"}', "request_share: is no number"),
        (b'{"share": 0.1}', "share: is not known"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text: bytes, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        read_log_settings(text, DEFAULT)
