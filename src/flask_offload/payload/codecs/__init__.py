"""Codecs of single values; `registry` is the entry, `base` describes the encoding."""
