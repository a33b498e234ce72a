"""A child that decodes one picture from anywhere, and may take little doing so.

python -m longtake.server.decode SOURCE TARGET WIDTH HEIGHT

It prints one line of JSON: what was done to the picture, or why it is none. Its memory, its time,
its files and what it may write are bounded, so that a picture made to do harm harms it alone.
"""

import json
import sys
from pathlib import Path

from longtake.media.confined import confine

_CPU_S = 30


def main() -> None:
    """Decode what the arguments name."""
    source, target, width, height = sys.argv[1:]
    confine(cpu_s=_CPU_S)
    # Only now, under the limits.
    from longtake.errors import MediaError  # noqa: PLC0415
    from longtake.media.image import read_image  # noqa: PLC0415
    from longtake.storage import atomic_write  # noqa: PLC0415

    try:
        image, notes = read_image(Path(source), int(width), int(height))
        with atomic_write(Path(target)) as temp:
            image.save(temp, format="PNG")
    except MediaError as error:
        answer = {"error": str(error).replace(f" {source}", "")}
    else:
        answer = {"notes": notes}
    print(json.dumps(answer))  # noqa: T201 - the wire to the server


if __name__ == "__main__":
    main()
