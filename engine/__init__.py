"""Decides and keeps durable things: supervisor, ledger, keys and the sealed container."""
