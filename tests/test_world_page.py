"""The guide to the world lists what its levels have."""

from pathlib import Path

from longtake.world.level import LEVELS, Level

PAGE = Path(__file__).parents[1] / "docs" / "guides" / "world.md"
COLUMNS = ("kinds", "colours", "motions", "grounds", "lights", "cameras", "materials", "shots")


def table() -> str:
    """What each level adds to the one before it."""
    names = " | ".join(f"`{level.name}`" for level in LEVELS)
    rows = [f"| | {names} |", "|---" * (len(LEVELS) + 1) + "|"]
    for column in COLUMNS:
        before: tuple[str, ...] = ()
        cells = []
        for level in LEVELS:
            entries = getattr(level, column)
            new = [name.replace("_", " ") for name in entries if name not in before]
            cells.append(", ".join(new) or "–")
            before = entries
        rows.append(f"| {column} | {' | '.join(cells)} |")
    most = " | ".join(_most(level) for level in LEVELS)
    return "\n".join([*rows, f"| subjects | {most} |"])


def _most(level: Level) -> str:
    return f"1 to {level.most_subjects}"


def test_the_guide_lists_what_each_level_adds():
    text = PAGE.read_text("utf-8")
    listed = text.split("<!-- levels -->\n", 1)[1].split("\n<!-- /levels -->", 1)[0]
    assert listed.strip() == table(), f"put this between the marks of {PAGE.name}:\n{table()}"


def test_the_guide_names_every_style():
    text = PAGE.read_text("utf-8")
    assert all(f"| `{style}` |" in text for style in LEVELS[-1].styles)
