"""The evidence package: a recording handed over, with what proves it, as one signed file.

Specification: EVIDENCE.md. ``package`` writes one, ``check`` looks at one.
"""
