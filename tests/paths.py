"""Where tests find the project, and published data beside it, which some machines have and others lack."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = ROOT.parent / "shared" / "data"
