"""Model cards: the other side of every card dialogue, with real cryptography.

Each model answers `apdu(command)` as its chip does. They share nothing with `edge/readers` but the
cipher itself (`crypto.py` is written anew), so that the two check each other. A bench puts them
behind pcscd, a PN532 or nothing at all.
"""
