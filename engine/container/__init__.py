"""The sealed recording file, byte for byte as FORMAT.md has it."""
