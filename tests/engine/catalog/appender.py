"""A process that appends to an audit, one row at a time, as fast as it can.

python -m tests.engine.catalog.appender CATALOG AUDIT_KEY NAME COUNT
"""

from __future__ import annotations

import sys

from engine.catalog import audit
from engine.catalog.place import place_of


def main() -> None:
    catalog, key, name, count = sys.argv[1:]
    place = place_of(catalog, audit_key=key)
    assert place is not None
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()  # all begin together
    for number in range(int(count)):
        audit.note(place, audit.Entry(kind="mark", detail={"by": name, "number": number}))


if __name__ == "__main__":
    main()
