"""Pictures from clients: told by their first bytes, measured, and decoded in a child."""

import asyncio
import base64
import binascii
import hashlib
import json
import os
import secrets
import sys
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from longtake.config import SampleConfig
from longtake.server.files import JobFiles
from longtake.server.refusals import Refused
from longtake.storage import TEMP_PREFIX, TEMP_SUFFIX, output_errors

DECODE_S = 20.0
"""Longest a picture may take."""
AT_ONCE = 2
"""Pictures that are decoded at the same time."""
_MAGIC = ((0, b"\x89PNG\r\n\x1a\n"), (0, b"\xff\xd8\xff"), (8, b"WEBP"))
_HEAD, _PIECE = 16, 256 * 1024
_PARAM = "input_reference"
_children = asyncio.Semaphore(AT_ONCE)


def from_base64(text: str, most: int) -> BinaryIO:
    """A picture inside JSON.

    Raises:
        Refused: no base64, or too large.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        message = "the picture is not base64; send it as multipart/form-data, or in base64"
        raise Refused(422, "invalid_request", message, param=_PARAM) from None
    picture = BytesIO(raw)
    check_picture(picture, most)
    return picture


def check_picture(picture: BinaryIO, most: int) -> None:
    """Look at a picture's first bytes and its size; nothing is decoded.

    Raises:
        Refused: no PNG, JPEG or WebP, or too large.
    """
    size = picture.seek(0, os.SEEK_END)
    if size > most:
        text = f"the picture has {size:,} bytes; the most is {most:,}"
        raise Refused(413, "too_large", text, param=_PARAM)
    picture.seek(0)
    raw = picture.read(_HEAD)
    if not any(raw[at : at + len(magic)] == magic for at, magic in _MAGIC):
        text = "the picture is no PNG, JPEG or WebP, whatever its name"
        raise Refused(422, "media_type_not_supported", text, param=_PARAM)


async def store_picture(picture: BinaryIO, files: JobFiles, settings: SampleConfig) -> str:
    """Decode a picture in a child and keep it at the film's size; checksum of what came.

    Raises:
        Refused: it cannot be decoded, or not in time.
        OutputError: the disk is full.
    """
    source = files.path(f"{TEMP_PREFIX}{secrets.token_hex(8)}{TEMP_SUFFIX}")
    with output_errors(source):
        files.folder.mkdir(parents=True, exist_ok=True)
    try:
        checksum = await asyncio.to_thread(_copy, picture, source)
        async with _children:
            answer = await _decode(source, files.picture, settings)
    finally:
        source.unlink(missing_ok=True)
    if "notes" not in answer:
        text = str(answer.get("error", "the picture cannot be decoded"))
        raise Refused(422, "media_decode_failed", text, param=_PARAM)
    return checksum


def _copy(picture: BinaryIO, target: Path) -> str:
    """Write a picture in pieces, so that many large ones take no memory; its checksum."""
    digest = hashlib.sha256()
    picture.seek(0)
    with output_errors(target), target.open("wb") as file:
        while part := picture.read(_PIECE):
            digest.update(part)
            file.write(part)
    return digest.hexdigest()


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
