"""Alembic's entry: runs the steps on the connection that ``schema`` hands over.

There is no alembic.ini and no command line here; the transaction is the caller's.
"""

from __future__ import annotations

from alembic import context

from engine.catalog.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
)
context.run_migrations()
