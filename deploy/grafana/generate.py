"""Makes deploy/grafana/dashboards/*.json from deploy/grafana/boards.py: `python -m deploy.grafana.generate`."""

import json
import sys
from pathlib import Path

from deploy.grafana.boards import BOARDS

FOLDER = Path(__file__).parent / "dashboards"


def rendered() -> dict[str, str]:
    """The text of each dashboard by the name of its file."""
    return {f"{board.name}.json": json.dumps(board.render(), indent=2) + "\n" for board in BOARDS}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in rendered().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
