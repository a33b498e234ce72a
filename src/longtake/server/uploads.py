"""Pictures from clients: told by their first bytes, measured, and decoded in a child."""

import asyncio
import base64
import binascii
import json
import os
import secrets
import sys
from pathlib import Path

from longtake.config import SampleConfig
from longtake.server.files import JobFiles
from longtake.server.refusals import Refused
from longtake.storage import TEMP_PREFIX, TEMP_SUFFIX, output_errors

DECODE_S = 20.0
"""Longest a picture may take."""
AT_ONCE = 2
"""Pictures that are decoded at the same time."""
_MAGIC = ((0, b"\x89PNG\r\n\x1a\n"), (0, b"\xff\xd8\xff"), (8, b"WEBP"))
_PARAM = "input_reference"
_children = asyncio.Semaphore(AT_ONCE)


def from_base64(text: str, most: int) -> bytes:
    """A picture inside JSON.

    Raises:
        Refused: no base64, or too large.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        message = "the picture is not base64; send it as multipart/form-data, or in base64"
        raise Refused(422, "invalid_request", message, param=_PARAM) from None
    check_picture(raw, most)
    return raw


def check_picture(raw: bytes, most: int) -> None:
    """Look at a picture's first bytes and its size; nothing is decoded.

    Raises:
        Refused: no PNG, JPEG or WebP, or too large.
    """
    if len(raw) > most:
        text = f"the picture has {len(raw):,} bytes; the most is {most:,}"
        raise Refused(413, "too_large", text, param=_PARAM)
    if not any(raw[at : at + len(magic)] == magic for at, magic in _MAGIC):
        text = "the picture is no PNG, JPEG or WebP, whatever its name"
        raise Refused(422, "media_type_not_supported", text, param=_PARAM)


async def store_picture(raw: bytes, files: JobFiles, settings: SampleConfig) -> None:
    """Decode a picture in a child and keep it at the film's size.

    Raises:
        Refused: it cannot be decoded, or not in time.
        OutputError: the disk is full.
    """
    source = files.path(f"{TEMP_PREFIX}{secrets.token_hex(8)}{TEMP_SUFFIX}")
    with output_errors(source):
        files.folder.mkdir(parents=True, exist_ok=True)
        source.write_bytes(raw)
    try:
        async with _children:
            answer = await _decode(source, files.picture, settings)
    finally:
        source.unlink(missing_ok=True)
    if "notes" not in answer:
        text = str(answer.get("error", "the picture cannot be decoded"))
        raise Refused(422, "media_decode_failed", text, param=_PARAM)


async def _decode(source: Path, target: Path, settings: SampleConfig) -> dict[str, object]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "longtake.server.decode",
        str(source), str(target), str(settings.width), str(settings.height),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        # One thread, or every core's memory would count against its limit.
        env={**os.environ, "LONGTAKE_TOKENS": "", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        said, _ = await asyncio.wait_for(child.communicate(), DECODE_S)
        answer = json.loads(said.splitlines()[-1])
    except (TimeoutError, ValueError, IndexError):
        return {}
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return answer if child.returncode == 0 else {}
