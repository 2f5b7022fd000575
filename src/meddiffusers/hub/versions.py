"""The form of a library's version, in which no other text fits."""

from __future__ import annotations

import re

VERSION = re.compile(r"\d{1,4}(?:\.\d{1,4}){1,3}(?:\.?(?:a|b|rc|dev|post)\d{1,4}){0,2}")
