"""The review page: watch a sealed recording in a browser, decrypted in memory only."""
