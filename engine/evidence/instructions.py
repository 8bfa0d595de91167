"""VERIFY.txt: how a package is checked where there is no sealrec, with commands to be typed."""

from __future__ import annotations

from typing import Final

__all__ = ["verify_text"]

_TEXT: Final = """\
How to check this package
=========================

It was signed by the key with this fingerprint:

    {signer}

Compare it with the fingerprint that the signer gave you by another way (on paper, by telephone).
The file public.pem is only as good as this comparison: whoever changes a package can sign it anew,
with a key of their own.


With sealrec, and the signer's public key from the signer's own hand
--------------------------------------------------------------------

    sealrec evidence --check PACKAGE.zip --public-key SIGNER.pem


Without sealrec: any zip program, openssl 3 and sha256sum
---------------------------------------------------------

1. Unpack the package into an empty folder, and go there.

2. The fingerprint of the key. This prints the digits above:

    openssl pkey -pubin -in public.pem -outform DER | sha256sum

3. The signature over the list of files. This prints "Signature Verified Successfully":

    openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in manifest.json -sigfile manifest.sig

4. The files. This prints "OK" behind each of the {count}:

    sed -n 's/^  {{"sha256": "\\([0-9a-f]*\\)", .*"name": "\\(.*\\)"}},*$/\\1  \\2/p' \\
        manifest.json | sha256sum -c

All three must be as said. A file that is not in manifest.json is no part of the package.

On Windows, step 4 file by file: Get-FileHash -Algorithm SHA256 video.mp4, and compare with
manifest.json.
"""


def verify_text(signer: str, count: int) -> bytes:
    """The file.

    Args:
        signer: Fingerprint of the signing key.
        count: How many files the manifest lists.
    """
    return _TEXT.format(signer=signer, count=count).encode("ascii")
