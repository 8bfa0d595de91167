"""The catalog: sessions, recordings and the audit, in SQLite or PostgreSQL (CATALOG.md).

It is an index and a witness; the files are the truth. Nothing here may stop or delay a recording.
"""
